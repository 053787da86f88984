//! What goes out and comes in through a descriptor that came with a request.
//!
//! Invariant: the vault never waits for whoever is at its other end.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::io::Errno;
use vault::BUNDLE_SIZE_BYTES_MAX;
use wire::vault::{Code, Refusal};

use crate::refusals::refusal;

/// What a new pipe takes at once, in bytes.
const PIPE_ROOM_BYTES: usize = 4096;

/// Writes all of it into a regular file or, if there is room at once, into a pipe.
pub fn write_out(output: &OwnedFd, mut bytes: &[u8]) -> Result<(), Refusal> {
    let status = rustix::fs::fstat(output).map_err(|_| UNFIT)?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::RegularFile => {}
        // A pipe that is ready takes so much without waiting (pipe(7): PIPE_BUF).
        FileType::Fifo if bytes.len() <= PIPE_ROOM_BYTES && is_ready(output) => {}
        _ => return Err(UNFIT),
    }
    while !bytes.is_empty() {
        match rustix::io::write(output, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(_) => return Err(UNFIT),
        }
    }
    Ok(())
}

/// Reads a bundle from a regular file, from its position on.
pub fn read_bundle(input: &OwnedFd) -> Result<Vec<u8>, Refusal> {
    let status = rustix::fs::fstat(input).map_err(|_| NO_BUNDLE)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(NO_BUNDLE);
    }
    let mut bytes = vec![0; BUNDLE_SIZE_BYTES_MAX + 1];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::io::read(input, &mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(_) => return Err(NO_BUNDLE),
        }
    }
    if filled > BUNDLE_SIZE_BYTES_MAX {
        return Err(refusal(Code::Corrupt, "longer than a bundle can be"));
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn is_ready(output: &OwnedFd) -> bool {
    let mut ends = [PollFd::new(output, PollFlags::OUT)];
    let at_once = Timespec::default();
    poll(&mut ends, Some(&at_once)).is_ok() && ends[0].revents() == PollFlags::OUT
}

const NO_BUNDLE: Refusal = refusal(Code::Descriptor, "no regular file that can be read");

const UNFIT: Refusal = refusal(
    Code::Descriptor,
    "not a regular file or an empty pipe that can be written to",
);
