//! What the guest's driver reads about the disk: features and configuration space.
//!
//! Byte for byte as in the virtio specification 1.2, section 5.2.4.

use virtio_bindings::bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC,
};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;

use crate::device::{BLOCK_BYTES, SECTOR_BYTES};

/// Request queues, and threads that serve them.
pub const QUEUES: usize = 16;
/// Descriptors in one queue at most.
pub const QUEUE_SIZE_MAX: usize = 1024;
/// Data segments in one request: what a queue of QEMU's usual 128 descriptors can carry.
pub const SEGMENTS_MAX: u32 = 126;
/// Ranges in one discard or write-zeroes request.
pub const RANGES_MAX: u32 = 64;
/// The longest such range, in sectors: 2 GiB.
pub const RANGE_SECTORS_MAX: u32 = 1 << 22;

/// The configuration space's size in bytes; what an asker wants beyond it is zeros.
const SPACE_BYTES: usize = 60;
const SECTORS_PER_BLOCK: u32 = (BLOCK_BYTES / SECTOR_BYTES) as u32;

/// The features of virtio that are offered.
pub const FEATURES: u64 = 1 << VIRTIO_BLK_F_SEG_MAX
    | 1 << VIRTIO_BLK_F_BLK_SIZE
    | 1 << VIRTIO_BLK_F_FLUSH
    | 1 << VIRTIO_BLK_F_TOPOLOGY
    | 1 << VIRTIO_BLK_F_MQ
    | 1 << VIRTIO_BLK_F_DISCARD
    | 1 << VIRTIO_BLK_F_WRITE_ZEROES
    | 1 << VIRTIO_RING_F_INDIRECT_DESC
    | 1 << VIRTIO_RING_F_EVENT_IDX
    | 1 << VIRTIO_F_VERSION_1;

/// Exactly `size` bytes of the configuration space from `offset` on.
pub fn read(capacity_bytes: u64, offset: u32, size: u32) -> Vec<u8> {
    let space = space(capacity_bytes);
    let start = (offset as usize).min(SPACE_BYTES);
    let end = start.saturating_add(size as usize).min(SPACE_BYTES);
    let mut bytes = space[start..end].to_vec();
    bytes.resize(size as usize, 0);
    bytes
}

fn space(capacity_bytes: u64) -> [u8; SPACE_BYTES] {
    let mut space = [0; SPACE_BYTES];
    let mut put = |at: usize, bytes: &[u8]| space[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &(capacity_bytes / SECTOR_BYTES as u64).to_le_bytes());
    put(12, &SEGMENTS_MAX.to_le_bytes());
    put(20, &(SECTOR_BYTES as u32).to_le_bytes());
    // Topology: sectors per block as a power of two, no offset, best size in sectors.
    put(24, &[SECTORS_PER_BLOCK.ilog2() as u8, 0]);
    put(26, &(SECTORS_PER_BLOCK as u16).to_le_bytes());
    put(28, &SECTORS_PER_BLOCK.to_le_bytes());
    put(34, &(QUEUES as u16).to_le_bytes());
    put(36, &RANGE_SECTORS_MAX.to_le_bytes());
    put(40, &RANGES_MAX.to_le_bytes());
    put(44, &SECTORS_PER_BLOCK.to_le_bytes());
    put(48, &RANGE_SECTORS_MAX.to_le_bytes());
    put(52, &RANGES_MAX.to_le_bytes());
    // Writing zeros may give space back.
    put(56, &[1]);
    space
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise: whatever is asked for, exactly that much is answered, and the disk's size is right.
    #[test]
    fn exactly_what_is_asked_for() {
        let capacity = 20u64 << 30;
        for (offset, size) in [
            (0, 60),
            (0, 96),
            (0, 8),
            (20, 4),
            (59, 2),
            (60, 1),
            (200, 56),
        ] {
            assert_eq!(read(capacity, offset, size).len(), size as usize);
        }
        assert_eq!(read(capacity, 0, 8), (capacity / 512).to_le_bytes());
        assert_eq!(read(capacity, 20, 5), [0, 2, 0, 0, 3]);
        assert_eq!(read(capacity, 56, 6), [1, 0, 0, 0, 0, 0]);
        assert_eq!(read(capacity, u32::MAX, 3), [0; 3]);
    }
}
