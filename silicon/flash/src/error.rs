//! What can go wrong.

use std::fmt;
use std::io;

use rustix::io::Errno;

use crate::cipher::CipherFailed;

/// Why an open disk did not do what it was asked.
#[derive(Debug)]
pub enum Error {
    /// Not a multiple of a sector, or beyond the end.
    Range,
    /// The block is not what was written; nothing of it was returned.
    Corrupt {
        /// Which.
        block: u64,
    },
    /// No room on the disk of the host, or none left on this one. Nothing acknowledged is lost;
    /// it works again once there is room.
    NoSpace,
    /// A flush failed earlier, or the disk was closed: nothing can be promised until it is opened
    /// again.
    Stopped,
    /// The disk of the host failed.
    Storage(io::Error),
    /// The vault did not take the anchor.
    Vault(io::Error),
}

impl Error {
    /// The error number for the protocols that want one.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Error::Range => Errno::INVAL.raw_os_error(),
            Error::NoSpace => Errno::NOSPC.raw_os_error(),
            Error::Corrupt { .. } | Error::Stopped | Error::Storage(_) | Error::Vault(_) => {
                Errno::IO.raw_os_error()
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Range => write!(f, "not whole sectors of this disk"),
            Error::Corrupt { block } => write!(f, "block {block} is not what was written"),
            Error::NoSpace => write!(f, "no room is left"),
            Error::Stopped => write!(f, "the disk stopped after a failed flush"),
            Error::Storage(error) => write!(f, "the disk of the host failed: {error}"),
            Error::Vault(error) => write!(f, "the vault did not take the anchor: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<CipherFailed> for Error {
    fn from(_: CipherFailed) -> Error {
        Error::Storage(io::Error::other("the cryptographic library failed"))
    }
}

/// Sorts an error of the host's disk: a lack of room can pass, anything else cannot.
pub(crate) fn from_host(error: io::Error) -> Error {
    let full = [Errno::NOSPC, Errno::DQUOT, Errno::FBIG].map(|errno| Some(errno.raw_os_error()));
    if full.contains(&error.raw_os_error()) {
        Error::NoSpace
    } else {
        Error::Storage(error)
    }
}

/// Which of the two modules is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Module 0.
    Zero,
    /// Module 1.
    One,
    /// Both of them.
    Both,
}

impl Which {
    /// The modules for which it is true; `None` if it is for none.
    #[must_use]
    pub fn of(guilty: [bool; 2]) -> Option<Which> {
        match guilty {
            [true, true] => Some(Which::Both),
            [true, false] => Some(Which::Zero),
            [false, true] => Some(Which::One),
            [false, false] => None,
        }
    }

    pub(crate) fn module(module: usize) -> Which {
        if module == 0 { Which::Zero } else { Which::One }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Which::Zero => "module 0",
            Which::One => "module 1",
            Which::Both => "both modules",
        })
    }
}

/// Why a disk was not opened or formatted. Nothing was changed.
#[derive(Debug)]
pub enum OpenError {
    /// The chip remembers no disk.
    Unformatted,
    /// Nothing there, or no module at all.
    Missing(Which),
    /// A module of another disk.
    Foreign(Which),
    /// Modules 0 and 1 are in each other's place.
    Exchanged,
    /// Older than what the chip remembers.
    Stale(Which),
    /// Adopted since what the chip remembers, by another chip or by this one in a state that it
    /// no longer has.
    Adopted(Which),
    /// Something in it is not what was written, and it cannot be told when that happened.
    Damaged(Which, &'static str),
    /// The size or the anchor is none that this program knows.
    Geometry(&'static str),
    /// The host's disk has no room for what opening has to write.
    NoSpace,
    /// The disk of the host failed.
    Storage(io::Error),
    /// The vault failed or refused.
    Vault(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Unformatted => write!(f, "this chip has no disk yet"),
            OpenError::Missing(which) => write!(f, "{which}: missing, or no module at all"),
            OpenError::Foreign(which) => write!(f, "{which}: of another disk"),
            OpenError::Exchanged => write!(f, "both modules: in each other's place"),
            OpenError::Stale(which) => write!(f, "{which}: older than what the chip remembers"),
            OpenError::Adopted(which) => write!(f, "{which}: adopted since, by another chip"),
            OpenError::Damaged(which, what) => write!(f, "{which}: damaged ({what})"),
            OpenError::Geometry(what) => write!(f, "{what}"),
            OpenError::NoSpace => write!(f, "no room is left on the host's disk"),
            OpenError::Storage(error) => write!(f, "the disk of the host failed: {error}"),
            OpenError::Vault(error) => write!(f, "the vault failed: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<CipherFailed> for OpenError {
    fn from(_: CipherFailed) -> OpenError {
        OpenError::Storage(io::Error::other("the cryptographic library failed"))
    }
}

impl From<Error> for OpenError {
    fn from(error: Error) -> OpenError {
        match error {
            Error::NoSpace => OpenError::NoSpace,
            Error::Storage(error) => OpenError::Storage(error),
            Error::Vault(error) => OpenError::Vault(error),
            Error::Range | Error::Corrupt { .. } | Error::Stopped => {
                OpenError::Damaged(Which::Both, "the index")
            }
        }
    }
}
