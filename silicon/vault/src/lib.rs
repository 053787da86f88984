//! The chip's keys: made at birth, kept sealed, used and never shown.
//!
//! A [`Vault`] is a chip that has been born and opened. It holds
//! - the UID, from which everything else hangs and which nothing outside ever sees;
//! - the ECID, the chip's number, 64 random bits;
//! - the identity key (P-256), whose public half names the chip and which signs what it states;
//! - the authority that signs for the chip: its ticket key, by which systems are let in
//!   ([`tickets`]), and its vendor certificate;
//! - the systems that tickets name, in two slots ([`slots`]), and the rules for what may start
//!   ([`policy`]);
//! - the platform and key-exchange certificates (PK, KEK). Their private keys lived only while
//!   the certificates were made, so nobody can ever enrol another key in this chip's name;
//! - the keys to the disk, each wrapped by the one above it ([`hierarchy`]), made anew by each
//!   format of the disk, and beside them the anchor, which says what the newest state of that
//!   disk is;
//! - how often each secret may still be tried ([`attempts`]);
//! - the record of what was done inside the machine, and whose work orders count ([`service`]).
//!
//! A change of any of it is a [`boundary`]: store and anchor file replaced together, so that what
//! was kept of them before fits no more.
//!
//! Invariants: two secrets leave the vault, the volume key to the SSD alone and a new recovery key
//! to its owner once; the identity key signs nothing but what [`statement`] builds; secret types have no `Debug`, `Clone` or `==`
//! and are wiped when dropped; a change that was cut short leaves the state before it or the one
//! after it.
//!
//! It trusts the kernel, the folder's file system to keep what `fsync` confirmed, and the
//! [`Seal`] that keeps the store closed. Against whom each seal holds is in
//! `docs/threat-model.md`; the store's bytes are in `docs/vault-store.md`.
//!
//! Cryptography is aws-lc-rs: it is maintained by people whose job it is, wipes what it frees,
//! has constant-time RSA and P-256 in assembler that was partly proven, and builds with a plain C
//! compiler.

#![forbid(unsafe_code)]

mod access;
pub mod anchor;
pub mod attempts;
mod boot;
pub mod boundary;
mod bundle;
mod contents;
mod error;
mod firmware_password;
mod folder;
mod hierarchy;
mod host_map;
mod keys;
mod life;
mod password;
mod policy;
mod record;
mod recovery_key;
mod seal;
mod secret;
mod service;
mod session;
mod slots;
mod start;
mod statement;
pub mod store;
mod tickets;
mod vault;

pub use access::{Budget, Proof};
pub use attempts::{Clock, HostClock, Moment};
pub use boundary::Place;
pub use bundle::BUNDLE_SIZE_BYTES_MAX;
pub use contents::BUDGETS;
pub use error::{ChangeError, Error};
pub use folder::StateFolder;
pub use host_map::{HostMap, Witness};
pub use life::destroy;
pub use password::Password;
pub use policy::{Policy, Rules};
pub use record::{Provider, Record};
pub use recovery_key::RecoveryKey;
pub use seal::{Destroyed, KeyFile, Parameters, Passphrase, Seal, TpmSeal};
pub use secret::Secret;
pub use service::{Leave, Work};
pub use session::Remembered;
pub use slots::{Slot, Slots};
pub use start::{BootState, Started, Target};
pub use tickets::Authority;
pub use vault::{Identity, Life, Status, Tries, Vault, WITNESS_LEASE_SECONDS};

/// Said of what was written over in place.
pub(crate) const OVERWRITTEN: &str =
    "overwritten in place; a file system or an SSD may keep old blocks";

/// Lets the cryptographic library fetch entropy and set itself up, so that a confinement applied
/// afterwards need not allow what only that takes.
///
/// Returns whether the keys' memory is locked.
pub fn warm_up() -> Result<bool, Error> {
    keys::random_ecid()?;
    secret::prepare()
}

#[cfg(test)]
mod tests;
