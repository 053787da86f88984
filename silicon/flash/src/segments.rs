//! Segments: what each holds, which are free, and the room that the host has set aside.
//!
//! A segment is free, ready (free, with room set aside on the host) or used. What was emptied
//! becomes free only after the checkpoint that no longer needs it is anchored: an older root
//! must never find new bytes where its own were.

use std::collections::{BTreeSet, VecDeque};

use crate::body::SegmentRow;
use crate::error::{Error, from_host};
use crate::layout::{FIRST_SEGMENT, GROUP_SLOTS_MAX, Geometry, MODULES, Slot};
use crate::medium::Medium;

/// Of the segments that the data needs, so many parts make one part of spare.
pub const SPARE_DIVISOR: u32 = 3;
/// Segments in reserve on top of the spare.
pub const RESERVE_SEGMENTS: u32 = 16;
/// Emptied segments that keep their room on the host, for those written next.
pub const KEPT_SEGMENTS: u32 = 4;
/// Segments given back to the host in one step when idle.
const GIVEN_BACK_AT_A_TIME: u32 = 64;
/// Segments tried on a host without room: some still have theirs from an earlier session.
const TRIED_WITHOUT_ROOM: usize = 256;

/// Slots of a segment that can hold something else than records, when groups are full.
#[must_use]
pub fn usable_slots(geometry: Geometry) -> u32 {
    geometry.segment_slots - geometry.segment_slots.div_ceil(GROUP_SLOTS_MAX + 1)
}

/// The number of segments that a disk may have, those of the headers included.
#[must_use]
pub fn limit(geometry: Geometry) -> u32 {
    let usable = u64::from(usable_slots(geometry));
    let nodes = u64::from(geometry.leaves()) + u64::from(geometry.middles());
    let full = (geometry.blocks + nodes).div_ceil(usable) as u32;
    FIRST_SEGMENT + full + full / SPARE_DIVISOR + 2 * RESERVE_SEGMENTS
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Free,
    Ready,
    Used,
}

pub(crate) struct Segments {
    geometry: Geometry,
    limit: u32,
    rows: Vec<SegmentRow>,
    uses: Vec<Use>,
    free: [BTreeSet<u32>; MODULES],
    ready: [VecDeque<u32>; MODULES],
    live: u64,
    /// Segments of which the host has nothing written yet.
    blank: Vec<bool>,
    /// Free segments below it have given their room back.
    swept: u32,
    /// One more than the highest segment that was ever opened.
    opened: u32,
}

impl Segments {
    /// All segments; `used` says of a row with nothing live whether it is needed all the same.
    pub(crate) fn new(
        geometry: Geometry,
        rows: Vec<SegmentRow>,
        used: impl Fn(u32, &SegmentRow) -> bool,
    ) -> Segments {
        let limit = limit(geometry);
        let mut segments = Segments {
            geometry,
            limit,
            rows: Vec::new(),
            uses: Vec::new(),
            free: Default::default(),
            ready: Default::default(),
            live: 0,
            blank: Vec::new(),
            swept: 0,
            opened: rows.len() as u32,
        };
        for segment in 0..limit {
            let row = rows.get(segment as usize).copied().unwrap_or_default();
            segments.live += u64::from(row.live);
            let needed =
                segment < FIRST_SEGMENT || row.live > 0 || row.retired || used(segment, &row);
            if !needed {
                segments.free[geometry.module_of(segment)].insert(segment);
            }
            segments
                .uses
                .push(if needed { Use::Used } else { Use::Free });
            segments.blank.push(row.generation == 0);
            segments.rows.push(row);
        }
        segments
    }

    /// The rows up to the last that was ever opened.
    pub(crate) fn rows(&self) -> &[SegmentRow] {
        &self.rows[..self.opened as usize]
    }

    pub(crate) fn row(&self, segment: u32) -> Option<&SegmentRow> {
        self.rows.get(segment as usize)
    }

    /// The generation of a slot's segment; 0 for a slot that no segment has.
    pub(crate) fn generation_of(&self, slot: Slot) -> u32 {
        self.row(self.geometry.segment_of(slot))
            .map_or(0, |row| row.generation)
    }

    /// Slots that the index points to, of all segments.
    pub(crate) fn live(&self) -> u64 {
        self.live
    }

    pub(crate) fn ready_count(&self) -> u32 {
        self.ready.iter().map(VecDeque::len).sum::<usize>() as u32
    }

    pub(crate) fn free_count(&self) -> u32 {
        self.ready_count() + self.free.iter().map(BTreeSet::len).sum::<usize>() as u32
    }

    /// Bytes that could still be written, cleaning aside.
    pub(crate) fn free_bytes(&self) -> u64 {
        u64::from(self.free_count()) * self.geometry.segment_bytes()
    }

    /// Segments that hold something, without those of the headers.
    pub(crate) fn used_count(&self) -> u32 {
        self.limit - FIRST_SEGMENT - self.free_count()
    }

    pub(crate) fn used(&self) -> impl Iterator<Item = (u32, &SegmentRow)> {
        let numbers = FIRST_SEGMENT..self.limit;
        numbers
            .filter(|&segment| self.uses[segment as usize] == Use::Used)
            .map(|segment| (segment, &self.rows[segment as usize]))
    }

