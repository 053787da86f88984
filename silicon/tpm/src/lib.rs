//! The few TPM 2.0 commands that the vault needs, over one descriptor.
//!
//! A [`Tpm`] is a descriptor that carries raw commands and answers: the kernel's `/dev/tpmrm0`, or
//! the socket of an emulated TPM. A [`Session`] is a conversation that nobody between here and
//! the TPM can read or change: it is salted for the TPM's storage key (ECDH on P-256), each
//! command and answer in it is authenticated (HMAC-SHA-256), and what is secret in them is
//! encrypted (AES-128-CFB). In it, an [`Index`] of the TPM's memory is made, read, written,
//! counted up and deleted. An index holds 32 bytes ([`Kind::Data`]) or a counter that never goes
//! back ([`Kind::Counter`]).
//!
//! Invariants: no secret crosses the bus in clear; an answer that is not the TPM's own is an error
//! and never a value; every wait has an end; everything made in the TPM for a session is put away
//! with it. After an exchange that did not come to its end the connection is given up, because
//! the answer to one command must not be taken for that to another.
//!
//! It trusts the TPM, and that the storage key is the TPM's: [`Tpm::session`] compares it with one
//! that was seen before. The first time there is none to compare with, so who sits on the bus
//! then, and answers in the TPM's place, is not noticed.
//!
//! Parts and headings that are cited are those of the TCG's "Trusted Platform Module Library",
//! revision 1.59. There is no library beneath: those over `tpm2-tss` bring a large C library that
//! wants files, threads and an environment; `tpm2-protocol` marshals without C, but changes its
//! interface with each version, prints and copies what is secret, and knows no sessions. Ten
//! commands are less than either.

#![forbid(unsafe_code)]

mod bytes;
mod error;
mod index;
mod key;
mod link;
mod session;

use std::os::fd::OwnedFd;
use std::rc::Rc;

pub use error::Error;
pub use index::{
    Auth, DATA_SIZE_BYTES, Definition, HANDLE_FIRST, HANDLE_LAST, Index, Kind, random_handle,
};
pub use key::KEY_NAME_SIZE_BYTES;
pub use link::{COMMAND_SECONDS_MAX, RETRY_SECONDS_MAX};
pub use session::Session;

use crate::link::Bus;
use crate::session::Kept;

/// A connected TPM. Clones share the connection.
#[derive(Clone)]
pub struct Tpm {
    bus: Bus,
    kept: Rc<Kept>,
}

/// Keeps a TPM's session for the next one.
pub struct Hold {
    kept: Rc<Kept>,
}

impl Tpm {
    /// Takes a descriptor that carries raw TPM 2.0 commands. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Gone`] when the descriptor cannot be set not to block.
    pub fn new(descriptor: OwnedFd) -> Result<Tpm, Error> {
        Ok(Tpm {
            bus: Bus::new(descriptor)?,
            kept: Rc::default(),
        })
    }

    /// Begins a conversation that nobody else can follow. `expected` is the name of the TPM's key
    /// where it is known from earlier ([`Session::key_name`]).
    ///
    /// # Errors
    /// [`Error::OtherTpm`] when the key is another: another TPM, or it was cleared since.
    pub fn session(&self, expected: Option<&[u8; KEY_NAME_SIZE_BYTES]>) -> Result<Session, Error> {
        Session::begin(&self.bus, &self.kept, expected)
    }

    /// While what this returns is there, one session follows another without being begun anew,
    /// which takes the TPM much longer than what is done in it. To be dropped before anything is
    /// waited for: the TPM has places for few sessions, and others need them.
    pub fn hold(&self) -> Hold {
        self.kept.hold();
        Hold {
            kept: self.kept.clone(),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.kept.release();
    }
}
