//! What keeps the store closed.
//!
//! A seal yields one 256-bit sealing key and knows nothing of what it protects. The store's
//! header names the seal's kind, so that a store is never tried with another seal's key.

mod key_file;

pub use key_file::KeyFile;

use crate::secret::Secret;
use crate::{Error, StateFolder};

/// A way to keep a sealing key from those who copy the store.
pub trait Seal {
    /// The kind's number in the store's header.
    fn kind(&self) -> u16;

    /// The sealing key for a store that is about to be born. What an interrupted birth left is
    /// used again.
    fn prepare(&self, folder: &StateFolder) -> Result<Secret, Error>;

    /// The sealing key of the store in this folder.
    ///
    /// # Errors
    /// [`Error::Sealed`] when it cannot be had.
    fn recall(&self, folder: &StateFolder) -> Result<Secret, Error>;
}
