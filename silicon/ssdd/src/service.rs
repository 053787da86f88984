//! Requests in, replies out, one at a time, until the link closes or the process is told to end.
//!
//! Invariants: a broken request changes nothing and the SSD goes on; however serving ends, an open
//! disk is closed cleanly.

use std::os::fd::OwnedFd;

use flash::OpenError;
use rustix::io::Errno;
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};
use wire::vault::ClientError;
use wire::{Link, Packet, ReceiveError, RequestError, Value, success};
use zeroize::Zeroizing;

use crate::disk::{self, Disk};
use crate::refusal::{Code, Refusal};
use crate::request::{FrontKind, Request};
use crate::termination::{Event, Termination};
use crate::vault_link::VaultLink;

/// Blocks that one `verify` looks at; the reply says where to go on.
pub const VERIFY_BLOCKS_MAX: u64 = 16384;
/// Bad blocks that one reply to `verify` names.
pub const BAD_BLOCKS_MAX: usize = 64;

type Reply = Zeroizing<Vec<u8>>;

/// The SSD as its firmware sees it.
pub struct Service {
    modules: [OwnedFd; 2],
    vault: VaultLink,
    disk: Option<Disk>,
}

impl Service {
    /// With no disk open.
    pub fn new(modules: [OwnedFd; 2], vault: VaultLink) -> Service {
        Service {
            modules,
            vault,
            disk: None,
        }
    }

    /// Answers until the firmware closes the link or `termination` is asked for.
    ///
    /// # Errors
    /// A line that says what failed: the link, or closing the disk at the end.
    pub fn run(mut self, link: &Link, termination: &Termination) -> Result<(), String> {
        let served = self.answer_all(link, termination);
        let closed = self.disk.take().map_or(Ok(()), Disk::close);
        closed.map_err(|error| {
            format!("closing the disk: {error}; the next opening recovers what was flushed")
        })?;
        served.map_err(|errno| format!("serving the link: {errno}; start the chip again"))
    }

    fn answer_all(&mut self, link: &Link, termination: &Termination) -> Result<(), Errno> {
        while termination.wait_for(link)? == Event::Readable {
            let reply = match link.receive() {
                Ok(Some(packet)) => self.answer(packet).unwrap_or_else(|no| no.packet()),
                Ok(None) => return Ok(()),
                Err(ReceiveError::TooMuch) => too_much().packet(),
                Err(ReceiveError::Link(errno)) => return Err(errno),
            };
            match link.send(&reply) {
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
                result => result?,
            }
        }
        Ok(())
    }

    fn answer(&mut self, packet: Packet) -> Result<Reply, Refusal> {
        let request = Request::parse(&packet.bytes).map_err(|error| match error {
            RequestError::Malformed => Refusal::new(Code::Malformed, "the packet is no request"),
            RequestError::UnknownOperation => {
                Refusal::new(Code::UnknownOperation, "no such operation")
            }
        })?;
        if packet.descriptors.len() > 1 {
            return Err(too_much());
        }
        let descriptor = packet.descriptors.into_iter().next();
        if descriptor.is_some() && !request.takes_descriptor() {
            let detail = "this operation takes no descriptor";
            return Err(Refusal::new(Code::Descriptor, detail));
        }
        match request {
            Request::Format { capacity_bytes } => self.format(capacity_bytes),
            Request::Open { strict, adopt } => self.open(strict, adopt),
            Request::Serve { front } => self.serve(front, descriptor),
            Request::Status => Ok(self.status()),
            Request::Verify { block, count } => self.verify(block, count),
            Request::Close => self.close(),
        }
    }

    fn format(&mut self, capacity_bytes: u64) -> Result<Reply, Refusal> {
        let modules = self.closed_modules()?;
        disk::format(modules, &self.vault, capacity_bytes)?;
        Ok(success(&[]))
    }

    fn open(&mut self, strict: bool, adopt: bool) -> Result<Reply, Refusal> {
        let modules = self.closed_modules()?;
        if adopt && !self.vault.allows_adoption().map_err(from_vault)? {
            let detail = "the vault has not allowed an adoption";
            return Err(Refusal::new(Code::Unauthorised, detail));
        }
        let disk = Disk::open(modules, &self.vault, strict, adopt)?;
        let reply = success(&[
            ("capacity_bytes", Value::Uint(disk.capacity_bytes())),
            ("recovered", Value::Bool(disk.recovered())),
            ("incomplete", Value::Bool(disk.incomplete())),
        ]);
        self.disk = Some(disk);
        Ok(reply)
    }

