//! What an error becomes on a link.

use rustix::io::Errno;
use vault::Error;
use wire::RequestError;
use wire::vault::{Code, Refusal};

/// Before birth or opening.
pub const LOCKED: Refusal = refusal(Code::Locked, "birth or open comes first");

/// For a packet that cannot be read at all.
pub const TOO_MUCH: Refusal = refusal(
    Code::Malformed,
    "the packet is too long or has too many descriptors",
);

/// A refusal.
pub const fn refusal(code: Code, detail: &'static str) -> Refusal {
    Refusal { code, detail }
}

/// For a packet that is not one of the link's requests.
pub fn no_request(error: RequestError) -> Refusal {
    match error {
        RequestError::Malformed => refusal(Code::Malformed, "the packet is no request"),
        RequestError::UnknownOperation => refusal(Code::UnknownOperation, "no such operation"),
    }
}

/// The refusal that an error becomes; a failing state folder or TPM is named on standard error.
pub fn reported(error: Error) -> Refusal {
    from_vault(error, true)
}

/// The same; `report` has a failing state folder named on standard error.
pub fn from_vault(error: Error, report: bool) -> Refusal {
    match error {
        Error::Exists => refusal(Code::Exists, "this chip has been born already"),
        Error::Present => refusal(Code::Exists, "there is a password already"),
        Error::Unborn => refusal(Code::Unborn, "this chip has not been born"),
        Error::Sealed(what) => refusal(Code::Sealed, what),
        Error::Corrupt(what) => refusal(Code::Corrupt, what),
        Error::Backwards => refusal(Code::Backwards, "the kept anchor is newer"),
        Error::Passphrase => refusal(Code::Passphrase, "it is wrong"),
        Error::Locked => refusal(Code::Password, "the password is needed first"),
        Error::Absent => refusal(Code::Absent, "there is none"),
        Error::Wrong => refusal(Code::Wrong, "it is wrong"),
        Error::Wait => refusal(Code::Wait, "too soon after the last wrong try"),
        Error::Disabled => refusal(Code::Disabled, "all tries are spent"),
        Error::Secret(why) => refusal(Code::Secret, why),
        Error::Unauthorised => refusal(Code::Unauthorised, "its owner has to prove to be one"),
        Error::Ticket(why) => refusal(Code::Ticket, why),
        Error::OtherChip => refusal(Code::OtherChip, "it is for another chip"),
        Error::Nonce => refusal(Code::Nonce, "no request is open that it answers"),
        Error::Epoch => refusal(Code::Epoch, "a newer system was up"),
        Error::InUse => refusal(Code::InUse, "the current system is in this slot"),
        Error::NoTicket => refusal(Code::NoTicket, "no system has a ticket"),
        Error::ExternalBoot => refusal(Code::ExternalBoot, "the owner does not allow it"),
        Error::FirmwarePassword => refusal(Code::FirmwarePassword, "it has to be given first"),
        Error::NotRecovery => refusal(Code::NotRecovery, "only the recovery system may ask"),
        Error::NotStarted => refusal(Code::NotStarted, "no such system was started"),
        Error::Order(why) => refusal(Code::Order, why),
        Error::Job => refusal(Code::Job, "it is for another job"),
        Error::Validity => refusal(Code::Validity, "it is not valid now"),
        Error::Replayed => refusal(Code::Replayed, "it was spent before"),
        Error::Full => refusal(Code::Full, "no more providers can be trusted"),
        Error::PutBack(what) => refusal(Code::PutBack, what),
        Error::Tpm(error) => {
            if report {
                eprintln!("vaultd: {error}");
            }
            refusal(Code::Tpm, "it failed; the log says how")
        }
        Error::Storage(doing, errno) => {
            let is_full = matches!(errno, Errno::NOSPC | Errno::DQUOT);
            if report && is_full {
                eprintln!("vaultd: {doing}: the file system is full");
            } else if report {
                eprintln!("vaultd: {doing}: {errno}");
            }
            let detail = if is_full {
                "the file system is full"
            } else {
                doing
            };
            refusal(Code::Storage, detail)
        }
        Error::Malformed(what) => refusal(Code::Malformed, what),
        Error::Cryptography(step) => refusal(Code::Cryptography, step),
    }
}
