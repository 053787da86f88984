//! HPKE (RFC 9180), as much of it as a bundle takes: base mode, one message.
//!
//! DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, out of the pieces of aws-lc-rs. Names
//! are the RFC's. The test vectors of the RFC's authors are in the tests.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::hkdf::{self, HKDF_SHA256, Prk};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::Error;
use crate::recovery_key::RecoveryKey;
use crate::secret::{KEY_SIZE_BYTES, Secret};

/// Size of what a sender gives the recipient beside the message: its public key.
pub const ENCAPSULATED_SIZE_BYTES: usize = 32;
/// Size of the tag at the end of a sealed message.
pub const TAG_SIZE_BYTES: usize = 16;

type PublicKey = [u8; KEY_SIZE_BYTES];

const VERSION_LABEL: &[u8] = b"HPKE-v1";
/// "KEM" and DHKEM(X25519, HKDF-SHA256).
const KEM_SUITE: &[u8] = b"KEM\x00\x20";
/// "HPKE", that KEM, HKDF-SHA256, AES-256-GCM.
const SUITE: &[u8] = b"HPKE\x00\x20\x00\x01\x00\x02";
const MODE_BASE: u8 = 0;

/// The key of one message.
pub struct Context {
    key: LessSafeKey,
    nonce: [u8; NONCE_LEN],
}

/// A context for one message to the owner of `recipient`, and what they need to open it.
pub fn encapsulate(
    recipient: &PublicKey,
    info: &[u8],
) -> Result<(Context, [u8; ENCAPSULATED_SIZE_BYTES]), Error> {
    let ephemeral = PrivateKey::generate(&X25519).map_err(|_| FAILED)?;
    encapsulate_with(&ephemeral, recipient, info)
}

fn encapsulate_with(
    ephemeral: &PrivateKey,
    recipient: &PublicKey,
    info: &[u8],
) -> Result<(Context, PublicKey), Error> {
    let encapsulated = public_half(ephemeral)?;
    let secret = shared_secret(ephemeral, recipient, &encapsulated, recipient)?;
    Ok((Context::new(&secret, info)?, encapsulated))
}

/// The context of the message that came with `encapsulated`.
///
/// # Errors
/// [`Error::Corrupt`] when that is no key that an honest sender makes.
pub fn decapsulate(
    key: &RecoveryKey,
    encapsulated: &[u8; ENCAPSULATED_SIZE_BYTES],
    info: &[u8],
) -> Result<Context, Error> {
    decapsulate_with(&key.private_key()?, encapsulated, info)
}

fn decapsulate_with(
    recipient: &PrivateKey,
    encapsulated: &PublicKey,
    info: &[u8],
) -> Result<Context, Error> {
    let recipient_public = public_half(recipient)?;
    let secret = shared_secret(recipient, encapsulated, encapsulated, &recipient_public)
        .map_err(|_| Error::Corrupt("the recovery bundle's key"))?;
    Context::new(&secret, info)
}

impl Context {
    /// `KeySchedule` of the base mode: no key shared beforehand.
    fn new(shared_secret: &Secret, info: &[u8]) -> Result<Context, Error> {
        let no_psk = hmac::Key::new(hmac::HMAC_SHA256, &[]);
        let psk_id_hash = labeled(hmac::Context::with_key(&no_psk), b"psk_id_hash", b"");
        let info_hash = labeled(hmac::Context::with_key(&no_psk), b"info_hash", info);
        let mut context = vec![MODE_BASE];
        context.extend_from_slice(psk_id_hash.as_ref());
        context.extend_from_slice(info_hash.as_ref());

        let secret = hkdf::Salt::new(HKDF_SHA256, shared_secret.expose())
            .extract(&[VERSION_LABEL, SUITE, b"secret"].concat());
        let key = Secret::filled(|key| labeled_expand(&secret, SUITE, b"key", &context, key))?;
        let mut nonce = [0; NONCE_LEN];
        labeled_expand(&secret, SUITE, b"base_nonce", &context, &mut nonce)?;
        let key = UnboundKey::new(&AES_256_GCM, key.expose()).map_err(|_| FAILED)?;
        Ok(Context {
            key: LessSafeKey::new(key),
            nonce,
        })
    }

    /// The sealed message, its tag at the end. Takes the context: a second message would need
    /// the next nonce.
    pub fn seal(self, additional: &[u8], message: &[u8]) -> Result<Vec<u8>, Error> {
        // Room for the tag from the beginning: growing would leave a copy of the message behind.
        let mut sealed = Vec::with_capacity(message.len() + TAG_SIZE_BYTES);
        sealed.extend_from_slice(message);
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        match (self.key).seal_in_place_append_tag(nonce, Aad::from(additional), &mut sealed) {
            Ok(()) => Ok(sealed),
            Err(_) => {
                drop(Zeroizing::new(sealed));
                Err(FAILED)
            }
        }
    }

    /// The message.
    ///
    /// # Errors
    /// [`Error::Wrong`] when it was not sealed like this.
    pub fn open(self, additional: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut message = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let size = (self.key)
            .open_in_place(nonce, Aad::from(additional), &mut message)
            .map_err(|_| Error::Wrong)?
            .len();
        message.truncate(size);
        Ok(message)
    }
}

fn public_half(key: &PrivateKey) -> Result<PublicKey, Error> {
    let public_key = key.compute_public_key().map_err(|_| FAILED)?;
    public_key.as_ref().try_into().map_err(|_| FAILED)
}

/// `ExtractAndExpand` of what both halves give.
fn shared_secret(
    own: &PrivateKey,
    other: &PublicKey,
    encapsulated: &PublicKey,
    recipient: &PublicKey,
) -> Result<Secret, Error> {
    let context = [&encapsulated[..], &recipient[..]].concat();
    agreement::agree(own, UnparsedPublicKey::new(&X25519, other), FAILED, |dh| {
        let input = Zeroizing::new([VERSION_LABEL, KEM_SUITE, b"eae_prk", dh].concat());
        let extracted = hkdf::Salt::new(HKDF_SHA256, &[]).extract(&input);
        Secret::filled(|secret| {
            labeled_expand(&extracted, KEM_SUITE, b"shared_secret", &context, secret)
        })
    })
}

/// `LabeledExtract`, whose result is no key.
fn labeled(mut extract: hmac::Context, label: &[u8], input: &[u8]) -> hmac::Tag {
    for part in [VERSION_LABEL, SUITE, label, input] {
        extract.update(part);
    }
    extract.sign()
}

/// `LabeledExpand`.
fn labeled_expand(
    key: &Prk,
    suite: &[u8],
    label: &[u8],
    info: &[u8],
    out: &mut [u8],
) -> Result<(), Error> {
    let size = u16::try_from(out.len()).map_err(|_| FAILED)?.to_be_bytes();
    key.expand(&[&size, VERSION_LABEL, suite, label, info], Size(out.len()))
        .and_then(|material| material.fill(out))
        .map_err(|_| FAILED)
}

struct Size(usize);

impl hkdf::KeyType for Size {
    fn len(&self) -> usize {
        self.0
    }
}

const FAILED: Error = Error::Cryptography("a recovery bundle's keys");

#[cfg(test)]
mod tests;
