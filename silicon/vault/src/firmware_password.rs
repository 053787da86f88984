//! The firmware password: asked for before anything but the chosen system starts.
//!
//! It opens no key: what is kept of it tells only whether one that is given is the same. It is
//! stretched like the disk's password, tangled with the UID, and has tries of its own.
//!
//! Invariants: a try is charged before anything is computed for it (`access`); what is kept is
//! compared in a time that does not tell how much of it fits.

use crate::Error;
use crate::hierarchy::{Guess, SALT_SIZE_BYTES};
use crate::password::{Cost, Password, stretch};
use crate::secret::{KEY_SIZE_BYTES, Secret};

/// What it is tangled with (HKDF's `info`).
const TANGLE_LABEL: &[u8] = b"spacegray firmware password 1";
/// What is kept of it.
const CHECK_LABEL: &[u8] = b"spacegray firmware password check 1";

/// What is kept of a firmware password.
pub struct FirmwarePassword {
    /// Its salt.
    pub salt: [u8; SALT_SIZE_BYTES],
    /// What computing it costs.
    pub cost: Cost,
    /// Tells whether it is the same.
    pub check: [u8; KEY_SIZE_BYTES],
}

impl FirmwarePassword {
    /// What is to be kept of a new one.
    pub fn new(uid: &Secret, password: &Password, cost: Cost) -> Result<FirmwarePassword, Error> {
        let mut salt = [0; SALT_SIZE_BYTES];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| Error::Cryptography("random bytes"))?;
        let key = stretched(uid, password, &salt, cost)?;
        let check = *key.derive(&[], &[CHECK_LABEL])?.expose();
        Ok(FirmwarePassword { salt, cost, check })
    }

    /// Whether it is this one; else what to remember of it.
    pub fn check(&self, uid: &Secret, password: &Password) -> Result<Guess<()>, Error> {
        let key = stretched(uid, password, &self.salt, self.cost)?;
        match key.derive(&[], &[CHECK_LABEL])?.is(&self.check) {
            true => Ok(Guess::Right(())),
            false => Guess::wrong(&key),
        }
    }
}

fn stretched(
    uid: &Secret,
    password: &Password,
    salt: &[u8; SALT_SIZE_BYTES],
    cost: Cost,
) -> Result<Secret, Error> {
    stretch(password, salt, &uid.derive(&[], &[TANGLE_LABEL])?, cost)
}
