//! A file of fixed size that is written in place.
//!
//! Invariant: what [`FixedFile::read`] returns is what the host's disk has, not what an earlier
//! failed flush left in the page cache.

use std::os::fd::OwnedFd;

use rustix::fs::Advice;
use rustix::io::Errno;

use super::{Power, WRITING, storage};
use crate::Error;

/// An open file of the state folder whose size never changes.
pub struct FixedFile {
    file: OwnedFd,
    power: Power,
}

impl FixedFile {
    pub(super) fn take(file: OwnedFd, size_bytes: usize, power: Power) -> Result<FixedFile, Error> {
        let status = rustix::fs::fstat(&file).map_err(storage("looking at a state file"))?;
        if u64::try_from(status.st_size) != Ok(size_bytes as u64) {
            return Err(Error::Corrupt("size of a state file"));
        }
        Ok(FixedFile { file, power })
    }

    pub(super) fn of(file: OwnedFd, power: Power) -> FixedFile {
        FixedFile { file, power }
    }

    /// Fills the buffer from the file's beginning.
    pub fn read(&self, buffer: &mut [u8]) -> Result<(), Error> {
        // After a failed flush the kernel takes the page for clean, though the disk has another:
        // flush what is unflushed, drop the pages and read again. Advice need not be taken (tmpfs
        // has no disk), so its result does not matter.
        self.sync()?;
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
        let mut filled = 0;
        while filled < buffer.len() {
            match rustix::io::pread(&self.file, &mut buffer[filled..], filled as u64) {
                Ok(0) => return Err(Error::Corrupt("size of a state file")),
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::Storage("reading a state file", errno)),
            }
        }
        Ok(())
    }

    /// Writes over `bytes.len()` bytes at `offset` and flushes them. After an error they may be
    /// there, in part or not at all.
    pub fn write(&self, mut offset: u64, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            self.power.step().map_err(storage(WRITING))?;
            match rustix::io::pwrite(&self.file, bytes, offset) {
                Ok(count) => {
                    bytes = &bytes[count..];
                    offset += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::Storage(WRITING, errno)),
            }
        }
        self.sync()
    }

    fn sync(&self) -> Result<(), Error> {
        self.power
            .step()
            .and_then(|()| rustix::fs::fdatasync(&self.file))
            .map_err(storage("flushing a state file"))
    }
}
