//! What the proofs stand on: a medium that cuts the power, a model that knows what may be there,
//! a driver that keeps both in step, and a second implementation of the format's sealing.
//!
//! Everything here is deterministic but for the salts that the library draws.

pub mod driver;
pub mod image;
pub mod losses;
pub mod medium;
pub mod model;
pub mod random;
pub mod writer;

use flash::VolumeKey;

/// The volume key of all proofs.
pub const KEY: [u8; 32] = *b"the volume key of all the proofs";

/// The volume key as the library takes it.
pub fn key() -> VolumeKey {
    VolumeKey::new(zeroize::Zeroizing::new(KEY))
}

/// Whether the long runs were asked for (FLASH_LONG=1).
pub fn long() -> bool {
    std::env::var("FLASH_LONG").is_ok_and(|value| value == "1")
}
