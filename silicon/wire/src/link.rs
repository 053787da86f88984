//! One end of the socket pair between two parts of the chip.
//!
//! Invariants: a received descriptor is closed unless its receiver keeps it, and where none is
//! wanted none is ever taken into this process; a packet that was cut short by the kernel is
//! reported, never parsed.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags,
    SocketType,
};
use zeroize::Zeroizing;

use crate::PACKET_SIZE_BYTES_MAX;

/// No packet brings more descriptors.
pub const DESCRIPTORS_MAX: usize = 3;

/// A connected `SOCK_SEQPACKET` Unix socket.
pub struct Link {
    socket: OwnedFd,
}

/// What arrived in one packet.
pub struct Packet {
    /// The CBOR text.
    pub bytes: Zeroizing<Vec<u8>>,
    /// The descriptors that came along, in the order in which they were sent.
    pub descriptors: Vec<OwnedFd>,
}

/// Why a packet could not be taken.
#[derive(Debug)]
pub enum ReceiveError {
    /// Longer than [`PACKET_SIZE_BYTES_MAX`], or with too many descriptors. The link goes on.
    TooMuch,
    /// The socket itself failed.
    Link(Errno),
}

impl Link {
    /// Takes the socket as a link; `EPROTOTYPE` if it is no `SOCK_SEQPACKET` Unix socket.
    pub fn new(socket: OwnedFd) -> Result<Link, Errno> {
        use rustix::net::sockopt::{socket_domain, socket_type};
        if socket_type(&socket)? != SocketType::SEQPACKET
            || socket_domain(&socket)? != AddressFamily::UNIX
        {
            return Err(Errno::PROTOTYPE);
        }
        Ok(Link { socket })
    }

