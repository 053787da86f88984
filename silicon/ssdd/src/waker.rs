//! Wakes a thread that waits for a descriptor, once and for all.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// Something that stays woken once it was.
pub struct Waker {
    event: OwnedFd,
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The descriptor can be read, or has failed.
    Readable,
    /// Somebody called [`Waker::wake`].
    Woken,
}

impl Waker {
    /// One that nobody has woken.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn new() -> io::Result<Waker> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Waker { event })
    }

    /// Ends all waiting, now and later.
    pub fn wake(&self) {
        // It can only fail once the counter is full, and then it is woken.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// Waits for some time; whether somebody has woken it.
    pub fn woken_within(&self, time: Duration) -> bool {
        let Ok(time) = Timespec::try_from(time) else {
            return false;
        };
        let mut event = [PollFd::new(&self.event, PollFlags::IN)];
        // An interrupted wait is a short one.
        poll(&mut event, Some(&time)).is_ok_and(|ready| ready > 0)
    }

    /// Waits until the descriptor can be read. A failing wait counts as woken.
    pub fn wait_for(&self, descriptor: impl AsFd) -> Waited {
        loop {
            let mut both = [
                PollFd::new(&self.event, PollFlags::IN),
                PollFd::new(&descriptor, PollFlags::IN),
            ];
            match poll(&mut both, None) {
                Err(Errno::INTR) => {}
                Ok(_) if both[0].revents().is_empty() => return Waited::Readable,
                _ => return Waited::Woken,
            }
        }
    }
}

impl AsRawFd for Waker {
    /// Readable once it was woken.
    fn as_raw_fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}
