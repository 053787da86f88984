//! Superblocks: sealed copies of the root on the modules themselves, so that modules without an
//! anchor can be adopted. Nothing else reads them.
//!
//! Both modules get the same, each sealed by itself, into their two superblock slots by turns. A superblock is
//! written with its checkpoint, before the flush that makes it durable, and so may be there when
//! some of the checkpoint is not: it says what was not durable yet.

use crate::anchor::{ANCHOR_BYTES, Anchor, Mark};
use crate::bytes::{Put as _, Reader};
use crate::cipher::{Cipher, CipherFailed, Kind, Place, SALT_BYTES, VolumeKey};
use crate::layout::{BLOCK_BYTES, MODULES, SUPERBLOCK_SLOTS, Slot, TAG_BYTES, Tag};

/// Bytes before the cipher text: the session's salt, and the count that makes the nonce.
pub const CLEAR_BYTES: usize = SALT_BYTES + 4;
/// Bytes of the cipher text; its tag follows.
pub const SEALED_BYTES: usize = BLOCK_BYTES - CLEAR_BYTES - TAG_BYTES;

/// What a superblock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// The root, as the vault was to remember it.
    pub anchor: Anchor,
    /// What was known durable when it was written.
    pub sure: Sure,
}

/// What is known durable at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sure {
    /// The records up to this one.
    pub sequence: u64,
    /// The slots of generations before this one.
    pub before: u32,
}

impl Sure {
    /// What these last records of the modules say, the newest of which has this sequence.
    pub(crate) fn up_to(sequence: u64, tails: &[Mark; MODULES]) -> Sure {
        // Slots may follow the newest record in its segment.
        let before = tails.iter().map(|mark| mark.generation).fold(0, u32::max);
        Sure { sequence, before }
    }
}

impl Superblock {
    /// The slot, sealed by the session whose salt the anchor names; `count` is another one each
    /// time within a session.
    #[must_use]
    pub fn seal(&self, cipher: &Cipher, count: u32) -> Vec<u8> {
        let mut plain = self.anchor.encode();
        plain.put_u64(self.sure.sequence);
        plain.put_u32(self.sure.before);
        plain.resize(SEALED_BYTES, 0);
        let mut slot = vec![0; BLOCK_BYTES];
        slot[..SALT_BYTES].copy_from_slice(&self.anchor.salt);
        slot[SALT_BYTES..CLEAR_BYTES].copy_from_slice(&count.to_le_bytes());
        let (sealed, tag_bytes) = slot[CLEAR_BYTES..].split_at_mut(SEALED_BYTES);
        let place = Place {
            generation: count,
            slot: self.anchor.superblock,
        };
        let tag = cipher.seal(place, Kind::Superblock, 0, &plain, sealed);
        tag_bytes.copy_from_slice(&tag);
        slot
    }

    /// The superblock in slot `place` of a module; `None` when it is not one under this key.
    pub fn open(
        key: &VolumeKey,
        place: Slot,
        slot: &[u8; BLOCK_BYTES],
    ) -> Result<Option<Superblock>, CipherFailed> {
        let Some((salt, count, sealed, tag)) = parts(slot) else {
            return Ok(None);
        };
        let at = Place {
            generation: count,
            slot: place,
        };
        let cipher = key.session(&salt)?;
        let mut plain = vec![0; SEALED_BYTES];
        if !cipher.open(at, Kind::Superblock, 0, sealed, &tag, &mut plain) {
            return Ok(None);
        }
        let names_itself =
            |found: &Superblock| found.anchor.salt == salt && found.anchor.superblock == place;
        Ok(decode(&plain).filter(names_itself))
    }
}

/// Salt, count, cipher text and tag.
fn parts(slot: &[u8; BLOCK_BYTES]) -> Option<([u8; SALT_BYTES], u32, &[u8], Tag)> {
    let mut reader = Reader(slot);
    Some((
        reader.array()?,
        reader.u32()?,
        reader.bytes(SEALED_BYTES)?,
        reader.array()?,
    ))
}

fn decode(plain: &[u8]) -> Option<Superblock> {
    let mut reader = Reader(plain);
    let anchor = Anchor::decode(reader.bytes(ANCHOR_BYTES)?)?;
    let sure = Sure {
        sequence: reader.u64()?,
        before: reader.u32()?,
    };
    reader.zeros(SEALED_BYTES - ANCHOR_BYTES - 12)?;
    Some(Superblock { anchor, sure })
}

/// The other superblock slot of a module.
#[must_use]
pub fn other(slot: Slot) -> Slot {
    SUPERBLOCK_SLOTS[usize::from(slot == SUPERBLOCK_SLOTS[0])]
}

/// Where a superblock slot begins in its module, bytes.
#[must_use]
pub fn offset(slot: Slot) -> u64 {
    u64::from(slot) * BLOCK_BYTES as u64
}
