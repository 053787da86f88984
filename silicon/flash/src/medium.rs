//! What the controller stands on: two module files, and the vault's memory of the newest root.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use rustix::fs::FallocateFlags;
use rustix::io::{Errno, ReadWriteFlags};

use crate::layout::MODULES;

/// The two modules. Offsets and lengths are bytes.
pub trait Medium: Send + Sync {
    /// Fills the buffer; what lies past the end or in a hole is zeros.
    fn read(&self, module: usize, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Like [`Medium::read`] where that needs no waiting; else `false`, the buffer undefined.
    fn read_cached(&self, module: usize, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
        self.read(module, offset, buffer).map(|()| true)
    }

    /// Writes all of it; durable only after [`Medium::sync`].
    fn write(&self, module: usize, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Makes everything written durable (fdatasync).
    fn sync(&self, module: usize) -> io::Result<()>;

    /// Has the host set room aside, so that writing there cannot lack it.
    fn allocate(&self, module: usize, offset: u64, length: u64) -> io::Result<()>;

    /// Gives the room back, where the host can; what stood there is gone or not, nobody reads it.
    fn punch(&self, module: usize, offset: u64, length: u64) -> io::Result<()>;

    /// Empties the module.
    fn erase(&self, module: usize) -> io::Result<()>;
}

/// Where the newest root is remembered, apart from the modules.
pub trait Anchors: Send + Sync {
    /// The anchor stored last; `None` when there never was one.
    fn load(&self) -> io::Result<Option<Vec<u8>>>;

    /// Remembers an anchor; durable when it returns. It must refuse a sequence lower than the one
    /// it has: two threads may come in the wrong order, and the older anchor opens nothing.
    fn store(&self, sequence: u64, anchor: &[u8]) -> io::Result<()>;
}

/// Two files of the host.
pub struct FileMedium {
    files: [File; MODULES],
}

impl FileMedium {
    /// The files, module 0 first, open for reading and writing.
    #[must_use]
    pub fn new(modules: [OwnedFd; MODULES]) -> FileMedium {
        FileMedium {
            files: modules.map(File::from),
        }
    }
}

impl Medium for FileMedium {
    fn read(&self, module: usize, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.files[module].read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => {
                    buffer[filled..].fill(0);
                    break;
                }
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read_cached(&self, module: usize, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
        let length = buffer.len();
        let mut pieces = [io::IoSliceMut::new(buffer)];
        match rustix::io::preadv2(
            &self.files[module],
            &mut pieces,
            offset,
            ReadWriteFlags::NOWAIT,
        ) {
            Ok(count) => Ok(count == length),
            // Not there yet, or a file system that cannot tell: tmpfs before Linux 6.6 cannot, and
            // never waits.
            Err(Errno::AGAIN) => Ok(false),
            Err(Errno::OPNOTSUPP) => self.read(module, offset, buffer).map(|()| true),
            Err(errno) => Err(errno.into()),
        }
    }

    fn write(&self, module: usize, offset: u64, data: &[u8]) -> io::Result<()> {
        self.files[module].write_all_at(data, offset)
    }

    fn sync(&self, module: usize) -> io::Result<()> {
        // Never retried: after a failure the kernel may have dropped the pages and would say yes.
        self.files[module].sync_data()
    }

    fn allocate(&self, module: usize, offset: u64, length: u64) -> io::Result<()> {
        let file = &self.files[module];
        match rustix::fs::fallocate(file, FallocateFlags::empty(), offset, length) {
            // A file system without it: the writes themselves will find out.
            Err(Errno::OPNOTSUPP) if file.metadata()?.len() < offset + length => {
                file.set_len(offset + length)
            }
            Err(Errno::OPNOTSUPP) => Ok(()),
            result => Ok(result?),
        }
    }

    fn punch(&self, module: usize, offset: u64, length: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.files[module], flags, offset, length) {
            Err(Errno::OPNOTSUPP) => Ok(()),
            result => Ok(result?),
        }
    }

    fn erase(&self, module: usize) -> io::Result<()> {
        self.files[module].set_len(0)
    }
}
