//! The sealed store: the file that holds the chip's keys.
//!
//! `docs/vault-store.md` has the byte table; a test compares these constants with it.
//!
//! Invariants: a store is taken whole or not at all; each write has a key of its own (fresh
//! salt), so the nonce can be constant; every byte before the check sum is authenticated. The
//! check sum is no protection: it tells damage (`corrupt`) from a wrong sealing key (`sealed`).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use zeroize::Zeroizing;

use crate::contents::Contents;
use crate::secret::Secret;
use crate::{Error, Seal, StateFolder};

/// The store's name in the state folder.
pub const STORE_FILE_NAME: &str = "vault.sealed";
/// The first bytes of a store.
pub const MAGIC: [u8; 8] = *b"SGVAULT\0";
/// The format that this code reads and writes.
pub const VERSION: u16 = 2;
/// Offset of the magic.
pub const MAGIC_OFFSET: usize = 0;
/// Offset of the version, 16 bits. All numbers are big-endian.
pub const VERSION_OFFSET: usize = 8;
/// Offset of the seal's kind, 16 bits.
pub const SEAL_KIND_OFFSET: usize = 10;
/// Offset of the sealed contents' size in bytes, 32 bits.
pub const CONTENTS_SIZE_OFFSET: usize = 12;
/// Offset of the ECID, 64 bits.
pub const ECID_OFFSET: usize = 16;
/// Offset of the salt.
pub const SALT_OFFSET: usize = 24;
/// Size of the salt.
pub const SALT_SIZE_BYTES: usize = 32;
/// Offset of the sealed contents; what comes before is the header.
pub const CONTENTS_OFFSET: usize = 56;
/// Size of the AES-256-GCM tag behind the sealed contents.
pub const TAG_SIZE_BYTES: usize = 16;
/// Size of the SHA-256 check sum that ends the store.
pub const CHECK_SUM_SIZE_BYTES: usize = 32;
/// No store is longer.
pub const STORE_SIZE_BYTES_MAX: usize = 16 * 1024;
/// What the sealing key is derived for (HKDF's `info`).
pub const DERIVATION_LABEL: &[u8] = b"spacegray vault store 2";

const NONCE: [u8; 12] = [0; 12];

/// Whether the folder holds a store, whole or not.
pub fn exists(folder: &StateFolder) -> Result<bool, Error> {
    folder.has(STORE_FILE_NAME)
}

/// Seals the contents and writes them durably beside the store; [`commit`] puts them in its place.
pub(crate) fn prepare(
    folder: &StateFolder,
    seal_kind: u16,
    sealing_key: &Secret,
    ecid: u64,
    contents: &Contents,
) -> Result<(), Error> {
    let mut contents = contents.encode()?;
    let contents_size = u32::try_from(contents.len()).expect("contents are bounded");

    let mut salt = [0; SALT_SIZE_BYTES];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| Error::Cryptography("random bytes"))?;
    let mut store = Vec::with_capacity(STORE_SIZE_BYTES_MAX);
    store.extend_from_slice(&MAGIC);
    store.extend_from_slice(&VERSION.to_be_bytes());
    store.extend_from_slice(&seal_kind.to_be_bytes());
    store.extend_from_slice(&contents_size.to_be_bytes());
    store.extend_from_slice(&ecid.to_be_bytes());
    store.extend_from_slice(&salt);
    let tag = store_key(sealing_key, &salt)?
        .seal_in_place_separate_tag(nonce(), Aad::from(&store), &mut contents)
        .map_err(|_| Error::Cryptography("sealing the store"))?;
    store.extend_from_slice(&contents);
    store.extend_from_slice(tag.as_ref());
    store.extend_from_slice(digest(&SHA256, &store).as_ref());
    folder.prepare(STORE_FILE_NAME, &store)
}

/// The prepared store is the store from here on.
pub(crate) fn commit(folder: &StateFolder) -> Result<(), Error> {
    folder.commit(STORE_FILE_NAME)
}

/// Puts a prepared store away.
pub(crate) fn discard(folder: &StateFolder) {
    folder.discard(STORE_FILE_NAME);
}

/// Reads and unseals the store: the sealing key, the ECID and the contents.
pub(crate) fn read(
    folder: &StateFolder,
    seal: &dyn Seal,
) -> Result<(Secret, u64, Contents), Error> {
    let store = folder
        .read(STORE_FILE_NAME, STORE_SIZE_BYTES_MAX)?
        .ok_or(Error::Unborn)?;
    let body_size = store
        .len()
        .checked_sub(CHECK_SUM_SIZE_BYTES)
        .filter(|size| *size >= CONTENTS_OFFSET + TAG_SIZE_BYTES)
        .ok_or(Error::Corrupt("too short"))?;
    let (body, check_sum) = store.split_at(body_size);
    if digest(&SHA256, body).as_ref() != check_sum {
        return Err(Error::Corrupt("check sum"));
    }
    let (header, sealed) = body.split_at(CONTENTS_OFFSET);
    let (contents, tag) = sealed.split_at(sealed.len() - TAG_SIZE_BYTES);
    if header[MAGIC_OFFSET..VERSION_OFFSET] != MAGIC {
        return Err(Error::Corrupt("magic"));
    }
    if u16::from_be_bytes(field(header, VERSION_OFFSET)) != VERSION {
        return Err(Error::Corrupt("version"));
    }
    if u16::from_be_bytes(field(header, SEAL_KIND_OFFSET)) != seal.kind() {
        return Err(Error::Corrupt("kind of seal"));
    }
    if u32::from_be_bytes(field(header, CONTENTS_SIZE_OFFSET)) as usize != contents.len() {
        return Err(Error::Corrupt("size of the contents"));
    }
    let ecid = u64::from_be_bytes(field(header, ECID_OFFSET));
    let salt: [u8; SALT_SIZE_BYTES] = field(header, SALT_OFFSET);

    let mut plain = Zeroizing::new(vec![0; contents.len()]);
    let sealing_key = seal.recall(folder)?;
    store_key(&sealing_key, &salt)?
        .open_separate_gather(nonce(), Aad::from(header), contents, tag, &mut plain)
        .map_err(|_| Error::Sealed("the sealing key is another's"))?;
    Ok((sealing_key, ecid, Contents::decode(&plain)?))
}

/// The key of one store: HKDF-SHA-256 of the sealing key under the store's salt.
fn store_key(sealing_key: &Secret, salt: &[u8; SALT_SIZE_BYTES]) -> Result<LessSafeKey, Error> {
    let key = sealing_key.derive(salt, &[DERIVATION_LABEL])?;
    Ok(LessSafeKey::new(
        UnboundKey::new(&AES_256_GCM, key.expose())
            .map_err(|_| Error::Cryptography("taking the store's key"))?,
    ))
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key(NONCE)
}

/// `SIZE` bytes at `offset` of a slice whose length has been checked.
fn field<const SIZE: usize>(bytes: &[u8], offset: usize) -> [u8; SIZE] {
    bytes[offset..offset + SIZE]
        .try_into()
        .expect("the slice has this size")
}
