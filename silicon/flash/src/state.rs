//! The controller's state: what the guest's writes and trims do to log, index and segments.
//!
//! Everything here happens under one lock and in one order; that order is the log's.

use std::time::Instant;

use crate::anchor::{Anchor, Mark};
use crate::body::{Body, Counters};
use crate::cipher::{Kind, Place};
use crate::cleaner::Cleaning;
use crate::error::{Error, from_host};
use crate::index::{Index, LOST_SLOT, Needed, Node};
use crate::layout::{BLOCK_BYTES, FANOUT, Geometry, Slot};
use crate::log::{Log, Point};
use crate::medium::{Anchors, Medium};
use crate::record::{BEGINS, Entry, Trim};
use crate::segments::{Segments, usable_slots};
use crate::session::Sessions;
use crate::superblock::{self, Sure};

/// Blocks written under the lock at a time.
pub(crate) const WRITE_BLOCKS: usize = 64;
/// Changed blocks that may wait for their leaf to be written, on a large disk.
pub const CHANGES_MAX: u64 = 262_144;
/// On a small one this part of all blocks may wait, or [`CHANGES_MIN`].
pub const CHANGES_PART: u64 = 8;
/// So many may always wait.
pub const CHANGES_MIN: u64 = 64;
/// Segments written that make a checkpoint due: what opening after a power cut has to read.
pub const CHECKPOINT_SEGMENTS: u32 = 256;
/// With so many flushes in one segment the next is written with zeros beforehand: a flush into
/// blocks that were only set aside costs a journalling file system a commit each.
const FLUSHES_WORTH_ZEROS: u32 = 64;
/// Openings of segments in the life of a disk: 16 PiB of writes.
pub const GENERATIONS_MAX: u32 = u32::MAX - 16;
/// Ready segments beyond what a checkpoint needs, so that cleaning can move.
pub const MOVING_SEGMENTS: u32 = 3;
/// Segments set aside on the host at a time beyond those needed, while it has room.
const AHEAD_SEGMENTS: u32 = 2;

/// What the state works on.
pub(crate) struct Io<'a, M, A> {
    pub(crate) medium: &'a M,
    pub(crate) anchors: &'a A,
}

/// A checkpoint: where its body's first record is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Checkpoint {
    pub(crate) sequence: u64,
    pub(crate) mark: Mark,
    /// Where its superblock is.
    pub(crate) superblock: Slot,
}

pub(crate) struct State {
    pub(crate) geometry: Geometry,
    pub(crate) sessions: Sessions,
    pub(crate) segments: Segments,
    pub(crate) index: Index,
    pub(crate) log: Log,
    pub(crate) counters: Counters,
    pub(crate) cleaning: Cleaning,
    /// What the next anchor starts from; the sequences in it are filled in.
    pub(crate) anchor: Anchor,
    /// The newest record known durable.
    pub(crate) durable: Point,
    /// The newest complete checkpoint.
    pub(crate) checkpoint: Checkpoint,
    /// The sequence in the newest anchor.
    pub(crate) anchored: u64,
    /// The superblock of the checkpoint in the newest anchor: the next one goes elsewhere.
    pub(crate) kept_superblock: Slot,
    /// Superblocks sealed in this session.
    pub(crate) superblocks: u32,
    /// What is known durable; what a power cut left is not, however whole.
    pub(crate) sure: Sure,
    /// When the oldest durable record without an anchor became durable.
    pub(crate) unanchored_since: Option<Instant>,
    /// Segments that are free once the newest checkpoint is anchored.
    pub(crate) doomed: Vec<u32>,
    /// Segments opened since the newest checkpoint.
    pub(crate) opened_segments: u32,
    /// Flushes since the segment was opened.
    pub(crate) flushes: u32,
    /// Blocks trimmed since the newest checkpoint.
    pub(crate) trimmed: u64,
    /// The leaf up to which changes were merged, going round and round.
    pub(crate) merged_up_to: u32,
    /// Free segments shall give their room back.
    pub(crate) gives_back: bool,
    /// Flags of the next record.
    pub(crate) flags: u32,
    /// The last record with the flag that begins a body.
    pub(crate) begun: Checkpoint,
    /// A write or flush of the host failed, or the disk was closed.
    pub(crate) stopped: bool,
    /// When the guest last changed something.
    pub(crate) last_change: Instant,
}

