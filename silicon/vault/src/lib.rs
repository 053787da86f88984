//! The chip's keys: made at birth, kept sealed, used and never shown.
//!
//! A [`Vault`] is a chip that has been born and opened. It holds
//! - the ECID, the chip's number, 64 random bits;
//! - the identity key (P-256), whose public half names the chip;
//! - the boot-signing key (RSA-2048), whose certificate is the firmware's `db`;
//! - the platform and key-exchange certificates (PK, KEK). Their private keys lived only while
//!   the certificates were made, so nobody can ever enrol another key in this chip's name;
//! - the volume key, 32 random bytes, made anew by each format of the disk, and beside it the
//!   anchor, which says what the newest state of that disk is.
//!
//! Invariants: one secret leaves the vault, the volume key, to the SSD alone; the boot-signing key signs nothing but what [`authenticode`] builds; secret types have
//! no `Debug`, `Clone` or `==` and are wiped when dropped; a birth that was cut short leaves a
//! folder that can be born again, never half a vault; a format that was cut short leaves the old
//! disk or an empty one, never one disk's key with another's anchor.
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

pub mod anchor;
mod authenticode;
mod certificate;
mod contents;
mod error;
mod folder;
mod keys;
mod seal;
mod secret;
pub mod store;

pub use anchor::AnchorFile;
pub use error::{Error, FormatError};
pub use folder::StateFolder;
pub use seal::{KeyFile, Seal};

use aws_lc_rs::rsa;

use crate::anchor::AnchorKey;
use crate::certificate::Certificates;
use crate::contents::{Contents, Disk};
use crate::secret::Secret;

/// A chip's keys, unsealed.
pub struct Vault {
    ecid: u64,
    identity_public_key: Vec<u8>,
    certificates: Certificates,
    boot_signing_key: rsa::KeyPair,
    volume_key: Secret,
    anchor_key: AnchorKey,
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
        let sealing_key = seal.prepare(folder)?;
        commit(folder, seal.kind(), &sealing_key, ecid, &contents)?;
        Vault::from_contents(&sealing_key, ecid, contents)
    }

    /// Unseals the chip that was born in this folder.
    ///
    /// # Errors
    /// [`Error::Unborn`] without a store, [`Error::Sealed`] when the seal's key is missing or
    /// another's, [`Error::Corrupt`] when the store is not what was written.
    pub fn open(folder: &StateFolder, seal: &dyn Seal) -> Result<Vault, Error> {
        // A vault that ended in the middle of a format may have left names that only the cache
        // knows. What is read here is to be there tomorrow.
        folder.sync()?;
        let (sealing_key, ecid, contents) = store::read(folder, seal)?;
        Vault::from_contents(&sealing_key, ecid, contents)
    }

    fn from_contents(sealing_key: &Secret, ecid: u64, contents: Contents) -> Result<Vault, Error> {
        let Disk {
            volume_key,
            anchor_salt,
        } = contents.disk;
        Ok(Vault {
            ecid,
            identity_public_key: keys::identity_public_key(&contents.identity_key)?,
            boot_signing_key: keys::boot_signing_key(&contents.boot_signing_key)?,
            certificates: contents.certificates,
            anchor_key: AnchorKey::derive(sealing_key, &anchor_salt, ecid)?,
            volume_key,
        })
    }

    /// Forgets the disk: a new volume key, and no anchor. What was written under the old key is
    /// lost with it.
    ///
    /// # Errors
    /// [`FormatError`] says whether the old disk is still there.
    pub fn format(&mut self, folder: &StateFolder, seal: &dyn Seal) -> Result<(), FormatError> {
        let (sealing_key, ecid, mut contents) = store::read(folder, seal)?;
        if ecid != self.ecid {
            return Err(Error::Corrupt("another chip's store").into());
        }
        contents.disk = Disk::generate()?;
        commit(folder, seal.kind(), &sealing_key, ecid, &contents)?;
        *self =
            Vault::from_contents(&sealing_key, ecid, contents).map_err(FormatError::Uncertain)?;
        Ok(())
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

    /// The key of everything on the disk's modules, for the SSD.
    pub fn volume_key(&self) -> &[u8; 32] {
        self.volume_key.expose()
    }

    /// The disk's anchor file, read from the host's disk.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it is missing or none of its slots is whole.
    pub fn anchors(&self, folder: &StateFolder) -> Result<AnchorFile, Error> {
        AnchorFile::open(folder, &self.anchor_key)
    }
}

/// Puts new contents and a new, empty anchor file into the folder. The rename of the store is
/// the one moment that counts: what is prepared before it means nothing to the old store, and
/// what is left to do after it is done by [`AnchorFile::open`] if it has to be.
fn commit(
    folder: &StateFolder,
    seal_kind: u16,
    sealing_key: &Secret,
    ecid: u64,
    contents: &Contents,
) -> Result<(), FormatError> {
    let anchor_key = AnchorKey::derive(sealing_key, &contents.disk.anchor_salt, ecid)?;
    // First the names that an earlier failed flush may have left to the cache.
    let prepared = folder
        .sync()
        .and_then(|()| anchor::prepare(folder, &anchor_key))
        .and_then(|()| store::prepare(folder, seal_kind, sealing_key, ecid, contents))
        .and_then(|()| folder.sync());
    if let Err(error) = prepared {
        anchor::discard(folder);
        store::discard(folder);
        return Err(error.into());
    }
    store::commit(folder)
        .and_then(|()| anchor::commit(folder))
        .map_err(FormatError::Uncertain)
}

/// Lets the cryptographic library fetch entropy and set itself up, so that a confinement applied
/// afterwards need not allow what only that takes.
pub fn warm_up() -> Result<(), Error> {
    keys::random_ecid().map(|_| ())
}

#[cfg(test)]
mod tests;
