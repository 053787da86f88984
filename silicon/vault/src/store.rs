//! The store: the chip's keys in one sealed file.
//!
//! `docs/vault-store.md` has the byte table; a test compares these constants with it.
//!
//! Invariants: a store is either what was sealed or is refused, with damage told from a missing
//! key; the key and the nonce of the cipher are never used twice, since each write draws a new
//! salt; all stores have one size, so that each can be written where another one lay.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use zeroize::Zeroizing;

use crate::contents::Contents;
use crate::folder::Replaced;
use crate::seal::{PARAMETERS_SIZE_BYTES, Parameters};
use crate::secret::Secret;
use crate::{Error, StateFolder};

/// The store's name in the state folder.
pub const STORE_FILE_NAME: &str = "vault.sealed";
/// The first bytes of a store.
pub const MAGIC: [u8; 8] = *b"SGVAULT\0";
/// The format that this code reads and writes.
pub const VERSION: u16 = 5;
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
/// Offset of the seal's parameters.
pub const PARAMETERS_OFFSET: usize = 56;
/// Offset of the sealed contents; what comes before is the header.
pub const CONTENTS_OFFSET: usize = PARAMETERS_OFFSET + PARAMETERS_SIZE_BYTES;
/// Size of the AES-256-GCM tag behind the sealed contents; zeros follow it.
pub const TAG_SIZE_BYTES: usize = 16;
/// Offset of the SHA-256 check sum over everything before it.
pub const CHECK_SUM_OFFSET: usize = STORE_SIZE_BYTES - CHECK_SUM_SIZE_BYTES;
/// Size of the check sum.
pub const CHECK_SUM_SIZE_BYTES: usize = 32;
/// Every store has this size.
pub const STORE_SIZE_BYTES: usize = 16 * 1024;
/// What the sealing key is derived for (HKDF's `info`).
pub const DERIVATION_LABEL: &[u8] = b"spacegray vault store 5";

/// A store's check sum, which names it.
pub type Digest = [u8; CHECK_SUM_SIZE_BYTES];

const NONCE: [u8; 12] = [0; 12];

/// What a store says of itself without its key.
#[derive(Clone, Copy)]
pub struct Header {
    /// What yields its key.
    pub seal_kind: u16,
    /// The chip's number.
    pub ecid: u64,
    /// What the seal needs to yield the key.
    pub parameters: Parameters,
}

/// A store as it lies there, its check sum right.
pub struct Sealed {
    bytes: Zeroizing<Vec<u8>>,
    /// Its header.
    pub header: Header,
    /// Its check sum.
    pub digest: Digest,
}

/// Whether the folder holds a store, whole or not.
pub fn exists(folder: &StateFolder) -> Result<bool, Error> {
    folder.has(STORE_FILE_NAME)
}

/// Seals the contents and writes them durably beside the store; [`commit`] puts them in its place.
pub(crate) fn prepare(
    folder: &StateFolder,
    header: &Header,
    sealing_key: &Secret,
    contents: &Contents,
) -> Result<Digest, Error> {
    let mut contents = contents.encode()?;
    let contents_size = u32::try_from(contents.len()).expect("contents are bounded");

    let mut salt = [0; SALT_SIZE_BYTES];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| Error::Cryptography("random bytes"))?;
    let mut store = Vec::with_capacity(STORE_SIZE_BYTES);
    store.extend_from_slice(&MAGIC);
    store.extend_from_slice(&VERSION.to_be_bytes());
    store.extend_from_slice(&header.seal_kind.to_be_bytes());
    store.extend_from_slice(&contents_size.to_be_bytes());
    store.extend_from_slice(&header.ecid.to_be_bytes());
    store.extend_from_slice(&salt);
    store.extend_from_slice(&header.parameters);
    let tag = store_key(sealing_key, &salt)?
        .seal_in_place_separate_tag(nonce(), Aad::from(&store), &mut contents)
        .map_err(|_| Error::Cryptography("sealing the store"))?;
    store.extend_from_slice(&contents);
    store.extend_from_slice(tag.as_ref());
    store.resize(CHECK_SUM_OFFSET, 0);
    let check_sum = check_sum(&store);
    store.extend_from_slice(&check_sum);
    folder.prepare(STORE_FILE_NAME, &store)?;
    Ok(check_sum)
}