/// Where to find a sealed slot, outside the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) entry: Entry,
    pub(crate) generation: u32,
    pub(crate) kind: Kind,
    pub(crate) number: u32,
}

impl Fetch {
    pub(crate) fn place(&self) -> Place {
        Place {
            generation: self.generation,
            slot: self.entry.slot,
        }
    }

    /// Decrypts the slot; false when it is not what the index expects.
    #[must_use]
    pub(crate) fn open(&self, sessions: &Sessions, sealed: &[u8], plain: &mut [u8]) -> bool {
        sessions.of(self.generation).is_some_and(|cipher| {
            let number = u64::from(self.number);
            cipher.open(
                self.place(),
                self.kind,
                number,
                sealed,
                &self.entry.tag,
                plain,
            )
        })
    }
}

impl State {
    /// An error when nothing can be promised any more.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.stopped {
            return Err(Error::Stopped);
        }
        Ok(())
    }

    /// Where and how to read what an entry points to.
    pub(crate) fn fetch(&self, entry: Entry, kind: Kind, number: u32) -> Fetch {
        Fetch {
            entry,
            generation: self.segments.generation_of(entry.slot),
            kind,
            number,
        }
    }

    /// The same for a node.
    pub(crate) fn fetch_node(&self, needed: Needed) -> Fetch {
        match needed {
            Needed::Leaf(leaf, entry) => self.fetch(entry, Kind::Leaf, leaf),
            Needed::Middle(middle, entry) => self.fetch(entry, Kind::Middle, middle),
        }
    }

    /// Reads and decrypts a slot; `Ok(false)` when it is not what was written.
    pub(crate) fn read_slot(
        &self,
        medium: &impl Medium,
        fetch: &Fetch,
        plain: &mut [u8],
    ) -> Result<bool, Error> {
        if let Some(sealed) = self.log.buffered(fetch.entry.slot) {
            return Ok(fetch.open(&self.sessions, sealed, plain));
        }
        if fetch.generation == 0 {
            return Ok(false);
        }
        let mut sealed = [0; BLOCK_BYTES];
        let (module, offset) = self.geometry.place_of(fetch.entry.slot);
        medium
            .read(module, offset, &mut sealed)
            .map_err(Error::Storage)?;
        Ok(fetch.open(&self.sessions, &sealed, plain))
    }

    /// Has a node in memory.
    pub(crate) fn load(&mut self, medium: &impl Medium, needed: Needed) -> Result<(), Error> {
        let fetch = self.fetch_node(needed);
        let mut node = Node::empty();
        // Twice, for what is lost here is lost with all below it.
        if !self.read_slot(medium, &fetch, node.bytes_mut())?
            && !self.read_slot(medium, &fetch, node.bytes_mut())?
        {
            self.counters.read_errors += 1;
            let block = match needed {
                Needed::Leaf(leaf, _) => u64::from(leaf) * u64::from(FANOUT),
                Needed::Middle(middle, _) => u64::from(middle) * u64::from(FANOUT * FANOUT),
            };
            return Err(Error::Corrupt { block });
        }
        self.index.supply(needed, node);
        Ok(())
    }

    /// The same, unless the index has gone on and needs another one.
    pub(crate) fn load_if_current(
        &mut self,
        medium: &impl Medium,
        needed: Needed,
    ) -> Result<(), Error> {
        let current = match needed {
            Needed::Leaf(leaf, entry) => self.index.leaf_entry(leaf) == Ok(entry),
            Needed::Middle(middle, entry) => self.index.root(middle) == entry,
        };
        if current {
            return self.load(medium, needed);
        }
        Ok(())
    }

    /// Where a block is, nodes loaded as needed.
    pub(crate) fn entry(&mut self, medium: &impl Medium, block: u32) -> Result<Entry, Error> {
        loop {
            match self.index.get(block) {
                Ok(entry) => return Ok(entry),
                Err(needed) => self.load(medium, needed)?,
            }
        }
    }

    /// Where a leaf is, its middle loaded as needed.
    pub(crate) fn leaf_entry(&mut self, medium: &impl Medium, leaf: u32) -> Result<Entry, Error> {
        loop {
            match self.index.leaf_entry(leaf) {
                Ok(entry) => return Ok(entry),
                Err(needed) => self.load(medium, needed)?,
            }
        }
    }

    /// Reads one block.
    pub(crate) fn read_block(
        &mut self,
        medium: &impl Medium,
        block: u32,
        plain: &mut [u8],
    ) -> Result<(), Error> {
        let corrupt = Error::Corrupt {
            block: u64::from(block),
        };
        let entry = self.entry(medium, block)?;
        if entry.is_none() {
            plain.fill(0);
            return Ok(());
        }
        let fetch = self.fetch(entry, Kind::Data, block);
        if entry.slot == LOST_SLOT || !self.read_slot(medium, &fetch, plain)? {
            self.counters.read_errors += 1;
            return Err(corrupt);
        }
        Ok(())
    }

    /// Writes whole blocks, at most [`WRITE_BLOCKS`] of them.
    pub(crate) fn write_blocks<M: Medium, A: Anchors>(
        &mut self,
        io: &Io<'_, M, A>,
        first: u32,
        data: &[u8],
    ) -> Result<(), Error> {
        self.check()?;
        self.make_room(io, (data.len() / BLOCK_BYTES) as u32)?;
        self.last_change = Instant::now();
        for (block, plain) in (first..).zip(data.chunks_exact(BLOCK_BYTES)) {
            self.make_slot(io.medium)?;
            let entry = self
                .log
                .append(self.sessions.current(), Kind::Data, block, plain);
            self.point(block, entry);
            self.counters.host_written_blocks += 1;
        }
        self.write_out_some(io.medium)
    }

    /// Trims whole blocks: they read as zeros, their slots are free in time.
    pub(crate) fn trim<M: Medium, A: Anchors>(
        &mut self,
        io: &Io<'_, M, A>,
        trim: Trim,
    ) -> Result<(), Error> {
        self.check()?;
        // Trimming makes room, so it may use what is kept in reserve.
        match self.make_room(io, 0) {
            Ok(()) | Err(Error::NoSpace) => {}
            Err(error) => return Err(error),
        }
        self.last_change = Instant::now();
        if !self.log.has_room_for_trim() {
            if self.log.is_pending() {
                self.close_group();
            }
            if !self.log.has_room_for_trim() {
                self.roll(io.medium)?;
            }
        }
        // The log says so first: if the index cannot follow, a reopened one will.
        self.log.append_trim(trim);
        self.apply_trim(io.medium, trim)
    }

    /// Makes the index forget blocks.
    pub(crate) fn apply_trim(&mut self, medium: &impl Medium, trim: Trim) -> Result<(), Error> {
        let end = trim.block.saturating_add(trim.count);
        let mut block = trim.block;
        self.trimmed += u64::from(trim.count);
        self.counters.trimmed_blocks += u64::from(trim.count);
        while block < end {
            let leaf = block / FANOUT;
            let stop = end.min((leaf + 1).saturating_mul(FANOUT));
            if block % FANOUT == 0 && stop - block == FANOUT {
                self.drop_leaf(medium, leaf)?;
                let next = self.index.skip_empty_middles(leaf + 1);
                let changed = self.index.next_changed_leaf(leaf + 1).unwrap_or(u32::MAX);
                block = next.min(changed.max(leaf + 1)).saturating_mul(FANOUT);
                continue;
            }
            for one in block..stop {
                match self.entry(medium, one) {
                    Ok(entry) if entry.is_none() => {}
                    Ok(_) | Err(Error::Corrupt { .. }) => self.point(one, Entry::NONE),
                    Err(error) => return Err(error),
                }
            }
            block = stop;
        }
        Ok(())
    }

    /// Forgets a leaf and all its blocks.
    fn drop_leaf(&mut self, medium: &impl Medium, leaf: u32) -> Result<(), Error> {
        let old = self.leaf_entry_or_lost(medium, leaf)?;
        let node = if old.is_none() {
            Node::empty()
        } else {
            match self.leaf(medium, leaf, old) {
                Ok(node) => node,
                // Nobody can tell which slots it held: they count as live until they are cleaned.
                Err(Error::Corrupt { .. }) => Node::empty(),
                Err(error) => return Err(error),
            }
        };
        let mut settled = [false; FANOUT as usize];
        for change in self.index.changes_in(leaf).to_vec() {
            settled[change.place() as usize] = change.settled;
            self.forget(change.entry);
        }
        for (entry, _) in node.entries().zip(settled).filter(|(_, settled)| !settled) {
            self.forget(entry);
        }
        self.index.leaf_done(leaf);
        if !old.is_none() {
            self.segments.release(old.slot);
            self.index.set_leaf(leaf, Entry::NONE, None);
        }
        Ok(())
    }

    /// A leaf's node, as the tree has it.
    pub(crate) fn leaf(
        &mut self,
        medium: &impl Medium,
        leaf: u32,
        entry: Entry,
    ) -> Result<Node, Error> {
        if self.index.cached_leaf(leaf).is_none() {
            self.load(medium, Needed::Leaf(leaf, entry))?;
        }
        let found = self.index.cached_leaf(leaf);
        Ok(found.expect("a leaf just loaded is in memory").clone())
    }

    /// Says where a block is from now on.
    pub(crate) fn point(&mut self, block: u32, entry: Entry) {
        if !entry.is_none() {
            self.segments.keep(entry.slot);
            self.index.mapped += 1;
        }
        let settled = match self.index.change_of(block) {
            Some(earlier) => {
                self.forget(earlier.entry);
                earlier.settled
            }
            // Where the leaf is at hand its slot need not be counted any longer.
            None => match self.index.tree_entry(block) {
                Ok(before) => {
                    self.forget(before);
                    true
                }
                Err(_) => false,
            },
        };
        self.index.change(block, entry, settled);
    }

    /// Counts what an entry pointed to no longer.
    pub(crate) fn forget(&mut self, entry: Entry) {
        if !entry.is_none() {
            self.segments.release(entry.slot);
            // Of a lost leaf nobody knows how many of its blocks were counted.
            self.index.mapped = self.index.mapped.saturating_sub(1);
        }
    }

    /// Has room for one more slot in the group.
    pub(crate) fn make_slot(&mut self, medium: &impl Medium) -> Result<(), Error> {
        if self.log.has_room() {
            return Ok(());
        }
        if self.log.is_pending() {
            self.close_group();
        }
        if !self.log.has_room() {
            self.roll(medium)?;
        }
        Ok(())
    }

    /// Ends the group with a record.
    pub(crate) fn close_group(&mut self) {
        let flags = std::mem::take(&mut self.flags);
        self.log.close_group(self.sessions.current(), flags);
        if flags & BEGINS != 0 {
            self.begun = Checkpoint {
                sequence: self.log.last().sequence,
                mark: self.log.last_mark(),
                superblock: superblock::other(self.kept_superblock),
            };
        }
    }

    fn roll(&mut self, medium: &impl Medium) -> Result<(), Error> {
        self.write_out(medium)?;
        if self.log.generation() >= GENERATIONS_MAX {
            return Err(Error::NoSpace);
        }
        if self.segments.ready_count() == 0 {
            self.segments.prepare(1, medium)?;
        }
        let next = self.segments.take(self.log.next_segment());
        let next = next.ok_or(Error::NoSpace)?;
        self.log.roll(next);
        self.segments
            .opened(self.log.segment(), self.log.generation());
        if std::mem::take(&mut self.flushes) >= FLUSHES_WORTH_ZEROS && self.segments.is_blank(next)
        {
            let (module, offset) = self.geometry.place_of(self.geometry.slot_at(next, 0));
            let zeros = vec![0; self.geometry.segment_bytes() as usize];
            // It is for speed alone; what is wrong with the host's disk, a flush will tell.
            let _ = medium.write(module, offset, &zeros);
        }
        self.opened_segments += 1;
        Ok(())
    }

    pub(crate) fn write_out(&mut self, medium: &impl Medium) -> Result<(), Error> {
        let result = self.log.write_out(medium);
        self.stop_unless_full(result)
    }

    pub(crate) fn write_out_some(&mut self, medium: &impl Medium) -> Result<(), Error> {
        let result = self.log.write_out_some(medium);
        self.stop_unless_full(result)
    }

    /// A lack of room passes, and what could not be written is still there; anything else does not.
    pub(crate) fn stop_unless_full(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        if matches!(result, Err(Error::Storage(_))) {
            self.stopped = true;
        }
        result
    }

    /// Flushes a module; a failure is final.
    pub(crate) fn sync(&mut self, medium: &impl Medium, module: usize) -> Result<(), Error> {
        medium.sync(module).map_err(|error| {
            self.stopped = true;
            Error::Storage(error)
        })
    }

    /// Sees to it that `blocks` can be written and a checkpoint after them.
    pub(crate) fn make_room<M: Medium, A: Anchors>(
        &mut self,
        io: &Io<'_, M, A>,
        blocks: u32,
    ) -> Result<(), Error> {
        if self.is_checkpoint_due() {
            self.checkpoint(io, false)?;
        }
        self.clean_for(io, blocks)?;
        self.merge_for(io.medium, blocks)?;
        loop {
            let needed = self.reserve() + blocks.div_ceil(usable_slots(self.geometry));
            if self.segments.ready_count() >= needed {
                return Ok(());
            }
            match self.segments.prepare(needed + AHEAD_SEGMENTS, io.medium) {
                Ok(()) => return Ok(()),
                Err(Error::NoSpace) if self.segments.ready_count() >= needed => return Ok(()),
                Err(Error::NoSpace) if self.reclaim(io)? => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Segments that must be ready: for a checkpoint at any moment, and for moving blocks.
    pub(crate) fn reserve(&self) -> u32 {
        self.checkpoint_segments() + MOVING_SEGMENTS
    }

    /// Segments that a checkpoint now would fill, at most.
    pub(crate) fn checkpoint_segments(&self) -> u32 {
        let body = Body::size(
            self.sessions.len(),
            self.segments.rows().len() + MOVING_SEGMENTS as usize,
            self.index.roots().len(),
            self.index.changes_count() + WRITE_BLOCKS,
        );
        let slots = self.index.touched_nodes() + body.div_ceil(BLOCK_BYTES) + 2;
        (slots as u32).div_ceil(usable_slots(self.geometry))
    }

    fn is_checkpoint_due(&self) -> bool {
        self.opened_segments >= CHECKPOINT_SEGMENTS || self.is_much_emptied()
    }

    /// Begins a flush: everything so far gets its record and goes to the medium. Returns the
    /// point that is durable once the modules named were flushed; `None` if all is durable.
    pub(crate) fn begin_flush(
        &mut self,
        medium: &impl Medium,
    ) -> Result<Option<(Point, [bool; 2])>, Error> {
        self.check()?;
        if self.log.is_pending() {
            self.close_group();
        }
        self.write_out(medium)?;
        if self.log.last().sequence == self.durable.sequence {
            return Ok(None);
        }
        self.flushes += 1;
        let dirty = std::mem::take(&mut self.log.dirty);
        Ok(Some((self.log.last(), dirty)))
    }

    /// Ends a flush that went well.
    pub(crate) fn end_flush(&mut self, point: Point) {
        if point.sequence > self.durable.sequence {
            self.durable = point;
            self.sure = Sure::up_to(point.sequence, &point.tails);
            self.log.durable = point.sequence;
            self.unanchored_since.get_or_insert_with(Instant::now);
        }
    }

    /// Slots written since the disk was formatted.
    pub(crate) fn slots_written(&self) -> u64 {
        self.counters.slots_written + self.log.sealed
    }

    /// Reads what the medium has of a segment that is no longer being written.
    pub(crate) fn read_segment(
        &self,
        medium: &impl Medium,
        segment: u32,
        buffer: &mut Vec<u8>,
    ) -> Result<(), Error> {
        buffer.resize(self.geometry.segment_bytes() as usize, 0);
        let module = self.geometry.module_of(segment);
        let offset = self.geometry.segment_offset(segment);
        medium.read(module, offset, buffer).map_err(from_host)
    }
}
