//! What the store holds, and its CBOR form.
//!
//! Invariant: the encoded form lives in one buffer that is never moved and is wiped when dropped.

use minicbor::decode::Error as DecodeError;
use minicbor::encode::Error as EncodeError;
use minicbor::encode::write::{Cursor, EndOfSlice};
use minicbor::{Decoder, Encoder};
use zeroize::Zeroizing;

use crate::anchor::ANCHOR_SALT_SIZE_BYTES;
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
    /// The disk of this chip.
    pub disk: Disk,
    /// What the firmware's variables hold.
    pub certificates: Certificates,
}

/// What a format makes anew.
pub struct Disk {
    /// The key of everything on the modules.
    pub volume_key: Secret,
    /// Makes the key of the anchor file, so that another disk's anchor is none of this one's.
    pub anchor_salt: [u8; ANCHOR_SALT_SIZE_BYTES],
}

impl Disk {
    /// A disk that nothing has been written to.
    pub fn generate() -> Result<Disk, Error> {
        let mut anchor_salt = [0; ANCHOR_SALT_SIZE_BYTES];
        aws_lc_rs::rand::fill(&mut anchor_salt).map_err(|_| Error::Cryptography("random bytes"))?;
        Ok(Disk {
            volume_key: Secret::random()?,
            anchor_salt,
        })
    }
}

impl Contents {
    /// New keys for a new chip.
    pub fn generate(ecid: u64) -> Result<Contents, Error> {
        let (boot_signing_key, certificates) = keys::generate_boot_keys(ecid)?;
        Ok(Contents {
            identity_key: keys::generate_identity_key()?,
            boot_signing_key,
            disk: Disk::generate()?,
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
        let fields: [(&str, &[u8]); 7] = [
            ("identity_key", &self.identity_key),
            ("boot_signing_key", &self.boot_signing_key),
            ("volume_key", self.disk.volume_key.expose()),
            ("anchor_salt", &self.disk.anchor_salt),
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
            "volume_key",
            "anchor_salt",
            "pk",
            "kek",
            "db",
        ];
        if decoder.map().map_err(unreadable)? != Some(fields.len() as u64) {
            return Err(Error::Corrupt("contents"));
        }
        let mut values = [&[][..]; 7];
        for (name, value) in fields.iter().zip(&mut values) {
            if decoder.str().map_err(unreadable)? != *name {
                return Err(Error::Corrupt("contents"));
            }
            *value = decoder.bytes().map_err(unreadable)?;
        }
        let [
            identity_key,
            boot_signing_key,
            volume_key,
            anchor_salt,
            pk,
            kek,
            db,
        ] = values;
        Ok(Contents {
            identity_key: Zeroizing::new(identity_key.to_vec()),
            boot_signing_key: Zeroizing::new(boot_signing_key.to_vec()),
            disk: Disk {
                volume_key: Secret::from_slice(volume_key).ok_or(Error::Corrupt("volume key"))?,
                anchor_salt: (anchor_salt.try_into()).map_err(|_| Error::Corrupt("anchor salt"))?,
            },
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
