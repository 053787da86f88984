//! Tickets: what may start on one chip, signed by the authority (`docs/tickets.md`); and work
//! orders: what may be done inside its machine, signed by whoever the owner trusts with that
//! (`docs/work-orders.md`).
//!
//! A chip makes a [`Request`] with a fresh nonce; the authority makes a [`Ticket`] of it and signs
//! it ([`sign`]); the chip reads it with the authority's key ([`verify`]) and keeps what
//! [`encode_entry`] leaves of it. An [`Order`] is signed by [`sign_order`] and read by
//! [`verify_order`]; nobody asks for it in this form.
//!
//! Invariants: only one form of each is taken, the deterministic one of RFC 8949, 4.2.1, with
//! nothing after it: what was read is written again and has to be the same bytes. A payload is read
//! after its signature was found good, never before. Nothing that a stranger writes makes this
//! library panic or allocate more than it was given. Neither of the two can pass for the other,
//! whichever key signed it. Nothing is compared with a chip's state: whose ticket or order it is,
//! how fresh and how new, the chip decides.

#![forbid(unsafe_code)]

mod cose;
mod entry;
mod fields;
mod order;
mod request;
mod signed;

use std::fmt;

pub use cose::{PUBLIC_KEY_SIZE_BYTES, is_key, key_id};
pub use entry::{ENTRY_SIZE_BYTES_MAX, Entry, encode_entry, parse_entry};
pub use fields::{Components, DIGEST_SIZE_BYTES, PRODUCT_SIZE_BYTES_MAX, Product};
pub use order::{
    JOB_SIZE_BYTES_MAX, Job, ORDER_ID_SIZE_BYTES, ORDER_SECONDS_MAX, ORDER_SIZE_BYTES_MAX, Order,
    Validity, sign_order, verify_order,
};
pub use request::{NONCE_SIZE_BYTES, REQUEST_SIZE_BYTES_MAX, Request};
pub use signed::{TICKET_SIZE_BYTES_MAX, Ticket, sign, verify};

/// Why bytes were not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Not in the one form.
    Malformed,
    /// In form, but not signed with this key.
    Signature,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Malformed => "not in its one form",
            Refused::Signature => "not signed with this key",
        })
    }
}

impl std::error::Error for Refused {}

/// Signing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed;

#[cfg(test)]
mod tests;
