//! The authority's folder: two small files, each written whole or not at all.
//!
//! Invariants: after [`Folder::write`] returns, the file is there after a power cut, with the new
//! bytes; at any moment before, the old file is there or none. Only one authority holds a folder at
//! a time. Links are not followed. It trusts the file system to rename atomically within a folder
//! and to keep what `fsync` confirmed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::error::Error;

/// How long another authority may hold the folder: each does so for a few milliseconds, the very
/// first one while it makes its keys.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at a lock: 5 ms.
const LOCK_PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 5_000_000,
};
/// Added to a file's name while it is being written.
const UNFINISHED_SUFFIX: &str = ".new";

/// An open folder that belongs to this process alone.
pub struct Folder {
    folder: OwnedFd,
    #[cfg(test)]
    power: std::cell::Cell<Option<u32>>,
}

impl Folder {
    /// Takes the folder behind `descriptor` for this process, waiting for whoever has it.
    ///
    /// # Errors
    /// [`Error::Held`] when it was not given up within `patience`.
    pub fn take(descriptor: impl AsFd, patience: Duration) -> Result<Folder, Error> {
        // A lock belongs to an open file, and this one is shared with whoever passed it on: open
        // the folder anew, so that the lock is ours and ends with us.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(descriptor, ".", flags, Mode::empty())
            .map_err(storage("opening the folder"))?;
        let begin = Instant::now();
        loop {
            match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if begin.elapsed() < patience => {
                    // No descriptor becomes ready among none: this only waits.
                    let _ = poll(&mut [], Some(&LOCK_PAUSE));
                }
                Err(Errno::WOULDBLOCK) => return Err(Error::Held),
                Err(errno) => return Err(Error::Storage("locking the folder", errno)),
            }
        }
        Ok(Folder {
            folder,
            #[cfg(test)]
            power: std::cell::Cell::new(None),
        })
    }

    /// The file's bytes, `None` if there is no such file.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with `name` when it is longer than `size_bytes_max`; a link or a folder of
    /// that name is an [`Error::Storage`].
    pub fn read(
        &self,
        name: &'static str,
        size_bytes_max: usize,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        // What is no file must not make us wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(&self.folder, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(Error::Storage("opening a file", errno)),
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
                Err(errno) => return Err(Error::Storage("reading a file", errno)),
            }
        }
        if filled > size_bytes_max {
            return Err(Error::Corrupt(name));
        }
        bytes.truncate(filled);
        Ok(Some(bytes))
    }

    /// Writes the file durably, readable for its owner only. After an error the old one is there or
    /// the new one.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let unfinished = format!("{name}{UNFINISHED_SUFFIX}");
        self.remove(&unfinished)?;
        let written = self.write_unfinished(&unfinished, bytes);
        if written.is_err() {
            // The first error is the one to tell.
            let _ = self.remove(&unfinished);
        }
        written.map_err(storage("writing a file"))?;
        self.step()
            .and_then(|()| rustix::fs::renameat(&self.folder, &unfinished, &self.folder, name))
            .map_err(storage("renaming a file"))?;
        self.step()
            .and_then(|()| rustix::fs::fsync(&self.folder))
            .map_err(storage("flushing the folder"))
    }

    fn write_unfinished(&self, name: &str, mut bytes: &[u8]) -> Result<(), Errno> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.step()?;
        let file = rustix::fs::openat(&self.folder, name, flags, Mode::RUSR | Mode::WUSR)?;
        while !bytes.is_empty() {
            self.step()?;
            match rustix::io::write(&file, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        self.step()?;
        rustix::fs::fsync(&file)
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        match self
            .step()
            .and_then(|()| rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()))
        {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::Storage("removing an unfinished file", errno)),
        }
    }

    /// Where a test cuts the power: each change of the folder is one step.
    #[cfg(not(test))]
    fn step(&self) -> Result<(), Errno> {
        Ok(())
    }

    #[cfg(test)]
    fn step(&self) -> Result<(), Errno> {
        match self.power.get() {
            None => Ok(()),
            Some(0) => Err(Errno::IO),
            Some(left) => {
                self.power.set(Some(left - 1));
                Ok(())
            }
        }
    }

    /// Leaves power for `count` more steps; `None` for good.
    #[cfg(test)]
    pub fn leave_power(&self, count: Option<u32>) {
        self.power.set(count);
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

fn storage(doing: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::Storage(doing, errno)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn take(place: &std::path::Path, patience: Duration) -> Result<Folder, Error> {
        Folder::take(File::open(place).unwrap(), patience)
    }

    /// Promise: one holds it at a time; another waits as long as it may, and gets it when it is
    /// given up.
    #[test]
    fn one_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let first = take(place.path(), Duration::ZERO).unwrap();
        let begin = Instant::now();
        let patience = Duration::from_millis(50);
        assert_eq!(take(place.path(), patience).err(), Some(Error::Held));
        assert!(begin.elapsed() >= patience);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| take(place.path(), LOCK_PATIENCE).map(drop));
            std::thread::sleep(patience);
            drop(first);
            assert_eq!(second.join().unwrap(), Ok(()));
        });
    }

    /// Promise: what lies there instead of a file of ours is neither followed, waited for nor read
    /// without end.
    #[test]
    fn only_short_plain_files_are_read() {
        let place = tempfile::tempdir().unwrap();
        let folder = take(place.path(), Duration::ZERO).unwrap();
        assert_eq!(folder.read("none", 4).unwrap(), None);
        folder.write("four", b"four").unwrap();
        assert_eq!(folder.read("four", 4).unwrap().unwrap()[..], *b"four");
        assert_eq!(folder.read("four", 3), Err(Error::Corrupt("four")));
        std::os::unix::fs::symlink("four", place.path().join("link")).unwrap();
        std::fs::create_dir(place.path().join("folder")).unwrap();
        for name in ["link", "folder"] {
            assert!(matches!(folder.read(name, 4), Err(Error::Storage(..))));
        }
        rustix::fs::mkfifoat(&folder, "pipe", Mode::RUSR).unwrap();
        assert_eq!(folder.read("pipe", 4).unwrap().unwrap()[..], *b"");
    }

    /// Promise: whenever the power goes, the old bytes are there or the new ones, and a later write
    /// succeeds.
    #[test]
    fn power_may_go_at_any_step() {
        for steps in 0.. {
            let place = tempfile::tempdir().unwrap();
            let folder = take(place.path(), Duration::ZERO).unwrap();
            folder.write("file", b"old").unwrap();
            folder.leave_power(Some(steps));
            let written = folder.write("file", b"new");
            folder.leave_power(None);
            let found = folder.read("file", 3).unwrap().unwrap();
            assert!(written.is_err() || found[..] == *b"new", "{steps}");
            assert!([*b"old", *b"new"].contains(found[..].try_into().unwrap()));
            folder.write("file", b"end").unwrap();
            if written.is_ok() {
                assert!(steps > 4, "{steps}");
                return;
            }
        }
    }
}
