//! The second half of a connection: requests and replies.
//!
//! Invariants: a request that makes no sense is answered with an error, its payload is drained and
//! the connection lives on; only a wrong magic number ends it. A write is carried out in pieces as
//! it arrives. Replies are sent before the thread waits for anything.

use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use super::connection::{Connection, Pending};
use super::handshake::{ALLOCATION_CONTEXT, Agreed};
use super::outbox::Outbox;
use super::protocol::*;
use super::receiver::Receiver;
use super::workers::{Job, Work, Workers};
use super::{PIECE_BYTES, REQUEST_BYTES_MAX, Reply};
use crate::device::{BLOCK_BYTES, BlockDevice, SECTOR_BYTES};

/// Extents in one answer to `NBD_CMD_BLOCK_STATUS`.
pub const EXTENTS_MAX: usize = 1024;
/// Bytes of a write that are worth starting with while the rest is still coming.
const START_BYTES: usize = 64 * 1024;
static ZEROS: [u8; PIECE_BYTES] = [0; PIECE_BYTES];

/// Answers a client until it leaves or breaks the rules.
///
/// # Errors
/// When the socket failed.
pub fn transmit(
    connection: &Arc<Connection>,
    device: &dyn BlockDevice,
    workers: &Workers,
    agreed: Agreed,
) -> io::Result<()> {
    let mut transmission = Transmission {
        connection,
        device,
        workers,
        agreed,
        received: Receiver::new(connection.socket()),
        replies: Outbox::new(connection),
    };
    let ended = transmission.run();
    transmission.replies.flush()?;
    ended
}

struct Transmission<'a> {
    connection: &'a Arc<Connection>,
    device: &'a dyn BlockDevice,
    workers: &'a Workers,
    agreed: Agreed,
    received: Receiver<'a>,
    replies: Outbox<'a>,
}

