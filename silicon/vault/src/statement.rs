//! What the chip says of itself, signed with its identity key.
//!
//! Two kinds, each a COSE_Sign1 (RFC 9052, ES256) over a map of claims in the manner of CWT and
//! EAT (RFC 8392, RFC 9711), and nothing else is ever signed with that key:
//! - the attestation, an answer to a nonce: what state the chip is in;
//! - the receipt of an erase: what was destroyed, where it lay, and how surely;
//! - the entries of the service record ([`service_entry`]): what was done inside the machine.
//!
//! `docs/attestation.md` has the claims of the first two and how to check them,
//! `docs/service-record.md` those of the third.
//!
//! Invariants: no kind can be taken for another, nor for anything else signed with
//! COSE: type and profile are signed too, and for an entry external data. The same claims give the same bytes (RFC 8949, 4.2),
//! but for the signature. What the firmware says is marked as the firmware's word.

mod claims;
mod embedded;
mod service_entry;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use minicbor::data::Tag;

use crate::Error;
use crate::boot::Boot;
use crate::seal::Destroyed;
use claims::Claims;

pub use service_entry::{ENTRY_SIZE_BYTES_MAX, ServiceEntry, check_detail, service_entry};

/// The shortest and the longest nonce (RFC 9711).
pub const NONCE_SIZE_BYTES_MIN: usize = 8;
/// See [`NONCE_SIZE_BYTES_MIN`].
pub const NONCE_SIZE_BYTES_MAX: usize = 64;
/// The most that the firmware may add.
pub const SOFTWARE_SIZE_BYTES_MAX: usize = 2048;

/// What a statement is, in its header (RFC 9596) and by its profile.
struct Kind {
    media_type: &'static str,
    profile: &'static str,
}

const ATTESTATION: Kind = Kind {
    media_type: "application/eat+cwt",
    profile: "urn:uuid:d3ccd656-a3f3-47b1-bb8e-e64356ad43d2",
};
const RECEIPT: Kind = Kind {
    media_type: "application/x-spacegray-receipt+cwt",
    profile: "urn:uuid:5944d792-4254-4fd6-8c26-6f695374aa08",
};

/// CBOR tag of a COSE_Sign1.
const TAG_COSE_SIGN1: u64 = 18;
/// CBOR tag of a byte string that holds CBOR.
const TAG_ENCODED_CBOR: u64 = 24;

const HEADER_ALGORITHM: i64 = 1;
const HEADER_KEY_ID: i64 = 4;
const HEADER_TYPE: i64 = 16;
const ALGORITHM_ES256: i64 = -7;

const CLAIM_CONFIRMATION: i64 = 8;
const CLAIM_NONCE: i64 = 10;
const CLAIM_UEID: i64 = 256;
const CLAIM_PROFILE: i64 = 265;
const CLAIM_SOFTWARE_NAME: i64 = 270;
const CLAIM_SOFTWARE_VERSION: i64 = 271;
/// The one member of a confirmation claim: a COSE_Key.
const CONFIRMATION_KEY: i64 = 1;
/// How versions of the vault are to be compared: semantic versioning (RFC 9393).
const VERSION_SCHEME_SEMVER: i64 = 16384;

const VAULT_NAME: &str = "spacegray vault";
const VAULT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// First byte of a UEID that is a random number, here the key's thumbprint.
const UEID_RANDOM: u8 = 1;
const COORDINATE_SIZE_BYTES: usize = 32;
const THUMBPRINT_SIZE_BYTES: usize = 32;
/// First byte of a point that is not compressed.
const UNCOMPRESSED: u8 = 4;

/// The state of a chip.
pub struct Attestation<'a> {
    /// What was asked, [`NONCE_SIZE_BYTES_MIN`] to [`NONCE_SIZE_BYTES_MAX`] bytes.
    pub nonce: &'a [u8],
    /// The chip's number.
    pub ecid: u64,
    /// Where the chip is in its life: `in use`, `locked out`, `erased`.
    pub life: &'a str,
    /// Which of its lives this is, from 1 on.
    pub lives: u64,
    /// What keeps its store closed.
    pub seal: &'a str,
    /// What its freshness rests on: `software` or `tpm`.
    pub root: &'a str,
    /// Whether the disk stays closed without the password.
    pub password_required: bool,
    /// Whether a recovery key could open it.
    pub recovery_key: bool,
    /// How many older disks its owner had accepted.
    pub rollbacks: u64,
    /// How many states the chip has been through.
    pub boundaries: u64,
    /// What decides what starts.
    pub boot: &'a Boot,
    /// The firmware's word on what the chip authorised to start: a CBOR map with names as keys,
    /// at most [`SOFTWARE_SIZE_BYTES_MAX`].
    pub software: &'a [u8],
}

