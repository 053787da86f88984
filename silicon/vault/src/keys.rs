//! Making keys and reading them back.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use certificate::Purpose;
use zeroize::Zeroizing;

use crate::Error;

/// A new chip's number.
pub fn random_ecid() -> Result<u64, Error> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Cryptography("random bytes"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// A new identity key, PKCS#8.
pub fn generate_identity_key() -> Result<Zeroizing<Vec<u8>>, Error> {
    let failed = |_| Error::Cryptography("making the identity key");
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
    let pkcs8 = key.to_pkcs8v1().map_err(failed)?;
    Ok(Zeroizing::new(pkcs8.as_ref().to_vec()))
}

/// The certificates in the firmware's variables that authorise changes of them, DER.
#[derive(Clone)]
pub struct Certificates {
    /// The platform key's.
    pub pk: Vec<u8>,
    /// The key-exchange key's.
    pub kek: Vec<u8>,
}

impl Certificates {
    /// New ones, whose private keys are gone when this returns.
    pub fn generate(ecid: u64) -> Result<Certificates, Error> {
        Ok(Certificates {
            pk: certificate("Platform Key", ecid)?,
            kek: certificate("Key Exchange Key", ecid)?,
        })
    }
}

/// A certificate of a key that signs it and nothing else. RSA-2048 because edk2 takes no other
/// key for `PK` and `KEK`.
fn certificate(title: &str, ecid: u64) -> Result<Vec<u8>, Error> {
    let key = rsa::KeyPair::generate(KeySize::Rsa2048)
        .map_err(|_| Error::Cryptography("making an RSA key"))?;
    let name = format!("Spacegray {title} 0x{ecid:016x}");
    certificate::self_signed(&name, Purpose::Variables, &key)
        .map_err(|certificate::Failed(step)| Error::Cryptography(step))
}

/// The identity key's public half, `SubjectPublicKeyInfo` DER.
pub fn identity_public_key(pkcs8: &[u8]) -> Result<Vec<u8>, Error> {
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
        .map_err(|_| Error::Corrupt("identity key"))?;
    let public_key = key
        .public_key()
        .as_der()
        .map_err(|_| Error::Cryptography("encoding the identity key"))?;
    Ok(public_key.as_ref().to_vec())
}
