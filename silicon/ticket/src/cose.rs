//! What an authority signs: a COSE_Sign1 (RFC 9052) with ES256, in one form.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, EcdsaKeyPair, KeyPair as _, ParsedPublicKey};
use minicbor::data::Tag;
use minicbor::decode::Decoder;

use crate::fields::encoded;
use crate::{Failed, Refused};

/// A key's `SubjectPublicKeyInfo`, DER.
pub const PUBLIC_KEY_SIZE_BYTES: usize = 91;

/// CBOR tag of a COSE_Sign1.
const TAG_COSE_SIGN1: u64 = 18;
const PARTS: u64 = 4;
const HEADER_ALGORITHM: i64 = 1;
const HEADER_KEY_ID: i64 = 4;
const HEADER_TYPE: i64 = 16;
const ALGORITHM_ES256: i64 = -7;
const SIGNATURE_SIZE_BYTES: usize = 64;

/// What one kind of signed thing is recognised by.
pub struct Form {
    /// Its content type, in the protected header.
    pub media_type: &'static str,
    /// Signed along with it, so that no other COSE_Sign1 of the same key can pass for one.
    pub external_data: &'static [u8],
    /// None is longer.
    pub size_bytes_max: usize,
}

/// What comes before the point in a P-256 key's `SubjectPublicKeyInfo` (RFC 5480).
#[rustfmt::skip]
const PUBLIC_KEY_HEAD: [u8; 27] = [
    0x30, 0x59,
      0x30, 0x13,
        0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
        0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
      // A bit string without unused bits; the point is not compressed.
      0x03, 0x42, 0x00, 0x04,
];

/// Whether this is a P-256 key in the one form that [`verify`] takes.
#[must_use]
pub fn is_key(spki: &[u8]) -> bool {
    parsed(spki).is_some()
}

fn parsed(spki: &[u8]) -> Option<ParsedPublicKey> {
    if spki.len() != PUBLIC_KEY_SIZE_BYTES || !spki.starts_with(&PUBLIC_KEY_HEAD) {
        return None;
    }
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, spki).ok()
}

/// Signs a payload. The key has to sign by `ECDSA_P256_SHA256_FIXED_SIGNING`.
///
/// # Errors
/// [`Failed`] when the cryptographic library does.
pub fn sign(form: &Form, payload: &[u8], key: &EcdsaKeyPair) -> Result<Vec<u8>, Failed> {
    let spki = key.public_key().as_der().map_err(|_| Failed)?;
    let header = form.header(&key_id(spki.as_ref()));
    let signature = key
        .sign(&SystemRandom::new(), &form.to_be_signed(&header, payload))
        .map_err(|_| Failed)?;
    Ok(written(&header, payload, signature.as_ref()))
}

/// The payload of what was signed with the private half of `spki`; nobody has read it yet.
///
/// # Errors
/// [`Refused::Malformed`] for everything but the one form; [`Refused::Signature`] where the
/// signature is not this key's, or `spki` is none.
pub fn verified<'a>(form: &Form, bytes: &'a [u8], spki: &[u8]) -> Result<&'a [u8], Refused> {
    if bytes.len() > form.size_bytes_max {
        return Err(Refused::Malformed);
    }
    let parts = Parts::read(form, bytes)?;
    let key = parsed(spki).ok_or(Refused::Signature)?;
    if parts.key_id != key_id(spki) {
        return Err(Refused::Signature);
    }
    let signed = form.to_be_signed(parts.header, parts.payload);
    key.verify_sig(&signed, parts.signature)
        .map_err(|_| Refused::Signature)?;
    Ok(parts.payload)
}

/// A COSE_Sign1 in its one form, whoever signed it.
struct Parts<'a> {
    header: &'a [u8],
    key_id: [u8; 32],
    payload: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Parts<'a> {
    fn read(form: &Form, bytes: &'a [u8]) -> Result<Parts<'a>, Refused> {
        let mut decoder = Decoder::new(bytes);
        if decoder.tag()? != Tag::new(TAG_COSE_SIGN1) || decoder.array()? != Some(PARTS) {
            return Err(Refused::Malformed);
        }
        let header = decoder.bytes()?;
        if decoder.map()? != Some(0) {
            return Err(Refused::Malformed);
        }
        let (payload, signature) = (decoder.bytes()?, decoder.bytes()?);
        let is_one_form =
            signature.len() == SIGNATURE_SIZE_BYTES && written(header, payload, signature) == bytes;
        is_one_form.then_some(()).ok_or(Refused::Malformed)?;
        Ok(Parts {
            header,
            key_id: form.key_id_of(header)?,
            payload,
            signature,
        })
    }
}

impl Form {
    /// The key that a protected header names, if it is one of this form in every other respect.
    fn key_id_of(&self, bytes: &[u8]) -> Result<[u8; 32], Refused> {
        let mut decoder = Decoder::new(bytes);
        if decoder.map()? != Some(3) || decoder.i64()? != HEADER_ALGORITHM {
            return Err(Refused::Malformed);
        }
        decoder.i64()?;
        decoder.i64()?;
        let key_id = decoder
            .bytes()?
            .try_into()
            .map_err(|_| Refused::Malformed)?;
        (self.header(&key_id) == bytes)
            .then_some(key_id)
            .ok_or(Refused::Malformed)
    }

    fn header(&self, key_id: &[u8; 32]) -> Vec<u8> {
        encoded(|writer| {
            writer.map(3)?.i64(HEADER_ALGORITHM)?.i64(ALGORITHM_ES256)?;
            writer.i64(HEADER_KEY_ID)?.bytes(key_id)?;
            writer.i64(HEADER_TYPE)?.str(self.media_type)
        })
    }

    /// The Sig_structure.
    fn to_be_signed(&self, header: &[u8], payload: &[u8]) -> Vec<u8> {
        encoded(|writer| {
            (writer.array(4)?.str("Signature1")?)
                .bytes(header)?
                .bytes(self.external_data)?
                .bytes(payload)
        })
    }
}

/// What names a key: SHA-256 of its `SubjectPublicKeyInfo`.
#[must_use]
pub fn key_id(spki: &[u8]) -> [u8; 32] {
    let digest = digest(&SHA256, spki);
    digest.as_ref().try_into().expect("a SHA-256 has 32 bytes")
}

fn written(header: &[u8], payload: &[u8], signature: &[u8]) -> Vec<u8> {
    encoded(|writer| {
        (writer.tag(Tag::new(TAG_COSE_SIGN1))?.array(PARTS)?)
            .bytes(header)?
            .map(0)?
            .bytes(payload)?
            .bytes(signature)
    })
}
