//! Replies on their way out: gathered, and sent together.
//!
//! Invariant: what is in here are whole replies, and none stays while its client's thread waits.

use std::io;

use super::connection::Connection;
use super::protocol::{DATA_HEADER_BYTES, SIMPLE_REPLY_BYTES, simple_reply};
use super::{BATCH_BYTES, PIECE_BYTES};

/// Room for one batch and the largest piece after it, in bytes.
const OUTBOX_BYTES: usize = BATCH_BYTES + PIECE_BYTES + DATA_HEADER_BYTES;
const _: () = assert!(SIMPLE_REPLY_BYTES <= DATA_HEADER_BYTES);

/// The replies of one thread to one client.
pub struct Outbox<'a> {
    connection: &'a Connection,
    buffer: Box<[u8]>,
    used: usize,
}

impl<'a> Outbox<'a> {
    /// An empty one.
    pub fn new(connection: &'a Connection) -> Outbox<'a> {
        Outbox {
            connection,
            buffer: vec![0; OUTBOX_BYTES].into(),
            used: 0,
        }
    }

    /// Adds a short reply.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub fn add(&mut self, reply: &[u8]) -> io::Result<()> {
        self.place(reply.len())?.copy_from_slice(reply);
        self.keep(reply.len())
    }

    /// Adds a simple reply without data.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub fn add_simple(&mut self, cookie: u64, error: u32) -> io::Result<()> {
        self.add(&simple_reply(cookie, error))
    }

    /// Room for a reply of `length` bytes, at most [`PIECE_BYTES`] and a header; it counts once
    /// [`Self::keep`] is told so.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub fn place(&mut self, length: usize) -> io::Result<&mut [u8]> {
        if self.used + length > self.buffer.len() {
            self.flush()?;
        }
        Ok(&mut self.buffer[self.used..self.used + length])
    }

    /// Takes what was written to the last [`Self::place`] as replies; sends where that is enough.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub fn keep(&mut self, length: usize) -> io::Result<()> {
        self.used += length;
        if self.used >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn flush(&mut self) -> io::Result<()> {
        let used = std::mem::take(&mut self.used);
        if used > 0 {
            self.connection.send(&self.buffer[..used])?;
        }
        Ok(())
    }
}