/// The prepared store is the store from here on.
pub(crate) fn commit(folder: &StateFolder) -> Result<Replaced, Error> {
    folder.commit(STORE_FILE_NAME)
}

/// Puts a prepared store away.
pub(crate) fn discard(folder: &StateFolder) {
    folder.discard(STORE_FILE_NAME);
}

/// What the store in this folder says of itself.
///
/// # Errors
/// [`Error::Unborn`] where there is none, [`Error::Corrupt`] for one that is damaged.
pub fn header(folder: &StateFolder) -> Result<Header, Error> {
    read(folder).map(|sealed| sealed.header)
}

/// Reads the store, sealed as it is.
///
/// # Errors
/// [`Error::Unborn`] where there is none, [`Error::Corrupt`] for one that is damaged.
pub(crate) fn read(folder: &StateFolder) -> Result<Sealed, Error> {
    Sealed::check(folder.read(STORE_FILE_NAME, STORE_SIZE_BYTES)?)
}

/// The same for one that was prepared.
pub(crate) fn read_unfinished(folder: &StateFolder) -> Result<Sealed, Error> {
    Sealed::check(folder.read_unfinished(STORE_FILE_NAME, STORE_SIZE_BYTES)?)
}

impl Sealed {
    fn check(store: Option<Zeroizing<Vec<u8>>>) -> Result<Sealed, Error> {
        let bytes = store.ok_or(Error::Unborn)?;
        if bytes.len() != STORE_SIZE_BYTES {
            return Err(Error::Corrupt("size"));
        }
        let digest: Digest = field(&bytes, CHECK_SUM_OFFSET);
        if check_sum(&bytes[..CHECK_SUM_OFFSET]) != digest {
            return Err(Error::Corrupt("check sum"));
        }
        if bytes[MAGIC_OFFSET..VERSION_OFFSET] != MAGIC {
            return Err(Error::Corrupt("magic"));
        }
        if u16::from_be_bytes(field(&bytes, VERSION_OFFSET)) != VERSION {
            return Err(Error::Corrupt("version"));
        }
        let header = Header {
            seal_kind: u16::from_be_bytes(field(&bytes, SEAL_KIND_OFFSET)),
            ecid: u64::from_be_bytes(field(&bytes, ECID_OFFSET)),
            parameters: field(&bytes, PARAMETERS_OFFSET),
        };
        Ok(Sealed {
            bytes,
            header,
            digest,
        })
    }

    /// Unseals the contents.
    ///
    /// # Errors
    /// [`Error::Sealed`] when they were sealed with another key.
    pub(crate) fn open(&self, sealing_key: &Secret) -> Result<Contents, Error> {
        let size = u32::from_be_bytes(field(&self.bytes, CONTENTS_SIZE_OFFSET)) as usize;
        let end = CONTENTS_OFFSET + size;
        if end + TAG_SIZE_BYTES > CHECK_SUM_OFFSET {
            return Err(Error::Corrupt("size of the contents"));
        }
        let (header, sealed) = self.bytes.split_at(CONTENTS_OFFSET);
        let (contents, rest) = sealed.split_at(size);
        let padding = &rest[TAG_SIZE_BYTES..rest.len() - CHECK_SUM_SIZE_BYTES];
        if padding.iter().any(|byte| *byte != 0) {
            return Err(Error::Corrupt("what follows the contents"));
        }
        let salt: [u8; SALT_SIZE_BYTES] = field(header, SALT_OFFSET);
        let mut plain = Zeroizing::new(vec![0; size]);
        store_key(sealing_key, &salt)?
            .open_separate_gather(
                nonce(),
                Aad::from(header),
                contents,
                &rest[..TAG_SIZE_BYTES],
                &mut plain,
            )
            .map_err(|_| Error::Sealed("the sealing key is another's"))?;
        Contents::decode(&plain)
    }
}

/// The key of one store: HKDF-SHA-256 of the sealing key under the store's salt.
fn store_key(sealing_key: &Secret, salt: &[u8; SALT_SIZE_BYTES]) -> Result<LessSafeKey, Error> {
    let key = sealing_key.derive(salt, &[DERIVATION_LABEL])?;
    Ok(LessSafeKey::new(
        UnboundKey::new(&AES_256_GCM, key.expose())
            .map_err(|_| Error::Cryptography("taking the store's key"))?,
    ))
}

fn check_sum(bytes: &[u8]) -> Digest {
    field(digest(&SHA256, bytes).as_ref(), 0)
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
