//! A disk in memory, for tests: what the front ends do is compared with what it holds.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::io::Errno;

use super::{BLOCK_BYTES, BlockDevice, Extent, SECTOR_BYTES};

/// A disk in memory that counts flushes and fails when told to.
pub struct Ram {
    contents: Mutex<Contents>,
    /// How many flushes it has seen.
    pub flushes: AtomicU64,
    /// While set, nothing is in the host's cache.
    pub cold: AtomicBool,
    /// A byte offset whose reading and writing fails; `u64::MAX` for none.
    pub bad_at: AtomicU64,
}

struct Contents {
    bytes: Vec<u8>,
    mapped: Vec<bool>,
}

impl Ram {
    /// An empty one of `capacity` bytes.
    pub fn new(capacity: usize) -> Ram {
        Ram {
            contents: Mutex::new(Contents {
                bytes: vec![0; capacity],
                mapped: vec![false; capacity / BLOCK_BYTES],
            }),
            flushes: AtomicU64::new(0),
            cold: AtomicBool::new(false),
            bad_at: AtomicU64::new(u64::MAX),
        }
    }

    /// A copy of what it holds.
    pub fn bytes(&self) -> Vec<u8> {
        self.contents.lock().unwrap().bytes.clone()
    }

    fn range(&self, offset: u64, length: u64) -> Result<std::ops::Range<usize>, Errno> {
        let sector = SECTOR_BYTES as u64;
        let end = offset.checked_add(length).ok_or(Errno::INVAL)?;
        if offset % sector != 0 || length % sector != 0 || end > self.capacity_bytes() {
            return Err(Errno::INVAL);
        }
        let bad = self.bad_at.load(Ordering::Relaxed);
        if (offset..end).contains(&bad) {
            return Err(Errno::IO);
        }
        Ok(offset as usize..end as usize)
    }
}

impl BlockDevice for Ram {
    fn capacity_bytes(&self) -> u64 {
        self.contents.lock().unwrap().bytes.len() as u64
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        let range = self.range(offset, buffer.len() as u64)?;
        buffer.copy_from_slice(&self.contents.lock().unwrap().bytes[range]);
        Ok(())
    }

    fn read_cached(&self, offset: u64, buffer: &mut [u8]) -> Result<bool, Errno> {
        if self.cold.load(Ordering::Relaxed) {
            return Ok(false);
        }
        self.read(offset, buffer).map(|()| true)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let range = self.range(offset, data.len() as u64)?;
        let mut contents = self.contents.lock().unwrap();
        if !range.is_empty() {
            contents.mapped[range.start / BLOCK_BYTES..=(range.end - 1) / BLOCK_BYTES].fill(true);
        }
        contents.bytes[range].copy_from_slice(data);
        Ok(())
    }

    fn discard(&self, offset: u64, length: u64) -> Result<(), Errno> {
        let range = self.range(offset, length)?;
        let mut contents = self.contents.lock().unwrap();
        let first = range.start.div_ceil(BLOCK_BYTES);
        let end = range.end / BLOCK_BYTES;
        if first < end {
            contents.mapped[first..end].fill(false);
        }
        contents.bytes[range].fill(0);
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), Errno> {
        self.discard(offset, length)
    }

    fn flush(&self) -> Result<(), Errno> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn extents(&self, offset: u64, length: u64, limit: usize) -> Result<Vec<Extent>, Errno> {
        let range = self.range(offset, length)?;
        let contents = self.contents.lock().unwrap();
        let mut extents: Vec<Extent> = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let mapped = contents.mapped[at / BLOCK_BYTES];
            let end = ((at / BLOCK_BYTES + 1) * BLOCK_BYTES).min(range.end);
            let full = extents.len() == limit;
            match extents.last_mut() {
                Some(last) if last.mapped == mapped => last.length += (end - at) as u64,
                _ if full => break,
                _ => extents.push(Extent {
                    length: (end - at) as u64,
                    mapped,
                }),
            }
            at = end;
        }
        Ok(extents)
    }
}