    /// Waits for the next packet; `None` once the peer has closed its end. An empty packet looks
    /// the same as that and ends the link too.
    pub fn receive(&self) -> Result<Option<Packet>, ReceiveError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        self.take(&mut ancillary, RecvFlags::CMSG_CLOEXEC)
    }

    /// The next packet of a peer that must not send descriptors: the kernel drops them unseen.
    /// Never waits: `EAGAIN` when there is no packet. Otherwise like [`Link::receive`].
    pub fn receive_now(&self) -> Result<Option<Zeroizing<Vec<u8>>>, ReceiveError> {
        let packet = self.take(&mut RecvAncillaryBuffer::default(), RecvFlags::DONTWAIT)?;
        Ok(packet.map(|packet| packet.bytes))
    }

    fn take(
        &self,
        ancillary: &mut RecvAncillaryBuffer<'_>,
        flags: RecvFlags,
    ) -> Result<Option<Packet>, ReceiveError> {
        let mut bytes = Zeroizing::new(vec![0; PACKET_SIZE_BYTES_MAX]);
        let received = loop {
            let result = rustix::net::recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(&mut bytes)],
                ancillary,
                flags,
            );
            match result {
                Err(Errno::INTR) => continue,
                Err(Errno::CONNRESET) => return Ok(None),
                result => break result.map_err(ReceiveError::Link)?,
            }
        };
        let descriptors: Vec<OwnedFd> = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        // `cmsg_space!` rounds up, so one more may have fitted in.
        let cut = ReturnFlags::TRUNC | ReturnFlags::CTRUNC;
        if received.flags.intersects(cut) || descriptors.len() > DESCRIPTORS_MAX {
            return Err(ReceiveError::TooMuch);
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        bytes.truncate(received.bytes);
        Ok(Some(Packet { bytes, descriptors }))
    }

    /// Sends one packet, waiting for room. `EPIPE` when the peer is gone.
    pub fn send(&self, bytes: &[u8]) -> Result<(), Errno> {
        self.put(bytes, SendFlags::empty())
    }

    /// Sends one packet or nothing: `EAGAIN` when the peer has left too many unread.
    pub fn send_now(&self, bytes: &[u8]) -> Result<(), Errno> {
        self.put(bytes, SendFlags::DONTWAIT)
    }

    fn put(&self, bytes: &[u8], flags: SendFlags) -> Result<(), Errno> {
        loop {
            match rustix::net::sendmsg(
                &self.socket,
                &[IoSlice::new(bytes)],
                &mut Default::default(),
                flags | SendFlags::NOSIGNAL,
            ) {
                Err(Errno::INTR) => continue,
                result => return result.map(|_| ()),
            }
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SocketFlags, socketpair};

    use super::*;

    fn pair() -> (Link, Link) {
        let (one, other) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        (Link::new(one).unwrap(), Link::new(other).unwrap())
    }

    fn send_with_descriptors(link: &Link, count: usize) {
        let file = std::fs::File::open("/dev/null").unwrap();
        let descriptors = vec![file.as_fd(); count];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(count == 0 || ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let bytes = [IoSlice::new(b"packet")];
        rustix::net::sendmsg(link, &bytes, &mut ancillary, SendFlags::NOSIGNAL).unwrap();
    }

    /// Promise: as many descriptors are taken as an operation may bring, more are refused.
    #[test]
    fn descriptors_are_taken() {
        let (ours, theirs) = pair();
        for count in 0..=DESCRIPTORS_MAX {
            send_with_descriptors(&theirs, count);
            let packet = ours.receive().unwrap().unwrap();
            assert_eq!(packet.bytes[..], *b"packet");
            assert_eq!(packet.descriptors.len(), count);
            assert!(packet.descriptors.iter().all(|each| each.as_raw_fd() > 2));
        }
        for count in [DESCRIPTORS_MAX + 1, 8] {
            send_with_descriptors(&theirs, count);
            assert!(
                matches!(ours.receive(), Err(ReceiveError::TooMuch)),
                "{count}"
            );
        }
    }

    /// Promise: where none is wanted, a packet with a descriptor is refused, and the link goes on.
    #[test]
    fn no_descriptor_is_taken() {
        let (ours, theirs) = pair();
        for count in [1, 8] {
            send_with_descriptors(&theirs, count);
            assert!(
                matches!(ours.receive_now(), Err(ReceiveError::TooMuch)),
                "{count}"
            );
        }
        theirs.send(b"plain").unwrap();
        assert_eq!(ours.receive_now().unwrap().unwrap()[..], *b"plain");
    }

    /// Promise: neither direction ever waits where it must not, and a peer's end is seen.
    #[test]
    fn nothing_waits() {
        let (ours, theirs) = pair();
        let again = |error| matches!(error, ReceiveError::Link(Errno::AGAIN));
        assert!(ours.receive_now().is_err_and(again));
        let mut sent = 0;
        while ours.send_now(&[0; PACKET_SIZE_BYTES_MAX]).is_ok() {
            sent += 1;
        }
        assert!((1..1000).contains(&sent), "{sent}");
        drop(theirs);
        assert!(ours.receive_now().unwrap().is_none());
        assert_eq!(ours.send_now(b"x"), Err(Errno::PIPE));
    }

    /// Promise: a packet over the limit is refused, never parsed in part.
    #[test]
    fn long_packets_are_refused() {
        let (ours, theirs) = pair();
        theirs.send(&[0; PACKET_SIZE_BYTES_MAX + 1]).unwrap();
        assert!(matches!(ours.receive_now(), Err(ReceiveError::TooMuch)));
        theirs.send(&[0; PACKET_SIZE_BYTES_MAX]).unwrap();
        assert_eq!(
            ours.receive_now().unwrap().unwrap().len(),
            PACKET_SIZE_BYTES_MAX
        );
    }

    /// Promise: only a Unix socket that keeps packet borders becomes a link.
    #[test]
    fn other_sockets_are_no_links() {
        for kind in [SocketType::STREAM, SocketType::DGRAM] {
            let (one, _) =
                socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
            assert_eq!(Link::new(one).err(), Some(Errno::PROTOTYPE));
        }
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(Link::new(file.into()).err(), Some(Errno::NOTSOCK));
    }
}
