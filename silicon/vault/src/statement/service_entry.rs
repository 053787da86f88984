//! The entries of the service record: what was done inside the machine, each after the one before
//! (`docs/service-record.md`).

use super::{IdentityKey, claims::Claims, embedded};
use crate::Error;
use crate::start::DIGEST_SIZE_BYTES;

/// The most that may be said about one job.
pub const DETAIL_SIZE_BYTES_MAX: usize = 512;
/// No entry is longer.
pub const ENTRY_SIZE_BYTES_MAX: usize = 1024;

const TYPE: &str = "service entry";
const VERSION: u64 = 1;
const MEDIA_TYPE: &str = "application/x-spacegray-service-entry+cbor";
/// Signed along with every entry, so that nothing else of the identity key's can pass for one.
const EXTERNAL_DATA: &[u8] = b"spacegray service entry 1";

/// One job that was done.
pub struct ServiceEntry<'a> {
    /// The chip's number.
    pub ecid: u64,
    /// The entry's, from 0 on.
    pub number: u64,
    /// SHA-256 of the entry before.
    pub previous: &'a [u8; DIGEST_SIZE_BYTES],
    /// When, seconds since 1970 by the host's clock.
    pub time: u64,
    /// What was done.
    pub job: &'a str,
    /// By whose leave: `owner`, `owner with password`, `provider`.
    pub by: &'a str,
    /// Names the provider's key; empty for the owner.
    pub provider: &'a [u8],
    /// The work order's number; empty for the owner.
    pub order: &'a [u8],
    /// What the firmware says about it.
    pub detail: &'a [u8],
}

/// Whether an entry can hold this.
///
/// # Errors
/// [`Error::Malformed`] for anything but nothing or one plain CBOR map.
pub fn check_detail(detail: &[u8]) -> Result<(), Error> {
    const NO_DETAIL: Error = Error::Malformed("the detail of a job is no plain CBOR map");
    if detail.is_empty() {
        return Ok(());
    }
    embedded::check(detail, DETAIL_SIZE_BYTES_MAX, NO_DETAIL)
}

/// States that a job was done, signed with the identity key (PKCS#8).
///
/// # Errors
/// [`Error::Malformed`] for a detail that is none.
pub fn service_entry(identity_key: &[u8], entry: &ServiceEntry<'_>) -> Result<Vec<u8>, Error> {
    check_detail(entry.detail)?;
    let mut claims = Claims::default();
    claims.add("ecid", |value| value.u64(entry.ecid));
    claims.add("type", |value| value.str(TYPE));
    claims.add("version", |value| value.u64(VERSION));
    claims.add("number", |value| value.u64(entry.number));
    claims.add("previous", |value| value.bytes(entry.previous));
    claims.add("time", |value| value.u64(entry.time));
    claims.add("job", |value| value.str(entry.job));
    claims.add("by", |value| value.str(entry.by));
    claims.add("provider", |value| value.bytes(entry.provider));
    claims.add("order", |value| value.bytes(entry.order));
    claims.add("detail", |value| value.bytes(entry.detail));
    let key = IdentityKey::from_pkcs8(identity_key)?;
    let signed = key.sign(MEDIA_TYPE, EXTERNAL_DATA, &claims.encode())?;
    // Every part has its limit, and all of them together fit.
    assert!(signed.len() <= ENTRY_SIZE_BYTES_MAX);
    Ok(signed)
}
