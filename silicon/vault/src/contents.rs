//! What the store holds, and its CBOR form.
//!
//! Invariant: the encoded form lives in one buffer that is never moved and is wiped when dropped.

use minicbor::decode::Error as DecodeError;
use minicbor::encode::Error as EncodeError;
use minicbor::encode::write::{Cursor, EndOfSlice};
use minicbor::{Decoder, Encoder};
use zeroize::Zeroizing;

use crate::certificate::Certificates;
use crate::secret::Secret;
use crate::{Error, keys};

/// Room for the encoded contents; they need about 5 KiB.
const CONTENTS_SIZE_BYTES_MAX: usize = 12 * 1024;

/// The keys and certificates of one chip.
pub struct Contents {
    /// PKCS#8, P-256.
    pub identity_key: Zeroizing<Vec<u8>>,
    /// PKCS#8, RSA-2048.
    pub boot_signing_key: Zeroizing<Vec<u8>>,
    /// The disk's key.
    pub disk_key: Secret,
    /// What the firmware's variables hold.
    pub certificates: Certificates,
}

impl Contents {
    /// New keys for a new chip.
    pub fn generate(ecid: u64) -> Result<Contents, Error> {
        let (boot_signing_key, certificates) = keys::generate_boot_keys(ecid)?;
        Ok(Contents {
            identity_key: keys::generate_identity_key()?,
            boot_signing_key,
            disk_key: Secret::random()?,
            certificates,
        })
    }

    /// The CBOR form, fields in a fixed order.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut bytes = Zeroizing::new(vec![0; CONTENTS_SIZE_BYTES_MAX]);
        let size = self
            .encode_into(&mut bytes)
            .map_err(|_| Error::Corrupt("contents too long"))?;
        bytes.truncate(size);
        Ok(bytes)
    }

    fn encode_into(&self, buffer: &mut [u8]) -> Result<usize, EncodeError<EndOfSlice>> {
        let mut encoder = Encoder::new(Cursor::new(buffer));
        let fields: [(&str, &[u8]); 6] = [
            ("identity_key", &self.identity_key),
            ("boot_signing_key", &self.boot_signing_key),
            ("disk_key", self.disk_key.expose()),
            ("pk", &self.certificates.pk),
            ("kek", &self.certificates.kek),
            ("db", &self.certificates.db),
        ];
        encoder.map(fields.len() as u64)?;
        for (name, value) in fields {
            encoder.str(name)?.bytes(value)?;
        }
        Ok(encoder.into_writer().position())
    }

    /// Reads what [`Contents::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Contents, Error> {
        let mut decoder = Decoder::new(bytes);
        let fields = [
            "identity_key",
            "boot_signing_key",
            "disk_key",
            "pk",
            "kek",
            "db",
        ];
        if decoder.map().map_err(unreadable)? != Some(fields.len() as u64) {
            return Err(Error::Corrupt("contents"));
        }
        let mut values = [&[][..]; 6];
        for (name, value) in fields.iter().zip(&mut values) {
            if decoder.str().map_err(unreadable)? != *name {
                return Err(Error::Corrupt("contents"));
            }
            *value = decoder.bytes().map_err(unreadable)?;
        }
        let [identity_key, boot_signing_key, disk_key, pk, kek, db] = values;
        Ok(Contents {
            identity_key: Zeroizing::new(identity_key.to_vec()),
            boot_signing_key: Zeroizing::new(boot_signing_key.to_vec()),
            disk_key: Secret::from_slice(disk_key).ok_or(Error::Corrupt("disk key"))?,
            certificates: Certificates {
                pk: pk.to_vec(),
                kek: kek.to_vec(),
                db: db.to_vec(),
            },
        })
    }
}

fn unreadable(_: DecodeError) -> Error {
    Error::Corrupt("contents")
}
