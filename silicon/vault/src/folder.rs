//! The chip's state folder: a few small files, each written whole or not at all, and one that is
//! written in place.
//!
//! Invariants: after [`StateFolder::write`] returns, the file is there after a power cut, with
//! the new bytes; at any moment before, the old file is there or none. Only one vault holds a
//! folder at a time. Links are not followed. It trusts the file system to rename atomically
//! within a folder and to keep what `fsync` confirmed.

mod fixed;
mod power;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::Error;
pub use fixed::FixedFile;
use power::Power;

/// Added to a file's name while it is being written, and until it is committed.
const UNFINISHED_SUFFIX: &str = ".new";

/// An open state folder that belongs to this process alone.
pub struct StateFolder {
    folder: OwnedFd,
    power: Power,
}

impl StateFolder {
    /// Takes the folder behind `descriptor` for this process.
    ///
    /// # Errors
    /// [`Error::Storage`], with `EWOULDBLOCK` when another vault holds the folder.
    pub fn take(descriptor: impl AsFd) -> Result<StateFolder, Error> {
        // A lock belongs to an open file, and ours is shared with whoever passed it on: open the
        // folder anew, so that the lock is ours and ends with us.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(descriptor, ".", flags, Mode::empty())
            .map_err(storage("opening the state folder"))?;
        rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive)
            .map_err(storage("locking the state folder"))?;
        let power = Power::default();
        Ok(StateFolder { folder, power })
    }

    /// The file's bytes, `None` if there is no such file.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it is longer than `size_bytes_max` or not a regular file.
    pub fn read(
        &self,
        name: &str,
        size_bytes_max: usize,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let Some(file) = self.open(name, OFlags::RDONLY)? else {
            return Ok(None);
        };
        // One byte more than allowed, to see whether there is more. Never grown, so no copy of a
        // key is left behind by a reallocation.
        let mut bytes = Zeroizing::new(vec![0; size_bytes_max + 1]);
        let mut filled = 0;
        while filled < bytes.len() {
            match rustix::io::read(&file, &mut bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::Storage("reading a state file", errno)),
            }
        }
        if filled > size_bytes_max {
            return Err(Error::Corrupt("longer than it can be"));
        }
        bytes.truncate(filled);
        Ok(Some(bytes))
    }

    /// The file of `size_bytes` to be read and written in place, `None` if there is no such file.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it has another size or is not a regular file.
    pub fn open_fixed(&self, name: &str, size_bytes: usize) -> Result<Option<FixedFile>, Error> {
        match self.open(name, OFlags::RDWR)? {
            Some(file) => FixedFile::take(file, size_bytes, self.power.clone()).map(Some),
            None => Ok(None),
        }
    }

    /// The same for a prepared file that has not been committed.
    pub fn open_unfinished(
        &self,
        name: &str,
        size_bytes: usize,
    ) -> Result<Option<FixedFile>, Error> {
        self.open_fixed(&unfinished(name), size_bytes)
    }

    /// Whether there is anything of this name.
    pub fn has(&self, name: &str) -> Result<bool, Error> {
        match rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(Error::Storage("looking at a state file", errno)),
        }
    }

    /// Writes the file durably, readable for its owner only.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.prepare(name, bytes)?;
        self.commit(name)
    }

    /// Writes the file's bytes durably beside it; [`StateFolder::commit`] puts them in its place.
    pub fn prepare(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.remove_unfinished(name)?;
        self.write_unfinished(name, bytes)
            // The first error is the one to tell.
            .inspect_err(|_| self.discard(name))
    }

    /// Puts a prepared file in its place, durably. After an error it may be there or not.
    pub fn commit(&self, name: &str) -> Result<(), Error> {
        self.power
            .step()
            .and_then(|()| rustix::fs::renameat(&self.folder, unfinished(name), &self.folder, name))
            .map_err(storage("renaming a state file"))?;
        self.sync()
    }

    /// Removes a prepared file, if it can.
    pub fn discard(&self, name: &str) {
        let _ = self.remove_unfinished(name);
    }

    /// Makes the names of the folder's files durable.
    pub fn sync(&self) -> Result<(), Error> {
        self.power
            .step()
            .and_then(|()| rustix::fs::fsync(&self.folder))
            .map_err(storage("flushing the state folder"))
    }

    fn open(&self, name: &str, access: OFlags) -> Result<Option<OwnedFd>, Error> {
        // NONBLOCK: a named pipe in this place must not hold the vault up.
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.folder, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(Error::Corrupt("a link where a file belongs")),
            Err(Errno::ISDIR) => return Err(Error::Corrupt("no regular file")),
            Err(errno) => return Err(Error::Storage("opening a state file", errno)),
        };
        let status = rustix::fs::fstat(&file).map_err(storage("looking at a state file"))?;
        if !rustix::fs::FileType::from_raw_mode(status.st_mode).is_file() {
            return Err(Error::Corrupt("no regular file"));
        }
        Ok(Some(file))
    }

    fn write_unfinished(&self, name: &str, mut bytes: &[u8]) -> Result<(), Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = self
            .power
            .step()
            .and_then(|()| rustix::fs::openat(&self.folder, unfinished(name), flags, mode))
            .map_err(storage("creating a state file"))?;
        while !bytes.is_empty() {
            self.power.step().map_err(storage(WRITING))?;
            match rustix::io::write(&file, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::Storage(WRITING, errno)),
            }
        }
        self.power
            .step()
            .and_then(|()| rustix::fs::fsync(&file))
            .map_err(storage("flushing a state file"))
    }

    fn remove_unfinished(&self, name: &str) -> Result<(), Error> {
        let removed = self
            .power
            .step()
            .and_then(|()| rustix::fs::unlinkat(&self.folder, unfinished(name), AtFlags::empty()));
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::Storage("removing an unfinished file", errno)),
        }
    }

    /// Leaves power for `count` more changes of the folder and its files; `None` for good.
    #[cfg(test)]
    pub fn leave_power(&self, count: Option<u32>) {
        self.power.leave(count);
    }
}

impl AsFd for StateFolder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

const WRITING: &str = "writing a state file";

fn unfinished(name: &str) -> String {
    format!("{name}{UNFINISHED_SUFFIX}")
}

fn storage(doing: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::Storage(doing, errno)
}