/// An erase that has been done.
pub struct Receipt<'a> {
    /// The chip's number.
    pub ecid: u64,
    /// Which of its lives was erased.
    pub lives: u64,
    /// Which of its states this one is; no two receipts of a chip have the same.
    pub boundaries: u64,
    /// What is gone.
    pub items: &'a [Destroyed],
}

/// States the chip's state, signed with the identity key (PKCS#8).
///
/// # Errors
/// [`Error::Malformed`] when nonce or software are not what they have to be.
pub fn attestation(identity_key: &[u8], chip: &Attestation<'_>) -> Result<Vec<u8>, Error> {
    IdentityKey::from_pkcs8(identity_key)?.attest(chip)
}

/// States that an erase was done, signed with the identity key (PKCS#8).
pub fn receipt(identity_key: &[u8], erased: &Receipt<'_>) -> Result<Vec<u8>, Error> {
    IdentityKey::from_pkcs8(identity_key)?.receipt(erased)
}

/// The identity key, as it is used nowhere else: it signs statements and nothing else.
struct IdentityKey {
    pair: EcdsaKeyPair,
    /// Its public half as a COSE_Key (RFC 9052), the members that its thumbprint is made of.
    public_key: Vec<u8>,
    /// SHA-256 of that (RFC 9679).
    thumbprint: [u8; THUMBPRINT_SIZE_BYTES],
}

