//! The NBD front end: the disk for NBD clients, on a listening unix socket.
//!
//! Fixed newstyle with structured replies, as in `doc/proto.md` of the NBD project; one export
//! under the default name, any number of connections up to [`CONNECTIONS_MAX`]. One thread per
//! connection does what the host's cache and the processor can do at once; the rest goes to a few
//! [`workers`].
//!
//! Invariants: nothing that a client sends makes it panic, hold more than the named limits, or
//! wait for ever in the handshake. It trusts the device and nobody else.

mod connection;
mod handshake;
mod outbox;
mod protocol;
mod receiver;
mod socket;
mod transmission;
mod workers;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use crate::device::BlockDevice;
use crate::waker::{Waited, Waker};
use connection::Connection;
use workers::Workers;

/// Clients at the same time; more are hung up on.
pub const CONNECTIONS_MAX: usize = 16;
/// The longest payload of one request, in bytes.
pub const REQUEST_BYTES_MAX: u32 = 32 << 20;
/// Requests are worked on and replied in pieces of at most so many bytes.
pub const PIECE_BYTES: usize = 256 * 1024;
/// Replies gathered up to this size are sent, in bytes.
pub const BATCH_BYTES: usize = 64 * 1024;
/// Asked of the kernel for each connection, in bytes; it gives what the host's limits allow.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// The limits by the names of the document, in its units.
#[cfg(test)]
pub const LIMITS: [(&str, u64); 7] = [
    ("connections at the same time", CONNECTIONS_MAX as u64),
    ("options in a handshake", handshake::OPTIONS_MAX as u64),
    ("length of an option", handshake::OPTION_BYTES_MAX as u64),
    (
        "time for the handshake",
        handshake::HANDSHAKE_TIME.as_secs(),
    ),
    ("data in one request", REQUEST_BYTES_MAX as u64),
    ("one piece of a reply", PIECE_BYTES as u64),
    (
        "extents in one block status",
        transmission::EXTENTS_MAX as u64,
    ),
];

/// How a read is replied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// In one go.
    Simple,
    /// In chunks.
    Structured,
}

/// A front end at work.
pub struct Front {
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

struct Shared {
    device: Arc<dyn BlockDevice>,
    waker: Waker,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    ended: bool,
    next: u64,
    open: HashMap<u64, (Arc<Connection>, Option<JoinHandle<()>>)>,
}

impl Front {
    /// Serves `device` on a listening socket.
    ///
    /// # Errors
    /// When the host gives no thread or no descriptor.
    pub fn start(device: Arc<dyn BlockDevice>, listener: OwnedFd) -> io::Result<Front> {
        let workers = Arc::new(Workers::start(device.clone())?);
        let shared = Arc::new(Shared {
            device,
            waker: Waker::new()?,
            connections: Mutex::default(),
        });
        let listener = UnixListener::from(listener);
        let listening = std::thread::Builder::new()
            .name("nbd listener".into())
            .spawn({
                let shared = shared.clone();
                move || shared.listen(&listener, &workers)
            })?;
        Ok(Front {
            shared,
            listening: Some(listening),
        })
    }
}

impl Drop for Front {
    /// Hangs up on everybody; returns when all threads have ended.
    fn drop(&mut self) {
        self.shared.waker.wake();
        let threads: Vec<_> = {
            let mut connections = self.shared.connections();
            connections.ended = true;
            let open = connections.open.values_mut();
            open.filter_map(|(connection, thread)| {
                connection.end();
                thread.take()
            })
            .collect()
        };
        for thread in threads.into_iter().chain(self.listening.take()) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, Connections> {
        let connections = self.connections.lock();
        connections.unwrap_or_else(|lock| lock.into_inner())
    }

    fn listen(self: &Arc<Self>, listener: &UnixListener, workers: &Arc<Workers>) {
        while self.waker.wait_for(listener) == Waited::Readable {
            // A client that is gone again, or for which there is no descriptor, is no loss.
            if let Ok((client, _)) = listener.accept() {
                self.welcome(client, workers);
            }
        }
    }

    fn welcome(self: &Arc<Self>, client: UnixStream, workers: &Arc<Workers>) {
        enlarge_buffers(&client);
        let connection = Arc::new(Connection::new(client));
        let mut connections = self.connections();
        if connections.ended || connections.open.len() >= CONNECTIONS_MAX {
            return;
        }
        let number = connections.next;
        connections.next += 1;
        let thread = std::thread::Builder::new()
            .name("nbd client".into())
            .spawn({
                let (shared, workers) = (self.clone(), workers.clone());
                let connection = connection.clone();
                move || {
                    shared.serve(&connection, &workers);
                    shared.connections().open.remove(&number);
                }
            });
        if let Ok(thread) = thread {
            connections.open.insert(number, (connection, Some(thread)));
        }
    }

    fn serve(&self, connection: &Arc<Connection>, workers: &Workers) {
        let device = &*self.device;
        let agreed = handshake::shake_hands(connection.socket(), device.capacity_bytes());
        if let Ok(Some(agreed)) = agreed {
            // However it ended, the client is gone.
            let _ = transmission::transmit(connection, device, workers, agreed);
        }
        // No worker is to wait for a client to which nobody listens any more.
        connection.end();
    }
}

fn enlarge_buffers(client: &UnixStream) {
    // Smaller ones serve as well, more slowly.
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(client, SOCKET_BUFFER_BYTES);
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(client, SOCKET_BUFFER_BYTES);
}
