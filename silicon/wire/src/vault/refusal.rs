//! Why the vault says no.
//!
//! Invariant: a refusal says no more than its code and a short fixed text.

use zeroize::Zeroizing;

/// The reasons to say no; `docs/vault-protocol.md` says when each is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// No request, or too much for one packet.
    Malformed,
    /// A request for something else.
    UnknownOperation,
    /// A descriptor is missing, too many or of the wrong kind.
    Descriptor,
    /// Neither birth nor opening came first.
    Locked,
    /// Birth of a chip that has been born.
    Exists,
    /// Opening of a chip that has not.
    Unborn,
    /// The seal does not yield the store's key.
    Sealed,
    /// The store or the anchor file is damaged.
    Corrupt,
    /// The state folder could not be read or written.
    Storage,
    /// The cryptographic library failed.
    Cryptography,
    /// An SSD is attached already.
    Attached,
    /// This link has had the volume key.
    Spent,
    /// An anchor that is older than the kept one.
    Backwards,
    /// The passphrase is needed, or was wrong.
    Passphrase,
    /// The password is needed first.
    Password,
    /// There is no secret of that kind to check against.
    Absent,
    /// The secret is wrong; a try was charged.
    Wrong,
    /// A delay runs; nothing was charged.
    Wait,
    /// All tries of that kind are spent.
    Disabled,
    /// The descriptor holds no usable secret.
    Secret,
    /// Nobody authorised this.
    Unauthorised,
    /// A ticket that is none, or that the authority did not sign.
    Ticket,
    /// A ticket or a work order for another chip.
    OtherChip,
    /// A ticket that answers no request that is open.
    Nonce,
    /// A ticket for a system that is older than one that was up.
    Epoch,
    /// The slot of the current system.
    InUse,
    /// There is no system that a ticket names.
    NoTicket,
    /// A start from outside while that is not allowed.
    ExternalBoot,
    /// The firmware password is needed first.
    FirmwarePassword,
    /// What the recovery system alone may ask for.
    NotRecovery,
    /// The main system was not started.
    NotStarted,
    /// A work order that is none, or that no trusted provider signed.
    Order,
    /// A work order for another job.
    Job,
    /// A work order that is not good at this moment.
    Validity,
    /// A work order that was spent before.
    Replayed,
    /// There is no room for another provider.
    Full,
    /// The state folder, or a part of it, is older than what the chip remembers.
    PutBack,
    /// There is no TPM, or it failed.
    Tpm,
}

impl Code {
    /// All of them, in the order of the document.
    pub const ALL: [Code; 38] = [
        Code::Malformed,
        Code::UnknownOperation,
        Code::Descriptor,
        Code::Locked,
        Code::Exists,
        Code::Unborn,
        Code::Sealed,
        Code::Corrupt,
        Code::Storage,
        Code::Cryptography,
        Code::Attached,
        Code::Spent,
        Code::Backwards,
        Code::Passphrase,
        Code::Password,
        Code::Absent,
        Code::Wrong,
        Code::Wait,
        Code::Disabled,
        Code::Secret,
        Code::Unauthorised,
        Code::Ticket,
        Code::OtherChip,
        Code::Nonce,
        Code::Epoch,
        Code::InUse,
        Code::NoTicket,
        Code::ExternalBoot,
        Code::FirmwarePassword,
        Code::NotRecovery,
        Code::NotStarted,
        Code::Order,
        Code::Job,
        Code::Validity,
        Code::Replayed,
        Code::Full,
        Code::PutBack,
        Code::Tpm,
    ];

    /// The code as it is sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::Malformed => "malformed",
            Code::UnknownOperation => "unknown_op",
            Code::Descriptor => "descriptor",
            Code::Locked => "locked",
            Code::Exists => "exists",
            Code::Unborn => "unborn",
            Code::Sealed => "sealed",
            Code::Corrupt => "corrupt",
            Code::Storage => "storage",
            Code::Cryptography => "cryptography",
            Code::Attached => "attached",
            Code::Spent => "spent",
            Code::Backwards => "backwards",
            Code::Passphrase => "passphrase",
            Code::Password => "password",
            Code::Absent => "absent",
            Code::Wrong => "wrong",
            Code::Wait => "wait",
            Code::Disabled => "disabled",
            Code::Secret => "secret",
            Code::Unauthorised => "unauthorised",
            Code::Ticket => "ticket",
            Code::OtherChip => "other_chip",
            Code::Nonce => "nonce",
            Code::Epoch => "epoch",
            Code::InUse => "in_use",
            Code::NoTicket => "no_ticket",
            Code::ExternalBoot => "external_boot",
            Code::FirmwarePassword => "firmware_password",
            Code::NotRecovery => "not_recovery",
            Code::NotStarted => "not_started",
            Code::Order => "order",
            Code::Job => "job",
            Code::Validity => "validity",
            Code::Replayed => "replayed",
            Code::Full => "full",
            Code::PutBack => "put_back",
            Code::Tpm => "tpm",
        }
    }

    /// The code that was sent as `text`, if there is such a one.
    pub fn from_text(text: &str) -> Option<Code> {
        Code::ALL.into_iter().find(|code| code.as_str() == text)
    }
}

/// Why the vault says no: the code for programs, the text for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub code: Code,
    /// A few words more.
    pub detail: &'static str,
}

impl Refusal {
    /// The reply that says so.
    pub fn packet(self) -> Zeroizing<Vec<u8>> {
        crate::refused(self.code.as_str(), self.detail, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise: the protocol's document lists exactly the codes that are sent.
    #[test]
    fn document_lists_every_code() {
        let document = include_str!("../../../../docs/vault-protocol.md");
        let (_, table) = document
            .split_once("## Refusals")
            .expect("the section is there");
        let listed: Vec<&str> = table
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
            .collect();
        assert_eq!(listed, Code::ALL.map(Code::as_str));
        for code in Code::ALL {
            assert_eq!(Code::from_text(code.as_str()), Some(code));
        }
    }
}
