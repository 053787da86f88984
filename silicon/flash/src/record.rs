//! Records: the log's chain. Each covers the slots before it and names its predecessor by tag.

use crate::bytes::{Put as _, Reader};
use crate::cipher::{Cipher, Kind, Place};
use crate::layout::{BLOCK_BYTES, ENTRY_BYTES, GROUP_SLOTS_MAX, Slot, TAG_BYTES, Tag};

/// Bytes of a record under its seal; the tag follows in the slot.
pub const RECORD_BYTES: usize = BLOCK_BYTES - TAG_BYTES;
/// Bytes before a record's entries.
pub const FIXED_BYTES: usize = 48;
/// Bytes of a trim.
pub const TRIM_BYTES: usize = 8;
/// A checkpoint's body begins in the slots of this record.
pub const BEGINS: u32 = 1;
/// A checkpoint's body ends in the slots of this record.
pub const ENDS: u32 = 2;
/// The bits of an entry's first word that hold the number; the kind is above.
pub const NUMBER_BITS: u32 = 30;

/// A slot of a group: what is in it, and its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// [`Kind::Data`] to [`Kind::Piece`].
    pub kind: Kind,
    /// Number of the block, leaf, middle or piece.
    pub number: u32,
    /// The slot's tag.
    pub tag: Tag,
}

/// An index entry: where a block or node lies. Slot 0: nowhere, it reads as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Entry {
    /// The slot.
    pub slot: Slot,
    /// Its tag.
    pub tag: Tag,
}

impl Entry {
    /// The entry that says "nothing here".
    pub const NONE: Entry = Entry {
        slot: 0,
        tag: [0; TAG_BYTES],
    };

    /// Whether there is nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.slot == 0
    }

    /// From the bytes of a node.
    #[must_use]
    pub fn decode(bytes: &[u8; ENTRY_BYTES]) -> Entry {
        let mut entry = Entry {
            slot: u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            tag: [0; TAG_BYTES],
        };
        entry.tag.copy_from_slice(&bytes[4..]);
        entry
    }

    /// Into the bytes of a node.
    pub fn encode(&self, bytes: &mut [u8; ENTRY_BYTES]) {
        bytes[..4].copy_from_slice(&self.slot.to_le_bytes());
        bytes[4..].copy_from_slice(&self.tag);
    }
}

/// Blocks that hold nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trim {
    /// The first.
    pub block: u32,
    /// How many.
    pub count: u32,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Goes up by one from record to record.
    pub sequence: u64,
    /// The tag of the one before.
    pub previous: Tag,
    /// The segment in which the chain goes on when this one ends.
    pub next_segment: u32,
    /// The newest record that was durable when this one was sealed.
    pub durable: u64,
    /// [`BEGINS`], [`ENDS`].
    pub flags: u32,
    /// The generation of its segment.
    pub generation: u32,
    /// The slots before the record, in order.
    pub members: Vec<Member>,
    /// Applied before the members.
    pub trims: Vec<Trim>,
}

/// Whether a record has room for one trim more.
#[must_use]
pub fn has_room(members: usize, trims: usize) -> bool {
    FIXED_BYTES + members * ENTRY_BYTES + trims * TRIM_BYTES <= RECORD_BYTES
}

impl Record {
    /// The record in a slot, and its tag; `None` when there is none.
    #[must_use]
    pub fn open(cipher: &Cipher, place: Place, slot: &[u8; BLOCK_BYTES]) -> Option<(Record, Tag)> {
        let (sealed, tag) = slot.split_first_chunk::<RECORD_BYTES>()?;
        let tag = tag.try_into().ok()?;
        let mut plain = [0; RECORD_BYTES];
        cipher
            .open(place, Kind::Record, 0, sealed, &tag, &mut plain)
            .then(|| Record::decode(&plain))?
            .map(|record| (record, tag))
    }

    /// The plain text, [`RECORD_BYTES`] long.
    ///
    /// # Panics
    /// When there are more members and trims than [`has_room`] allows.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        assert!(has_room(self.members.len(), self.trims.len()));
        let mut bytes = Vec::with_capacity(RECORD_BYTES);
        bytes.put_u64(self.sequence);
        bytes.put(&self.previous);
        bytes.put_u32(self.next_segment);
        bytes.put_u64(self.durable);
        bytes.put(&(self.members.len() as u16).to_le_bytes());
        bytes.put(&(self.trims.len() as u16).to_le_bytes());
        bytes.put_u32(self.flags);
        bytes.put_u32(self.generation);
        bytes.put_u32(0);
        for member in &self.members {
            bytes.put_u32(member.number | (member.kind as u32) << NUMBER_BITS);
            bytes.put(&member.tag);
        }
        for trim in &self.trims {
            bytes.put_u32(trim.block);
            bytes.put_u32(trim.count);
        }
        bytes.resize(RECORD_BYTES, 0);
        bytes
    }

    /// Reads what [`Record::encode`] made; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Record> {
        let mut reader = Reader(bytes);
        let (sequence, previous) = (reader.u64()?, reader.array()?);
        let (next_segment, durable) = (reader.u32()?, reader.u64()?);
        let (members, trims) = (usize::from(reader.u16()?), usize::from(reader.u16()?));
        let (flags, generation) = (reader.u32()?, reader.u32()?);
        reader.zeros(4)?;
        if members > GROUP_SLOTS_MAX as usize
            || !has_room(members, trims)
            || flags & !(BEGINS | ENDS) != 0
        {
            return None;
        }
        Some(Record {
            sequence,
            previous,
            next_segment,
            durable,
            flags,
            generation,
            members: (0..members)
                .map(|_| member(&mut reader))
                .collect::<Option<_>>()?,
            trims: (0..trims)
                .map(|_| trim(&mut reader))
                .collect::<Option<_>>()?,
        })
    }
}

fn member(reader: &mut Reader<'_>) -> Option<Member> {
    let word = reader.u32()?;
    Some(Member {
        kind: match word >> NUMBER_BITS {
            0 => Kind::Data,
            1 => Kind::Leaf,
            2 => Kind::Middle,
            _ => Kind::Piece,
        },
        number: word & ((1 << NUMBER_BITS) - 1),
        tag: reader.array()?,
    })
}

fn trim(reader: &mut Reader<'_>) -> Option<Trim> {
    Some(Trim {
        block: reader.u32()?,
        count: reader.u32()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise: a full record fits and reads back.
    #[test]
    fn records_read_back() {
        let record = Record {
            sequence: 1,
            previous: [2; TAG_BYTES],
            next_segment: 3,
            durable: 4,
            flags: BEGINS | ENDS,
            generation: 5,
            members: (0..GROUP_SLOTS_MAX)
                .map(|number| Member {
                    kind: [Kind::Data, Kind::Leaf, Kind::Middle, Kind::Piece][number as usize % 4],
                    number,
                    tag: [6; TAG_BYTES],
                })
                .collect(),
            trims: vec![Trim { block: 7, count: 8 }; 20],
        };
        let bytes = record.encode();
        assert_eq!(bytes.len(), RECORD_BYTES);
        assert_eq!(Record::decode(&bytes), Some(record));
    }

    /// Promise: counts that do not fit are refused, not read.
    #[test]
    fn absurd_counts_are_refused() {
        let mut bytes = vec![0; RECORD_BYTES];
        bytes[32..34].copy_from_slice(&241_u16.to_le_bytes());
        assert_eq!(Record::decode(&bytes), None);
        bytes[32..36].copy_from_slice(&[0, 0, 0xff, 0xff]);
        assert_eq!(Record::decode(&bytes), None);
    }
}
