//! The default seal: a key file beside the store.
//!
//! It protects the workstation's folder, which is kept elsewhere, and nothing more: whoever
//! copies the state folder has the key too.

use super::{Destroyed, PARAMETERS_SIZE_BYTES, Parameters};
use crate::secret::{KEY_SIZE_BYTES, Secret};
use crate::{Error, Seal, StateFolder};

/// The key file's name in the state folder: [`KEY_SIZE_BYTES`] random bytes, nothing else.
pub const KEY_FILE_NAME: &str = "sealing.key";

/// Seals with the key file in the state folder.
pub struct KeyFile;

impl KeyFile {
    /// The seal's number in the store's header.
    pub const KIND: u16 = 1;

    /// The key in the file, `None` where there is no file.
    pub(crate) fn read(folder: &StateFolder) -> Result<Option<Secret>, Error> {
        match folder.read(KEY_FILE_NAME, KEY_SIZE_BYTES) {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => Secret::from_slice(&bytes)
                .map(Some)
                .ok_or(Error::Sealed("the key file is too short")),
            Err(Error::Corrupt(_)) => Err(Error::Sealed("the key file is no key")),
            Err(error) => Err(error),
        }
    }

    /// The key in the file, made first where there is none.
    pub(crate) fn read_or_make(folder: &StateFolder) -> Result<Secret, Error> {
        if let Some(key) = KeyFile::read(folder)? {
            return Ok(key);
        }
        let key = Secret::random()?;
        folder.write(KEY_FILE_NAME, key.expose())?;
        Ok(key)
    }
}

impl Seal for KeyFile {
    fn kind(&self) -> u16 {
        KeyFile::KIND
    }

    fn name(&self) -> &'static str {
        "keyfile"
    }

    fn create(
        &mut self,
        folder: &StateFolder,
        _: Option<&Parameters>,
    ) -> Result<(Secret, Parameters), Error> {
        Ok((KeyFile::read_or_make(folder)?, [0; PARAMETERS_SIZE_BYTES]))
    }

    fn recall(&mut self, folder: &StateFolder, _: &Parameters) -> Result<Secret, Error> {
        KeyFile::read(folder)?.ok_or(Error::Sealed("the key file is missing"))
    }

    fn destroy(
        &mut self,
        folder: &StateFolder,
        _: &Parameters,
    ) -> Result<Option<Destroyed>, Error> {
        folder.destroy(KEY_FILE_NAME)?;
        Ok(Some(Destroyed {
            what: "sealing key",
            place: format!("{KEY_FILE_NAME} in the chip's state folder"),
            how: crate::OVERWRITTEN,
        }))
    }
}
