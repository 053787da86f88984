//! What the vault is asked, by the firmware and by the SSD, and what it answers.
//!
//! Both sides of each message are here, so that they cannot differ; `docs/vault-protocol.md`
//! lists them.

mod client;
mod refusal;
mod request;

pub use client::{ANSWER_SECONDS_MAX, Client, ClientError};
pub use refusal::{Code, Refusal};
pub use request::{Request, SsdRequest};

/// Size of the SHA-256 digest in a `sign_image` request.
pub const DIGEST_SIZE_BYTES: usize = 32;
/// Size of the key in the reply to `volume_key`.
pub const VOLUME_KEY_SIZE_BYTES: usize = 32;
/// The longest anchor that the vault keeps; the shortest has one byte.
pub const ANCHOR_SIZE_BYTES_MAX: usize = 512;
