//! A checkpoint's body: what the index and the log need to go on from.

use crate::bytes::{Put as _, Reader};
use crate::cipher::SALT_BYTES;
use crate::layout::{BLOCK_BYTES, ENTRY_BYTES};
use crate::record::Entry;

/// Bytes before the sessions.
pub const FIXED_BYTES: usize = 104;
/// Bytes of a session.
pub const SESSION_BYTES: usize = 8 + SALT_BYTES;
/// Bytes of a segment's row.
pub const SEGMENT_BYTES: usize = 8;
/// Bytes of a change.
pub const CHANGE_BYTES: usize = 4 + ENTRY_BYTES;
/// The bit beside a change's block number that says "settled".
pub const SETTLED: u32 = 1 << 31;
/// Counters read back stay below, so that they can go on for ever.
const COUNTER_MAX: u64 = 1 << 62;
/// The flag of a segment that holds something unreadable.
pub const RETIRED: u16 = 1;

/// What has happened to the disk since it was formatted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Blocks that the guest wrote.
    pub host_written_blocks: u64,
    /// Slots written for them, for the index, for records and by cleaning.
    pub slots_written: u64,
    /// Live blocks moved by cleaning.
    pub blocks_cleaned: u64,
    /// Segments emptied by cleaning.
    pub segments_cleaned: u64,
    /// Blocks trimmed.
    pub trimmed_blocks: u64,
    /// Reads that found something else than what was written.
    pub read_errors: u64,
    /// Times it was opened.
    pub opens: u64,
    /// Times it had not been closed before.
    pub power_cuts: u64,
}

/// A session: its first generation and its salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRow {
    /// All generations from here to the next row are its.
    pub first_generation: u32,
    /// What its key was derived with.
    pub salt: [u8; SALT_BYTES],
}

/// A segment's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SegmentRow {
    /// The generation of its last opening, 0 if it never was opened.
    pub generation: u32,
    /// Slots of it that the index points to.
    pub live: u16,
    /// Holds something unreadable: never emptied, never used again.
    pub retired: bool,
}

/// Where a block is although its leaf does not say so yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeRow {
    /// The block.
    pub block: u32,
    /// Its entry; [`Entry::NONE`] when it was trimmed.
    pub entry: Entry,
    /// The slot that the leaf has for it is no longer counted as live.
    pub settled: bool,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Blocks of the disk.
    pub blocks: u64,
    /// The next opening of a segment takes it.
    pub next_generation: u32,
    /// Blocks that hold something; one that is changed and not settled may count twice.
    pub mapped: u64,
    /// What has happened.
    pub counters: Counters,
    /// In the order of their generations.
    pub sessions: Vec<SessionRow>,
    /// By segment number, from 0.
    pub segments: Vec<SegmentRow>,
    /// The roots of the index, by number.
    pub middles: Vec<Entry>,
    /// What the index does not know, by block.
    pub changes: Vec<ChangeRow>,
}

impl Body {
    /// Bytes that a body with so many rows takes.
    #[must_use]
    pub fn size(sessions: usize, segments: usize, middles: usize, changes: usize) -> usize {
        FIXED_BYTES
            + sessions * SESSION_BYTES
            + segments * SEGMENT_BYTES
            + middles * ENTRY_BYTES
            + changes * CHANGE_BYTES
    }

