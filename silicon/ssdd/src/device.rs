//! What the front ends serve: a disk of bytes.
//!
//! Invariants: front ends know nothing of how the disk is kept; whatever offsets and lengths they
//! are handed by an outsider, an implementation answers with an error rather than a panic.

use rustix::io::Errno;

#[cfg(test)]
pub mod ram;

/// The unit of every offset and length, in bytes.
pub const SECTOR_BYTES: usize = 512;
/// What is read and written without a detour, in bytes.
pub const BLOCK_BYTES: usize = 4096;

/// A run of bytes that is either kept or reads as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Its length in bytes.
    pub length: u64,
    /// Whether anything is kept for it; otherwise it reads as zeros.
    pub mapped: bool,
}

/// A disk. Offsets and lengths are in bytes, multiples of [`SECTOR_BYTES`] and within the
/// capacity; anything else is refused with `EINVAL`.
///
/// # Errors
/// `EIO` for what cannot be read or trusted, `ENOSPC` where there is no room, and so on: what the
/// guest's own disk would say.
pub trait BlockDevice: Send + Sync {
    /// The disk's size in bytes.
    fn capacity_bytes(&self) -> u64;
    /// Fills the buffer with what stands at `offset`.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Errno>;
    /// As [`Self::read`], or `false` without having read all of it where that would wait for the
    /// host's disk.
    fn read_cached(&self, offset: u64, buffer: &mut [u8]) -> Result<bool, Errno>;
    /// Writes; lasting only after the next [`Self::flush`].
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Errno>;
    /// Gives the space back; it reads as zeros.
    fn discard(&self, offset: u64, length: u64) -> Result<(), Errno>;
    /// Makes it read as zeros, without a word on the space.
    fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), Errno>;
    /// Returns once every write that has returned is lasting.
    fn flush(&self) -> Result<(), Errno>;
    /// What is kept in the range, at most `limit` runs, neighbours being merged; together they may
    /// fall short of the range, never exceed it.
    fn extents(&self, offset: u64, length: u64, limit: usize) -> Result<Vec<Extent>, Errno>;
}