impl Transmission<'_> {
    fn run(&mut self) -> io::Result<()> {
        loop {
            let Some(header) = self.received.header() else {
                if !self.await_bytes(REQUEST_BYTES)? {
                    return Ok(());
                }
                continue;
            };
            let Some(request) = Request::parse(header) else {
                return Ok(());
            };
            self.received.consume(REQUEST_BYTES);
            if request.command == CMD_DISC {
                self.replies.flush()?;
                self.connection.await_pending();
                return Ok(());
            }
            if !self.answer(&request)? {
                return Ok(());
            }
        }
    }

    /// Has at least `wanted` bytes there; `false` at the end of the stream.
    fn await_bytes(&mut self, wanted: usize) -> io::Result<bool> {
        if self.received.buffered().len() < wanted.min(PIECE_BYTES) {
            self.replies.flush()?;
            return self.received.fill(wanted);
        }
        Ok(true)
    }

    /// Whether the connection goes on.
    fn answer(&mut self, request: &Request) -> io::Result<bool> {
        match (request.command, self.check(request)) {
            (CMD_WRITE, checked) => return self.write(request, checked),
            (CMD_READ, Ok(())) => self.read(request)?,
            (CMD_BLOCK_STATUS, Ok(())) => self.block_status(request)?,
            (CMD_READ | CMD_BLOCK_STATUS, Err(errno)) => self.refuse(request, errno)?,
            (CMD_FLUSH, Ok(())) => self.flush(request)?,
            (_, checked) => {
                let done = checked.and_then(|()| self.carry_out(request));
                self.reply(request, done)?;
            }
        }
        Ok(true)
    }

    /// What the protocol wants to be refused, before anything is done.
    fn check(&self, request: &Request) -> Result<(), Errno> {
        let known = CMD_FLAG_FUA
            | match request.command {
                CMD_READ if self.agreed.structured => CMD_FLAG_DF,
                CMD_WRITE_ZEROES => CMD_FLAG_NO_HOLE | CMD_FLAG_FAST_ZERO,
                CMD_BLOCK_STATUS => CMD_FLAG_REQ_ONE,
                _ => 0,
            };
        let limited = matches!(request.command, CMD_READ | CMD_WRITE);
        let status = request.command == CMD_BLOCK_STATUS;
        if request.flags & !known != 0
            || limited && request.length > REQUEST_BYTES_MAX
            || status && (request.length == 0 || !self.agreed.allocation)
        {
            return Err(Errno::INVAL);
        }
        if request.flags & CMD_FLAG_DF != 0 && request.length as usize > PIECE_BYTES {
            return Err(Errno::OVERFLOW);
        }
        if request.command == CMD_FLUSH {
            return Ok(());
        }
        let sector = SECTOR_BYTES as u64;
        let end = request.offset.checked_add(request.length.into());
        if end.is_none_or(|end| end > self.device.capacity_bytes()) {
            return Err(match request.command {
                CMD_WRITE | CMD_WRITE_ZEROES => Errno::NOSPC,
                _ => Errno::INVAL,
            });
        }
        if request.offset % sector != 0 || u64::from(request.length) % sector != 0 {
            return Err(Errno::INVAL);
        }
        Ok(())
    }

    fn read(&mut self, request: &Request) -> io::Result<()> {
        let length = request.length as usize;
        if !self.agreed.structured {
            return self.read_simple(request);
        }
        if length == 0 {
            let header = chunk_header(CHUNK_FLAG_DONE, CHUNK_NONE, request.cookie, 0);
            return self.replies.add(&header);
        }
        let mut done = 0;
        while done < length {
            let piece = PIECE_BYTES.min(length - done);
            let offset = request.offset + done as u64;
            let place = self.replies.place(DATA_HEADER_BYTES + piece)?;
            let (header, data) = place.split_at_mut(DATA_HEADER_BYTES);
            match self.device.read_cached(offset, data) {
                Ok(true) => {}
                Ok(false) => {
                    let work = Work::Read {
                        offset,
                        length: (length - done) as u32,
                        reply: Reply::Structured,
                    };
                    return self.leave(request, work);
                }
                Err(errno) => return self.refuse(request, errno),
            }
            done += piece;
            let flags = if done == length { CHUNK_FLAG_DONE } else { 0 };
            header.copy_from_slice(&data_header(flags, request.cookie, offset, piece as u32));
            self.replies.keep(DATA_HEADER_BYTES + piece)?;
        }
        Ok(())
    }

    fn read_simple(&mut self, request: &Request) -> io::Result<()> {
        let length = request.length as usize;
        let work = Work::Read {
            offset: request.offset,
            length: request.length,
            reply: Reply::Simple,
        };
        if length > PIECE_BYTES {
            return self.leave(request, work);
        }
        let place = self.replies.place(SIMPLE_REPLY_BYTES + length)?;
        let (header, data) = place.split_at_mut(SIMPLE_REPLY_BYTES);
        match self.device.read_cached(request.offset, data) {
            Ok(true) => {
                header.copy_from_slice(&simple_reply(request.cookie, 0));
                self.replies.keep(SIMPLE_REPLY_BYTES + length)
            }
            Ok(false) => self.leave(request, work),
            Err(errno) => self.refuse(request, errno),
        }
    }

    /// Leaves something slow to the workers.
    fn leave(&mut self, request: &Request, work: Work) -> io::Result<()> {
        // Chunks of this request that were gathered have to be sent before the worker's.
        self.replies.flush()?;
        let job = Job {
            connection: Pending::new(self.connection),
            cookie: request.cookie,
            work,
        };
        match self.workers.leave(job) {
            None => Ok(()),
            Some(job) => self.workers.do_here(&job),
        }
    }

    /// Takes the payload, carrying it out as it comes, as long as nothing went wrong.
    fn write(&mut self, request: &Request, checked: Result<(), Errno>) -> io::Result<bool> {
        let mut done = checked;
        let mut offset = request.offset;
        let mut left = request.length as usize;
        while left > 0 {
            if !self.await_bytes(left.min(START_BYTES))? {
                return Ok(false);
            }
            let mut piece = left.min(PIECE_BYTES).min(self.received.buffered().len());
            if piece < left {
                // The seam lies between two blocks, so that no block is written in two parts;
                // START_BYTES, which are there at least, are more than a block.
                let over = (offset.wrapping_add(piece as u64) % BLOCK_BYTES as u64) as usize;
                piece -= over;
            }
            if done.is_ok() {
                done = self
                    .device
                    .write(offset, &self.received.buffered()[..piece]);
            }
            self.received.consume(piece);
            offset = offset.wrapping_add(piece as u64);
            left -= piece;
        }
        let done = done.and_then(|()| self.force(request));
        self.reply(request, done)?;
        Ok(true)
    }

    fn carry_out(&self, request: &Request) -> Result<(), Errno> {
        let (offset, length) = (request.offset, request.length);
        match request.command {
            CMD_TRIM => self.device.discard(offset, length.into())?,
            CMD_WRITE_ZEROES => self.write_zeroes(request)?,
            CMD_CACHE => return self.cache(offset, length),
            _ => return Err(Errno::INVAL),
        }
        self.force(request)
    }

    /// Without a hole they take their space, and that is as slow as any write.
    fn write_zeroes(&self, request: &Request) -> Result<(), Errno> {
        if request.flags & CMD_FLAG_NO_HOLE == 0 {
            let length = request.length.into();
            return self.device.write_zeroes(request.offset, length);
        }
        if request.flags & CMD_FLAG_FAST_ZERO != 0 {
            return Err(Errno::NOTSUP);
        }
        for_each_piece(request.offset, request.length, |offset, piece| {
            self.device.write(offset, &ZEROS[..piece])
        })
    }

    /// Reading is what brings it into the caches.
    fn cache(&self, offset: u64, length: u32) -> Result<(), Errno> {
        let mut waste = vec![0; PIECE_BYTES];
        for_each_piece(offset, length, |offset, piece| {
            self.device.read(offset, &mut waste[..piece])
        })
    }

    /// Makes a request that asks for it lasting.
    fn force(&self, request: &Request) -> Result<(), Errno> {
        if request.flags & CMD_FLAG_FUA != 0 {
            self.device.flush()?;
        }
        Ok(())
    }

    /// Where the client has more to do meanwhile, a worker waits for the host's disk.
    fn flush(&mut self, request: &Request) -> io::Result<()> {
        if self.received.header().is_some() {
            return self.leave(request, Work::Flush);
        }
        let done = self.device.flush();
        self.reply(request, done)
    }

    fn block_status(&mut self, request: &Request) -> io::Result<()> {
        let limit = if request.flags & CMD_FLAG_REQ_ONE != 0 {
            1
        } else {
            EXTENTS_MAX
        };
        let length = request.length.into();
        let extents = match self.device.extents(request.offset, length, limit) {
            Ok(extents) if !extents.is_empty() => extents,
            Ok(_) => return self.refuse(request, Errno::IO),
            Err(errno) => return self.refuse(request, errno),
        };
        let mut payload = ALLOCATION_CONTEXT.to_be_bytes().to_vec();
        for extent in extents {
            // None is longer than the request, whose length has 32 bits.
            let length = u32::try_from(extent.length).unwrap_or(u32::MAX);
            payload.extend(length.to_be_bytes());
            let state = if extent.mapped { 0 } else { STATE_HOLE_ZERO };
            payload.extend(state.to_be_bytes());
        }
        let size = payload.len() as u32;
        let header = chunk_header(CHUNK_FLAG_DONE, CHUNK_BLOCK_STATUS, request.cookie, size);
        self.replies.add(&[&header[..], &payload].concat())
    }

    /// Replies without data.
    fn reply(&mut self, request: &Request, done: Result<(), Errno>) -> io::Result<()> {
        let error = done.err().map_or(0, error_number);
        self.replies.add_simple(request.cookie, error)
    }

    /// Says no to a request whose replies carry data.
    fn refuse(&mut self, request: &Request, errno: Errno) -> io::Result<()> {
        if self.agreed.structured {
            let chunk = error_chunk(request.cookie, error_number(errno));
            return self.replies.add(&chunk);
        }
        self.reply(request, Err(errno))
    }
}

/// Goes through a range, [`PIECE_BYTES`] at a time.
fn for_each_piece(
    offset: u64,
    length: u32,
    mut step: impl FnMut(u64, usize) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let length = length as usize;
    let mut done = 0;
    while done < length {
        let piece = PIECE_BYTES.min(length - done);
        step(offset + done as u64, piece)?;
        done += piece;
    }
    Ok(())
}
