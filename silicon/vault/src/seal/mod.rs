//! What keeps the store closed.
//!
//! A seal yields one 256-bit sealing key and knows nothing of what it protects. The store's
//! header names the seal's kind and what the seal needs to yield the key again, so that a store
//! is never tried with another seal's key.

mod key_file;
mod passphrase;
mod tpm;

pub(crate) use key_file::KEY_FILE_NAME;
pub use key_file::KeyFile;
pub use passphrase::Passphrase;
pub use tpm::TpmSeal;

use crate::secret::Secret;
use crate::{Error, StateFolder};

/// Size of what a seal leaves in the store's header.
pub const PARAMETERS_SIZE_BYTES: usize = 64;

/// What a seal needs to yield a key again, readable for everybody.
pub type Parameters = [u8; PARAMETERS_SIZE_BYTES];

/// Something that is gone, for the receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destroyed {
    /// What it was.
    pub what: &'static str,
    /// Where it lay.
    pub place: String,
    /// How it was destroyed, and how surely.
    pub how: &'static str,
}

/// A way to keep a sealing key from those who copy the store.
pub trait Seal {
    /// The kind's number in the store's header.
    fn kind(&self) -> u16;

    /// The kind's name, as its owner orders it.
    fn name(&self) -> &'static str;

    /// A sealing key for a store that is about to be written, and what [`Seal::recall`] needs.
    /// `previous` is that of the store which it will replace.
    fn create(
        &mut self,
        folder: &StateFolder,
        previous: Option<&Parameters>,
    ) -> Result<(Secret, Parameters), Error>;

    /// The sealing key of the store in this folder.
    ///
    /// # Errors
    /// [`Error::Sealed`] when it cannot be had, [`Error::Passphrase`] for a wrong one.
    fn recall(&mut self, folder: &StateFolder, parameters: &Parameters) -> Result<Secret, Error>;

    /// This is the store that counts: puts away what a power cut left of others.
    fn tidy(&mut self, _folder: &StateFolder, _parameters: &Parameters) {}

    /// Whether [`Seal::create`] makes another key each time, so that [`Seal::destroy`] puts older
    /// stores out of reach.
    fn rotates(&self) -> bool {
        false
    }

    /// Destroys what yields the key: the store under it was replaced, or is to die. Harmless
    /// where it is gone already.
    fn destroy(
        &mut self,
        folder: &StateFolder,
        parameters: &Parameters,
    ) -> Result<Option<Destroyed>, Error>;
}
