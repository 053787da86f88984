//! Self-signed certificates for Secure Boot's variables, and the signatures of images that lead to
//! one ([`authenticode`]).
//!
//! Nobody here has a clock that others could rely on, and the firmware checks no dates, so all
//! certificates are valid for ever (RFC 5280, 4.1.2.5).
//!
//! Invariants: a key given to this library is used and never kept; nothing here reads what a
//! stranger wrote. X.509 and PKCS#7 are written with the RustCrypto `der` types, which state the
//! ASN.1 as Rust structures and bring no second implementation of any cipher.

#![forbid(unsafe_code)]

pub mod authenticode;

use std::fmt;
use std::str::FromStr as _;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use der::asn1::{Any, BitString, GeneralizedTime, Null, ObjectIdentifier, OctetString, UtcTime};
use der::oid::AssociatedOid;
use der::oid::db::rfc5280::ID_KP_CODE_SIGNING;
use der::oid::db::rfc5912::SHA_256_WITH_RSA_ENCRYPTION;
use der::{DateTime, Decode as _, Encode};
use x509_cert::certificate::Version;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};
use x509_cert::{Certificate, TbsCertificate};

/// RFC 5280 allows 20; 16 random bytes are unique enough.
const SERIAL_NUMBER_SIZE_BYTES: usize = 16;

/// Making a certificate or a signature failed; the text names the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed(pub &'static str);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cryptography failed: {}", self.0)
    }
}

impl std::error::Error for Failed {}

/// What a certificate's key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Changes of the firmware's variables (`PK`, `KEK`).
    Variables,
    /// Images that may boot (`db`).
    Images,
}

/// A certificate of `key`, an RSA key, signed by itself; `name` is its common name. DER.
///
/// # Errors
/// [`Failed`], also when `name` cannot be a common name.
pub fn self_signed(name: &str, purpose: Purpose, key: &rsa::KeyPair) -> Result<Vec<u8>, Failed> {
    let unencodable = |_| Failed("encoding a certificate");
    let public_key = key
        .public_key()
        .as_der()
        .map_err(|_| Failed("encoding a public key"))?;
    let mut serial_number = [0; SERIAL_NUMBER_SIZE_BYTES];
    aws_lc_rs::rand::fill(&mut serial_number).map_err(|_| Failed("random bytes"))?;
    // A positive number that needs all its bytes.
    serial_number[0] = serial_number[0] & 0x7f | 0x40;
    let tbs_certificate =
        to_be_signed(name, purpose, public_key.as_ref(), &serial_number).map_err(unencodable)?;
    let signature = sign_rsa(key, &tbs_certificate.to_der().map_err(unencodable)?)?;
    signed(tbs_certificate, &signature).map_err(unencodable)
}

/// RSASSA-PKCS1-v1_5 with SHA-256. The padding has no randomness, so nor has the signature.
fn sign_rsa(key: &rsa::KeyPair, message: &[u8]) -> Result<Vec<u8>, Failed> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        message,
        &mut signature,
    )
    .map_err(|_| Failed("signing"))?;
    Ok(signature)
}

fn to_be_signed(
    name: &str,
    purpose: Purpose,
    public_key: &[u8],
    serial_number: &[u8],
) -> der::Result<TbsCertificate> {
    let name = Name::from_str(&format!("CN={name}"))?;
    Ok(TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(serial_number)?,
        signature: algorithm(SHA_256_WITH_RSA_ENCRYPTION),
        issuer: name.clone(),
        validity: for_ever()?,
        subject: name,
        subject_public_key_info: SubjectPublicKeyInfoOwned::from_der(public_key)?,
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(extensions(purpose)?),
    })
}

fn signed(tbs_certificate: TbsCertificate, signature: &[u8]) -> der::Result<Vec<u8>> {
    Certificate {
        signature_algorithm: tbs_certificate.signature.clone(),
        tbs_certificate,
        signature: BitString::from_bytes(signature)?,
    }
    .to_der()
}

/// An algorithm identifier of the kind whose parameters are NULL.
fn algorithm(oid: ObjectIdentifier) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned {
        oid,
        parameters: Some(Any::from(Null)),
    }
}

fn for_ever() -> der::Result<Validity> {
    Ok(Validity {
        not_before: Time::UtcTime(UtcTime::from_date_time(DateTime::new(
            2017, 1, 1, 0, 0, 0,
        )?)?),
        not_after: Time::GeneralTime(GeneralizedTime::from_date_time(DateTime::INFINITY)),
    })
}

fn extensions(purpose: Purpose) -> der::Result<Vec<Extension>> {
    let leaf = BasicConstraints {
        ca: false,
        path_len_constraint: None,
    };
    let mut extensions = vec![
        extension(true, &leaf)?,
        extension(true, &KeyUsage(KeyUsages::DigitalSignature.into()))?,
    ];
    if purpose == Purpose::Images {
        extensions.push(extension(
            false,
            &ExtendedKeyUsage(vec![ID_KP_CODE_SIGNING]),
        )?);
    }
    Ok(extensions)
}

fn extension<T: AssociatedOid + Encode>(critical: bool, value: &T) -> der::Result<Extension> {
    Ok(Extension {
        extn_id: T::OID,
        critical,
        extn_value: OctetString::new(value.to_der()?)?,
    })
}
