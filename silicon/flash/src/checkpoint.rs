//! Checkpoints and anchors: from where opening starts, and what it must find.

use std::time::Instant;

use crate::anchor::Anchor;
use crate::body::{Body, ChangeRow};
use crate::cipher::Kind;
use crate::error::{Error, from_host};
use crate::index::{Change, Needed, Node};
use crate::layout::{BLOCK_BYTES, FANOUT, MODULES};
use crate::log::Point;
use crate::medium::{Anchors, Medium};
use crate::record::{BEGINS, ENDS, Entry};
use crate::state::{CHANGES_MAX, CHANGES_MIN, CHANGES_PART, Checkpoint, Io, State};
use crate::superblock::{self, Superblock};

impl State {
    /// Writes what must be written of the index and the body, flushes, anchors, and frees what only
    /// the checkpoint before needed. With `clean` the anchor says that nothing follows.
    ///
    /// After [`Error::NoSpace`] nothing is lost and the next one goes on.
    pub(crate) fn checkpoint<M: Medium, A: Anchors>(
        &mut self,
        io: &Io<'_, M, A>,
        clean: bool,
    ) -> Result<(), Error> {
        self.write_checkpoint(io.medium, clean)?;
        self.store_anchor(io, clean)
    }

    /// All of it but the anchor; durable when this returns, on the modules at least.
    pub(crate) fn write_checkpoint(
        &mut self,
        medium: &impl Medium,
        clean: bool,
    ) -> Result<(), Error> {
        self.check()?;
        self.flags = 0;
        while let Some(leaf) = self.index.first_touched_leaf() {
            self.write_leaf(medium, leaf)?;
        }
        while self.write_middle(medium)? {}
        if self.log.is_pending() {
            self.close_group();
        }
        self.write_body(medium)?;
        self.write_out(medium)?;
        self.write_superblock(medium, clean)?;
        for module in 0..MODULES {
            self.sync(medium, module)?;
        }
        self.log.dirty = [false; MODULES];
        self.end_flush(self.log.last());
        self.checkpoint = self.begun;
        self.opened_segments = 0;
        self.trimmed = 0;
        self.doom();
        Ok(())
    }

    /// Writes the checkpoint's root onto both modules. The superblock of the checkpoint that the
    /// vault remembers stays, and what that one needs does, too: one of the two is always whole.
    fn write_superblock(&mut self, medium: &impl Medium, clean: bool) -> Result<(), Error> {
        let superblock = Superblock {
            anchor: Anchor {
                clean,
                ..self.root(self.log.last(), self.begun)
            },
            sure: self.sure,
        };
        let offset = superblock::offset(superblock.anchor.superblock);
        for module in 0..MODULES {
            // Sealed anew, so that nobody sees that the two are the same.
            self.superblocks += 1;
            self.counters.slots_written += 1;
            let slot = superblock.seal(self.sessions.current(), self.superblocks);
            let result = medium.write(module, offset, &slot).map_err(from_host);
            self.stop_unless_full(result)?;
        }
        Ok(())
    }

    /// Merges changes into their leaves until no more wait than may, and a guest that writes
    /// `blocks` finds room for them.
    pub(crate) fn merge_for(&mut self, medium: &impl Medium, blocks: u32) -> Result<(), Error> {
        let most = (self.geometry.blocks / CHANGES_PART).clamp(CHANGES_MIN, CHANGES_MAX);
        while self.index.changes_count() as u64 + u64::from(blocks) > most {
            // No room to merge is no reason to refuse a write: more wait then.
            if self.segments.prepare(self.reserve() + 1, medium).is_err() {
                break;
            }
            self.merge(medium)?;
        }
        Ok(())
    }

    /// Writes the next changed leaf, going round and round, so that changes gather in the others
    /// meanwhile.
    fn merge(&mut self, medium: &impl Medium) -> Result<(), Error> {
        let next = self.index.next_changed_leaf(self.merged_up_to);
        if let Some(leaf) = next.or_else(|| self.index.next_changed_leaf(0)) {
            self.merged_up_to = leaf + 1;
            self.write_leaf(medium, leaf)?;
        }
        Ok(())
    }

    /// Writes a leaf with its changes, or forgets it when nothing is left in it.
    fn write_leaf(&mut self, medium: &impl Medium, leaf: u32) -> Result<(), Error> {
        let old = self.leaf_entry_or_lost(medium, leaf)?;
        let mut node = if old.is_none() {
            Node::empty()
        } else {
            match self.leaf(medium, leaf, old) {
                Ok(node) => node,
                Err(Error::Corrupt { .. }) => Node::lost(),
                Err(error) => return Err(error),
            }
        };
        let mut forgotten = Vec::new();
        for change in self.index.changes_in(leaf) {
            if !change.settled {
                forgotten.push(node.get(change.place()));
            }
            node.set(change.place(), change.entry);
        }
        let entry = if node.is_empty() {
            Entry::NONE
        } else {
            self.write_node(medium, Kind::Leaf, leaf, &node)?
        };
        for before in forgotten {
            self.forget(before);
        }
        self.segments.release(old.slot);
        let node = (!entry.is_none()).then_some(node);
        self.index.set_leaf(leaf, entry, node);
        self.index.leaf_done(leaf);
        Ok(())
    }

    /// Where a leaf is; when its middle is lost, that is written down.
    pub(crate) fn leaf_entry_or_lost(
        &mut self,
        medium: &impl Medium,
        leaf: u32,
    ) -> Result<Entry, Error> {
        match self.leaf_entry(medium, leaf) {
            Err(Error::Corrupt { .. }) => {
                let middle = leaf / FANOUT;
                let needed = Needed::Middle(middle, self.index.root(middle));
                self.index.supply(needed, Node::lost());
                self.index.touch_middle(middle);
                self.leaf_entry(medium, leaf)
            }
            entry => entry,
        }
    }