    /// Its bytes, padded to whole pieces.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let size = Body::size(
            self.sessions.len(),
            self.segments.len(),
            self.middles.len(),
            self.changes.len(),
        );
        let mut bytes = Vec::with_capacity(size.next_multiple_of(BLOCK_BYTES));
        bytes.put_u64(self.blocks);
        bytes.put_u32(self.next_generation);
        bytes.put_u32(self.sessions.len() as u32);
        bytes.put_u32(self.segments.len() as u32);
        bytes.put_u32(self.middles.len() as u32);
        bytes.put_u64(self.mapped);
        for counter in self.counters.in_order() {
            bytes.put_u64(counter);
        }
        bytes.put_u32(self.changes.len() as u32);
        bytes.put_u32(0);
        for session in &self.sessions {
            bytes.put_u32(session.first_generation);
            bytes.put_u32(0);
            bytes.put(&session.salt);
        }
        for segment in &self.segments {
            bytes.put_u32(segment.generation);
            bytes.put(&segment.live.to_le_bytes());
            bytes.put(&(if segment.retired { RETIRED } else { 0 }).to_le_bytes());
        }
        let mut entry = [0; ENTRY_BYTES];
        for middle in &self.middles {
            middle.encode(&mut entry);
            bytes.put(&entry);
        }
        for change in &self.changes {
            bytes.put_u32(change.block | if change.settled { SETTLED } else { 0 });
            change.entry.encode(&mut entry);
            bytes.put(&entry);
        }
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        bytes
    }

    /// Reads what [`Body::encode`] made; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Body> {
        let mut reader = Reader(bytes);
        let (blocks, next_generation) = (reader.u64()?, reader.u32()?);
        let [sessions, segments, middles] = [reader.u32()?, reader.u32()?, reader.u32()?];
        let mapped = reader.u64()?;
        let mut counters = [0; 8];
        for counter in &mut counters {
            *counter = reader.u64()?.min(COUNTER_MAX);
        }
        let changes = reader.u32()?;
        reader.zeros(4)?;
        let size = FIXED_BYTES as u64
            + u64::from(sessions) * SESSION_BYTES as u64
            + u64::from(segments) * SEGMENT_BYTES as u64
            + u64::from(middles) * ENTRY_BYTES as u64
            + u64::from(changes) * CHANGE_BYTES as u64;
        if size.next_multiple_of(BLOCK_BYTES as u64) != bytes.len() as u64 {
            return None;
        }
        Some(Body {
            blocks,
            next_generation,
            mapped,
            counters: Counters::from_order(counters),
            sessions: (0..sessions)
                .map(|_| session(&mut reader))
                .collect::<Option<_>>()?,
            segments: (0..segments)
                .map(|_| segment(&mut reader))
                .collect::<Option<_>>()?,
            middles: (0..middles)
                .map(|_| reader.array().as_ref().map(Entry::decode))
                .collect::<Option<_>>()?,
            changes: (0..changes)
                .map(|_| change(&mut reader))
                .collect::<Option<_>>()?,
        })
    }
}

impl Counters {
    fn in_order(&self) -> [u64; 8] {
        [
            self.host_written_blocks,
            self.slots_written,
            self.blocks_cleaned,
            self.segments_cleaned,
            self.trimmed_blocks,
            self.read_errors,
            self.opens,
            self.power_cuts,
        ]
    }

    fn from_order(order: [u64; 8]) -> Counters {
        let [
            host_written_blocks,
            slots_written,
            blocks_cleaned,
            segments_cleaned,
            trimmed_blocks,
            read_errors,
            opens,
            power_cuts,
        ] = order;
        Counters {
            host_written_blocks,
            slots_written,
            blocks_cleaned,
            segments_cleaned,
            trimmed_blocks,
            read_errors,
            opens,
            power_cuts,
        }
    }
}

fn session(reader: &mut Reader<'_>) -> Option<SessionRow> {
    let first_generation = reader.u32()?;
    reader.zeros(4)?;
    Some(SessionRow {
        first_generation,
        salt: reader.array()?,
    })
}

fn change(reader: &mut Reader<'_>) -> Option<ChangeRow> {
    let word = reader.u32()?;
    Some(ChangeRow {
        block: word & !SETTLED,
        entry: Entry::decode(&reader.array()?),
        settled: word & SETTLED != 0,
    })
}

fn segment(reader: &mut Reader<'_>) -> Option<SegmentRow> {
    Some(SegmentRow {
        generation: reader.u32()?,
        live: reader.u16()?,
        retired: match reader.u16()? {
            0 => false,
            RETIRED => true,
            _ => return None,
        },
    })
}