    fn serve(&mut self, front: FrontKind, listener: Option<OwnedFd>) -> Result<Reply, Refusal> {
        let disk = self.disk.as_mut().ok_or_else(not_open)?;
        if disk.front().is_some() {
            return Err(Refusal::new(Code::State, "the disk is served already"));
        }
        let listener = listener.filter(is_listening).ok_or(Refusal::new(
            Code::Descriptor,
            "a listening unix stream socket has to come with this request",
        ))?;
        disk.serve(front, listener).map_err(|error| {
            Refusal::new(Code::Storage, format!("starting the front end: {error}"))
        })?;
        Ok(success(&[]))
    }

    fn status(&self) -> Reply {
        let Some(disk) = &self.disk else {
            return success(&[("state", Value::Text("closed"))]);
        };
        let numbers = numbers(&disk.status());
        let mut fields: Vec<(&str, Value<'_>)> = numbers
            .iter()
            .map(|(name, number)| (*name, Value::Uint(*number)))
            .collect();
        match disk.front() {
            None => fields.push(("state", Value::Text("open"))),
            Some(front) => {
                fields.push(("state", Value::Text("served")));
                fields.push(("front", Value::Text(front.as_str())));
            }
        }
        success(&fields)
    }

    fn verify(&self, block: u64, count: u64) -> Result<Reply, Refusal> {
        let disk = self.disk.as_ref().ok_or_else(not_open)?;
        let mut verified = disk.verify(block, count.min(VERIFY_BLOCKS_MAX))?;
        verified.bad.truncate(BAD_BLOCKS_MAX);
        Ok(success(&[
            ("next", Value::Uint(verified.next)),
            ("checked", Value::Uint(verified.checked)),
            ("bad", Value::Uints(&verified.bad)),
        ]))
    }

    fn close(&mut self) -> Result<Reply, Refusal> {
        self.disk.take().ok_or_else(not_open)?.close()?;
        Ok(success(&[]))
    }

    /// Descriptors of the modules for a flash of its own; they share the firmware's lock.
    fn closed_modules(&self) -> Result<[OwnedFd; 2], Refusal> {
        if self.disk.is_some() {
            return Err(Refusal::new(Code::State, "the disk is open"));
        }
        let again = |module: &OwnedFd| {
            module.try_clone().map_err(|error| {
                Refusal::new(Code::Storage, format!("taking the modules: {error}"))
            })
        };
        let [zero, one] = &self.modules;
        Ok([again(zero)?, again(one)?])
    }
}

/// The numbers of a status, by the names of the document and in its order.
pub fn numbers(status: &flash::Status) -> [(&'static str, u64); 17] {
    [
        ("capacity_bytes", status.capacity_bytes),
        ("used_bytes", status.used_bytes),
        ("physical_bytes", status.physical_bytes),
        ("spare_bytes", status.spare_bytes),
        ("host_written_blocks", status.host_written_blocks),
        ("slots_written", status.slots_written),
        ("blocks_cleaned", status.blocks_cleaned),
        ("segments_cleaned", status.segments_cleaned),
        ("trimmed_blocks", status.trimmed_blocks),
        ("read_errors", status.read_errors),
        ("opens", status.opens),
        ("power_cuts", status.power_cuts),
        ("sequence", status.sequence),
        ("anchored_sequence", status.anchored_sequence),
        ("cache_hits", status.cache_hits),
        ("cache_misses", status.cache_misses),
        ("stopped", status.stopped.into()),
    ]
}

fn is_listening(socket: &OwnedFd) -> bool {
    socket_domain(socket) == Ok(AddressFamily::UNIX)
        && socket_type(socket) == Ok(SocketType::STREAM)
        && socket_acceptconn(socket) == Ok(true)
}

fn from_vault(error: ClientError) -> Refusal {
    OpenError::Vault(error.into()).into()
}

fn not_open() -> Refusal {
    Refusal::new(Code::State, "the disk is not open")
}

fn too_much() -> Refusal {
    Refusal::new(
        Code::Malformed,
        "the packet is too long or has too many descriptors",
    )
}

#[cfg(test)]
mod tests;
