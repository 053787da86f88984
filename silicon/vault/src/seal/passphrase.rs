//! A seal that is in its owner's head: a passphrase, asked for at each power-on.
//!
//! The sealing key is the passphrase stretched with Argon2id under the salt in the store's header.
//! Nothing of the chip is mixed in, for there is nothing before the store is open: whoever copies
//! the state folder can guess on machines of their own, and what holds is the passphrase.
//!
//! Invariant: the passphrase is wiped as soon as the key has been made of it.

use super::{Destroyed, PARAMETERS_SIZE_BYTES, Parameters};
use crate::password::{Cost, Password, SALT_SIZE_BYTES, stretch};
use crate::secret::{KEY_SIZE_BYTES, Secret};
use crate::{Error, Seal, StateFolder};

/// Offset of the salt in the seal's parameters.
pub const SALT_OFFSET: usize = 0;
/// Offset of the memory for one guess in KiB, 32 bits, big-endian.
pub const MEMORY_OFFSET: usize = SALT_OFFSET + SALT_SIZE_BYTES;
/// Offset of the passes over it, 32 bits, big-endian; zeros follow.
pub const PASSES_OFFSET: usize = MEMORY_OFFSET + 4;
const END_OFFSET: usize = PASSES_OFFSET + 4;

/// What takes the place of a chip's own key (Argon2's secret value).
pub const TANGLE: &[u8; KEY_SIZE_BYTES] = b"spacegray passphrase seal 1\0\0\0\0\0";

/// Seals with what its owner knows.
pub struct Passphrase {
    passphrase: Option<Password>,
    /// The key that was made of it, and for which parameters.
    made: Option<(Parameters, Secret)>,
}

impl Passphrase {
    /// The seal's number in the store's header.
    pub const KIND: u16 = 2;

    /// A seal that this passphrase opens.
    pub fn new(passphrase: Password) -> Passphrase {
        Passphrase {
            passphrase: Some(passphrase),
            made: None,
        }
    }

    fn key(&mut self, parameters: &Parameters) -> Result<Secret, Error> {
        if let Some((made_for, key)) = &self.made {
            if made_for == parameters {
                return copy(key);
            }
        }
        let (salt, cost) = decode(parameters)?;
        let passphrase = self.passphrase.take().ok_or(Error::Passphrase)?;
        let key = stretch(&passphrase, &salt, &tangle()?, cost)?;
        let copied = copy(&key)?;
        self.made = Some((*parameters, key));
        Ok(copied)
    }
}

impl Seal for Passphrase {
    fn kind(&self) -> u16 {
        Passphrase::KIND
    }

    fn name(&self) -> &'static str {
        "passphrase"
    }

    fn create(
        &mut self,
        _folder: &StateFolder,
        previous: Option<&Parameters>,
    ) -> Result<(Secret, Parameters), Error> {
        let parameters = match previous {
            Some(previous) => *previous,
            None => encode(&random_salt()?, Cost::calibrated()?),
        };
        Ok((self.key(&parameters)?, parameters))
    }

    fn recall(&mut self, _folder: &StateFolder, parameters: &Parameters) -> Result<Secret, Error> {
        self.key(parameters)
    }

    /// There is nothing of it that could be destroyed.
    fn destroy(
        &mut self,
        _folder: &StateFolder,
        _parameters: &Parameters,
    ) -> Result<Option<Destroyed>, Error> {
        Ok(None)
    }
}

fn encode(salt: &[u8; SALT_SIZE_BYTES], cost: Cost) -> Parameters {
    let mut parameters = [0; PARAMETERS_SIZE_BYTES];
    parameters[SALT_OFFSET..MEMORY_OFFSET].copy_from_slice(salt);
    parameters[MEMORY_OFFSET..PASSES_OFFSET].copy_from_slice(&cost.memory_kib.to_be_bytes());
    parameters[PASSES_OFFSET..END_OFFSET].copy_from_slice(&cost.passes.to_be_bytes());
    parameters
}

