//! How the parts of the chip talk to each other.
//!
//! One request or reply is one packet on a `SOCK_SEQPACKET` socket pair: a CBOR map of at most
//! [`PACKET_SIZE_BYTES_MAX`], with at most one descriptor beside it. The kernel keeps the packet
//! borders, so a broken packet spoils nothing but itself.
//!
//! Invariants: nothing a peer sends makes this library panic, allocate more than one packet, or
//! keep a descriptor that was not asked for. It trusts the kernel and nobody on the other end.
//! The messages themselves are listed in `docs/vault-protocol.md`.

#![forbid(unsafe_code)]

mod link;
mod reply;
mod request;

pub use link::{Link, Packet, ReceiveError};
pub use reply::{Code, Refusal, Value, refused, success};
pub use request::{DIGEST_SIZE_BYTES, Request, RequestError};

/// The longest packet either side may send.
pub const PACKET_SIZE_BYTES_MAX: usize = 4096;
