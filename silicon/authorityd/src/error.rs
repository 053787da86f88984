//! Why the authority could not do it.
//!
//! The texts are fixed and short: they go to whoever asks, and nothing secret can get into them.

use std::fmt;

use rustix::io::Errno;

/// Why an operation of the authority failed.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// Somebody else's authority holds the folder.
    Held,
    /// A file is not what was written, or missing; the text names it.
    Corrupt(&'static str),
    /// The folder could not be read or written.
    Storage(&'static str, Errno),
    /// The cryptographic library refused; the text names the step.
    Cryptography(&'static str),
    /// What is to be signed is not in its form.
    Malformed,
    /// An older system of this product than one that was signed.
    Epoch,
    /// One product more than can be remembered.
    Products,
    /// A work order for something that names no job.
    Job,
    /// A work order that would end before it begins, or be good for too long.
    Validity,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Held => f.write_str("another process has held the authority's folder too long"),
            Error::Corrupt(what) => write!(f, "the authority's folder is damaged: {what}"),
            Error::Storage(doing, Errno::NOSPC | Errno::DQUOT) => {
                write!(f, "{doing}: the file system is full")
            }
            Error::Storage(doing, errno) => write!(f, "{doing}: {errno}"),
            Error::Cryptography(step) => write!(f, "cryptography failed: {step}"),
            Error::Malformed => f.write_str("this is no ticket request"),
            Error::Epoch => f.write_str("a newer system of this product was signed before"),
            Error::Products => f.write_str("no more products can be remembered"),
            Error::Job => f.write_str("a job has 1 to 64 of a to z, 0 to 9, space and -"),
            Error::Validity => f.write_str("a work order is good for at most 366 days"),
        }
    }
}

impl std::error::Error for Error {}

impl From<certificate::Failed> for Error {
    fn from(failed: certificate::Failed) -> Error {
        Error::Cryptography(failed.0)
    }
}

impl From<ticket::Failed> for Error {
    fn from(_: ticket::Failed) -> Error {
        Error::Cryptography("signing a ticket or a work order")
    }
}
