//! What the vault is asked, by the firmware and by the SSD, and what it answers.
//!
//! Both sides of each message are here, so that they cannot differ; `docs/vault-protocol.md`
//! lists them.

mod client;
mod refusal;
mod request;

pub use client::{ANSWER_SECONDS_MAX, Client, ClientError, Remembered};
pub use refusal::{Code, Refusal};
pub use request::{
    AttachMode, Authority, Components, Mode, Policy, Proof, Request, SealKind, Service, Slot,
    SsdRequest, Target, With,
};

/// Size of a SHA-256 digest.
pub const DIGEST_SIZE_BYTES: usize = 32;
/// Size of an authority's ticket key, a `SubjectPublicKeyInfo` for P-256.
pub const AUTHORITY_KEY_SIZE_BYTES: usize = 91;
/// The longest vendor certificate.
pub const VENDOR_SIZE_BYTES_MAX: usize = 2048;
/// The longest name of an edition.
pub const PRODUCT_SIZE_BYTES_MAX: usize = 32;
/// The longest ticket.
pub const TICKET_SIZE_BYTES_MAX: usize = 2048;
/// Size of a provider's order key, a `SubjectPublicKeyInfo` for P-256.
pub const PROVIDER_KEY_SIZE_BYTES: usize = 91;
/// The longest name of a provider.
pub const PROVIDER_NAME_SIZE_BYTES_MAX: usize = 64;
/// The longest name of a job.
pub const JOB_SIZE_BYTES_MAX: usize = 64;
/// The most that may be said about a job.
pub const DETAIL_SIZE_BYTES_MAX: usize = 512;
/// The longest that is read as a work order.
pub const ORDER_SIZE_BYTES_MAX: usize = 1024;
/// A system is tried no more often.
pub const TRIES_MAX: u64 = 8;
/// Size of the key in the reply to `volume_key`.
pub const VOLUME_KEY_SIZE_BYTES: usize = 32;
/// The longest anchor that the vault keeps; the shortest has one byte.
pub const ANCHOR_SIZE_BYTES_MAX: usize = 512;
/// The shortest nonce of an attestation.
pub const NONCE_SIZE_BYTES_MIN: usize = 8;
/// The longest nonce of an attestation.
pub const NONCE_SIZE_BYTES_MAX: usize = 64;
/// The longest that the firmware may say of itself in an attestation.
pub const SOFTWARE_SIZE_BYTES_MAX: usize = 2048;
