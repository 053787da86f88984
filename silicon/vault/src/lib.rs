//! The chip's keys: made at birth, kept sealed, used and never shown.
//!
//! A [`Vault`] is a chip that has been born and opened. It holds
//! - the ECID, the chip's number, 64 random bits;
//! - the identity key (P-256), whose public half names the chip;
//! - the boot-signing key (RSA-2048), whose certificate is the firmware's `db`;
//! - the platform and key-exchange certificates (PK, KEK). Their private keys lived only while
//!   the certificates were made, so nobody can ever enrol another key in this chip's name;
//! - the disk key, 32 random bytes.
//!
//! Invariants: private keys leave the vault in one way only, the disk key into the pipe of a
//! caller; the boot-signing key signs nothing but what [`authenticode`] builds; secret types have
//! no `Debug`, `Clone` or `==` and are wiped when dropped; a birth that was cut short leaves a
//! folder that can be born again, never half a vault.
//!
//! It trusts the kernel, the folder's file system to keep what `fsync` confirmed, and the
//! [`Seal`] that keeps the store closed. Against whom each seal holds is in
//! `docs/threat-model.md`; the store's bytes are in `docs/vault-store.md`.
//!
//! Cryptography is aws-lc-rs: it is maintained by people whose job it is, wipes what it frees,
//! has constant-time RSA and P-256 in assembler that was partly proven, and builds with a plain C
//! compiler. X.509 and PKCS#7 are written with the RustCrypto `der` types, which state the ASN.1
//! as Rust structures and bring no second implementation of any cipher.

#![forbid(unsafe_code)]

mod authenticode;
mod certificate;
mod contents;
mod error;
mod folder;
mod keys;
mod seal;
mod secret;
pub mod store;

pub use error::Error;
pub use folder::StateFolder;
pub use keys::DISK_KEY_TEXT_SIZE_BYTES;
pub use seal::{KeyFile, Seal};

use aws_lc_rs::rsa;
use zeroize::Zeroizing;

use crate::certificate::Certificates;
use crate::contents::Contents;
use crate::secret::Secret;

/// A chip's keys, unsealed.
pub struct Vault {
    ecid: u64,
    identity_public_key: Vec<u8>,
    certificates: Certificates,
    boot_signing_key: rsa::KeyPair,
    disk_key: Secret,
}

/// The public half of a vault. All byte strings are DER.
pub struct Identity<'a> {
    /// The chip's number.
    pub ecid: u64,
    /// `SubjectPublicKeyInfo` of the identity key.
    pub identity_public_key: &'a [u8],
    /// The platform key's certificate.
    pub pk: &'a [u8],
    /// The key-exchange key's certificate.
    pub kek: &'a [u8],
    /// The boot-signing key's certificate.
    pub db: &'a [u8],
}

impl Vault {
    /// Makes a new chip in an empty state folder.
    ///
    /// # Errors
    /// [`Error::Exists`] when the folder holds a vault already; it is left untouched.
    pub fn birth(folder: &StateFolder, seal: &dyn Seal) -> Result<Vault, Error> {
        if store::exists(folder)? {
            return Err(Error::Exists);
        }
        let ecid = keys::random_ecid()?;
        let contents = Contents::generate(ecid)?;
        store::write(folder, seal, ecid, &contents)?;
        Vault::from_contents(ecid, contents)
    }

    /// Unseals the chip that was born in this folder.
    ///
    /// # Errors
    /// [`Error::Unborn`] without a store, [`Error::Sealed`] when the seal's key is missing or
    /// another's, [`Error::Corrupt`] when the store is not what was written.
    pub fn open(folder: &StateFolder, seal: &dyn Seal) -> Result<Vault, Error> {
        let (ecid, contents) = store::read(folder, seal)?;
        Vault::from_contents(ecid, contents)
    }

    fn from_contents(ecid: u64, contents: Contents) -> Result<Vault, Error> {
        Ok(Vault {
            ecid,
            identity_public_key: keys::identity_public_key(&contents.identity_key)?,
            boot_signing_key: keys::boot_signing_key(&contents.boot_signing_key)?,
            certificates: contents.certificates,
            disk_key: contents.disk_key,
        })
    }

    /// The chip's number.
    pub fn ecid(&self) -> u64 {
        self.ecid
    }

    /// What may be known about this chip.
    pub fn identity(&self) -> Identity<'_> {
        Identity {
            ecid: self.ecid,
            identity_public_key: &self.identity_public_key,
            pk: &self.certificates.pk,
            kek: &self.certificates.kek,
            db: &self.certificates.db,
        }
    }

    /// Signs the Authenticode SHA-256 `digest` of an image: a complete PKCS#7 `SignedData`, DER.
    /// The same digest gives the same bytes.
    pub fn sign_image(&self, digest: &[u8; 32]) -> Result<Vec<u8>, Error> {
        authenticode::sign(digest, &self.boot_signing_key, &self.certificates.db)
    }

    /// The disk key as base64 text, for the pipe of whoever encrypts the disk.
    pub fn disk_key_text(&self) -> Zeroizing<[u8; DISK_KEY_TEXT_SIZE_BYTES]> {
        keys::disk_key_text(&self.disk_key)
    }
}

/// Lets the cryptographic library fetch entropy and set itself up, so that a confinement applied
/// afterwards need not allow what only that takes.
pub fn warm_up() -> Result<(), Error> {
    keys::random_ecid().map(|_| ())
}
