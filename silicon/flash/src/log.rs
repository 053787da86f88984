//! The log's end: slots are sealed into one segment after the other, group by group.
//!
//! Invariants: a slot is sealed once per generation; what was sealed is either in the buffer or
//! was handed to the medium; a segment's buffer is dropped only after all of it was.

use crate::anchor::Mark;
use crate::cipher::{Cipher, Kind, Place};
use crate::error::{Error, from_host};
use crate::layout::{BLOCK_BYTES, GROUP_SLOTS_MAX, Geometry, MODULES, Slot, Tag};
use crate::medium::Medium;
use crate::record::{Entry, Member, RECORD_BYTES, Record, Trim, has_room};

/// Sealed slots are handed to the medium when there are so many.
const WRITE_OUT_SLOTS: u32 = 64;

/// A record of the log, and what it makes the newest on each module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Point {
    pub(crate) sequence: u64,
    pub(crate) tag: Tag,
    pub(crate) tails: [Mark; MODULES],
}

pub(crate) struct Log {
    geometry: Geometry,
    segment: u32,
    generation: u32,
    next_segment: u32,
    /// The next slot of the segment.
    index: u32,
    /// The slots before it are on the medium.
    written: u32,
    buffer: Vec<u8>,
    members: Vec<Member>,
    trims: Vec<Trim>,
    /// The last record, as far as it is sealed.
    last: Point,
    last_mark: Mark,
    /// The newest sequence known durable.
    pub(crate) durable: u64,
    /// Modules written to since they were last flushed.
    pub(crate) dirty: [bool; MODULES],
    /// Slots sealed since the disk was opened.
    pub(crate) sealed: u64,
}

impl Log {
    /// Goes on after `last` in a fresh segment.
    pub(crate) fn new(
        geometry: Geometry,
        last: Point,
        segment: u32,
        generation: u32,
        next_segment: u32,
    ) -> Log {
        Log {
            geometry,
            segment,
            generation,
            next_segment,
            index: 0,
            written: 0,
            buffer: vec![0; geometry.segment_bytes() as usize],
            members: Vec::new(),
            trims: Vec::new(),
            last,
            last_mark: Mark::default(),
            durable: last.sequence,
            dirty: [false; MODULES],
            sealed: 0,
        }
    }

    /// Whether one slot more fits into the group, with its record after it.
    pub(crate) fn has_room(&self) -> bool {
        self.members.len() < GROUP_SLOTS_MAX as usize
            && has_room(self.members.len() + 1, self.trims.len())
            && self.index + 1 < self.geometry.segment_slots
    }

    /// Whether the group takes a trim.
    pub(crate) fn has_room_for_trim(&self) -> bool {
        self.members.is_empty()
            && has_room(0, self.trims.len() + 1)
            && self.index < self.geometry.segment_slots
    }

    /// Whether anything waits for its record.
    pub(crate) fn is_pending(&self) -> bool {
        !self.members.is_empty() || !self.trims.is_empty()
    }

    /// The last record.
    pub(crate) fn last(&self) -> Point {
        self.last
    }

    /// Where the last record is.
    pub(crate) fn last_mark(&self) -> Mark {
        self.last_mark
    }

    /// The generation now being written.
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    pub(crate) fn segment(&self) -> u32 {
        self.segment
    }

    pub(crate) fn next_segment(&self) -> u32 {
        self.next_segment
    }

    /// Whether the segment is one that must stay: being written, next, or a module's last word.
    pub(crate) fn needs(&self, segment: u32) -> bool {
        let is_tail =
            |mark: &Mark| mark.slot != 0 && self.geometry.segment_of(mark.slot) == segment;
        segment == self.segment
            || segment == self.next_segment
            || self.last.tails.iter().any(is_tail)
    }

