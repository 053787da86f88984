//! One end of the socket pair between two parts of the chip.
//!
//! Invariants: a received descriptor is closed unless its receiver keeps it; a packet that was
//! cut short by the kernel is reported, never parsed.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, SocketType,
};

use crate::PACKET_SIZE_BYTES_MAX;

/// A connected `SOCK_SEQPACKET` socket.
pub struct Link {
    socket: OwnedFd,
}

/// What arrived in one packet.
pub struct Packet {
    /// The CBOR text.
    pub bytes: Vec<u8>,
    /// The descriptor that came along, if one did.
    pub descriptor: Option<OwnedFd>,
}

/// Why a packet could not be taken.
#[derive(Debug)]
pub enum ReceiveError {
    /// Longer than [`PACKET_SIZE_BYTES_MAX`], or with more than one descriptor. The link goes on.
    TooMuch,
    /// The socket itself failed.
    Link(Errno),
}

impl Link {
    /// Takes the socket as a link; `EPROTOTYPE` if it is no `SOCK_SEQPACKET` socket.
    pub fn new(socket: OwnedFd) -> Result<Link, Errno> {
        if rustix::net::sockopt::socket_type(&socket)? != SocketType::SEQPACKET {
            return Err(Errno::PROTOTYPE);
        }
        Ok(Link { socket })
    }

    /// Waits for the next packet; `None` once the peer has closed its end. An empty packet looks
    /// the same as that and ends the link too.
    pub fn receive(&self) -> Result<Option<Packet>, ReceiveError> {
        let mut bytes = vec![0; PACKET_SIZE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let result = rustix::net::recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            );
            match result {
                Err(Errno::INTR) => continue,
                Err(Errno::CONNRESET) => return Ok(None),
                result => break result.map_err(ReceiveError::Link)?,
            }
        };
        let mut descriptors: Vec<OwnedFd> = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        // `cmsg_space!` rounds up, so a second descriptor may have fitted in.
        let cut = ReturnFlags::TRUNC | ReturnFlags::CTRUNC;
        if received.flags.intersects(cut) || descriptors.len() > 1 {
            return Err(ReceiveError::TooMuch);
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        bytes.truncate(received.bytes);
        Ok(Some(Packet {
            bytes,
            descriptor: descriptors.pop(),
        }))
    }

    /// Sends one packet. `EPIPE` when the peer is gone.
    pub fn send(&self, bytes: &[u8]) -> Result<(), Errno> {
        loop {
            match rustix::net::sendmsg(
                &self.socket,
                &[IoSlice::new(bytes)],
                &mut Default::default(),
                SendFlags::NOSIGNAL,
            ) {
                Err(Errno::INTR) => continue,
                result => return result.map(|_| ()),
            }
        }
    }
}
