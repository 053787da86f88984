//! The recovery bundle: what an owner needs on another chip, sealed for their recovery key.
//!
//! HPKE (RFC 9180) in base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. The chip
//! knows only the recovery key's public half, so it can make bundles, and nobody can open one
//! without the recovery key. `docs/vault-store.md` has the bytes.
//!
//! Invariant: nothing of a bundle is believed before all of it has been authenticated. That it
//! comes from the owner's chip it does not prove: whoever knows the public half can make one.

mod hpke;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use zeroize::Zeroizing;

use crate::Error;
use crate::bundle::hpke::{ENCAPSULATED_SIZE_BYTES, TAG_SIZE_BYTES};
use crate::recovery_key::RecoveryKey;
use crate::secret::KEY_SIZE_BYTES;

const MAGIC: &[u8; 8] = b"SGBUNDL\0";
const VERSION: u16 = 2;
const SIZE_OFFSET: usize = 12;
const ECID_OFFSET: usize = 16;
/// What comes before what HPKE makes.
const HEADER_SIZE_BYTES: usize = 24;
const FRAME_SIZE_BYTES: usize =
    HEADER_SIZE_BYTES + ENCAPSULATED_SIZE_BYTES + TAG_SIZE_BYTES + SHA256_OUTPUT_LEN;
/// The header is part of HPKE's `info`, which every library for it takes.
const NOTHING_ADDITIONAL: &[u8] = &[];

/// The most that can be in a bundle.
pub const CONTENTS_SIZE_BYTES_MAX: usize = 16 * 1024;
/// Size of the largest bundle.
pub const BUNDLE_SIZE_BYTES_MAX: usize = FRAME_SIZE_BYTES + CONTENTS_SIZE_BYTES_MAX;

/// Seals `contents` for the owner of `public_key`. `info` says what it is for; `ecid` is the chip
/// that it comes from, and can be read without any key.
pub fn seal(
    public_key: &[u8; KEY_SIZE_BYTES],
    ecid: u64,
    info: &[u8],
    contents: &[u8],
) -> Result<Vec<u8>, Error> {
    let size = u32::try_from(contents.len())
        .ok()
        .filter(|_| contents.len() <= CONTENTS_SIZE_BYTES_MAX)
        .ok_or(Error::Corrupt("a bundle too long"))?;
    let mut bundle = Vec::with_capacity(FRAME_SIZE_BYTES + contents.len());
    bundle.extend_from_slice(MAGIC);
    bundle.extend_from_slice(&VERSION.to_be_bytes());
    bundle.extend_from_slice(&[0; 2]);
    bundle.extend_from_slice(&size.to_be_bytes());
    bundle.extend_from_slice(&ecid.to_be_bytes());
    let (sender, encapsulated) = hpke::encapsulate(public_key, &[info, &bundle].concat())?;
    bundle.extend_from_slice(&encapsulated);
    bundle.extend_from_slice(&sender.seal(NOTHING_ADDITIONAL, contents)?);
    bundle.extend_from_slice(digest(&SHA256, &bundle).as_ref());
    Ok(bundle)
}

/// What is in a bundle that was sealed for this recovery key and with this `info`.
///
/// # Errors
/// [`Error::Corrupt`] when it is not what was written, or no bundle; [`Error::Wrong`] when it was
/// sealed for another key.
pub fn open(key: &RecoveryKey, info: &[u8], bundle: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    checked(bundle)?;
    let (header, rest) = bundle.split_at(HEADER_SIZE_BYTES);
    let (encapsulated, rest) = rest.split_at(ENCAPSULATED_SIZE_BYTES);
    let sealed = &rest[..rest.len() - SHA256_OUTPUT_LEN];
    let encapsulated = encapsulated.try_into().map_err(|_| NO_BUNDLE)?;
    let recipient = hpke::decapsulate(key, encapsulated, &[info, header].concat())?;
    recipient.open(NOTHING_ADDITIONAL, sealed)
}

/// The chip that a bundle comes from, as it says; nothing has been authenticated.
pub fn ecid(bundle: &[u8]) -> Result<u64, Error> {
    checked(bundle)?;
    number(bundle, ECID_OFFSET).map(u64::from_be_bytes)
}

/// That it is a whole bundle. The check sum is no protection; it tells a damaged bundle from
/// another's recovery key.
fn checked(bundle: &[u8]) -> Result<(), Error> {
    if bundle.len() < FRAME_SIZE_BYTES || !bundle.starts_with(MAGIC) {
        return Err(NO_BUNDLE);
    }
    if number(bundle, MAGIC.len()).map(u16::from_be_bytes)? != VERSION {
        return Err(Error::Corrupt("a recovery bundle of another version"));
    }
    let size = number(bundle, SIZE_OFFSET).map(u32::from_be_bytes)?;
    let size = usize::try_from(size).map_err(|_| NO_BUNDLE)?;
    if size > CONTENTS_SIZE_BYTES_MAX || bundle.len() != FRAME_SIZE_BYTES + size {
        return Err(Error::Corrupt("the recovery bundle's size"));
    }
    let (summed, sum) = bundle.split_at(bundle.len() - SHA256_OUTPUT_LEN);
    if digest(&SHA256, summed).as_ref() != sum {
        return Err(Error::Corrupt("the recovery bundle's check sum"));
    }
    Ok(())
}

fn number<const SIZE: usize>(bundle: &[u8], offset: usize) -> Result<[u8; SIZE], Error> {
    (bundle.get(offset..offset + SIZE))
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(NO_BUNDLE)
}

const NO_BUNDLE: Error = Error::Corrupt("no recovery bundle");

#[cfg(test)]
mod tests;