    /// The cipher text of a slot that the medium does not have yet.
    pub(crate) fn buffered(&self, slot: Slot) -> Option<&[u8]> {
        let index = self.geometry.index_of(slot);
        let here = self.geometry.segment_of(slot) == self.segment;
        (here && (self.written..self.index).contains(&index)).then(|| {
            let start = index as usize * BLOCK_BYTES;
            &self.buffer[start..start + BLOCK_BYTES]
        })
    }

    /// Seals a block into the group.
    ///
    /// # Panics
    /// Without [`Log::has_room`].
    pub(crate) fn append(
        &mut self,
        cipher: &Cipher,
        kind: Kind,
        number: u32,
        plain: &[u8],
    ) -> Entry {
        assert!(self.has_room());
        let (place, sealed) = self.take_slot();
        let tag = cipher.seal(place, kind, u64::from(number), plain, sealed);
        self.members.push(Member { kind, number, tag });
        Entry {
            slot: place.slot,
            tag,
        }
    }

    /// Puts a trim into the group.
    ///
    /// # Panics
    /// Without [`Log::has_room_for_trim`].
    pub(crate) fn append_trim(&mut self, trim: Trim) {
        assert!(self.has_room_for_trim());
        self.trims.push(trim);
    }

    /// Ends the group with its record, even an empty one.
    pub(crate) fn close_group(&mut self, cipher: &Cipher, flags: u32) {
        let record = Record {
            sequence: self.last.sequence + 1,
            previous: self.last.tag,
            next_segment: self.next_segment,
            durable: self.durable,
            flags,
            generation: self.generation,
            members: std::mem::take(&mut self.members),
            trims: std::mem::take(&mut self.trims),
        };
        let plain = record.encode();
        let (place, slot) = self.take_slot();
        let (sealed, tag_bytes) = slot.split_at_mut(RECORD_BYTES);
        let tag = cipher.seal(place, Kind::Record, 0, &plain, sealed);
        tag_bytes.copy_from_slice(&tag);
        self.last_mark = Mark {
            slot: place.slot,
            generation: place.generation,
            tag,
        };
        self.last.sequence = record.sequence;
        self.last.tag = tag;
        self.last.tails[self.geometry.module_of(self.segment)] = self.last_mark;
        self.members = record.members;
        self.members.clear();
        self.trims = record.trims;
        self.trims.clear();
    }

    /// Hands sealed slots to the medium once there are enough of them.
    pub(crate) fn write_out_some(&mut self, medium: &impl Medium) -> Result<(), Error> {
        if self.index - self.written < WRITE_OUT_SLOTS {
            return Ok(());
        }
        self.write_out(medium)
    }

    /// Hands all sealed slots to the medium. After an error they are still here.
    pub(crate) fn write_out(&mut self, medium: &impl Medium) -> Result<(), Error> {
        if self.written == self.index {
            return Ok(());
        }
        let (module, offset) = self
            .geometry
            .place_of(self.geometry.slot_at(self.segment, self.written));
        let bytes = self.written as usize * BLOCK_BYTES..self.index as usize * BLOCK_BYTES;
        self.dirty[module] = true;
        medium
            .write(module, offset, &self.buffer[bytes])
            .map_err(from_host)?;
        self.written = self.index;
        Ok(())
    }

    /// Goes on in the next segment; `next_segment` follows that one. All must be written out.
    pub(crate) fn roll(&mut self, next_segment: u32) {
        debug_assert!(self.written == self.index && !self.is_pending());
        self.segment = std::mem::replace(&mut self.next_segment, next_segment);
        self.generation += 1;
        self.index = 0;
        self.written = 0;
    }

    fn take_slot(&mut self) -> (Place, &mut [u8]) {
        let start = self.index as usize * BLOCK_BYTES;
        let place = Place {
            generation: self.generation,
            slot: self.geometry.slot_at(self.segment, self.index),
        };
        self.index += 1;
        self.sealed += 1;
        (place, &mut self.buffer[start..start + BLOCK_BYTES])
    }
}
