//! SIGTERM as something to wait for, so that it ends the process as cleanly as the link does.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Readable once the process was asked to end.
pub struct Termination {
    signal: OwnedFd,
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The descriptor can be read, or has ended.
    Readable,
    /// The process was asked to end.
    Asked,
}

impl Termination {
    /// From now on SIGTERM is waited for instead of ending the process; in threads that are
    /// started later too.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn catch() -> io::Result<Termination> {
        let mut signals = MaybeUninit::uninit();
        // SAFETY: the set is filled in by the first call before the others read it; the
        // descriptor is new and nobody else's.
        unsafe {
            libc::sigemptyset(signals.as_mut_ptr());
            libc::sigaddset(signals.as_mut_ptr(), libc::SIGTERM);
            let signals = signals.assume_init_ref();
            let blocked = libc::pthread_sigmask(libc::SIG_BLOCK, signals, std::ptr::null_mut());
            if blocked != 0 {
                return Err(io::Error::from_raw_os_error(blocked));
            }
            match libc::signalfd(-1, signals, libc::SFD_CLOEXEC) {
                -1 => Err(io::Error::last_os_error()),
                descriptor => Ok(Termination {
                    signal: OwnedFd::from_raw_fd(descriptor),
                }),
            }
        }
    }

    /// Waits until the descriptor can be read.
    ///
    /// # Errors
    /// When the kernel cannot wait.
    pub fn wait_for(&self, descriptor: impl AsFd) -> Result<Event, Errno> {
        loop {
            let mut both = [
                PollFd::new(&self.signal, PollFlags::IN),
                PollFd::new(&descriptor, PollFlags::IN),
            ];
            match poll(&mut both, None) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
                Ok(_) if both[0].revents().is_empty() => return Ok(Event::Readable),
                Ok(_) => return Ok(Event::Asked),
            }
        }
    }
}
