//! The anchor: what the vault remembers of the flash, so that nothing older is taken for it.

use crate::bytes::{Put as _, Reader};
use crate::cipher::{IDENTITY_BYTES, SALT_BYTES};
use crate::layout::{MODULES, SUPERBLOCK_SLOTS, Slot, TAG_BYTES, Tag, VERSION};

/// Bytes of an anchor.
pub const ANCHOR_BYTES: usize = 184;
/// The flag that says: stopped in order, nothing follows.
pub const CLEAN: u32 = 1;

/// Where a record lies, and its tag. All zero: there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// The record's slot.
    pub slot: Slot,
    /// The generation of its segment.
    pub generation: u32,
    /// Its tag.
    pub tag: Tag,
}

/// The root of everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// Whether the disk was closed in order.
    pub clean: bool,
    /// The identity of the pair.
    pub pairing: [u8; IDENTITY_BYTES],
    /// The identities of the modules.
    pub identities: [[u8; IDENTITY_BYTES]; MODULES],
    /// The newest record known durable.
    pub sequence: u64,
    /// Its tag.
    pub tag: Tag,
    /// How often the modules were adopted, as in their headers.
    pub adoptions: u32,
    /// The sequence of the checkpoint's first record.
    pub checkpoint_sequence: u64,
    /// Where that record is.
    pub checkpoint: Mark,
    /// The slot of the checkpoint's superblock, one of [`SUPERBLOCK_SLOTS`].
    pub superblock: Slot,
    /// The salt of the session that wrote it and all that follows.
    pub salt: [u8; SALT_BYTES],
    /// The last record on each module, up to the newest.
    pub tails: [Mark; MODULES],
}

impl Anchor {
    /// Its bytes, [`ANCHOR_BYTES`] of them.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ANCHOR_BYTES);
        bytes.put_u32(VERSION);
        bytes.put_u32(if self.clean { CLEAN } else { 0 });
        bytes.put(&self.pairing);
        for identity in &self.identities {
            bytes.put(identity);
        }
        bytes.put_u64(self.sequence);
        bytes.put(&self.tag);
        bytes.put_u32(self.adoptions);
        bytes.put_u64(self.checkpoint_sequence);
        put_mark(&mut bytes, &self.checkpoint);
        bytes.put_u32(self.superblock);
        bytes.put(&self.salt);
        for tail in &self.tails {
            put_mark(&mut bytes, tail);
        }
        debug_assert_eq!(bytes.len(), ANCHOR_BYTES);
        bytes
    }

    /// Reads what [`Anchor::encode`] made; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Anchor> {
        let mut reader = Reader(bytes);
        if bytes.len() != ANCHOR_BYTES || reader.u32()? != VERSION {
            return None;
        }
        let flags = reader.u32()?;
        if flags & !CLEAN != 0 {
            return None;
        }
        let pairing = reader.array()?;
        let identities = [reader.array()?, reader.array()?];
        let (sequence, tag) = (reader.u64()?, reader.array::<TAG_BYTES>()?);
        let adoptions = reader.u32()?;
        let (checkpoint_sequence, checkpoint) = (reader.u64()?, mark(&mut reader)?);
        let superblock = reader.u32()?;
        if !SUPERBLOCK_SLOTS.contains(&superblock) {
            return None;
        }
        Some(Anchor {
            clean: flags & CLEAN != 0,
            pairing,
            identities,
            sequence,
            tag,
            adoptions,
            checkpoint_sequence,
            checkpoint,
            superblock,
            salt: reader.array()?,
            tails: [mark(&mut reader)?, mark(&mut reader)?],
        })
    }
}

fn put_mark(bytes: &mut Vec<u8>, mark: &Mark) {
    bytes.put_u32(mark.slot);
    bytes.put_u32(mark.generation);
    bytes.put(&mark.tag);
}

fn mark(reader: &mut Reader<'_>) -> Option<Mark> {
    Some(Mark {
        slot: reader.u32()?,
        generation: reader.u32()?,
        tag: reader.array()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise: an anchor reads back as it was, and nothing else reads as one.
    #[test]
    fn anchors_read_back() {
        let mark = Mark {
            slot: 7,
            generation: 8,
            tag: [9; TAG_BYTES],
        };
        let anchor = Anchor {
            clean: true,
            pairing: [1; 16],
            identities: [[2; 16], [3; 16]],
            sequence: 4,
            tag: [5; TAG_BYTES],
            adoptions: 11,
            checkpoint_sequence: 6,
            checkpoint: mark,
            superblock: SUPERBLOCK_SLOTS[1],
            salt: [10; 32],
            tails: [mark, Mark::default()],
        };
        let bytes = anchor.encode();
        assert_eq!(Anchor::decode(&bytes), Some(anchor));
        assert_eq!(Anchor::decode(&bytes[1..]), None);
        for position in [0, 4, 108] {
            let mut bytes = bytes.clone();
            bytes[position] ^= 0x40;
            assert_eq!(Anchor::decode(&bytes), None, "{position}");
        }
    }
}
