//! The seal with the host's TPM: neither a copy of the disk nor the TPM alone opens the store.
//!
//! The sealing key is derived from two secrets. One lies in an index of the TPM's memory, which
//! no copy takes along and which can be deleted: then no copy of the store ever opens again. The
//! other is the key file in the state folder: it also opens the index, so that who may speak to
//! the TPM and has no more than that reads nothing.
//!
//! A chip has two neighbouring handles for its index and uses one of them; the other is for the
//! index that will replace it. So what a power cut left is found ([`Seal::tidy`]).
//!
//! Invariants: an index is deleted only when the key file opens it, or is gone; a store's index is
//! never touched before another one takes its place.

use tpm::{
    Auth, Definition, Error as TpmError, HANDLE_FIRST, HANDLE_LAST, Index, KEY_NAME_SIZE_BYTES,
    Kind, Session, Tpm,
};
use zeroize::Zeroizing;

use super::{Destroyed, KeyFile, PARAMETERS_SIZE_BYTES, Parameters};
use crate::secret::{KEY_SIZE_BYTES, Secret};
use crate::{Error, Seal, StateFolder};

/// Offset of the index's handle in the parameters, 32 bits, big-endian.
pub const HANDLE_OFFSET: usize = 0;
/// Offset of the TPM's name, by which it is known again; zeros follow.
pub const KEY_NAME_OFFSET: usize = 4;
/// What the secret in the TPM is derived for, with the key file as salt (HKDF's `info`).
pub const SEALING_LABEL: &[u8] = b"spacegray tpm seal 1";
/// What the key file is derived for to open the index; the handle follows.
pub const AUTH_LABEL: &[u8] = b"spacegray tpm index 1";
/// What the key file is derived for to choose the handles; the number of the try follows.
pub const HANDLE_LABEL: &[u8] = b"spacegray tpm handle 1";
/// So many pairs of handles are tried before they are taken to be used up.
const PAIR_TRIES: u8 = 64;

const DELETED: &str = "deleted from the TPM, which confirmed it";

/// Seals with a secret in the host's TPM.
pub struct TpmSeal {
    tpm: Tpm,
}

/// What the store's header says of the seal.
struct Spot {
    handle: u32,
    key_name: [u8; KEY_NAME_SIZE_BYTES],
}

impl TpmSeal {
    /// The seal's number in the store's header.
    pub const KIND: u16 = 3;

    /// Seals with this TPM.
    pub fn new(tpm: Tpm) -> TpmSeal {
        TpmSeal { tpm }
    }
}

impl Seal for TpmSeal {
    fn kind(&self) -> u16 {
        TpmSeal::KIND
    }

    fn name(&self) -> &'static str {
        "tpm2"
    }

    fn create(
        &mut self,
        folder: &StateFolder,
        previous: Option<&Parameters>,
    ) -> Result<(Secret, Parameters), Error> {
        let previous = previous.map(Spot::decode).transpose()?;
        let key_file = KeyFile::read_or_make(folder)?;
        let expected = previous.as_ref().map(|spot| &spot.key_name);
        let mut session = self.tpm.session(expected).map_err(Error::Tpm)?;
        let handle = free_handle(&mut session, &key_file, previous.as_ref())?;
        let secret = Secret::random()?;
        let auth = auth(&key_file, handle)?;
        let mut index = session
            .define(definition(handle), &auth)
            .map_err(Error::Tpm)?;
        if let Err(error) = session.write(&mut index, secret.expose()) {
            // The first error is the one to tell; what is left is found by the next try.
            let _ = session.undefine(index);
            return Err(Error::Tpm(error));
        }
        let spot = Spot {
            handle,
            key_name: *session.key_name(),
        };
        Ok((sealing_key(&secret, &key_file)?, spot.encode()))
    }

    fn recall(&mut self, folder: &StateFolder, parameters: &Parameters) -> Result<Secret, Error> {
        let spot = Spot::decode(parameters)?;
        let key_file = KeyFile::read(folder)?.ok_or(Error::Sealed("the key file is missing"))?;
        let mut session = self.tpm.session(Some(&spot.key_name)).map_err(Error::Tpm)?;
        let secret = session
            .find(definition(spot.handle), &auth(&key_file, spot.handle)?)
            .and_then(|index| session.read(&index))
            .map_err(|error| match error {
                TpmError::Missing => Error::Sealed("its secret was deleted from the TPM"),
                TpmError::Foreign | TpmError::Unauthorised | TpmError::Unwritten => {
                    Error::Sealed("the TPM's index is not this chip's")
                }
                error => Error::Tpm(error),
            })?;
        let secret = Secret::filled(|bytes| {
            bytes.copy_from_slice(&secret[..]);
            Ok(())
        })?;
        sealing_key(&secret, &key_file)
    }

    fn tidy(&mut self, folder: &StateFolder, parameters: &Parameters) {
        // The next start tries again.
        let _ = self.tidy_up(folder, parameters);
    }

    fn rotates(&self) -> bool {
        true
    }

    fn destroy(
        &mut self,
        folder: &StateFolder,
        parameters: &Parameters,
    ) -> Result<Option<Destroyed>, Error> {
        let spot = Spot::decode(parameters)?;
        let mut session = self.tpm.session(Some(&spot.key_name)).map_err(Error::Tpm)?;
        let index = match KeyFile::read(folder) {
            Ok(Some(key_file)) => own_index(&mut session, &key_file, spot.handle)?,
            // Without it the index opens to nobody, but what was copied before may hold it.
            _ => (session.find(definition(spot.handle), &Auth::default())).ok(),
        };
        let Some(index) = index else {
            return Ok(None);
        };
        session.undefine(index).map_err(Error::Tpm)?;
        Ok(Some(Destroyed {
            what: "the sealing key's secret",
            place: format!("NV index {:#010x} of the host's TPM", spot.handle),
            how: DELETED,
        }))
    }
}

