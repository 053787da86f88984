//! Cleaning: what still lives in mostly dead segments is moved to the log's end.
//!
//! A segment emptied so is free after the next checkpoint. The guest's writes pay for it in
//! proportion, so that none waits long; what is left over is done when the disk is idle.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::body::SegmentRow;
use crate::cipher::{Kind, Place};
use crate::error::Error;
use crate::index::LOST;
use crate::layout::{BLOCK_BYTES, FANOUT, FIRST_SEGMENT, Slot};
use crate::medium::{Anchors, Medium};
use crate::record::{Entry, Member, Record};
use crate::segments::{RESERVE_SEGMENTS, limit, usable_slots};
use crate::state::{Fetch, Io, State};

/// Of the segments that the live slots need, so many parts make one part of garbage allowed.
pub const GARBAGE_DIVISOR: u32 = 2;
/// Segments of garbage allowed beyond that before cleaning begins: 128 MiB.
pub const SLACK_SEGMENTS: u32 = 32;
/// A segment that is fuller than so many of sixteen parts is not worth emptying.
const WORTH_SIXTEENTHS: u32 = 15;
/// Emptied segments that make a checkpoint due: this part of those in use, and at least so many.
const EMPTIED_PART: usize = 16;
const EMPTIED_MIN: usize = 4;
/// Segments emptied at most before a checkpoint that has to make room.
const RECLAIM_SEGMENTS: usize = 8;
/// Slots looked at in one step when idle.
const IDLE_SLOTS: u32 = 512;
/// Trimmed blocks that are worth a checkpoint when idle: 1 MiB.
const TRIMMED_WORTH: u64 = 256;
/// After so long without a change emptied segments give their room back.
const LONG_IDLE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(crate) struct Cleaning {
    victim: Option<Victim>,
    /// Nothing lives in them, as far as the next checkpoint will know; and whether all of their
    /// records could be read, so that this is certain.
    emptied: BTreeMap<u32, bool>,
}

struct Victim {
    segment: u32,
    generation: u32,
    buffer: Vec<u8>,
    members: Vec<(Slot, Member)>,
    /// Whether the members are all that is in it.
    whole: bool,
}

impl Cleaning {
    /// Hands over what was emptied; begins anew.
    pub(crate) fn finish_round(&mut self) -> BTreeMap<u32, bool> {
        std::mem::take(&mut self.emptied)
    }

    /// Lets go of the victim if it is among these: nothing is left in it.
    pub(crate) fn forget(&mut self, doomed: &[u32]) {
        self.victim
            .take_if(|victim| doomed.contains(&victim.segment));
    }
}

impl State {
    /// Whether so much was emptied that a checkpoint should free it.
    pub(crate) fn is_much_emptied(&self) -> bool {
        let part = self.segments.used_count() as usize / EMPTIED_PART;
        self.cleaning.emptied.len() >= part.max(EMPTIED_MIN)
    }

    /// Whether more is in use than what lives warrants.
    pub(crate) fn is_cleaning_due(&self) -> bool {
        let usable = u64::from(usable_slots(self.geometry));
        let full = self.segments.live().div_ceil(usable) as u32;
        let most = limit(self.geometry) - FIRST_SEGMENT - RESERVE_SEGMENTS;
        let target = (full + full / GARBAGE_DIVISOR + SLACK_SEGMENTS).min(most);
        let waiting = (self.cleaning.emptied.len() + self.doomed.len()) as u32;
        self.segments.used_count().saturating_sub(waiting) > target
    }

    /// Cleans as much as writing so many blocks calls for.
    pub(crate) fn clean_for<M: Medium, A: Anchors>(
        &mut self,
        io: &Io<'_, M, A>,
        blocks: u32,
    ) -> Result<(), Error> {
        if blocks == 0 || !self.is_cleaning_due() {
            return Ok(());
        }
        let slots = self.geometry.segment_slots;
        let live = self.cleaning.victim.as_ref().map_or(slots / 2, |victim| {
            let row = self.segments.row(victim.segment);
            row.map_or(0, |row| u32::from(row.live))
        });
        // Emptying a segment wins what was dead in it: look at so many slots for each written.
        let dead = (slots - live.min(slots)).max(slots / 16);
        self.clean(io.medium, (blocks * slots).div_ceil(dead) + 1)
    }

