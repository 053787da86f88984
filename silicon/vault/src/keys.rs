//! Making keys and reading them back.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use zeroize::Zeroizing;

use crate::Error;
use crate::certificate::{Certificates, Role, self_signed};

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

/// The boot-signing key as PKCS#8, and the three certificates. The private keys of PK and KEK
/// are gone when this returns.
pub fn generate_boot_keys(ecid: u64) -> Result<(Zeroizing<Vec<u8>>, Certificates), Error> {
    let boot_signing_key = generate_rsa_key()?;
    let certificates = Certificates {
        pk: self_signed(Role::PlatformKey, ecid, &generate_rsa_key()?)?,
        kek: self_signed(Role::KeyExchangeKey, ecid, &generate_rsa_key()?)?,
        db: self_signed(Role::BootSigning, ecid, &boot_signing_key)?,
    };
    let pkcs8 = boot_signing_key
        .as_der()
        .map_err(|_| Error::Cryptography("encoding the boot-signing key"))?;
    Ok((Zeroizing::new(pkcs8.as_ref().to_vec()), certificates))
}

/// RSA-2048 because edk2 takes no other key for `PK` and `KEK`.
fn generate_rsa_key() -> Result<rsa::KeyPair, Error> {
    rsa::KeyPair::generate(KeySize::Rsa2048).map_err(|_| Error::Cryptography("making an RSA key"))
}

/// The boot-signing key out of its PKCS#8 form.
pub fn boot_signing_key(pkcs8: &[u8]) -> Result<rsa::KeyPair, Error> {
    rsa::KeyPair::from_pkcs8(pkcs8).map_err(|_| Error::Corrupt("boot-signing key"))
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