impl TpmSeal {
    fn tidy_up(&self, folder: &StateFolder, parameters: &Parameters) -> Result<(), Error> {
        let spot = Spot::decode(parameters)?;
        let Some(key_file) = KeyFile::read(folder)? else {
            return Ok(());
        };
        let mut session = self.tpm.session(Some(&spot.key_name)).map_err(Error::Tpm)?;
        match own_index(&mut session, &key_file, other(spot.handle))? {
            Some(index) => session.undefine(index).map_err(Error::Tpm),
            None => Ok(()),
        }
    }
}

impl Spot {
    fn encode(&self) -> Parameters {
        let mut parameters = [0; PARAMETERS_SIZE_BYTES];
        parameters[HANDLE_OFFSET..KEY_NAME_OFFSET].copy_from_slice(&self.handle.to_be_bytes());
        parameters[KEY_NAME_OFFSET..KEY_NAME_OFFSET + KEY_NAME_SIZE_BYTES]
            .copy_from_slice(&self.key_name);
        parameters
    }

    fn decode(parameters: &Parameters) -> Result<Spot, Error> {
        let (handle, rest) = parameters.split_at(KEY_NAME_OFFSET);
        let (key_name, zeros) = rest.split_at(KEY_NAME_SIZE_BYTES);
        let spot = Spot {
            handle: u32::from_be_bytes(handle.try_into().expect("the slice has this size")),
            key_name: key_name.try_into().expect("the slice has this size"),
        };
        let is_ours = (HANDLE_FIRST..=HANDLE_LAST).contains(&spot.handle)
            && zeros.iter().all(|byte| *byte == 0);
        is_ours
            .then_some(spot)
            .ok_or(Error::Corrupt("parameters of the seal"))
    }
}

/// The index that a chip would use next.
fn other(handle: u32) -> u32 {
    handle ^ 1
}

fn definition(handle: u32) -> Definition {
    let kind = Kind::Data;
    Definition { handle, kind }
}

/// What opens the index of this handle.
fn auth(key_file: &Secret, handle: u32) -> Result<Auth, Error> {
    let derived = key_file.derive(&[], &[AUTH_LABEL, &handle.to_be_bytes()])?;
    Ok(Zeroizing::new(*derived.expose()))
}

fn sealing_key(secret: &Secret, key_file: &Secret) -> Result<Secret, Error> {
    secret.derive(key_file.expose(), &[SEALING_LABEL])
}

/// The index at this handle, if the key file opens it.
fn own_index(
    session: &mut Session,
    key_file: &Secret,
    handle: u32,
) -> Result<Option<Index>, Error> {
    let index = match session.find(definition(handle), &auth(key_file, handle)?) {
        Err(TpmError::Missing | TpmError::Foreign) => return Ok(None),
        index => index.map_err(Error::Tpm)?,
    };
    match session.read(&index) {
        Ok(_) | Err(TpmError::Unwritten) => Ok(Some(index)),
        Err(TpmError::Unauthorised) => Ok(None),
        Err(error) => Err(Error::Tpm(error)),
    }
}

/// A handle for a new index: beside the one that it will replace, else the first of a pair that
/// the key file chooses. What an earlier try has left there is deleted.
fn free_handle(
    session: &mut Session,
    key_file: &Secret,
    previous: Option<&Spot>,
) -> Result<u32, Error> {
    if let Some(spot) = previous {
        if make_free(session, key_file, other(spot.handle))? {
            return Ok(other(spot.handle));
        }
        // Somebody else took it. Then a new pair, and only the pair before is not tidied up.
    }
    for number in 0..PAIR_TRIES {
        let chosen = key_file.derive(&[], &[HANDLE_LABEL, &[number]])?;
        let chosen = u16::from_be_bytes([chosen.expose()[0], chosen.expose()[1]]);
        let handle = HANDLE_FIRST | u32::from(chosen & !1);
        let in_use = previous.is_some_and(|spot| spot.handle & !1 == handle);
        if !in_use
            && make_free(session, key_file, handle)?
            && make_free(session, key_file, other(handle))?
        {
            return Ok(handle);
        }
    }
    Err(Error::Tpm(TpmError::Occupied))
}

/// Whether there is no index at this handle, after one of this chip's own was deleted.
fn make_free(session: &mut Session, key_file: &Secret, handle: u32) -> Result<bool, Error> {
    match session.look(definition(handle)) {
        Ok(None) => return Ok(true),
        Err(TpmError::Foreign) => return Ok(false),
        found => found.map_err(Error::Tpm)?,
    };
    let Some(index) = own_index(session, key_file, handle)? else {
        return Ok(false);
    };
    session.undefine(index).map_err(Error::Tpm)?;
    Ok(true)
}

// KEY_SIZE_BYTES is what an index holds and what opens it.
const _: () = assert!(KEY_SIZE_BYTES == tpm::DATA_SIZE_BYTES);

#[cfg(test)]
mod tests;
