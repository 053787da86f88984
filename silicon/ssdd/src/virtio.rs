//! The vhost-user-blk front end: the disk for a virtual machine, on a listening unix socket.
//!
//! The protocol and the rings are those of the rust-vmm crates; what a request means is in
//! [`disk`], how its bytes are fetched in [`chain`]. One connection at a time, one thread per
//! queue.
//!
//! Invariants: nothing that the guest writes into its rings, tables and buffers makes this panic,
//! spin or touch memory that is not the guest's. It trusts the device, and the machine's process
//! not to take back the memory that it shared: that would end this process.

mod backend;
mod chain;
mod config;
mod disk;

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use vhost::vhost_user::Listener;
use vhost_user_backend::{ShutdownHandle, VhostUserDaemon};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

use crate::device::BlockDevice;
use crate::waker::{Waited, Waker};
use backend::{Backend, STOP_EVENT};

/// The limits by the names of the document, in its units.
#[cfg(test)]
pub const LIMITS: [(&str, u64); 7] = [
    ("queues", config::QUEUES as u64),
    ("descriptors in a queue", config::QUEUE_SIZE_MAX as u64),
    ("descriptors in a chain", chain::DESCRIPTORS_MAX as u64),
    ("data in one request", chain::REQUEST_BYTES_MAX),
    (
        "segments in one request, as told to the guest",
        config::SEGMENTS_MAX as u64,
    ),
    (
        "ranges in one discard or write-zeroes",
        config::RANGES_MAX as u64,
    ),
    (
        "sectors in one such range",
        config::RANGE_SECTORS_MAX as u64,
    ),
];

/// A front end at work.
pub struct Front {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    device: Arc<dyn BlockDevice>,
    waker: Waker,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    ended: bool,
    connection: Option<ShutdownHandle>,
}

impl Front {
    /// Serves `device` on a listening socket.
    ///
    /// # Errors
    /// When the host gives no thread or no descriptor.
    pub fn start(device: Arc<dyn BlockDevice>, listener: OwnedFd) -> io::Result<Front> {
        let shared = Arc::new(Shared {
            device,
            waker: Waker::new()?,
            current: Mutex::default(),
        });
        let listener = UnixListener::from(listener);
        let thread = std::thread::Builder::new()
            .name("vhost-user".into())
            .spawn({
                let shared = shared.clone();
                move || shared.listen(listener)
            })?;
        Ok(Front {
            shared,
            thread: Some(thread),
        })
    }
}

impl Drop for Front {
    /// Hangs up; returns when all threads have ended.
    fn drop(&mut self) {
        self.shared.waker.wake();
        {
            let mut current = self.shared.current();
            current.ended = true;
            if let Some(connection) = &current.connection {
                connection.shutdown();
            }
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(|lock| lock.into_inner())
    }

    fn listen(&self, listener: UnixListener) {
        let mut listener = Listener::from(listener);
        while self.waker.wait_for(Descriptor(&listener)) == Waited::Readable {
            // A machine that could not be served is told so by the end of its connection.
            let _ = self.serve(&mut listener);
        }
    }

    /// Serves one connection to its end.
    fn serve(&self, listener: &mut Listener) -> Result<(), vhost_user_backend::Error> {
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let backend = Arc::new(Backend::new(self.device.clone(), memory.clone()));
        let stop = Waker::new().map_err(vhost_user_backend::Error::StartDaemon)?;
        let mut daemon = VhostUserDaemon::new("vhost-user disk".into(), backend, memory)?;
        // Dropped before the daemon, whose end waits for the threads that this wakes.
        let _stopping = Stopping(&stop);
        for queue in daemon.get_epoll_handlers() {
            queue
                .register_listener(stop.as_raw_fd(), EventSet::IN, STOP_EVENT.into())
                .map_err(vhost_user_backend::Error::StartDaemon)?;
        }
        daemon.start(listener)?;
        {
            let mut current = self.current();
            current.connection = daemon.shutdown_handle();
            if current.ended {
                daemon.request_shutdown();
            }
        }
        let ended = daemon.wait();
        self.current().connection = None;
        ended
    }
}

/// The library's listening socket, to wait for.
struct Descriptor<'a>(&'a Listener);

impl AsFd for Descriptor<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the listener owns the descriptor and lives as long as what borrows from it.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}

/// Ends the threads of all queues when dropped.
struct Stopping<'a>(&'a Waker);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.wake();
    }
}
