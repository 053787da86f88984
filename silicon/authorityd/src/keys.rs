//! The authority's three keys and the file that they lie in.
//!
//! `authority.keys`, `docs/authority-protocol.md`: a magic number, four parts, each after its
//! length (16 bits, big endian), and the SHA-256 of all that. Public is only what
//! [`Keys::ticket_key`], [`Keys::vendor`] and [`Keys::order_key`] give.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use certificate::{Purpose, authenticode, self_signed};
use zeroize::Zeroizing;

use crate::error::Error;

/// The file's name, for errors too.
pub const FILE: &str = "authority.keys";
/// No such file is longer.
pub const FILE_SIZE_BYTES_MAX: usize = 4096;

const MAGIC: &[u8; 8] = b"sgauth\x00\x02";
const LENGTH_SIZE_BYTES: usize = 2;
const CHECKSUM_SIZE_BYTES: usize = 32;
const DAMAGED: Error = Error::Corrupt(FILE);
/// Hexadecimal digits of the ticket key's digest in the vendor certificate's name.
const NAME_DIGITS: usize = 16;

/// All three keys, to be used and never shown.
pub struct Keys {
    ticket: EcdsaKeyPair,
    ticket_key: Vec<u8>,
    vendor: rsa::KeyPair,
    vendor_certificate: Vec<u8>,
    order: EcdsaKeyPair,
    order_key: Vec<u8>,
}

impl Keys {
    /// New keys, and the file that they are read from again.
    pub fn generate() -> Result<(Keys, Zeroizing<Vec<u8>>), Error> {
        let failed = |_| Error::Cryptography("making the ticket key");
        let ticket = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
        let ticket_pkcs8 = ticket.to_pkcs8v1().map_err(failed)?;
        let ticket_key = public_half(&ticket)?;
        // edk2 takes RSA of any of the usual sizes; PK and KEK are of this one too.
        let failed = |_| Error::Cryptography("making the vendor key");
        let vendor = rsa::KeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
        let vendor_pkcs8 = vendor.as_der().map_err(failed)?;
        let vendor_certificate = self_signed(&name(&ticket_key), Purpose::Images, &vendor)?;
        let failed = |_| Error::Cryptography("making the order key");
        let order = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
        let order_pkcs8 = order.to_pkcs8v1().map_err(failed)?;
        let file = file(&[
            ticket_pkcs8.as_ref(),
            vendor_pkcs8.as_ref(),
            &vendor_certificate,
            order_pkcs8.as_ref(),
        ]);
        let keys = Keys {
            ticket,
            ticket_key,
            vendor,
            vendor_certificate,
            order_key: public_half(&order)?,
            order,
        };
        Ok((keys, file))
    }

    /// The keys of a file.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where it is not as it was written.
    pub fn parse(file: &[u8]) -> Result<Keys, Error> {
        let end = file.len().checked_sub(CHECKSUM_SIZE_BYTES).ok_or(DAMAGED)?;
        let (content, checksum) = file.split_at(end);
        let mut rest = content.strip_prefix(MAGIC).ok_or(DAMAGED)?;
        if digest(&SHA256, content).as_ref() != checksum {
            return Err(DAMAGED);
        }
        let ticket = p256(part(&mut rest)?)?;
        let vendor = rsa::KeyPair::from_pkcs8(part(&mut rest)?).map_err(|_| DAMAGED)?;
        let vendor_certificate = part(&mut rest)?.to_vec();
        let order = p256(part(&mut rest)?)?;
        if !rest.is_empty() {
            return Err(DAMAGED);
        }
        Ok(Keys {
            ticket_key: public_half(&ticket)?,
            ticket,
            vendor,
            vendor_certificate,
            order_key: public_half(&order)?,
            order,
        })
    }

    /// What tickets are verified with: `SubjectPublicKeyInfo`, DER.
    pub fn ticket_key(&self) -> &[u8] {
        &self.ticket_key
    }

    /// What images' signatures lead to: an X.509 certificate, DER.
    pub fn vendor(&self) -> &[u8] {
        &self.vendor_certificate
    }

