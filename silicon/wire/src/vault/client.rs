//! The SSD's end of its link to the vault.
//!
//! Invariants: one question is open at a time, and each answer is the answer to it: after a link
//! has failed or was too slow, nothing more is asked over it. Several threads share one client
//! behind a lock.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::{Code, VOLUME_KEY_SIZE_BYTES};
use crate::{Link, Malformed, Map, ReceiveError, Value, request};

/// How long the vault may take for one answer, seconds. It flushes a file before it answers
/// `write_anchor`, and may be making RSA keys for the firmware first.
pub const ANSWER_SECONDS_MAX: u64 = 30;

/// Why the vault did not do it.
#[derive(Debug)]
pub enum ClientError {
    /// The vault said no. The link goes on.
    Refused {
        /// The reason.
        code: Code,
        /// A few words more.
        detail: String,
    },
    /// No answer within the time limit; the link is given up.
    TimedOut,
    /// The vault closed the link, or it was given up earlier.
    Gone,
    /// The answer is none; the link is given up.
    Malformed,
    /// The socket failed; the link is given up.
    Link(Errno),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Refused { code, detail } => {
                write!(f, "the vault refused ({}: {detail})", code.as_str())
            }
            ClientError::TimedOut => f.write_str("the vault did not answer in time"),
            ClientError::Gone => f.write_str("the vault is gone"),
            ClientError::Malformed => f.write_str("the vault's answer is none"),
            ClientError::Link(errno) => write!(f, "the link to the vault failed: {errno}"),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<ClientError> for io::Error {
    fn from(error: ClientError) -> io::Error {
        io::Error::other(error)
    }
}

impl From<Malformed> for ClientError {
    fn from(_: Malformed) -> ClientError {
        ClientError::Malformed
    }
}

/// What the vault remembers of the disk.
#[derive(Debug, PartialEq, Eq)]
pub enum Remembered {
    /// The anchor that was written last.
    Anchor(Vec<u8>),
    /// No anchor was written since the disk was last formatted.
    Nothing,
    /// The owner authorised whatever state the modules are in.
    Adopt,
}

/// Asks the vault.
pub struct Client {
    /// `None` once it was given up.
    link: Option<Link>,
    time_limit: Duration,
}

impl Client {
    /// Takes the link as it came from the firmware.
    pub fn new(link: Link) -> Client {
        Client {
            link: Some(link),
            time_limit: Duration::from_secs(ANSWER_SECONDS_MAX),
        }
    }

    /// The key of the disk; given once per link.
    pub fn volume_key(&mut self) -> Result<Zeroizing<[u8; VOLUME_KEY_SIZE_BYTES]>, ClientError> {
        self.ask(&request("volume_key", &[]), |reply| {
            let mut key = Zeroizing::new([0; VOLUME_KEY_SIZE_BYTES]);
            let bytes = reply.bytes("key")?;
            if bytes.len() != key.len() {
                return Err(Malformed);
            }
            key.copy_from_slice(bytes);
            Ok(key)
        })
    }

    /// What the vault remembers of the disk.
    pub fn read_anchor(&mut self) -> Result<Remembered, ClientError> {
        self.ask(&request("read_anchor", &[]), |reply| {
            if reply.optional_bool("adopt")? == Some(true) {
                return Ok(Remembered::Adopt);
            }
            let anchor = reply.optional_bytes("anchor")?;
            Ok(anchor.map_or(Remembered::Nothing, |anchor| {
                Remembered::Anchor(anchor.to_vec())
            }))
        })
    }

    /// Has the anchor kept; it is durable when this returns. Its size is 1 to
    /// [`super::ANCHOR_SIZE_BYTES_MAX`] bytes.
    pub fn write_anchor(&mut self, sequence: u64, anchor: &[u8]) -> Result<(), ClientError> {
        let fields = [
            ("sequence", Value::Uint(sequence)),
            ("anchor", Value::Bytes(anchor)),
        ];
        self.ask(&request("write_anchor", &fields), |_| Ok(()))
    }

    /// One question, one answer; gives the link up unless there was one.
    fn ask<T>(
        &mut self,
        question: &[u8],
        read: impl FnOnce(&mut Map<'_>) -> Result<T, Malformed>,
    ) -> Result<T, ClientError> {
        let link = self.link.take().ok_or(ClientError::Gone)?;
        let deadline = Instant::now() + self.time_limit;
        let packet = exchange(&link, question, deadline)?;
        let mut reply = Map::parse(&packet)?;
        let answer = if reply.bool("ok")? {
            Ok(read(&mut reply)?)
        } else {
            let code = Code::from_text(reply.text("error")?).ok_or(Malformed)?;
            let detail = reply.text("detail")?.to_owned();
            Err(ClientError::Refused { code, detail })
        };
        reply.end()?;
        self.link = Some(link);
        answer
    }
}

fn exchange(
    link: &Link,
    question: &[u8],
    deadline: Instant,
) -> Result<Zeroizing<Vec<u8>>, ClientError> {
    loop {
        match link.send_now(question) {
            Ok(()) => break,
            Err(Errno::AGAIN) => wait(link, PollFlags::OUT, deadline)?,
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(ClientError::Gone),
            Err(errno) => return Err(ClientError::Link(errno)),
        }
    }
    loop {
        match link.receive_now() {
            Ok(Some(packet)) => return Ok(packet),
            Ok(None) => return Err(ClientError::Gone),
            Err(ReceiveError::TooMuch) => return Err(ClientError::Malformed),
            Err(ReceiveError::Link(Errno::AGAIN)) => wait(link, PollFlags::IN, deadline)?,
            Err(ReceiveError::Link(errno)) => return Err(ClientError::Link(errno)),
        }
    }
}

/// Waits until the link is ready or broken.
fn wait(link: &Link, ready: PollFlags, deadline: Instant) -> Result<(), ClientError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| ClientError::TimedOut)?;
        match poll(&mut [PollFd::new(link, ready)], Some(&timeout)) {
            Ok(0) => return Err(ClientError::TimedOut),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(ClientError::Link(errno)),
        }
    }
}

#[cfg(test)]
mod tests;
