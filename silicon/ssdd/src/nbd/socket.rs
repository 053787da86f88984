//! Sending and receiving all of something.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

/// Sends all of it, however long the other side takes.
///
/// # Errors
/// When the socket failed or was shut down.
pub fn send(socket: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Receives what is there, at least one byte; 0 at the end of the stream.
///
/// # Errors
/// When the socket failed.
pub fn receive(socket: &UnixStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::net::recv(socket, &mut *buffer, RecvFlags::empty()) {
            Ok((_, received)) => return Ok(received),
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(0),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Fills the whole buffer before the deadline.
///
/// # Errors
/// When the socket failed or ended, or the time ran out.
pub fn receive_exactly(
    socket: &UnixStream,
    mut buffer: &mut [u8],
    deadline: Instant,
) -> io::Result<()> {
    while !buffer.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| ErrorKind::InvalidInput)?;
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        match receive(socket, buffer)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            received => buffer = &mut buffer[received..],
        }
    }
    Ok(())
}
