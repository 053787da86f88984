//! What the vault is asked, by the firmware and by the SSD, and what it answers.
//!
//! Both sides of each message are here, so that they cannot differ; `docs/vault-protocol.md`
//! lists them.

mod client;
mod refusal;
mod request;

pub use client::{ANSWER_SECONDS_MAX, Client, ClientError, Remembered};
pub use refusal::{Code, Refusal};
pub use request::{AttachMode, Mode, Proof, Request, SealKind, SsdRequest, With};

/// Size of the SHA-256 digest in a `sign_image` request.
pub const DIGEST_SIZE_BYTES: usize = 32;
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
