//! A key as bytes.
//!
//! Invariants: never printed, copied or compared but in constant time; in the key arena, so that
//! it is on no swap, in no core dump, and moving it leaves nothing behind; wiped when dropped.
//! Whoever reads the bytes has to write `expose`.

use arena::{SLOT_SIZE_BYTES, Slot};
use aws_lc_rs::{constant_time, hkdf};

use crate::Error;

/// Size of a symmetric key.
pub const KEY_SIZE_BYTES: usize = SLOT_SIZE_BYTES;

const NO_ROOM: Error = Error::Cryptography("no room for another key");

/// A 256-bit key.
pub struct Secret {
    bytes: Slot,
}

/// Makes the key arena, so that a confinement applied afterwards need not allow what that takes.
/// Says whether its memory is locked; if not, keys could reach swap.
pub fn prepare() -> Result<bool, Error> {
    arena::prepare().map_err(|_| Error::Cryptography("no memory for keys"))
}

impl Secret {
    /// A new key from the system's entropy.
    pub fn random() -> Result<Secret, Error> {
        Secret::filled(|bytes| {
            aws_lc_rs::rand::fill(bytes).map_err(|_| Error::Cryptography("random bytes"))
        })
    }

    /// A key that was kept; `None` if it has another size, or the arena no room.
    pub fn from_slice(bytes: &[u8]) -> Option<Secret> {
        if bytes.len() != KEY_SIZE_BYTES {
            return None;
        }
        Secret::filled(|secret| {
            secret.copy_from_slice(bytes);
            Ok(())
        })
        .ok()
    }

    /// A key that `fill` writes in its place; all zero before.
    pub fn filled(
        fill: impl FnOnce(&mut [u8; KEY_SIZE_BYTES]) -> Result<(), Error>,
    ) -> Result<Secret, Error> {
        let mut bytes = Slot::take().map_err(|_| NO_ROOM)?;
        fill(&mut bytes)?;
        Ok(Secret { bytes })
    }

    /// Another key, for the purpose that `info` names: HKDF-SHA-256 of this one under `salt`.
    pub fn derive(&self, salt: &[u8], info: &[&[u8]]) -> Result<Secret, Error> {
        Secret::filled(|derived| {
            hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
                .extract(self.expose())
                .expand(info, hkdf::HKDF_SHA256)
                .and_then(|material| material.fill(derived))
                .map_err(|_| Error::Cryptography("deriving a key"))
        })
    }

    /// Whether it is the same, in a time that does not tell how much of it is.
    pub fn is(&self, other: &[u8; KEY_SIZE_BYTES]) -> bool {
        constant_time::verify_slices_are_equal(self.expose(), other).is_ok()
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8; KEY_SIZE_BYTES] {
        &self.bytes
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Bytes out of a published vector.
    pub fn hex(digits: &str) -> Vec<u8> {
        let pair = |start| u8::from_str_radix(&digits[start..start + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(pair).collect()
    }

    /// Promise: a key is what it was made of, and a comparison says so and nothing else.
    #[test]
    fn a_key_is_compared_without_being_shown() {
        let key = Secret::from_slice(&[7; 32]).unwrap();
        assert!(key.is(&[7; 32]));
        for place in [0, 31] {
            let mut other = [7; 32];
            other[place] ^= 0x80;
            assert!(!key.is(&other));
        }
        assert!(Secret::from_slice(&[7; 31]).is_none());
        assert!(Secret::from_slice(&[7; 33]).is_none());
    }

    /// Promise: each purpose and each salt has a key of its own.
    #[test]
    fn derived_keys_differ() {
        let key = Secret::from_slice(&[7; 32]).unwrap();
        let one = key.derive(b"salt", &[b"one"]).unwrap();
        assert!(one.is(key.derive(b"salt", &[b"one"]).unwrap().expose()));
        for (salt, info) in [(b"salt", b"two"), (b"tlas", b"one")] {
            assert!(!one.is(key.derive(salt, &[info]).unwrap().expose()));
        }
        assert!(
            !Secret::random()
                .unwrap()
                .is(Secret::random().unwrap().expose())
        );
    }
}
