//! One command, one answer (Part 1, "Command/Response Structure").
//!
//! Invariants: every wait has an end; after an exchange that did not come to its end there is no
//! other, because what arrives next may belong to it. Nothing here knows a secret: those that
//! pass are encrypted.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::Error;
use crate::bytes::{PACKET_SIZE_BYTES_MAX, Reader, Writer, size};
use crate::error::{RC_INITIALIZE, RC_SUCCESS, is_temporary, refusal};

/// How long the TPM may take for one command. Making a P-256 key takes a slow one a second.
pub const COMMAND_SECONDS_MAX: u64 = 20;
/// How long a command is sent again and again to a TPM that asks for it.
pub const RETRY_SECONDS_MAX: u64 = 20;
/// The first pause before a command is sent again; each later one is twice as long…
const PAUSE_MILLISECONDS_FIRST: u64 = 5;
/// … up to this.
const PAUSE_MILLISECONDS_MAX: u64 = 200;

/// `TPM_ST_NO_SESSIONS`: a command or answer with nothing but its parameters.
pub const ST_NO_SESSIONS: u16 = 0x8001;
/// `TPM_ST_SESSIONS`: one with authorisations.
pub const ST_SESSIONS: u16 = 0x8002;

/// Tag (16 bits), size of all of it and code (32 bits each).
const HEADER_SIZE_BYTES: usize = 10;
const CC_STARTUP: u32 = 0x144;
const SU_CLEAR: u16 = 0;

/// What the TPM answered to a command that it carried out.
pub struct Answer {
    /// [`ST_NO_SESSIONS`] or [`ST_SESSIONS`].
    pub tag: u16,
    bytes: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// What follows the header.
    pub fn body(&self) -> &[u8] {
        &self.bytes[HEADER_SIZE_BYTES..]
    }
}

/// A whole command: what follows the code is in `body`.
pub fn command(tag: u16, code: u32, body: &[u8]) -> Writer {
    Writer::new()
        .u16(tag)
        .u32(size(HEADER_SIZE_BYTES + body.len()))
        .u32(code)
        .raw(body)
}

/// The way to the TPM, for all who share it.
#[derive(Clone)]
pub struct Bus {
    link: Rc<RefCell<Link>>,
}

impl Bus {
    /// Takes the descriptor and has it never block.
    pub fn new(descriptor: OwnedFd) -> Result<Bus, Error> {
        let link = Rc::new(RefCell::new(Link::new(descriptor)?));
        Ok(Bus { link })
    }

    /// Has a command carried out: its answer, whose code says that it was.
    ///
    /// # Errors
    /// What the TPM's refusal says; [`Error::Busy`] when it never got around to it.
    pub fn run(&self, command: &[u8]) -> Result<Answer, Error> {
        self.link.borrow_mut().run(command)
    }
}

/// The descriptor behind which the TPM is.
struct Link {
    descriptor: OwnedFd,
    command_time: Duration,
    retry_time: Duration,
    /// Why there will be no other exchange.
    ended: Option<Error>,
}

impl Link {
    fn new(descriptor: OwnedFd) -> Result<Link, Error> {
        let flags = rustix::fs::fcntl_getfl(&descriptor).map_err(Error::Gone)?;
        rustix::fs::fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK).map_err(Error::Gone)?;
        Ok(Link {
            descriptor,
            command_time: Duration::from_secs(COMMAND_SECONDS_MAX),
            retry_time: Duration::from_secs(RETRY_SECONDS_MAX),
            ended: None,
        })
    }

    /// Has a command carried out, again where the TPM asks for it.
    fn run(&mut self, command: &[u8]) -> Result<Answer, Error> {
        let begin = Instant::now();
        let mut pause = Duration::from_millis(PAUSE_MILLISECONDS_FIRST);
        loop {
            let (code, answer) = self.exchange(command)?;
            if code == RC_SUCCESS {
                return Ok(answer);
            }
            if code == RC_INITIALIZE {
                // The kernel starts its TPM by itself; an emulated one may wait for it.
                self.start()?;
            } else if !is_temporary(code) {
                return Err(refusal(code));
            }
            if begin.elapsed() >= self.retry_time {
                return Err(Error::Busy);
            }
            // No descriptor becomes ready among none: this only waits.
            let _ = poll(&mut [], Some(&timespec(pause)));
            pause = (pause * 2).min(Duration::from_millis(PAUSE_MILLISECONDS_MAX));
        }
    }

    /// TPM2_Startup (Part 3). Somebody else may have been faster.
    fn start(&mut self) -> Result<(), Error> {
        let body = SU_CLEAR.to_be_bytes();
        let startup = command(ST_NO_SESSIONS, CC_STARTUP, &body);
        match self.exchange(startup.bytes())?.0 {
            RC_SUCCESS | RC_INITIALIZE => Ok(()),
            code => Err(refusal(code)),
        }
    }

    /// Sends a command and receives its answer, with the answer's code.
    fn exchange(&mut self, command: &[u8]) -> Result<(u32, Answer), Error> {
        if let Some(error) = self.ended {
            return Err(error);
        }
        self.send_and_receive(command)
            .inspect_err(|error| self.ended = Some(*error))
    }

    fn send_and_receive(&self, command: &[u8]) -> Result<(u32, Answer), Error> {
        let deadline = Instant::now() + self.command_time;
        self.send(command, deadline)?;
        let bytes = self.receive(deadline)?;
        let mut header = Reader::new(&bytes);
        let (tag, _, code) = (header.u16()?, header.u32()?, header.u32()?);
        Ok((code, Answer { tag, bytes }))
    }

    fn send(&self, mut command: &[u8], deadline: Instant) -> Result<(), Error> {
        // The kernel's device takes a command in one piece; a socket may take it in several.
        while !command.is_empty() {
            match rustix::io::write(&self.descriptor, command) {
                Ok(count) => command = &command[count..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT, deadline)?,
                Err(errno) => return Err(Error::Gone(errno)),
            }
        }
        Ok(())
    }

    fn receive(&self, deadline: Instant) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut bytes = Zeroizing::new(vec![0; PACKET_SIZE_BYTES_MAX]);
        let mut filled = 0;
        loop {
            // First wait: a read from the device before the answer is there says that there is
            // nothing, and not that there is nothing yet.
            self.wait(PollFlags::IN, deadline)?;
            match rustix::io::read(&self.descriptor, &mut bytes[filled..]) {
                Ok(0) => return Err(Error::Gone(Errno::PIPE)),
                Ok(count) => filled += count,
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(Error::Gone(errno)),
            }
            if filled < HEADER_SIZE_BYTES {
                continue;
            }
            let mut header = Reader::new(&bytes);
            let (_, size) = (header.u16()?, header.u32()? as usize);
            if !(HEADER_SIZE_BYTES..=PACKET_SIZE_BYTES_MAX).contains(&size) || filled > size {
                return Err(Error::Garbled("size"));
            }
            if filled == size {
                bytes.truncate(filled);
                return Ok(bytes);
            }
        }
    }

    fn wait(&self, events: PollFlags, deadline: Instant) -> Result<(), Error> {
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            let mut descriptors = [PollFd::new(&self.descriptor, events)];
            match poll(&mut descriptors, Some(&timespec(rest))) {
                Ok(0) => return Err(Error::TimedOut),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::Gone(errno)),
            }
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    // No wait here is longer than a minute.
    Timespec {
        tv_sec: duration.as_secs() as i64,
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests;