    /// Sees to it that so many segments are ready.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when the host or this disk has no more, then as many as there are.
    pub(crate) fn prepare(&mut self, count: u32, medium: &impl Medium) -> Result<(), Error> {
        while self.ready_count() < count {
            // The module with fewer ready ones first, so that they alternate.
            let fewer = usize::from(self.ready[1].len() < self.ready[0].len());
            if !self.prepare_one(fewer, medium)? && !self.prepare_one(1 - fewer, medium)? {
                return Err(Error::NoSpace);
            }
        }
        Ok(())
    }

    fn prepare_one(&mut self, module: usize, medium: &impl Medium) -> Result<bool, Error> {
        let bytes = self.geometry.segment_bytes();
        let mut found = None;
        for &segment in self.free[module].iter().take(TRIED_WITHOUT_ROOM) {
            let offset = self.geometry.segment_offset(segment);
            match medium.allocate(module, offset, bytes).map_err(from_host) {
                Ok(()) => {
                    found = Some(segment);
                    break;
                }
                Err(Error::NoSpace) => {}
                Err(error) => return Err(error),
            }
        }
        let Some(segment) = found else {
            return Ok(false);
        };
        self.free[module].remove(&segment);
        self.ready[module].push_back(segment);
        self.uses[segment as usize] = Use::Ready;
        Ok(true)
    }

    /// A ready segment to write into, on the other module than `after` where there is one.
    pub(crate) fn take(&mut self, after: u32) -> Option<u32> {
        let other = 1 - self.geometry.module_of(after);
        let segment = self.ready[other]
            .pop_front()
            .or_else(|| self.ready[1 - other].pop_front())?;
        self.uses[segment as usize] = Use::Used;
        Some(segment)
    }

    /// Notes that a segment was opened for writing.
    pub(crate) fn opened(&mut self, segment: u32, generation: u32) {
        let row = &mut self.rows[segment as usize];
        debug_assert!(row.live == 0 && !row.retired);
        row.generation = generation;
        self.blank[segment as usize] = false;
        self.opened = self.opened.max(segment + 1);
    }

    /// The index points to a slot from now on; one that no segment has is none.
    pub(crate) fn keep(&mut self, slot: Slot) {
        if let Some(row) = self.rows.get_mut(self.geometry.segment_of(slot) as usize) {
            row.live = row.live.saturating_add(1);
            self.live += 1;
        }
    }

    /// The index points to it no more; a slot that no segment has (nothing, lost) is none.
    pub(crate) fn release(&mut self, slot: Slot) {
        let segment = self.geometry.segment_of(slot);
        if slot == 0 || segment >= self.limit {
            return;
        }
        let row = &mut self.rows[segment as usize];
        debug_assert!(row.live > 0, "slot {slot} was released twice");
        if row.live > 0 {
            row.live -= 1;
            self.live -= 1;
        }
    }

    /// Nothing in it is live, whatever was counted: all of it was looked at.
    pub(crate) fn set_empty(&mut self, segment: u32) {
        let row = &mut self.rows[segment as usize];
        self.live = self.live.saturating_sub(u64::from(row.live));
        row.live = 0;
    }

    /// It holds something unreadable: nobody shall try to empty it again.
    pub(crate) fn retire(&mut self, segment: u32) {
        self.rows[segment as usize].retired = true;
    }

    /// Frees a segment; it keeps its room on the host until [`Segments::give_back`].
    pub(crate) fn free(&mut self, segment: u32) {
        self.ready[self.geometry.module_of(segment)].push_back(segment);
        self.uses[segment as usize] = Use::Ready;
        self.rows[segment as usize].retired = false;
    }

    /// Gives the room of some free segments back to the host: of ready ones beyond `wanted`, and of
    /// those that an earlier session left. Returns whether there may be more.
    pub(crate) fn give_back(&mut self, wanted: u32, medium: &impl Medium) -> bool {
        for _ in 0..GIVEN_BACK_AT_A_TIME {
            if self.ready_count() > wanted + KEPT_SEGMENTS {
                let module = usize::from(self.ready[1].len() > self.ready[0].len());
                if let Some(segment) = self.ready[module].pop_back() {
                    self.free[module].insert(segment);
                    self.uses[segment as usize] = Use::Free;
                    self.blank[segment as usize] = false;
                    self.punch(segment, medium);
                }
            } else if let Some(segment) = self.next_left_behind() {
                self.punch(segment, medium);
            } else {
                return false;
            }
        }
        true
    }

    /// A free segment for which the host still has room set aside.
    fn next_left_behind(&mut self) -> Option<u32> {
        let left = |&segment: &u32| {
            self.uses[segment as usize] == Use::Free && !self.blank[segment as usize]
        };
        let found = (self.swept..self.opened).find(left);
        self.swept = found.unwrap_or(self.opened);
        found
    }

    fn punch(&mut self, segment: u32, medium: &impl Medium) {
        // A host that cannot give it back keeps it: no harm beyond the room.
        let _ = medium.punch(
            self.geometry.module_of(segment),
            self.geometry.segment_offset(segment),
            self.geometry.segment_bytes(),
        );
        self.blank[segment as usize] = true;
    }

    /// Whether the host has nothing written there, only set aside.
    pub(crate) fn is_blank(&self, segment: u32) -> bool {
        self.blank[segment as usize]
    }
}