    /// What work orders are verified with: `SubjectPublicKeyInfo`, DER.
    pub fn order_key(&self) -> &[u8] {
        &self.order_key
    }

    /// Signs a ticket.
    pub fn sign_ticket(&self, ticket: &ticket::Ticket) -> Result<Vec<u8>, Error> {
        Ok(ticket::sign(ticket, &self.ticket)?)
    }

    /// Signs a work order.
    pub fn sign_order(&self, order: &ticket::Order) -> Result<Vec<u8>, Error> {
        Ok(ticket::sign_order(order, &self.order)?)
    }

    /// Signs an image by its Authenticode digest.
    pub fn sign_image(&self, digest: &[u8; 32]) -> Result<Vec<u8>, Error> {
        Ok(authenticode::sign(
            digest,
            &self.vendor,
            &self.vendor_certificate,
        )?)
    }
}

fn p256(pkcs8: &[u8]) -> Result<EcdsaKeyPair, Error> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map_err(|_| DAMAGED)
}

fn public_half(key: &EcdsaKeyPair) -> Result<Vec<u8>, Error> {
    let spki = (key.public_key().as_der()).map_err(|_| Error::Cryptography("a public key"))?;
    Ok(spki.as_ref().to_vec())
}

/// The vendor certificate's name, different for each authority.
fn name(ticket_key: &[u8]) -> String {
    let digest = digest(&SHA256, ticket_key);
    let digits: String = (digest.as_ref().iter())
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("Spacegray Boot Signing {}", &digits[..NAME_DIGITS])
}

fn file(parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let parts_size_bytes: usize = (parts.iter())
        .map(|part| LENGTH_SIZE_BYTES + part.len())
        .sum();
    let size_bytes = MAGIC.len() + parts_size_bytes + CHECKSUM_SIZE_BYTES;
    assert!(size_bytes <= FILE_SIZE_BYTES_MAX);
    // Never grown, so no copy of a key is left behind.
    let mut file = Zeroizing::new(Vec::with_capacity(size_bytes));
    file.extend_from_slice(MAGIC);
    for part in parts {
        let length = u16::try_from(part.len()).expect("a part is shorter than the file");
        file.extend_from_slice(&length.to_be_bytes());
        file.extend_from_slice(part);
    }
    let checksum = digest(&SHA256, &file);
    file.extend_from_slice(checksum.as_ref());
    file
}

fn part<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Error> {
    let (length, after) = rest.split_first_chunk().ok_or(DAMAGED)?;
    let length = u16::from_be_bytes(*length).into();
    let (part, after) = after.split_at_checked(length).ok_or(DAMAGED)?;
    *rest = after;
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise: what is read again is the same authority.
    #[test]
    fn keys_are_read_again() {
        let (keys, file) = Keys::generate().unwrap();
        assert!(ticket::is_key(keys.ticket_key()));
        let again = Keys::parse(&file).unwrap();
        assert_eq!(again.ticket_key(), keys.ticket_key());
        assert_eq!(again.vendor(), keys.vendor());
        assert!(ticket::is_key(keys.order_key()));
        assert_ne!(keys.order_key(), keys.ticket_key());
        assert_eq!(again.order_key(), keys.order_key());
        assert_eq!(again.sign_image(&[1; 32]), keys.sign_image(&[1; 32]));
    }

    /// Promise: a file that was cut or changed is refused and nothing else happens, whether or not
    /// somebody made its checksum fit.
    #[test]
    fn damaged_files_are_refused() {
        let (_, file) = Keys::generate().unwrap();
        for end in 0..file.len() {
            assert_eq!(Keys::parse(&file[..end]).err(), Some(DAMAGED), "{end}");
        }
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert_eq!(Keys::parse(&changed).err(), Some(DAMAGED), "{at}");
        }
        let parts: [&[&[u8]]; 3] = [
            &[],
            &[b"", b"", b"", b""],
            &[b"key", b"key", b"certificate", b"key"],
        ];
        for parts in parts {
            assert_eq!(Keys::parse(&super::file(parts)).err(), Some(DAMAGED));
        }
    }
}
