//! What a disk says of itself.

use crate::layout::BLOCK_BYTES;
use crate::state::State;

/// A stretch of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Bytes.
    pub length: u64,
    /// Whether something is there; else it reads as zeros.
    pub mapped: bool,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// The block to go on with.
    pub next: u64,
    /// Mapped blocks read.
    pub checked: u64,
    /// Blocks that are not what was written.
    pub bad: Vec<u64>,
}

/// The figures of a disk, since it was formatted where nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// Bytes that the guest sees.
    pub capacity_bytes: u64,
    /// Bytes of mapped blocks; at most, for a block changed without a look at its leaf may count
    /// twice until that is merged.
    pub used_bytes: u64,
    /// Bytes of segments in use.
    pub physical_bytes: u64,
    /// Bytes of segments that can still be written.
    pub spare_bytes: u64,
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
    /// Times that something was not what was written.
    pub read_errors: u64,
    /// Times it was opened.
    pub opens: u64,
    /// Times it had not been closed before.
    pub power_cuts: u64,
    /// The newest record that is durable.
    pub sequence: u64,
    /// The newest record that the vault remembers.
    pub anchored_sequence: u64,
    /// Leaves found in memory, since it was opened.
    pub cache_hits: u64,
    /// Leaves not found there.
    pub cache_misses: u64,
    /// Whether a failed flush stopped it.
    pub stopped: bool,
}

impl State {
    pub(crate) fn status(&self) -> Status {
        let (cache_hits, cache_misses) = self.index.cache_counts();
        let counters = &self.counters;
        Status {
            capacity_bytes: self.geometry.blocks * BLOCK_BYTES as u64,
            used_bytes: self.index.mapped.min(self.geometry.blocks) * BLOCK_BYTES as u64,
            physical_bytes: u64::from(self.segments.used_count()) * self.geometry.segment_bytes(),
            spare_bytes: self.segments.free_bytes(),
            host_written_blocks: counters.host_written_blocks,
            slots_written: self.slots_written(),
            blocks_cleaned: counters.blocks_cleaned,
            segments_cleaned: counters.segments_cleaned,
            trimmed_blocks: counters.trimmed_blocks,
            read_errors: counters.read_errors,
            opens: counters.opens,
            power_cuts: counters.power_cuts,
            sequence: self.durable.sequence,
            anchored_sequence: self.anchored,
            cache_hits,
            cache_misses,
            stopped: self.stopped,
        }
    }
}
