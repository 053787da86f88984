//! The bytes of the host's map.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use tpm::{Auth, Definition, Kind};
use zeroize::Zeroizing;

use crate::Error;

pub use tpm::KEY_NAME_SIZE_BYTES;

/// The map's name in the host's folder, before 16 hexadecimal digits of the TPM's name.
pub const FILE_NAME_PREFIX: &str = "map-";
/// Size of the header, which is written once.
pub const HEADER_SIZE_BYTES: usize = 4096;
/// How many slots follow it.
pub const SLOT_COUNT: usize = 2;
/// Size of one slot.
pub const SLOT_SIZE_BYTES: usize = 12288;
/// Size of the whole file.
pub const FILE_SIZE_BYTES: usize = HEADER_SIZE_BYTES + SLOT_COUNT * SLOT_SIZE_BYTES;
/// The format that this code reads and writes, of header and slots alike.
pub const VERSION: u16 = 1;
/// Offset of the version in both, 16 bits. All numbers are big-endian.
pub const VERSION_OFFSET: usize = 8;

/// The first bytes of a header.
pub const HEADER_MAGIC: [u8; 8] = *b"SGHOST\0\0";
/// Offset of the handle of the TPM's index with the key, 32 bits; the counter's is the next.
pub const HANDLE_OFFSET: usize = 12;
/// Offset of the TPM's name.
pub const KEY_NAME_OFFSET: usize = 16;
/// Offset of what opens both indices.
pub const AUTH_OFFSET: usize = 48;
/// Size of it.
pub const AUTH_SIZE_BYTES: usize = 32;
/// Offset of the header's check sum, SHA-256 over everything before it.
pub const CHECK_SUM_OFFSET: usize = HEADER_SIZE_BYTES - CHECK_SUM_SIZE_BYTES;
/// Size of the check sum.
pub const CHECK_SUM_SIZE_BYTES: usize = 32;

/// The first bytes of a slot.
pub const SLOT_MAGIC: [u8; 8] = *b"SGHSLOT\0";
/// Offset of the number of entries, 16 bits.
pub const ENTRY_COUNT_OFFSET: usize = 10;
/// Offset of the slot's own number, 32 bits.
pub const SLOT_NUMBER_OFFSET: usize = 12;
/// Offset of the counter's value for which it counts, 64 bits.
pub const COUNT_OFFSET: usize = 16;
/// Offset of the first entry.
pub const ENTRIES_OFFSET: usize = 24;
/// Size of an entry: the ECID, 64 bits, and the digest.
pub const ENTRY_SIZE_BYTES: usize = 8 + DIGEST_SIZE_BYTES;
/// Size of a store's digest.
pub const DIGEST_SIZE_BYTES: usize = 32;
/// A host has no more chips.
pub const ENTRIES_MAX: usize = 256;
/// Offset of the HMAC-SHA-256 over the header's check sum and everything before it in the slot.
pub const MAC_OFFSET: usize = SLOT_SIZE_BYTES - MAC_SIZE_BYTES;
/// Size of the HMAC.
pub const MAC_SIZE_BYTES: usize = 32;
/// What the TPM's secret is derived for (HKDF's `info`).
pub const DERIVATION_LABEL: &[u8] = b"spacegray host map 1";

/// A header's check sum, by which it is known again.
pub type CheckSum = [u8; CHECK_SUM_SIZE_BYTES];
/// The digest of the store that counts, by ECID.
pub type Map = BTreeMap<u64, [u8; DIGEST_SIZE_BYTES]>;

/// Which indices of which TPM the map goes with.
pub struct Header {
    handle: u32,
    key_name: [u8; KEY_NAME_SIZE_BYTES],
    /// What opens both indices.
    pub auth: Auth,
    /// Over all of it.
    pub check_sum: CheckSum,
}

/// One state of the map.
pub struct Slot {
    /// Which slot it is.
    pub number: usize,
    /// The counter's value for which it counts.
    pub count: u64,
    /// What it says.
    pub map: Map,
}

/// The map's name for the TPM of this name.
pub fn file_name(key_name: &[u8; KEY_NAME_SIZE_BYTES]) -> String {
    let number = u64::from_be_bytes(field(key_name, 0));
    format!("{FILE_NAME_PREFIX}{number:016x}")
}

/// Where a slot begins in the file.
pub fn slot_offset(number: usize) -> u64 {
    (HEADER_SIZE_BYTES + number * SLOT_SIZE_BYTES) as u64
}

