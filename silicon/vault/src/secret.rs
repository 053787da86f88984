//! A key as bytes.
//!
//! Invariants: never printed, copied or compared; on the heap, so that moving it leaves nothing
//! behind; wiped when dropped. Whoever reads the bytes has to write `expose`.

use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

use crate::Error;

/// Size of a symmetric key.
pub const KEY_SIZE_BYTES: usize = 32;

/// A 256-bit key.
pub struct Secret {
    bytes: Box<Zeroizing<[u8; KEY_SIZE_BYTES]>>,
}

impl Secret {
    /// A new key from the system's entropy.
    pub fn random() -> Result<Secret, Error> {
        let mut secret = Secret::zero();
        aws_lc_rs::rand::fill(&mut secret.bytes[..])
            .map_err(|_| Error::Cryptography("random bytes"))?;
        Ok(secret)
    }

    /// A key that was kept; `None` if it has another size.
    pub fn from_slice(bytes: &[u8]) -> Option<Secret> {
        let mut secret = Secret::zero();
        if bytes.len() != KEY_SIZE_BYTES {
            return None;
        }
        secret.bytes.copy_from_slice(bytes);
        Some(secret)
    }

    /// Another key, for the purpose that `info` names: HKDF-SHA-256 of this one under `salt`.
    pub fn derive(&self, salt: &[u8], info: &[&[u8]]) -> Result<Secret, Error> {
        let mut derived = Secret::zero();
        hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
            .extract(self.expose())
            .expand(info, hkdf::HKDF_SHA256)
            .and_then(|material| material.fill(&mut derived.bytes[..]))
            .map_err(|_| Error::Cryptography("deriving a key"))?;
        Ok(derived)
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8; KEY_SIZE_BYTES] {
        &self.bytes
    }

    fn zero() -> Secret {
        Secret {
            bytes: Box::new(Zeroizing::new([0; KEY_SIZE_BYTES])),
        }
    }
}
