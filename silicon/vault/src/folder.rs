//! The chip's state folder: a few small files, each written whole or not at all, and one that is
//! written in place.
//!
//! A file is prepared beside its name and then put in the place of the old one. Where the file
//! system can, the two exchange their names, so that the old bytes can be written over and their
//! room serves the next time: then a full disk stops no change.
//!
//! Invariants: after [`StateFolder::commit`] returns, the file is there after a power cut, with
//! the new bytes; at any moment before, the old file is there or none. Only one vault holds a
//! folder at a time. Links are not followed. It trusts the file system to rename atomically
//! within a folder and to keep what `fsync` confirmed.

mod fixed;
mod power;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::Error;
pub use fixed::FixedFile;
use power::Power;

/// How long a vault may take to let go of its folder.
const TAKE_PATIENCE: Duration = Duration::from_millis(1000);
/// Between two looks at a lock: 10 ms.
const LOCK_PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};
/// More of a replaced file is not written over; none of ours is longer.
const WIPED_BYTES_MAX: usize = 64 * 1024;
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
        let taken = StateFolder::share(descriptor)?;
        // One that was just killed may take a moment to let go.
        taken
            .lock(TAKE_PATIENCE)
            .map_err(storage("locking the state folder"))?;
        Ok(taken)
    }

    /// Locks the folder for this open descriptor of it.
    ///
    /// # Errors
    /// `EWOULDBLOCK` when another descriptor's lock was not given up within `patience`.
    pub(crate) fn lock(&self, patience: Duration) -> Result<(), Errno> {
        let begin = Instant::now();
        loop {
            let lock = FlockOperation::NonBlockingLockExclusive;
            match rustix::fs::flock(&self.folder, lock) {
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if begin.elapsed() < patience => {
                    // No descriptor becomes ready among none: this only waits.
                    let _ = poll(&mut [], Some(&LOCK_PAUSE));
                }
                result => return result,
            }
        }
    }

    /// Gives the lock up.
    pub(crate) fn unlock(&self) {
        // It cannot fail on a descriptor that was locked; closing it would unlock it too.
        let _ = rustix::fs::flock(&self.folder, FlockOperation::Unlock);
    }

    /// The same without a lock: for a folder that several vaults share, who take turns by locks
    /// of their own.
    pub fn share(descriptor: impl AsFd) -> Result<StateFolder, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(descriptor, ".", flags, Mode::empty())
            .map_err(storage("opening a folder"))?;
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
        match self.open(name, OFlags::RDONLY)? {
            Some(file) => read_whole(&file, size_bytes_max).map(Some),
            None => Ok(None),
        }
    }

    /// The same for a prepared file that has not been committed.
    pub fn read_unfinished(
        &self,
        name: &str,
        size_bytes_max: usize,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        self.read(&unfinished(name), size_bytes_max)
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
        self.commit(name)?.wipe()
    }

    /// Writes the file's bytes durably beside it; [`StateFolder::commit`] puts them in its place.
    pub fn prepare(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        // In the room that the last change left, if it did: that cannot be refused for want of it.
        if let Ok(Some(room)) = self.open_unfinished(name, bytes.len()) {
            return room.write(0, bytes);
        }
        self.remove_unfinished(name)?;
        self.write_unfinished(name, bytes)
            // The first error is the one to tell.
            .inspect_err(|_| self.discard(name))
    }

    /// Puts a prepared file in its place, durably. After an error it may be there or not.
    pub fn commit(&self, name: &str) -> Result<Replaced, Error> {
        let old = self.open(name, OFlags::RDWR).unwrap_or(None);
        self.power
            .step()
            .and_then(|()| self.put_in_place(name, old.is_some()))
            .map_err(storage("renaming a state file"))?;
        self.sync()?;
        Ok(Replaced {
            file: old,
            power: self.power.clone(),
        })
    }

    fn put_in_place(&self, name: &str, exchange: bool) -> Result<(), Errno> {
        let (folder, unfinished) = (&self.folder, unfinished(name));
        if exchange {
            let flags = RenameFlags::EXCHANGE;
            match rustix::fs::renameat_with(folder, &unfinished, folder, name, flags) {
                // A file system that cannot exchange names.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOENT) => {}
                result => return result,
            }
        }
        rustix::fs::renameat(folder, unfinished, folder, name)
    }

    /// Puts a prepared file away: writes over it, and leaves its room for the next one.
    pub fn discard(&self, name: &str) {
        match self.open(&unfinished(name), OFlags::RDWR) {
            Ok(Some(file)) => {
                let power = self.power.clone();
                let file = Some(file);
                // What was prepared counts for nothing, written over or not.
                let _ = Replaced { file, power }.wipe();
            }
            Ok(None) => {}
            Err(_) => {
                let _ = self.remove_unfinished(name);
            }
        }
    }

    /// Writes over a file and removes it, durably; harmless where there is none.
    pub fn destroy(&self, name: &str) -> Result<(), Error> {
        for name in [name.to_owned(), unfinished(name)] {
            let Ok(Some(file)) = self.open(&name, OFlags::RDWR) else {
                continue;
            };
            Replaced {
                file: Some(file),
                power: self.power.clone(),
            }
            .wipe()?;
        }
        self.remove_unfinished(name)?;
        let removed = self
            .power
            .step()
            .and_then(|()| rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()));
        match removed {
            Ok(()) | Err(Errno::NOENT) => self.sync(),
            Err(errno) => Err(Error::Storage("removing a state file", errno)),
        }
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

/// A file that another one took the place of.
#[must_use]
pub struct Replaced {
    file: Option<OwnedFd>,
    power: Power,
}

impl Replaced {
    /// Writes zeros over its bytes, durably. What the file system or the disk below kept of
    /// earlier writes is out of reach.
    pub fn wipe(self) -> Result<(), Error> {
        let Some(file) = self.file else {
            return Ok(());
        };
        let status = rustix::fs::fstat(&file).map_err(storage("looking at a state file"))?;
        let size_bytes = usize::try_from(status.st_size)
            .unwrap_or(WIPED_BYTES_MAX)
            .min(WIPED_BYTES_MAX);
        FixedFile::of(file, self.power).write(0, &vec![0; size_bytes])
    }
}

impl AsFd for StateFolder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

const WRITING: &str = "writing a state file";

fn read_whole(file: &OwnedFd, size_bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
    // One byte more than allowed, to see whether there is more. Never grown, so no copy of a
    // key is left behind by a reallocation.
    let mut bytes = Zeroizing::new(vec![0; size_bytes_max + 1]);
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::io::read(file, &mut bytes[filled..]) {
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
    Ok(bytes)
}

fn unfinished(name: &str) -> String {
    format!("{name}{UNFINISHED_SUFFIX}")
}

fn storage(doing: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::Storage(doing, errno)
}