    /// Makes free segments out of dead ones; false when there is nothing to be won.
    pub(crate) fn reclaim<M: Medium, A: Anchors>(
        &mut self,
        io: &Io<'_, M, A>,
    ) -> Result<bool, Error> {
        let before = self.segments.free_count();
        if !self.doomed.is_empty() {
            self.store_anchor(io, false)?;
        }
        if self.segments.free_count() > before {
            return Ok(true);
        }
        self.collect_dead();
        while self.cleaning.emptied.len() < RECLAIM_SEGMENTS {
            let emptied = self.cleaning.emptied.len();
            self.clean(io.medium, self.geometry.segment_slots)?;
            if self.cleaning.emptied.len() == emptied {
                break;
            }
        }
        if self.cleaning.emptied.is_empty() {
            return Ok(false);
        }
        self.checkpoint(io, false)?;
        Ok(self.segments.free_count() > before)
    }

    /// Looks at so many slots of victims and moves what lives in them. Stops early when there is
    /// no room to move to, or nothing worth it.
    pub(crate) fn clean(&mut self, medium: &impl Medium, slots: u32) -> Result<(), Error> {
        let mut left = slots;
        while left > 0 {
            let victim = match self.cleaning.victim.take() {
                Some(victim) => victim,
                None => match self.pick(medium)? {
                    Some(victim) => victim,
                    None => return Ok(()),
                },
            };
            if !self.empty(medium, victim, &mut left)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Goes on with a victim; false when there is no room to move to.
    fn empty(
        &mut self,
        medium: &impl Medium,
        mut victim: Victim,
        left: &mut u32,
    ) -> Result<bool, Error> {
        while *left > 0 {
            let Some(&(slot, member)) = victim.members.last() else {
                self.cleaning.emptied.insert(victim.segment, victim.whole);
                self.counters.segments_cleaned += 1;
                return Ok(true);
            };
            *left -= 1;
            let needed = self.checkpoint_segments() + 1;
            let room = match self.segments.prepare(needed, medium) {
                Ok(()) => self.relocate(medium, &victim, slot, member),
                Err(error) => Err(error),
            };
            match room {
                Ok(()) => drop(victim.members.pop()),
                Err(Error::NoSpace) => {
                    self.cleaning.victim = Some(victim);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        self.cleaning.victim = Some(victim);
        Ok(true)
    }

    /// Moves a slot if the index still points to it.
    fn relocate(
        &mut self,
        medium: &impl Medium,
        victim: &Victim,
        slot: Slot,
        member: Member,
    ) -> Result<(), Error> {
        match member.kind {
            Kind::Data if u64::from(member.number) < self.geometry.blocks => {
                let block = member.number;
                match self.entry(medium, block) {
                    Ok(entry) if entry.slot == slot => {
                        self.move_block(medium, victim, block, entry)?;
                    }
                    Ok(_) => self.settle(medium, block)?,
                    Err(Error::Corrupt { .. }) => self.lose_leaf(medium, block / FANOUT)?,
                    Err(error) => return Err(error),
                }
            }
            // The next checkpoint writes them anew, elsewhere.
            Kind::Leaf if member.number < self.geometry.leaves() => {
                match self.leaf_entry(medium, member.number) {
                    Ok(entry) if entry.slot == slot => {
                        self.index.touch_leaf(member.number);
                        self.counters.blocks_cleaned += 1;
                    }
                    Ok(_) => {}
                    Err(Error::Corrupt { .. }) => self.lose_leaf(medium, member.number)?,
                    Err(error) => return Err(error),
                }
            }
            Kind::Middle if self.index.root(member.number).slot == slot => {
                match self.load_middle(medium, member.number) {
                    Ok(()) => self.index.touch_middle(member.number),
                    Err(Error::Corrupt { .. }) => {
                        self.lose_leaf(medium, member.number * FANOUT)?;
                    }
                    Err(error) => return Err(error),
                }
                self.counters.blocks_cleaned += 1;
            }
            Kind::Data
            | Kind::Leaf
            | Kind::Middle
            | Kind::Piece
            | Kind::Record
            | Kind::Superblock => {}
        }
        self.write_out_some(medium)
    }

    /// Seals a block anew at the log's end.
    fn move_block(
        &mut self,
        medium: &impl Medium,
        victim: &Victim,
        block: u32,
        entry: Entry,
    ) -> Result<(), Error> {
        let start = self.geometry.index_of(entry.slot) as usize * BLOCK_BYTES;
        let sealed = &victim.buffer[start..start + BLOCK_BYTES];
        let fetch = Fetch {
            entry,
            generation: victim.generation,
            kind: Kind::Data,
            number: block,
        };
        let mut plain = [0; BLOCK_BYTES];
        if !fetch.open(&self.sessions, sealed, &mut plain)
            && !self.read_slot(medium, &fetch, &mut plain)?
        {
            // Nothing is left to move: reading it stays an error, and its slot is free.
            self.counters.read_errors += 1;
            self.point(block, LOST);
            return Ok(());
        }
        self.make_slot(medium)?;
        let moved = self
            .log
            .append(self.sessions.current(), Kind::Data, block, &plain);
        self.point(block, moved);
        self.counters.blocks_cleaned += 1;
        Ok(())
    }

    /// Has the slot that the tree has for a changed block not counted as live any longer.
    fn settle(&mut self, medium: &impl Medium, block: u32) -> Result<(), Error> {
        let Some(change) = self.index.change_of(block).filter(|change| !change.settled) else {
            return Ok(());
        };
        let before = loop {
            match self.index.tree_entry(block) {
                Ok(before) => break before,
                Err(needed) => match self.load(medium, needed) {
                    Err(Error::Corrupt { .. }) => return self.lose_leaf(medium, block / FANOUT),
                    loaded => loaded?,
                },
            }
        };
        self.forget(before);
        self.index.change(block, change.entry, true);
        Ok(())
    }

    /// What is best done when the guest wants nothing: cleaning, and giving room back.
    pub(crate) fn tidy<M: Medium, A: Anchors>(&mut self, io: &Io<'_, M, A>) {
        if self.stopped {
            return;
        }
        // What fails here fails again, and is told, when somebody needs it.
        if self.is_cleaning_due() {
            let _ = self.clean(io.medium, IDLE_SLOTS);
        }
        self.gives_back |= self.trimmed >= TRIMMED_WORTH;
        if self.trimmed >= TRIMMED_WORTH || self.is_much_emptied() {
            let _ = self.checkpoint(io, false);
        }
        // What was trimmed goes back at once; what writing emptied may be wanted again soon.
        if self.gives_back || self.last_change.elapsed() >= LONG_IDLE {
            let wanted = self.reserve();
            self.gives_back = self.segments.give_back(wanted, io.medium);
        }
    }

    /// Notes the segments in which nothing lives any more.
    pub(crate) fn collect_dead(&mut self) {
        let dead: Vec<u32> = self
            .candidates()
            .filter(|(_, row)| row.live == 0)
            .map(|(segment, _)| segment)
            .collect();
        let dead = dead.into_iter().map(|segment| (segment, true));
        self.cleaning.emptied.extend(dead);
    }

    /// The segment with the least in it, if that is worth it.
    fn pick(&mut self, medium: &impl Medium) -> Result<Option<Victim>, Error> {
        self.collect_dead();
        // Where leaves were lost more is counted as live than there is: only a look can tell.
        let worth = if self.counters.read_errors > 0 {
            self.geometry.segment_slots
        } else {
            self.geometry.segment_slots * WORTH_SIXTEENTHS / 16
        };
        let least = self
            .candidates()
            .min_by_key(|(_, row)| row.live)
            .map(|(segment, row)| (segment, *row));
        let Some((segment, row)) = least.filter(|(_, row)| u32::from(row.live) < worth) else {
            return Ok(None);
        };
        let mut buffer = Vec::new();
        match self.read_segment(medium, segment, &mut buffer) {
            Ok(()) => {}
            Err(Error::Storage(_)) => {
                self.counters.read_errors += 1;
                self.segments.retire(segment);
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        let (members, whole) = self.members(segment, row.generation, &buffer);
        Ok(Some(Victim {
            segment,
            generation: row.generation,
            buffer,
            members,
            whole,
        }))
    }

    /// Segments that may be emptied or freed.
    fn candidates(&self) -> impl Iterator<Item = (u32, &SegmentRow)> {
        self.segments.used().filter(|&(segment, row)| {
            !row.retired
                && row.generation != 0
                && !self.log.needs(segment)
                && !self.cleaning.emptied.contains_key(&segment)
                && !self.doomed.contains(&segment)
        })
    }

    /// What the records of a segment say of its slots, and whether that is all there is in it.
    fn members(&self, segment: u32, generation: u32, buffer: &[u8]) -> (Vec<(Slot, Member)>, bool) {
        let mut members = Vec::new();
        // The last slot of a full segment may be too few for another group.
        let mut unknown = 0;
        let mut index = self.geometry.segment_slots;
        let first = self.geometry.slot_at(segment, 0);
        while index > 0 {
            index -= 1;
            let start = index as usize * BLOCK_BYTES;
            let place = Place {
                generation,
                slot: first + index,
            };
            let record = self.sessions.of(generation).and_then(|cipher| {
                let slot = buffer[start..].first_chunk()?;
                Record::open(cipher, place, slot)
            });
            let Some((record, _)) = record else {
                unknown += 1;
                continue;
            };
            let count = (record.members.len() as u32).min(index);
            index -= count;
            members.extend((first + index..).zip(record.members));
        }
        (members, unknown <= 1)
    }
}