impl IdentityKey {
    fn from_pkcs8(pkcs8: &[u8]) -> Result<IdentityKey, Error> {
        const NO_KEY: Error = Error::Corrupt("identity key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
            .map_err(|_| NO_KEY)?;
        let (x, y) = match pair.public_key().as_ref().split_first() {
            Some((&UNCOMPRESSED, point)) if point.len() == 2 * COORDINATE_SIZE_BYTES => {
                point.split_at(COORDINATE_SIZE_BYTES)
            }
            _ => return Err(NO_KEY),
        };
        let public_key = cose_key(x, y);
        let thumbprint = (digest(&SHA256, &public_key).as_ref().try_into())
            .map_err(|_| Error::Cryptography("a thumbprint"))?;
        Ok(IdentityKey {
            pair,
            public_key,
            thumbprint,
        })
    }

    fn attest(&self, chip: &Attestation<'_>) -> Result<Vec<u8>, Error> {
        if !(NONCE_SIZE_BYTES_MIN..=NONCE_SIZE_BYTES_MAX).contains(&chip.nonce.len()) {
            return Err(Error::Malformed("a nonce has 8 to 64 bytes"));
        }
        const NO_SOFTWARE: Error = Error::Malformed("what was started is no plain CBOR map");
        embedded::check(chip.software, SOFTWARE_SIZE_BYTES_MAX, NO_SOFTWARE)?;
        let mut claims = self.claims(&ATTESTATION, chip.ecid);
        claims.add(CLAIM_NONCE, |value| value.bytes(chip.nonce));
        claims.add(CLAIM_SOFTWARE_NAME, |value| value.str(VAULT_NAME));
        claims.add(CLAIM_SOFTWARE_VERSION, |value| {
            value
                .array(2)?
                .str(VAULT_VERSION)?
                .i64(VERSION_SCHEME_SEMVER)
        });
        claims.add("life", |value| value.str(chip.life));
        claims.add("lives", |value| value.u64(chip.lives));
        claims.add("seal", |value| value.str(chip.seal));
        claims.add("root", |value| value.str(chip.root));
        claims.add("password_required", |value| {
            value.bool(chip.password_required)
        });
        claims.add("recovery_key", |value| value.bool(chip.recovery_key));
        claims.add("rollbacks", |value| value.u64(chip.rollbacks));
        claims.add("boundaries", |value| value.u64(chip.boundaries));
        boot_claims(&mut claims, chip.boot);
        claims.add("authorised_by_firmware", |value| {
            value.tag(Tag::new(TAG_ENCODED_CBOR))?.bytes(chip.software)
        });
        self.sign(ATTESTATION.media_type, &[], &claims.encode())
    }

    fn receipt(&self, erased: &Receipt<'_>) -> Result<Vec<u8>, Error> {
        let mut claims = self.claims(&RECEIPT, erased.ecid);
        claims.add("lives", |value| value.u64(erased.lives));
        claims.add("boundaries", |value| value.u64(erased.boundaries));
        claims.add("destroyed", |value| {
            value.array(erased.items.len() as u64)?;
            for item in erased.items {
                let mut members = Claims::default();
                members.add("what", |value| value.str(item.what));
                members.add("place", |value| value.str(&item.place));
                members.add("how", |value| value.str(item.how));
                members.write(value);
            }
            Ok(value)
        });
        self.sign(RECEIPT.media_type, &[], &claims.encode())
    }

    /// What every statement says: its kind, and whose it is.
    fn claims(&self, kind: &Kind, ecid: u64) -> Claims {
        let mut ueid = vec![UEID_RANDOM];
        ueid.extend_from_slice(&self.thumbprint);
        let mut confirmation = Claims::default();
        confirmation.add_encoded(CONFIRMATION_KEY, &self.public_key);

        let mut claims = Claims::default();
        claims.add(CLAIM_PROFILE, |value| value.str(kind.profile));
        claims.add(CLAIM_UEID, |value| value.bytes(&ueid));
        claims.add_encoded(CLAIM_CONFIRMATION, &confirmation.encode());
        claims.add("ecid", |value| value.u64(ecid));
        claims
    }

    /// A COSE_Sign1. Private: what is signed is built in this module.
    fn sign(
        &self,
        media_type: &str,
        external_data: &[u8],
        payload: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let mut header = Claims::default();
        header.add(HEADER_ALGORITHM, |value| value.i64(ALGORITHM_ES256));
        header.add(HEADER_KEY_ID, |value| value.bytes(&self.thumbprint));
        header.add(HEADER_TYPE, |value| value.str(media_type));
        let header = header.encode();

        let to_be_signed = claims::encoded(|value| {
            (value.array(4)?.str("Signature1")?)
                .bytes(&header)?
                .bytes(external_data)?
                .bytes(payload)
        });
        let signature = (self.pair)
            .sign(&SystemRandom::new(), &to_be_signed)
            .map_err(|_| Error::Cryptography("signing a statement"))?;
        Ok(claims::encoded(|value| {
            (value.tag(Tag::new(TAG_COSE_SIGN1))?.array(4)?)
                .bytes(&header)?
                .map(0)?
                .bytes(payload)?
                .bytes(signature.as_ref())
        }))
    }
}

/// The rules for what may start, and whose word counts.
fn boot_claims(claims: &mut Claims, boot: &Boot) {
    let rules = boot.rules;
    claims.add("policy", |value| value.str(rules.policy.name()));
    claims.add("external_boot", |value| value.bool(rules.external_boot));
    claims.add("other_systems", |value| value.bool(rules.other_systems));
    claims.add("firmware_password", |value| {
        value.bool(boot.firmware_password.is_some())
    });
    claims.add("minimum_epoch", |value| value.u64(boot.minimum_epoch));
    claims.add("authority_key_sha256", |value| {
        value.bytes(digest(&SHA256, &boot.authority.key).as_ref())
    });
    claims.add("vendor_certificate_sha256", |value| {
        value.bytes(digest(&SHA256, &boot.authority.vendor).as_ref())
    });
}

/// A P-256 key as a COSE_Key.
fn cose_key(x: &[u8], y: &[u8]) -> Vec<u8> {
    const KEY_TYPE: i64 = 1;
    const KEY_TYPE_EC2: i64 = 2;
    const CURVE: i64 = -1;
    const CURVE_P256: i64 = 1;
    const X: i64 = -2;
    const Y: i64 = -3;
    let mut key = Claims::default();
    key.add(KEY_TYPE, |value| value.i64(KEY_TYPE_EC2));
    key.add(CURVE, |value| value.i64(CURVE_P256));
    key.add(X, |value| value.bytes(x));
    key.add(Y, |value| value.bytes(y));
    key.encode()
}

#[cfg(test)]
mod tests;
