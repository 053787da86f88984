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
        }
    }
}

impl std::error::Error for Error {}

/// Why a format did not come to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum FormatError {
    /// Nothing has changed: the old disk is whole.
    Unchanged(Error),
    /// The old disk may be gone; only opening the vault again tells.
    Uncertain(Error),
}

impl From<Error> for FormatError {
    fn from(error: Error) -> FormatError {
        FormatError::Unchanged(error)
    }
}

impl From<FormatError> for Error {
    fn from(error: FormatError) -> Error {
        match error {
            FormatError::Unchanged(error) | FormatError::Uncertain(error) => error,
        }
    }
}
