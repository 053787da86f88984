//! Why the TPM did not do it, and what its answers' codes mean (Part 2, `TPM_RC`).

use std::fmt;

use rustix::io::Errno;

/// Why something asked of the TPM was not done. The texts hold nothing secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// There is no TPM at the other end of the descriptor, or no longer.
    Gone(Errno),
    /// It did not answer in time.
    TimedOut,
    /// It kept asking to be asked again later.
    Busy,
    /// It is locked against guessing.
    LockedOut,
    /// Its owner has set an authorisation.
    OwnerAuthorisation,
    /// Its memory has no room for another index.
    Full,
    /// It has no such index.
    Missing,
    /// The index is there, and nothing was ever written to it.
    Unwritten,
    /// There is an index of that number already.
    Occupied,
    /// The index of that number is not as it was defined here: it is somebody else's.
    Foreign,
    /// The index does not yield to this authorisation.
    Unauthorised,
    /// It is not the TPM that it was: another, or one that was cleared.
    OtherTpm,
    /// An answer that no TPM gives, or one that was changed on its way; the text names what.
    Garbled(&'static str),
    /// It refused with this code.
    Refused(u32),
    /// The cryptographic library refused; the text names the step.
    Cryptography(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Gone(errno) => write!(f, "the TPM does not answer: {errno}"),
            Error::TimedOut => f.write_str("the TPM did not answer in time"),
            Error::Busy => f.write_str("the TPM stayed busy"),
            Error::LockedOut => f.write_str("the TPM is locked against guessing for a while"),
            Error::OwnerAuthorisation => {
                f.write_str("the TPM's owner authorisation is set, and has to be empty")
            }
            Error::Full => f.write_str("the TPM's memory has no room for another index"),
            Error::Missing => f.write_str("the TPM has no such index"),
            Error::Unwritten => f.write_str("the TPM's index was never written"),
            Error::Occupied => f.write_str("the TPM has an index of that number already"),
            Error::Foreign => f.write_str("the TPM's index of that number is somebody else's"),
            Error::Unauthorised => f.write_str("the TPM's index is closed to this chip"),
            Error::OtherTpm => f.write_str("this is another TPM, or it was cleared"),
            Error::Garbled(what) => write!(f, "the TPM's answer is not its own: {what}"),
            Error::Refused(code) => write!(f, "the TPM refused with code {code:#x}"),
            Error::Cryptography(step) => write!(f, "cryptography failed: {step}"),
        }
    }
}

impl std::error::Error for Error {}

/// Success.
pub const RC_SUCCESS: u32 = 0;
/// No Startup has been sent since the TPM was reset.
pub const RC_INITIALIZE: u32 = 0x100;
const RC_NV_UNINITIALIZED: u32 = 0x14a;
const RC_NV_SPACE: u32 = 0x14b;
const RC_NV_DEFINED: u32 = 0x14c;
const RC_LOCKOUT: u32 = 0x921;

/// Warnings after which the same command may succeed: others have the TPM's few places for objects
/// and sessions, it is testing itself, or it spares its memory.
const RC_AGAIN: [u32; 10] = [
    0x902, // OBJECT_MEMORY
    0x903, // SESSION_MEMORY
    0x904, // MEMORY
    0x905, // SESSION_HANDLES
    0x906, // OBJECT_HANDLES
    0x908, // YIELDED
    0x90a, // TESTING
    0x920, // NV_RATE
    0x922, // RETRY
    0x923, // NV_UNAVAILABLE
];

/// Bit of the codes that name the handle, session or parameter they complain about.
const RC_FMT1: u32 = 0x80;
/// The complaint itself in such a code.
const RC_FMT1_NUMBER: u32 = 0xbf;
const RC_HANDLE: u32 = RC_FMT1 | 0x0b;
const RC_AUTH_FAIL: u32 = RC_FMT1 | 0x0e;
const RC_BAD_AUTH: u32 = RC_FMT1 | 0x22;

/// Whether the command may be sent again.
pub fn is_temporary(code: u32) -> bool {
    RC_AGAIN.contains(&code)
}

/// What a code other than success says.
pub fn refusal(code: u32) -> Error {
    match code {
        RC_NV_UNINITIALIZED => Error::Unwritten,
        RC_NV_SPACE => Error::Full,
        RC_NV_DEFINED => Error::Occupied,
        RC_LOCKOUT => Error::LockedOut,
        _ if is_temporary(code) => Error::Busy,
        _ if code & RC_FMT1 != 0 => match code & RC_FMT1_NUMBER {
            RC_HANDLE => Error::Missing,
            RC_AUTH_FAIL | RC_BAD_AUTH => Error::Unauthorised,
            _ => Error::Refused(code),
        },
        _ => Error::Refused(code),
    }
}