impl Header {
    /// That of a new map, whose indices will be at `handle` and the next.
    pub fn new(handle: u32, key_name: &[u8; KEY_NAME_SIZE_BYTES]) -> Result<Header, Error> {
        let mut auth = Zeroizing::new([0; AUTH_SIZE_BYTES]);
        aws_lc_rs::rand::fill(&mut auth[..]).map_err(|_| Error::Cryptography("random bytes"))?;
        let mut header = Header {
            handle,
            key_name: *key_name,
            auth,
            check_sum: [0; CHECK_SUM_SIZE_BYTES],
        };
        header.check_sum = field(&header.encode(), CHECK_SUM_OFFSET);
        Ok(header)
    }

    /// The header in its form.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FILE_SIZE_BYTES);
        bytes.extend_from_slice(&HEADER_MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.resize(HANDLE_OFFSET, 0);
        bytes.extend_from_slice(&self.handle.to_be_bytes());
        bytes.extend_from_slice(&self.key_name);
        bytes.extend_from_slice(&self.auth[..]);
        bytes.resize(CHECK_SUM_OFFSET, 0);
        let check_sum = digest(&SHA256, &bytes);
        bytes.extend_from_slice(check_sum.as_ref());
        bytes
    }

    /// The header, if it is whole and goes with the TPM of this name.
    pub fn decode(bytes: &[u8], key_name: &[u8; KEY_NAME_SIZE_BYTES]) -> Option<Header> {
        let (body, check_sum) = bytes.split_at(CHECK_SUM_OFFSET);
        let is_ours = digest(&SHA256, body).as_ref() == check_sum
            && body[..VERSION_OFFSET] == HEADER_MAGIC
            && u16::from_be_bytes(field(body, VERSION_OFFSET)) == VERSION
            && field::<KEY_NAME_SIZE_BYTES>(body, KEY_NAME_OFFSET) == *key_name;
        is_ours.then(|| Header {
            handle: u32::from_be_bytes(field(body, HANDLE_OFFSET)),
            key_name: *key_name,
            auth: Zeroizing::new(field(body, AUTH_OFFSET)),
            check_sum: field(check_sum, 0),
        })
    }

    /// The TPM's index with the key.
    pub fn key(&self) -> Definition {
        Definition {
            handle: self.handle,
            kind: Kind::Data,
        }
    }

    /// The TPM's counter.
    pub fn counter(&self) -> Definition {
        Definition {
            // Whatever a damaged file says, this is no other chip's: it has to yield to `auth`.
            handle: self.handle.wrapping_add(1),
            kind: Kind::Counter,
        }
    }
}

impl Slot {
    /// The slot in its form, for the map with this header.
    pub fn encode(&self, header: &Header, key: &hmac::Key) -> Vec<u8> {
        assert!(self.map.len() <= ENTRIES_MAX);
        let mut bytes = Vec::with_capacity(SLOT_SIZE_BYTES);
        bytes.extend_from_slice(&SLOT_MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&(self.map.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&(self.number as u32).to_be_bytes());
        bytes.extend_from_slice(&self.count.to_be_bytes());
        for (ecid, digest) in &self.map {
            bytes.extend_from_slice(&ecid.to_be_bytes());
            bytes.extend_from_slice(digest);
        }
        bytes.resize(MAC_OFFSET, 0);
        let mac = hmac::sign(key, &[&header.check_sum, &bytes[..]].concat());
        bytes.extend_from_slice(mac.as_ref());
        bytes
    }

    /// The slot, if it was written there for the map with this header, whole.
    pub fn decode(number: usize, bytes: &[u8], header: &Header, key: &hmac::Key) -> Option<Slot> {
        let (body, mac) = bytes.split_at(MAC_OFFSET);
        hmac::verify(key, &[&header.check_sum, body].concat(), mac).ok()?;
        let entries = usize::from(u16::from_be_bytes(field(body, ENTRY_COUNT_OFFSET)));
        let well_formed = body[..VERSION_OFFSET] == SLOT_MAGIC
            && u16::from_be_bytes(field(body, VERSION_OFFSET)) == VERSION
            && u32::from_be_bytes(field(body, SLOT_NUMBER_OFFSET)) as usize == number
            && entries <= ENTRIES_MAX;
        if !well_formed {
            return None;
        }
        let map = body[ENTRIES_OFFSET..]
            .chunks_exact(ENTRY_SIZE_BYTES)
            .take(entries)
            .map(|entry| (u64::from_be_bytes(field(entry, 0)), field(entry, 8)))
            .collect();
        let count = u64::from_be_bytes(field(body, COUNT_OFFSET));
        Some(Slot { number, count, map })
    }
}

/// `SIZE` bytes at `offset` of a slice whose length has been checked.
fn field<const SIZE: usize>(bytes: &[u8], offset: usize) -> [u8; SIZE] {
    bytes[offset..offset + SIZE]
        .try_into()
        .expect("the slice has this size")
}
