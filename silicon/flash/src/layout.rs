//! Where things lie: the constants of the format, and the arithmetic of slots.
//!
//! `docs/flash-format.md` lists every constant of this file; a test compares the two.

/// Bytes of a block, of a slot and of an index node.
pub const BLOCK_BYTES: usize = 4096;
/// The smallest unit of reading and writing, as the guest sees it.
pub const SECTOR_BYTES: usize = 512;
/// Modules of one SSD; segments alternate between them.
pub const MODULES: usize = 2;
/// The only version of the format.
pub const VERSION: u32 = 2;
/// Leftmost bytes of the GCM tag that are kept (NIST SP 800-38D, 5.2.1.2, allows 96 bits).
pub const TAG_BYTES: usize = 12;
/// Bytes of an index entry: slot number and tag.
pub const ENTRY_BYTES: usize = 4 + TAG_BYTES;
/// Entries of an index node.
pub const FANOUT: u32 = (BLOCK_BYTES / ENTRY_BYTES) as u32;
/// Slots of a segment, 4 MiB of them.
pub const SEGMENT_SLOTS: u32 = 1024;
/// The fewest slots a segment may have; so small only in tests.
pub const SEGMENT_SLOTS_MIN: u32 = 8;
/// Slots that one record can cover.
pub const GROUP_SLOTS_MAX: u32 = 240;
/// Blocks of the largest disk, 4 TiB.
pub const BLOCKS_MAX: u64 = 1 << 30;
/// Blocks of the smallest disk.
pub const BLOCKS_MIN: u64 = 16;
/// Segments 0 and 1 hold the modules' headers and superblocks and nothing else.
pub const FIRST_SEGMENT: u32 = 2;
/// The slots of each module that hold its superblocks, counted from the module's start.
pub const SUPERBLOCK_SLOTS: [Slot; 2] = [1, 2];

/// A slot number; 0 stands for "nothing here".
pub type Slot = u32;
/// A tag as it is kept.
pub type Tag = [u8; TAG_BYTES];

/// The size of a disk and of its segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Blocks that the guest sees, [`BLOCKS_MIN`] to [`BLOCKS_MAX`].
    pub blocks: u64,
    /// Slots of a segment, a power of two from [`SEGMENT_SLOTS_MIN`] to [`SEGMENT_SLOTS`].
    pub segment_slots: u32,
}

impl Geometry {
    /// The geometry of a disk of `bytes`, a multiple of [`BLOCK_BYTES`].
    #[must_use]
    pub fn for_capacity(bytes: u64) -> Geometry {
        Geometry {
            blocks: bytes / BLOCK_BYTES as u64,
            segment_slots: SEGMENT_SLOTS,
        }
    }

    /// Whether a disk can have it.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        (BLOCKS_MIN..=BLOCKS_MAX).contains(&self.blocks)
            && self.segment_slots.is_power_of_two()
            && (SEGMENT_SLOTS_MIN..=SEGMENT_SLOTS).contains(&self.segment_slots)
    }

    /// Bytes of a segment.
    #[must_use]
    pub fn segment_bytes(&self) -> u64 {
        u64::from(self.segment_slots) * BLOCK_BYTES as u64
    }

    /// The module that holds the segment.
    #[must_use]
    pub fn module_of(&self, segment: u32) -> usize {
        segment as usize % MODULES
    }

    /// Where the segment begins in its module, bytes.
    #[must_use]
    pub fn segment_offset(&self, segment: u32) -> u64 {
        u64::from(segment / MODULES as u32) * self.segment_bytes()
    }

    /// The segment of a slot.
    #[must_use]
    pub fn segment_of(&self, slot: Slot) -> u32 {
        slot / self.segment_slots
    }

    /// A slot's place in its segment.
    #[must_use]
    pub fn index_of(&self, slot: Slot) -> u32 {
        slot % self.segment_slots
    }

    /// The slot at a place of a segment.
    #[must_use]
    pub fn slot_at(&self, segment: u32, index: u32) -> Slot {
        segment * self.segment_slots + index
    }

    /// Where a slot lies: its module, and the byte in it.
    #[must_use]
    pub fn place_of(&self, slot: Slot) -> (usize, u64) {
        let segment = self.segment_of(slot);
        let offset =
            self.segment_offset(segment) + u64::from(self.index_of(slot)) * BLOCK_BYTES as u64;
        (self.module_of(segment), offset)
    }

    /// Leaves of the index, if all were there.
    #[must_use]
    pub fn leaves(&self) -> u32 {
        self.blocks.div_ceil(u64::from(FANOUT)) as u32
    }

    /// Middle nodes of the index, if all were there.
    #[must_use]
    pub fn middles(&self) -> u32 {
        self.leaves().div_ceil(FANOUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_alternate_between_the_modules() {
        let geometry = Geometry::for_capacity(1 << 40);
        assert_eq!(geometry.place_of(geometry.slot_at(2, 0)), (0, 4 << 20));
        assert_eq!(
            geometry.place_of(geometry.slot_at(3, 5)),
            (1, (4 << 20) + 5 * 4096)
        );
    }

    /// Promise: the largest disk's slots, spare and reserve included, have numbers.
    #[test]
    fn the_largest_disk_fits_into_slot_numbers() {
        let geometry = Geometry {
            blocks: BLOCKS_MAX,
            segment_slots: SEGMENT_SLOTS,
        };
        let segments = crate::segments::limit(geometry);
        assert!(u64::from(segments) * u64::from(geometry.segment_slots) <= u64::from(u32::MAX));
    }
}
