//! Why the vault could not do it.
//!
//! The texts are fixed and short: they go to the firmware, and nothing secret can get into them.

use std::fmt;

/// Why an operation of the vault failed.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// Birth in a folder that holds a vault.
    Exists,
    /// The folder holds no vault.
    Unborn,
    /// The seal does not yield the key that the store was sealed with.
    Sealed(&'static str),
    /// The store or the anchor file is not what was written; the text names the part.
    Corrupt(&'static str),
    /// The state folder could not be read or written.
    Storage(&'static str, rustix::io::Errno),
    /// An anchor whose sequence is lower than the kept one's.
    Backwards,
    /// The cryptographic library refused; the text names the step.
    Cryptography(&'static str),
    /// The passphrase is wrong.
    Passphrase,
    /// The disk's key is locked: the password is needed first.
    Locked,
    /// There is no secret of that kind to check against.
    Absent,
    /// There is one already.
    Present,
    /// The secret is wrong.
    Wrong,
    /// A delay runs; nothing was charged and nothing computed.
    Wait,
    /// All tries of that kind are spent.
    Disabled,
    /// What was given is no usable secret; the text says why.
    Secret(&'static str),
    /// What was to be stated is not what a statement can hold; the text says which part.
    Malformed(&'static str),
    /// The owner has not authorised this.
    Unauthorised,
    /// A ticket that is not taken; the text says why.
    Ticket(&'static str),
    /// A ticket or a work order for another chip.
    OtherChip,
    /// A ticket that answers no request that is open.
    Nonce,
    /// A ticket for a system that is older than one that was up.
    Epoch,
    /// The slot is the current system's.
    InUse,
    /// There is no system that a ticket names.
    NoTicket,
    /// Starts from outside are not allowed.
    ExternalBoot,
    /// The firmware password is needed first.
    FirmwarePassword,
    /// Only the recovery system may ask for it.
    NotRecovery,
    /// The main system was not started.
    NotStarted,
    /// A work order that is not taken; the text says why.
    Order(&'static str),
    /// A work order for another job.
    Job,
    /// A work order that is not good at this moment.
    Validity,
    /// A work order that was spent before.
    Replayed,
    /// There is no room for another provider.
    Full,
    /// A part of the chip's state, or all of it, is older than what is remembered elsewhere.
    PutBack(&'static str),
    /// The TPM failed, or there is none.
    Tpm(tpm::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Exists => f.write_str("this folder holds a vault already"),
            Error::Unborn => f.write_str("this folder holds no vault"),
            Error::Sealed(what) => write!(f, "the seal stays closed: {what}"),
            Error::Corrupt(what) => write!(f, "the chip's state is damaged: {what}"),
            Error::Storage(doing, errno) => write!(f, "{doing}: {errno}"),
            Error::Backwards => f.write_str("the kept anchor is newer"),
            Error::Cryptography(step) => write!(f, "cryptography failed: {step}"),
            Error::Passphrase => f.write_str("the passphrase is wrong"),
            Error::Locked => f.write_str("the password is needed first"),
            Error::Absent => f.write_str("there is no such secret"),
            Error::Present => f.write_str("there is one already"),
            Error::Wrong => f.write_str("the secret is wrong"),
            Error::Wait => f.write_str("too soon after the last wrong try"),
            Error::Disabled => f.write_str("all tries are spent"),
            Error::Secret(why) => write!(f, "no usable secret: {why}"),
            Error::Malformed(what) => write!(f, "not to be stated: {what}"),
            Error::Unauthorised => f.write_str("its owner has not authorised this"),
            Error::Ticket(why) => write!(f, "the ticket is not taken: {why}"),
            Error::OtherChip => f.write_str("it is for another chip"),
            Error::Nonce => f.write_str("the ticket answers no open request"),
            Error::Epoch => f.write_str("the system is older than one that was up"),
            Error::InUse => f.write_str("the slot is the current system's"),
            Error::NoTicket => f.write_str("no system has a ticket"),
            Error::ExternalBoot => f.write_str("starts from outside are not allowed"),
            Error::FirmwarePassword => f.write_str("the firmware password is needed first"),
            Error::NotRecovery => f.write_str("the recovery system was not started"),
            Error::NotStarted => f.write_str("the main system was not started"),
            Error::Order(why) => write!(f, "the work order is not taken: {why}"),
            Error::Job => f.write_str("the work order is for another job"),
            Error::Validity => f.write_str("the work order is not valid now"),
            Error::Replayed => f.write_str("the work order was spent before"),
            Error::Full => f.write_str("no more providers can be trusted"),
            Error::PutBack(what) => write!(f, "older than what is remembered: {what}"),
            Error::Tpm(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

/// Why a change of the chip's state did not come to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// Nothing has changed.
    Unchanged(Error),
    /// It may have come into force or not; only opening the vault again tells.
    Uncertain(Error),
}

impl From<Error> for ChangeError {
    fn from(error: Error) -> ChangeError {
        ChangeError::Unchanged(error)
    }
}
