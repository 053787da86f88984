//! The TPM's storage key, for which a session is salted (Part 1, "Salted Session"; its annex on
//! ECC, "Secret Sharing").
//!
//! It is a primary key: the TPM makes it anew, the same each time, from a seed that only clearing
//! the TPM changes. So it need not be kept, and its name tells this TPM from every other.

use aws_lc_rs::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::kdf::{SskdfDigestAlgorithmId, get_sskdf_digest_algorithm, sskdf_digest};
use aws_lc_rs::rand::SystemRandom;
use zeroize::Zeroizing;

use crate::Error;
use crate::bytes::{Reader, Writer, size};
use crate::link::{Bus, ST_NO_SESSIONS, ST_SESSIONS, command};

/// Size of the name of a TPM's key: SHA-256 over its public part.
pub const KEY_NAME_SIZE_BYTES: usize = 32;
/// Size of the secret that a session is salted with.
pub const SALT_SIZE_BYTES: usize = 32;

/// `TPM_ALG_SHA256`.
pub const ALG_SHA256: u16 = 0x000b;
/// `TPM_ALG_AES`.
pub const ALG_AES: u16 = 0x0006;
/// `TPM_ALG_CFB`.
pub const ALG_CFB: u16 = 0x0043;
/// Bits of an AES key.
pub const AES_BITS: u16 = 128;
/// `TPM_RH_OWNER`: the hierarchy of the storage key and of our indices.
pub const RH_OWNER: u32 = 0x4000_0001;

const ALG_NULL: u16 = 0x0010;
const ALG_ECC: u16 = 0x0023;
const ECC_NIST_P256: u16 = 0x0003;
/// Size of a coordinate on P-256.
const COORDINATE_SIZE_BYTES: usize = 32;
/// The storage key of the TCG's provisioning guidance, 7.5.1: `fixedTPM`, `fixedParent`,
/// `sensitiveDataOrigin`, `userWithAuth`, `noDA`, `restricted`, `decrypt`.
const OBJECT_ATTRIBUTES: u32 = 0x0003_0472;
const RS_PW: u32 = 0x4000_0009;
const CC_CREATE_PRIMARY: u32 = 0x131;
const CC_FLUSH_CONTEXT: u32 = 0x165;
/// KDFe's label (Part 1, "KDFe for ECDH"); its zero byte is hashed too.
const SALT_LABEL: &[u8] = b"SECRET\0";

/// The storage key, loaded.
pub struct StorageKey {
    /// Where it is loaded.
    pub handle: u32,
    /// SHA-256 over its public part.
    pub name: [u8; KEY_NAME_SIZE_BYTES],
    x: [u8; COORDINATE_SIZE_BYTES],
    y: [u8; COORDINATE_SIZE_BYTES],
}

impl StorageKey {
    /// Has the TPM make its storage key: TPM2_CreatePrimary (Part 3). It has to be flushed.
    pub fn load(bus: &Bus) -> Result<StorageKey, Error> {
        // No password for the key, and no data of ours in it.
        let sensitive = Writer::new().sized(&[]).sized(&[]);
        let public = template()
            .sized(&[0; COORDINATE_SIZE_BYTES])
            .sized(&[0; COORDINATE_SIZE_BYTES]);
        // The empty authorisation of the owner, as a password: there is no secret in it.
        let authorisation = Writer::new().u32(RS_PW).sized(&[]).u8(0).sized(&[]);
        let body = Writer::new()
            .u32(RH_OWNER)
            .u32(size(authorisation.bytes().len()))
            .raw(authorisation.bytes())
            .sized(sensitive.bytes())
            .sized(public.bytes())
            .sized(&[]) // no outside information
            .u32(0); // no PCRs
        let sent = command(ST_SESSIONS, CC_CREATE_PRIMARY, body.bytes());
        let answer = bus.run(sent.bytes()).map_err(|error| match error {
            Error::Unauthorised => Error::OwnerAuthorisation,
            error => error,
        })?;
        let mut reader = Reader::new(answer.body());
        let handle = reader.u32()?;
        let _parameters_size = reader.u32()?;
        // The rest says how and in which state of the machine it was made.
        StorageKey::read(handle, reader.sized()?).inspect_err(|_| flush(bus, handle))
    }

    fn read(handle: u32, public: &[u8]) -> Result<StorageKey, Error> {
        let mut reader = Reader::new(public);
        let template = template();
        if reader.raw(template.bytes().len())? != template.bytes() {
            return Err(Error::Garbled("storage key"));
        }
        let (x, y) = (coordinate(&mut reader)?, coordinate(&mut reader)?);
        reader.end()?;
        let name = digest(&SHA256, public).as_ref().try_into();
        Ok(StorageKey {
            handle,
            name: name.expect("a digest has this size"),
            x,
            y,
        })
    }

    /// A new secret, and what lets this key's owner have it too.
    pub fn share_secret(&self) -> Result<(Zeroizing<[u8; SALT_SIZE_BYTES]>, Writer), Error> {
        let failed = || Error::Cryptography("agreeing on a salt");
        let ours = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new())
            .map_err(|_| failed())?;
        let point = ours.compute_public_key().map_err(|_| failed())?;
        // One byte that says "uncompressed", and the coordinates.
        let (our_x, our_y) = point.as_ref()[1..].split_at(COORDINATE_SIZE_BYTES);
        let theirs = [&[4][..], &self.x, &self.y].concat();
        let theirs = UnparsedPublicKey::new(&ECDH_P256, theirs);
        let party_info = [SALT_LABEL, our_x, &self.x].concat();
        let hash = get_sskdf_digest_algorithm(SskdfDigestAlgorithmId::Sha256).ok_or_else(failed)?;
        let salt = agree_ephemeral(ours, &theirs, failed(), |shared| {
            let mut salt = Zeroizing::new([0; SALT_SIZE_BYTES]);
            sskdf_digest(hash, shared, &party_info, &mut salt[..]).map_err(|_| failed())?;
            Ok(salt)
        })?;
        Ok((salt, Writer::new().sized(our_x).sized(our_y)))
    }
}

/// Frees the TPM's place of an object or a session: TPM2_FlushContext (Part 3).
pub fn flush(bus: &Bus, handle: u32) {
    let body = handle.to_be_bytes();
    // Nothing can be done where it fails: what is left there goes with the connection to the
    // kernel's device, and with the next reset elsewhere.
    let _ = bus.run(command(ST_NO_SESSIONS, CC_FLUSH_CONTEXT, &body).bytes());
}

/// The key's public part up to its point: `TPMT_PUBLIC` (Part 2).
fn template() -> Writer {
    Writer::new()
        .u16(ALG_ECC)
        .u16(ALG_SHA256)
        .u32(OBJECT_ATTRIBUTES)
        .sized(&[]) // no policy
        .u16(ALG_AES)
        .u16(AES_BITS)
        .u16(ALG_CFB)
        .u16(ALG_NULL) // no signing scheme
        .u16(ECC_NIST_P256)
        .u16(ALG_NULL) // no derivation scheme
}

/// A coordinate, which a TPM may have written without its leading zeros.
fn coordinate(reader: &mut Reader<'_>) -> Result<[u8; COORDINATE_SIZE_BYTES], Error> {
    let bytes = reader.sized()?;
    let mut coordinate = [0; COORDINATE_SIZE_BYTES];
    let start = COORDINATE_SIZE_BYTES
        .checked_sub(bytes.len())
        .ok_or(Error::Garbled("storage key"))?;
    coordinate[start..].copy_from_slice(bytes);
    Ok(coordinate)
}
