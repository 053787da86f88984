//! The public header of a module: which module of which pair it is, under a MAC.

use crate::bytes::{Put as _, Reader};
use crate::cipher::{CipherFailed, IDENTITY_BYTES, MAC_BYTES, VolumeKey};
use crate::layout::{BLOCK_BYTES, Geometry, VERSION};

/// The first bytes of every module.
pub const MAGIC: &[u8; 8] = b"SGFLASH\0";
/// Bytes of the header under its MAC; the MAC follows.
pub const MACED_BYTES: usize = 64;

/// What a module says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// 0 or 1.
    pub module: u32,
    /// Random, this module's own.
    pub identity: [u8; IDENTITY_BYTES],
    /// Random, the same in both modules; new at each format and adoption.
    pub pairing: [u8; IDENTITY_BYTES],
    /// How often the modules were adopted since they were formatted.
    pub adoptions: u32,
    /// The size of the disk.
    pub geometry: Geometry,
}

impl Header {
    /// The header's slot.
    pub fn encode(&self, key: &VolumeKey) -> Result<Vec<u8>, CipherFailed> {
        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        bytes.put(MAGIC);
        bytes.put_u32(VERSION);
        bytes.put_u32(self.module);
        bytes.put(&self.identity);
        bytes.put(&self.pairing);
        bytes.put_u64(self.geometry.blocks);
        bytes.put_u32(self.geometry.segment_slots);
        bytes.put_u32(self.adoptions);
        let mac = key.header_mac(&self.pairing, &bytes)?;
        bytes.put(&mac);
        bytes.resize(BLOCK_BYTES, 0);
        Ok(bytes)
    }

    /// Reads a header; the MAC is left for [`Header::is_authentic`]. `None` where there is none.
    #[must_use]
    pub fn decode(slot: &[u8]) -> Option<Header> {
        let mut reader = Reader(slot);
        if reader.bytes(MAGIC.len())? != MAGIC || reader.u32()? != VERSION {
            return None;
        }
        Some(Header {
            module: reader.u32()?,
            identity: reader.array()?,
            pairing: reader.array()?,
            geometry: Geometry {
                blocks: reader.u64()?,
                segment_slots: reader.u32()?,
            },
            adoptions: reader.u32()?,
        })
    }

    /// Whether the slot that this was read from was written with `key`, and is whole.
    pub fn is_authentic(&self, slot: &[u8], key: &VolumeKey) -> Result<bool, CipherFailed> {
        let (maced, rest) = slot.split_at(MACED_BYTES);
        let (mac, padding) = rest.split_at(MAC_BYTES);
        Ok(key.header_mac_is(&self.pairing, maced, mac)? && padding.iter().all(|&byte| byte == 0))
    }
}
