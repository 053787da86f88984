//! Tickets: what may start on one chip, signed by the authority (`docs/tickets.md`).
//!
//! A chip makes a [`Request`] with a fresh nonce; the authority makes a [`Ticket`] of it and signs
//! it ([`sign`]); the chip reads it with the authority's key ([`verify`]) and keeps what
//! [`encode_entry`] leaves of it.
//!
//! Invariants: only one form of each is taken, the deterministic one of RFC 8949, 4.2.1, with
//! nothing after it: what was read is written again and has to be the same bytes. A payload is read
//! after its signature was found good, never before. Nothing that a stranger writes makes this
//! library panic or allocate more than it was given. It compares nothing with a chip's state: whose
//! ticket it is, how fresh and how new, the chip decides.

#![forbid(unsafe_code)]

mod cose;
mod entry;
mod fields;
mod request;

use std::fmt;

pub use cose::{PUBLIC_KEY_SIZE_BYTES, TICKET_SIZE_BYTES_MAX, is_key, sign, verify};
pub use entry::{ENTRY_SIZE_BYTES_MAX, Entry, encode_entry, parse_entry};
pub use fields::{Components, DIGEST_SIZE_BYTES, PRODUCT_SIZE_BYTES_MAX, Product};
pub use request::{NONCE_SIZE_BYTES, REQUEST_SIZE_BYTES_MAX, Request};

/// A signed ticket's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// What was asked.
    pub request: Request,
    /// When the authority signed it, seconds since 1970 by the authority's clock.
    pub issued: u64,
}

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
            Refused::Malformed => "not in the form of a ticket",
            Refused::Signature => "not signed by this authority",
        })
    }
}

impl std::error::Error for Refused {}

/// Signing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed;

#[cfg(test)]
mod tests;
