//! What the firmware may ask of the vault.
//!
//! Invariant: a request is taken only if it is exactly what `docs/vault-protocol.md` lists: one
//! definite map, `op` and the fields of that operation, each once, and no byte after it.

use minicbor::Decoder;
use minicbor::decode::Error;

/// Size of the SHA-256 digest in a `sign_image` request.
pub const DIGEST_SIZE_BYTES: usize = 32;

/// One request, already checked for form.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// Make the keys.
    Birth,
    /// Unseal the keys made earlier.
    Open,
    /// Show the public half of the keys.
    Identity,
    /// Sign the Authenticode SHA-256 digest of an image that may boot.
    SignImage {
        /// The digest.
        digest: [u8; DIGEST_SIZE_BYTES],
    },
    /// Write the disk key into the pipe that came with the packet.
    ReleaseDiskKey,
}

/// Why a packet is no request.
#[derive(Debug, PartialEq, Eq)]
pub enum RequestError {
    /// Not one CBOR map with the fields of its operation.
    Malformed,
    /// Well formed, but no operation of the vault.
    UnknownOperation,
}

impl From<Error> for RequestError {
    fn from(_: Error) -> Self {
        RequestError::Malformed
    }
}

impl Request {
    /// Reads one packet.
    pub fn parse(packet: &[u8]) -> Result<Request, RequestError> {
        let mut decoder = Decoder::new(packet);
        let mut operation = None;
        let mut digest = None;
        // An indefinite map (`None`) is longer than it needs to be; nobody of ours sends one.
        let fields = decoder.map()?.ok_or(RequestError::Malformed)?;
        for _ in 0..fields {
            match decoder.str()? {
                "op" if operation.is_none() => operation = Some(decoder.str()?),
                "digest" if digest.is_none() => digest = Some(decoder.bytes()?),
                _ => return Err(RequestError::Malformed),
            }
        }
        if decoder.position() != packet.len() {
            return Err(RequestError::Malformed);
        }
        match (operation, digest) {
            (Some("birth"), None) => Ok(Request::Birth),
            (Some("open"), None) => Ok(Request::Open),
            (Some("identity"), None) => Ok(Request::Identity),
            (Some("sign_image"), Some(digest)) => Ok(Request::SignImage {
                digest: digest.try_into().map_err(|_| RequestError::Malformed)?,
            }),
            (Some("release_disk_key"), None) => Ok(Request::ReleaseDiskKey),
            (Some("birth" | "open" | "identity" | "sign_image" | "release_disk_key"), _)
            | (None, _) => Err(RequestError::Malformed),
            (Some(_), _) => Err(RequestError::UnknownOperation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(write: impl FnOnce(&mut minicbor::Encoder<&mut Vec<u8>>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut minicbor::Encoder::new(&mut bytes));
        bytes
    }

    fn sign_image(size_bytes: usize) -> Vec<u8> {
        packet(|e| {
            e.map(2)
                .unwrap()
                .str("op")
                .unwrap()
                .str("sign_image")
                .unwrap();
            e.str("digest")
                .unwrap()
                .bytes(&vec![7; size_bytes])
                .unwrap();
        })
    }

    fn plain(operation: &str) -> Vec<u8> {
        packet(|e| {
            e.map(1).unwrap().str("op").unwrap().str(operation).unwrap();
        })
    }

    /// Promise: every listed operation is understood.
    #[test]
    fn listed_operations_are_read() {
        assert_eq!(Request::parse(&plain("birth")), Ok(Request::Birth));
        assert_eq!(Request::parse(&plain("open")), Ok(Request::Open));
        assert_eq!(Request::parse(&plain("identity")), Ok(Request::Identity));
        assert_eq!(
            Request::parse(&plain("release_disk_key")),
            Ok(Request::ReleaseDiskKey)
        );
        assert_eq!(
            Request::parse(&sign_image(32)),
            Ok(Request::SignImage { digest: [7; 32] })
        );
    }

    /// Promise: an unknown operation is named as such, not taken for noise.
    #[test]
    fn unknown_operation_is_refused() {
        assert_eq!(
            Request::parse(&plain("export")),
            Err(RequestError::UnknownOperation)
        );
    }

    /// Promise: only the exact form is taken.
    #[test]
    fn other_forms_are_malformed() {
        let twice = packet(|e| {
            e.map(2).unwrap().str("op").unwrap().str("open").unwrap();
            e.str("op").unwrap().str("birth").unwrap();
        });
        let stray_field = packet(|e| {
            e.map(2).unwrap().str("op").unwrap().str("open").unwrap();
            e.str("force").unwrap().bool(true).unwrap();
        });
        let stray_digest = packet(|e| {
            e.map(2).unwrap().str("op").unwrap().str("open").unwrap();
            e.str("digest").unwrap().bytes(&[7; 32]).unwrap();
        });
        let indefinite = packet(|e| {
            e.begin_map()
                .unwrap()
                .str("op")
                .unwrap()
                .str("open")
                .unwrap()
                .end()
                .unwrap();
        });
        let mut trailing = plain("open");
        trailing.push(0);
        for bytes in [
            twice,
            stray_field,
            stray_digest,
            indefinite,
            trailing,
            sign_image(31),
            sign_image(33),
            plain("sign_image"),
            vec![0xa0],
            vec![0x80],
            b"hello".to_vec(),
        ] {
            assert_eq!(
                Request::parse(&bytes),
                Err(RequestError::Malformed),
                "{bytes:02x?}"
            );
        }
    }

    /// Promise: no packet makes the parser panic or read past its end, however it is broken.
    #[test]
    fn broken_packets_never_panic() {
        let whole = sign_image(32);
        for length in 0..whole.len() {
            assert_eq!(
                Request::parse(&whole[..length]),
                Err(RequestError::Malformed)
            );
        }
        for position in 0..whole.len() {
            for value in 0..=255 {
                let mut bytes = whole.clone();
                bytes[position] = value;
                let _ = Request::parse(&bytes);
            }
        }
        // A map that claims 2^64 - 1 fields.
        let _ = Request::parse(&[0xbb, 255, 255, 255, 255, 255, 255, 255, 255]);
    }
}
