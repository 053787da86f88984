//! What the client sends, taken in large gulps.
//!
//! Invariant: one buffer per connection, made once; whatever a client announces, no more than
//! [`RECEIVE_BYTES`] of it is held.

use std::io;
use std::os::unix::net::UnixStream;

use super::protocol::REQUEST_BYTES;
use super::{PIECE_BYTES, socket};

/// Room for one piece and what came along with it, in bytes.
pub const RECEIVE_BYTES: usize = 2 * PIECE_BYTES;

/// The receiving side of a connection.
pub struct Receiver<'a> {
    socket: &'a UnixStream,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl<'a> Receiver<'a> {
    /// Takes the place where the handshake left off.
    pub fn new(socket: &'a UnixStream) -> Receiver<'a> {
        Receiver {
            socket,
            buffer: vec![0; RECEIVE_BYTES].into(),
            start: 0,
            end: 0,
        }
    }

    /// What has arrived and was not consumed.
    pub fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The next request's header, if all of it has arrived.
    pub fn header(&self) -> Option<&[u8; REQUEST_BYTES]> {
        self.buffered().first_chunk()
    }

    /// Forgets the first `length` bytes of [`Self::buffered`].
    pub fn consume(&mut self, length: usize) {
        self.start += length;
        assert!(self.start <= self.end, "only what has arrived is consumed");
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Receives until at least `wanted` bytes, at most [`PIECE_BYTES`], are there. `false` at the
    /// end of the stream.
    ///
    /// # Errors
    /// When the socket failed.
    pub fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        let wanted = wanted.min(PIECE_BYTES);
        while self.end - self.start < wanted {
            if self.start + wanted > self.buffer.len() {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            // One piece at most, so that what is worked on next is still in the processor's cache.
            let limit = self.buffer.len().min(self.end + PIECE_BYTES);
            match socket::receive(self.socket, &mut self.buffer[self.end..limit])? {
                0 => return Ok(false),
                received => self.end += received,
            }
        }
        Ok(true)
    }
}
