//! Why the SSD says no to the firmware.

use std::borrow::Cow;

use flash::{Error, OpenError, Which};
use wire::{Value, refused};
use zeroize::Zeroizing;

/// The reasons to say no; `docs/ssd-protocol.md` says when each is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// No request, or too much for one packet.
    Malformed,
    /// A request for something else.
    UnknownOperation,
    /// A descriptor is missing, too many or of the wrong kind.
    Descriptor,
    /// It does not fit: not open, or open already.
    State,
    /// The chip remembers no disk.
    Unformatted,
    /// A module is empty, or none.
    Missing,
    /// A module is another disk's.
    Foreign,
    /// The modules are in each other's place.
    Exchanged,
    /// A module is older than the chip remembers.
    Stale,
    /// A module was adopted since by another chip.
    Adopted,
    /// The vault has not allowed an adoption.
    Unauthorised,
    /// A module is not what was written.
    Damaged,
    /// There is no room.
    NoSpace,
    /// The host's disk failed.
    Storage,
    /// The vault refused, or is gone.
    Vault,
    /// A flush failed earlier.
    Stopped,
}

impl Code {
    /// All of them, in the order of the document.
    #[cfg(test)]
    pub const ALL: [Code; 16] = [
        Code::Malformed,
        Code::UnknownOperation,
        Code::Descriptor,
        Code::State,
        Code::Unformatted,
        Code::Missing,
        Code::Foreign,
        Code::Exchanged,
        Code::Stale,
        Code::Adopted,
        Code::Unauthorised,
        Code::Damaged,
        Code::NoSpace,
        Code::Storage,
        Code::Vault,
        Code::Stopped,
    ];

    /// The code as it is sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::Malformed => "malformed",
            Code::UnknownOperation => "unknown_op",
            Code::Descriptor => "descriptor",
            Code::State => "state",
            Code::Unformatted => "unformatted",
            Code::Missing => "missing",
            Code::Foreign => "foreign",
            Code::Exchanged => "exchanged",
            Code::Stale => "stale",
            Code::Adopted => "adopted",
            Code::Unauthorised => "unauthorised",
            Code::Damaged => "damaged",
            Code::NoSpace => "no_space",
            Code::Storage => "storage",
            Code::Vault => "vault",
            Code::Stopped => "stopped",
        }
    }
}

/// What `module` is when both are meant.
pub const BOTH_MODULES: u64 = 2;

/// One refusal: the code for programs, the text for people, and which module it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    code: Code,
    detail: Cow<'static, str>,
    module: Option<u64>,
}

impl Refusal {
    /// About no module in particular.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal {
            code,
            detail: detail.into(),
            module: None,
        }
    }

    /// The reply that says so.
    pub fn packet(&self) -> Zeroizing<Vec<u8>> {
        let module = self.module.map(|module| ("module", Value::Uint(module)));
        refused(self.code.as_str(), &self.detail, module.as_slice())
    }
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Refusal {
        let both = Some(BOTH_MODULES);
        let (code, module) = match &error {
            OpenError::Unformatted => (Code::Unformatted, None),
            OpenError::Missing(which) => (Code::Missing, Some(number(*which))),
            OpenError::Foreign(which) => (Code::Foreign, Some(number(*which))),
            OpenError::Exchanged => (Code::Exchanged, both),
            OpenError::Stale(which) => (Code::Stale, Some(number(*which))),
            OpenError::Adopted(which) => (Code::Adopted, Some(number(*which))),
            OpenError::Damaged(which, _) => (Code::Damaged, Some(number(*which))),
            OpenError::Geometry(_) => (Code::Damaged, both),
            OpenError::NoSpace => (Code::NoSpace, None),
            OpenError::Storage(_) => (Code::Storage, None),
            OpenError::Vault(_) => (Code::Vault, None),
        };
        Refusal {
            code,
            detail: error.to_string().into(),
            module,
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        let code = match &error {
            Error::Range => Code::Malformed,
            Error::Corrupt { .. } => Code::Damaged,
            Error::NoSpace => Code::NoSpace,
            Error::Stopped => Code::Stopped,
            Error::Storage(_) => Code::Storage,
            Error::Vault(_) => Code::Vault,
        };
        Refusal::new(code, error.to_string())
    }
}

fn number(which: Which) -> u64 {
    match which {
        Which::Zero => 0,
        Which::One => 1,
        Which::Both => BOTH_MODULES,
    }
}