    /// Has it written down that a leaf cannot be read: its blocks are errors, its slots are free.
    pub(crate) fn lose_leaf(&mut self, medium: &impl Medium, leaf: u32) -> Result<(), Error> {
        self.leaf_entry_or_lost(medium, leaf)?;
        self.index.touch_leaf(leaf);
        Ok(())
    }

    /// Writes the next changed middle; false when there is none.
    fn write_middle(&mut self, medium: &impl Medium) -> Result<bool, Error> {
        let Some((middle, node)) = self.index.first_changed_middle() else {
            return Ok(false);
        };
        let Some(node) = node.cloned() else {
            // Touched while it was not in memory: it stays as it is.
            self.index.set_middle(middle, self.index.root(middle));
            return Ok(true);
        };
        let entry = if node.is_empty() {
            Entry::NONE
        } else {
            self.write_node(medium, Kind::Middle, middle, &node)?
        };
        self.segments.release(self.index.root(middle).slot);
        self.index.set_middle(middle, entry);
        Ok(true)
    }

    fn write_node(
        &mut self,
        medium: &impl Medium,
        kind: Kind,
        number: u32,
        node: &Node,
    ) -> Result<Entry, Error> {
        self.make_slot(medium)?;
        let cipher = self.sessions.current();
        let entry = self.log.append(cipher, kind, number, node.bytes());
        self.segments.keep(entry.slot);
        Ok(entry)
    }

    /// Has a middle in memory.
    pub(crate) fn load_middle(&mut self, medium: &impl Medium, middle: u32) -> Result<(), Error> {
        self.leaf_entry(medium, middle * FANOUT).map(|_| ())
    }

    fn write_body(&mut self, medium: &impl Medium) -> Result<(), Error> {
        let body = self.body().encode();
        self.flags = BEGINS;
        for (number, piece) in (0..).zip(body.chunks_exact(BLOCK_BYTES)) {
            self.make_slot(medium)?;
            let cipher = self.sessions.current();
            self.log.append(cipher, Kind::Piece, number, piece);
        }
        self.flags |= ENDS;
        self.close_group();
        Ok(())
    }

    fn body(&self) -> Body {
        let mut counters = self.counters;
        counters.slots_written = self.slots_written();
        let used = self.segments.used().map(|(_, row)| row.generation);
        Body {
            blocks: self.geometry.blocks,
            next_generation: self.log.generation() + 1,
            mapped: self.index.mapped,
            counters,
            sessions: self.sessions.rows(used),
            segments: self.segments.rows().to_vec(),
            middles: self.index.roots().to_vec(),
            changes: self.index.changes().map(change_row).collect(),
        }
    }

    /// Notes what is free once this checkpoint is anchored: it points to nothing in there, and
    /// its chain begins later.
    fn doom(&mut self) {
        for (segment, whole) in self.cleaning.finish_round() {
            if whole {
                self.segments.set_empty(segment);
            } else if self.segments.row(segment).is_some_and(|row| row.live > 0) {
                // A record of it could not be read: something in there was not moved.
                self.segments.retire(segment);
            }
        }
        let begins = self.checkpoint.mark.generation;
        let dead = self.segments.used().filter(|&(segment, row)| {
            row.live == 0 && row.generation < begins && !self.log.needs(segment)
        });
        self.doomed = dead.map(|(segment, _)| segment).collect();
        self.cleaning.forget(&self.doomed);
    }

    /// What the vault should remember now.
    pub(crate) fn newest_anchor(&self) -> Anchor {
        self.root(self.durable, self.checkpoint)
    }

    /// The root of a checkpoint and all records after it up to `last`.
    fn root(&self, last: Point, checkpoint: Checkpoint) -> Anchor {
        Anchor {
            clean: false,
            sequence: last.sequence,
            tag: last.tag,
            tails: last.tails,
            checkpoint_sequence: checkpoint.sequence,
            checkpoint: checkpoint.mark,
            superblock: checkpoint.superblock,
            ..self.anchor.clone()
        }
    }

    /// Has the vault remember the newest durable record.
    pub(crate) fn store_anchor<M: Medium, A: Anchors>(
        &mut self,
        io: &Io<'_, M, A>,
        clean: bool,
    ) -> Result<(), Error> {
        let anchor = Anchor {
            clean,
            ..self.newest_anchor()
        };
        io.anchors
            .store(anchor.sequence, &anchor.encode())
            .map_err(from_vault)?;
        self.anchor_stored(&anchor, Instant::now());
        Ok(())
    }

    /// The vault remembers this one, which was the newest when it was taken: what it does not need
    /// is free.
    pub(crate) fn anchor_stored(&mut self, anchor: &Anchor, taken: Instant) {
        self.anchored = self.anchored.max(anchor.sequence);
        let newer = self.durable.sequence > self.anchored;
        self.unanchored_since = newer.then_some(taken);
        if anchor.checkpoint_sequence == self.checkpoint.sequence {
            self.kept_superblock = self.checkpoint.superblock;
            for segment in std::mem::take(&mut self.doomed) {
                self.segments.free(segment);
            }
        }
    }
}

fn change_row((block, change): (u32, Change)) -> ChangeRow {
    ChangeRow {
        block,
        entry: change.entry,
        settled: change.settled,
    }
}

/// Sorts an error of the vault: a lack of room there can pass as well.
pub(crate) fn from_vault(error: std::io::Error) -> Error {
    match from_host(error) {
        Error::Storage(error) => Error::Vault(error),
        other => other,
    }
}