/// What is there can be read and written by anybody who has the store: only a cost that this
/// chip could have chosen is paid.
fn decode(parameters: &Parameters) -> Result<([u8; SALT_SIZE_BYTES], Cost), Error> {
    const NONE: Error = Error::Corrupt("the passphrase's salt and cost");
    let number = |offset: usize| {
        let bytes = parameters[offset..offset + 4].try_into().ok();
        bytes.map(u32::from_be_bytes).ok_or(NONE)
    };
    let salt = (parameters[SALT_OFFSET..MEMORY_OFFSET].try_into()).map_err(|_| NONE)?;
    let cost = Cost::checked(number(MEMORY_OFFSET)?, number(PASSES_OFFSET)?).ok_or(NONE)?;
    match parameters[END_OFFSET..].iter().all(|byte| *byte == 0) {
        true => Ok((salt, cost)),
        false => Err(NONE),
    }
}

fn random_salt() -> Result<[u8; SALT_SIZE_BYTES], Error> {
    let mut salt = [0; SALT_SIZE_BYTES];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| Error::Cryptography("random bytes"))?;
    Ok(salt)
}

fn tangle() -> Result<Secret, Error> {
    copy_of(TANGLE)
}

fn copy(key: &Secret) -> Result<Secret, Error> {
    copy_of(key.expose())
}

fn copy_of(bytes: &[u8; KEY_SIZE_BYTES]) -> Result<Secret, Error> {
    Secret::filled(|copy| {
        copy.copy_from_slice(bytes);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::password::{MEMORY_KIB_MAX, MEMORY_KIB_MIN, PASSES_MAX};

    const CHEAP: Cost = Cost {
        memory_kib: MEMORY_KIB_MIN,
        passes: 1,
    };

    fn seal(passphrase: &str) -> Passphrase {
        Passphrase::new(Password::of(passphrase))
    }

    fn folder() -> (tempfile::TempDir, StateFolder) {
        let directory = tempfile::tempdir().unwrap();
        let folder = StateFolder::take(File::open(directory.path()).unwrap()).unwrap();
        (directory, folder)
    }

    /// Promise: the same passphrase yields the same key again, another another one; and each
    /// chip has a salt of its own.
    #[test]
    fn the_passphrase_is_the_key() {
        let (_directory, folder) = folder();
        let (key, parameters) = seal("correct horse").create(&folder, None).unwrap();
        let recall = |passphrase| seal(passphrase).recall(&folder, &parameters).unwrap();
        assert!(key.is(recall("correct horse").expose()));
        assert!(!key.is(recall("correct horsf").expose()));
        let (other, elsewhere) = seal("correct horse").create(&folder, None).unwrap();
        assert!(!key.is(other.expose()) && parameters != elsewhere);
    }

    /// Promise: a chip at work needs its passphrase once; after that it is gone.
    #[test]
    fn the_passphrase_is_needed_once() {
        let (_directory, folder) = folder();
        let parameters = encode(&[1; SALT_SIZE_BYTES], CHEAP);
        let mut seal = seal("correct horse");
        let key = seal.recall(&folder, &parameters).unwrap();
        assert!(seal.passphrase.is_none());
        let (again, kept) = seal.create(&folder, Some(&parameters)).unwrap();
        assert!(key.is(again.expose()) && kept == parameters);
        assert_eq!(seal.destroy(&folder, &parameters), Ok(None));
        let others = encode(&[2; SALT_SIZE_BYTES], CHEAP);
        assert_eq!(seal.recall(&folder, &others).err(), Some(Error::Passphrase));
    }

    /// Promise: whoever writes to the header can make no guess cheaper than the chip would, none
    /// endless, and hide nothing in it.
    #[test]
    fn only_parameters_of_a_chip_are_taken() {
        let (_directory, folder) = folder();
        let salt = [1; SALT_SIZE_BYTES];
        let parameters = encode(&salt, CHEAP);
        assert!(decode(&parameters).is_ok_and(|read| read == (salt, CHEAP)));
        let mut changed = [[0; PARAMETERS_SIZE_BYTES], [0xff; PARAMETERS_SIZE_BYTES]].to_vec();
        for (memory_kib, passes) in [
            (MEMORY_KIB_MIN - 1, 1),
            (MEMORY_KIB_MAX + 1, 1),
            (MEMORY_KIB_MIN, 0),
            (MEMORY_KIB_MIN, PASSES_MAX + 1),
        ] {
            changed.push(encode(&salt, Cost { memory_kib, passes }));
        }
        for place in END_OFFSET..PARAMETERS_SIZE_BYTES {
            let mut parameters = parameters;
            parameters[place] = 1;
            changed.push(parameters);
        }
        for parameters in changed {
            let refused = seal("correct horse").recall(&folder, &parameters).err();
            assert!(matches!(refused, Some(Error::Corrupt(_))));
        }
    }
}
