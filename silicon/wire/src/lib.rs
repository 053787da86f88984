//! How the parts of the chip talk to each other.
//!
//! One request or reply is one packet on a `SOCK_SEQPACKET` socket pair: a CBOR map of at most
//! [`PACKET_SIZE_BYTES_MAX`], with at most [`DESCRIPTORS_MAX`] descriptors beside it. The kernel keeps the packet
//! borders, so a broken packet spoils nothing but itself.
//!
//! [`Link`] moves packets, [`Map`] reads one strictly, [`request`], [`success`] and [`refused`]
//! write one. The messages of the vault are in [`vault`]; they are listed in
//! `docs/vault-protocol.md`.
//!
//! Invariants: nothing a peer sends makes this library panic, allocate more than a few packets, or
//! keep a descriptor that was not asked for. Every packet is wiped when dropped, because some
//! carry a key. It trusts the kernel and nobody on the other end.

#![forbid(unsafe_code)]

mod link;
mod map;
mod message;
pub mod vault;

pub use link::{DESCRIPTORS_MAX, Link, Packet, ReceiveError};
pub use map::{FIELDS_MAX, Malformed, Map, RequestError};
pub use message::{DETAIL_SIZE_BYTES_MAX, Value, refused, request, success};

/// The longest packet either side may send.
pub const PACKET_SIZE_BYTES_MAX: usize = 4096;
