//! One client's socket, as it is shared by those who answer.
//!
//! Invariant: replies are sent whole, one after the other, whoever made them.

use std::io;
use std::net::Shutdown;
use std::ops::Deref;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::socket;

/// The sending side of a connection, and its end.
pub struct Connection {
    socket: UnixStream,
    sending: Mutex<()>,
    pending: Mutex<usize>,
    less_pending: Condvar,
}

impl Connection {
    /// Takes a connected socket.
    pub fn new(socket: UnixStream) -> Connection {
        Connection {
            socket,
            sending: Mutex::new(()),
            pending: Mutex::new(0),
            less_pending: Condvar::new(),
        }
    }

    /// The socket, for the one thread that receives.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Sends whole replies.
    ///
    /// # Errors
    /// When the client is gone; nothing can be said to it any more.
    pub fn send(&self, replies: &[u8]) -> io::Result<()> {
        let _turn = self.sending.lock().unwrap_or_else(|lock| lock.into_inner());
        socket::send(&self.socket, replies)
    }

    /// Waits until no [`Pending`] is left.
    pub fn await_pending(&self) {
        let mut pending = self.pending();
        while *pending > 0 {
            let waited = self.less_pending.wait(pending);
            pending = waited.unwrap_or_else(|lock| lock.into_inner());
        }
    }

    fn pending(&self) -> MutexGuard<'_, usize> {
        self.pending.lock().unwrap_or_else(|lock| lock.into_inner())
    }

    /// Ends it for both sides; whoever waits for the socket wakes up.
    pub fn end(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// A connection to which a reply is still owed by another thread.
pub struct Pending(Arc<Connection>);

impl Pending {
    /// One more.
    pub fn new(connection: &Arc<Connection>) -> Pending {
        *connection.pending() += 1;
        Pending(connection.clone())
    }
}

impl Deref for Pending {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        *self.0.pending() -= 1;
        self.0.less_pending.notify_all();
    }
}
