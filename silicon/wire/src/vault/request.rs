//! What may be asked of the vault, over either link.
//!
//! Invariant: a request is taken only if it is exactly what `docs/vault-protocol.md` lists: one
//! definite map, `op` and the fields of that operation, each once, and no byte after it. The two
//! links share no operation.

use super::{ANCHOR_SIZE_BYTES_MAX, DIGEST_SIZE_BYTES};
use crate::{Malformed, Map, RequestError};

/// One request of the firmware, already checked for form.
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
    /// Serve the SSD on the socket that came with the packet.
    AttachSsd {
        /// Whether to begin a new disk: new key, no anchor.
        format: bool,
    },
}

impl Request {
    /// Reads one packet.
    ///
    /// # Errors
    /// [`RequestError::UnknownOperation`] for any map whose `op` is none of these.
    pub fn parse(packet: &[u8]) -> Result<Request, RequestError> {
        let mut map = Map::parse(packet)?;
        let request = match map.text("op")? {
            "birth" => Request::Birth,
            "open" => Request::Open,
            "identity" => Request::Identity,
            "sign_image" => Request::SignImage {
                digest: map.bytes("digest")?.try_into().map_err(|_| Malformed)?,
            },
            "attach_ssd" => Request::AttachSsd {
                format: map.bool("format")?,
            },
            _ => return Err(RequestError::UnknownOperation),
        };
        map.end()?;
        Ok(request)
    }
}

/// One request of the SSD, already checked for form.
#[derive(Debug, PartialEq, Eq)]
pub enum SsdRequest {
    /// Hand out the volume key.
    VolumeKey,
    /// Tell the newest anchor.
    ReadAnchor,
    /// Keep this anchor as the newest.
    WriteAnchor {
        /// Never lower than that of the kept anchor.
        sequence: u64,
        /// Means nothing to the vault; 1 to [`ANCHOR_SIZE_BYTES_MAX`] bytes.
        anchor: Vec<u8>,
    },
}

impl SsdRequest {
    /// Reads one packet.
    ///
    /// # Errors
    /// As for [`Request::parse`].
    pub fn parse(packet: &[u8]) -> Result<SsdRequest, RequestError> {
        let mut map = Map::parse(packet)?;
        let request = match map.text("op")? {
            "volume_key" => SsdRequest::VolumeKey,
            "read_anchor" => SsdRequest::ReadAnchor,
            "write_anchor" => {
                let (sequence, anchor) = (map.uint("sequence")?, map.bytes("anchor")?);
                if !(1..=ANCHOR_SIZE_BYTES_MAX).contains(&anchor.len()) {
                    return Err(RequestError::Malformed);
                }
                SsdRequest::WriteAnchor {
                    sequence,
                    anchor: anchor.to_vec(),
                }
            }
            _ => return Err(RequestError::UnknownOperation),
        };
        map.end()?;
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Value, request};

    const MALFORMED: RequestError = RequestError::Malformed;
    const UNKNOWN: RequestError = RequestError::UnknownOperation;

    fn main_link(op: &str, fields: &[(&str, Value<'_>)]) -> Result<Request, RequestError> {
        Request::parse(&request(op, fields))
    }

    fn ssd_link(op: &str, fields: &[(&str, Value<'_>)]) -> Result<SsdRequest, RequestError> {
        SsdRequest::parse(&request(op, fields))
    }

    fn write_anchor(size_bytes: usize) -> Result<SsdRequest, RequestError> {
        let anchor = vec![9; size_bytes];
        ssd_link(
            "write_anchor",
            &[
                ("sequence", Value::Uint(u64::MAX)),
                ("anchor", Value::Bytes(&anchor)),
            ],
        )
    }

    /// Promise: every listed operation is understood, on its own link.
    #[test]
    fn listed_operations_are_read() {
        assert_eq!(main_link("birth", &[]), Ok(Request::Birth));
        assert_eq!(main_link("open", &[]), Ok(Request::Open));
        assert_eq!(main_link("identity", &[]), Ok(Request::Identity));
        assert_eq!(
            main_link("sign_image", &[("digest", Value::Bytes(&[7; 32]))]),
            Ok(Request::SignImage { digest: [7; 32] })
        );
        for format in [false, true] {
            assert_eq!(
                main_link("attach_ssd", &[("format", Value::Bool(format))]),
                Ok(Request::AttachSsd { format })
            );
        }
        assert_eq!(ssd_link("volume_key", &[]), Ok(SsdRequest::VolumeKey));
        assert_eq!(ssd_link("read_anchor", &[]), Ok(SsdRequest::ReadAnchor));
        for size_bytes in [1, ANCHOR_SIZE_BYTES_MAX] {
            let (sequence, anchor) = (u64::MAX, vec![9; size_bytes]);
            assert_eq!(
                write_anchor(size_bytes),
                Ok(SsdRequest::WriteAnchor { sequence, anchor })
            );
        }
    }

    /// Promise: an unknown operation is named as such, and so is one of the other link.
    #[test]
    fn unknown_operations_are_refused() {
        for op in ["export", "", "volume_key", "read_anchor", "write_anchor"] {
            assert_eq!(main_link(op, &[]), Err(UNKNOWN), "{op}");
        }
        for op in [
            "export",
            "birth",
            "open",
            "identity",
            "sign_image",
            "attach_ssd",
        ] {
            assert_eq!(ssd_link(op, &[]), Err(UNKNOWN), "{op}");
        }
    }

    /// Promise: only the exact fields are taken.
    #[test]
    fn other_fields_are_malformed() {
        let digest = |size| main_link("sign_image", &[("digest", Value::Bytes(&[7; 64][..size]))]);
        for wrong in [
            digest(31),
            digest(33),
            main_link("sign_image", &[]),
            main_link("open", &[("force", Value::Bool(true))]),
            main_link("open", &[("digest", Value::Bytes(&[7; 32]))]),
            main_link("open", &[("op", Value::Text("birth"))]),
            main_link("attach_ssd", &[]),
            main_link("attach_ssd", &[("format", Value::Uint(1))]),
            Request::parse(b"\xa0"),
            Request::parse(b"\xa1\x62op\x01"),
        ] {
            assert_eq!(wrong, Err(MALFORMED));
        }
        let (sequence, anchor) = (Value::Uint(1), Value::Bytes(&[1]));
        for wrong in [
            write_anchor(0),
            write_anchor(ANCHOR_SIZE_BYTES_MAX + 1),
            ssd_link("volume_key", &[("again", Value::Bool(true))]),
            ssd_link("read_anchor", &[("sequence", Value::Uint(1))]),
            ssd_link("write_anchor", &[("sequence", sequence)]),
            ssd_link("write_anchor", &[("anchor", anchor)]),
            ssd_link(
                "write_anchor",
                &[("sequence", Value::Text("1")), ("anchor", Value::Bytes(&[1]))],
            ),
            // A sequence of 65 bits.
            SsdRequest::parse(
                b"\xa3\x62op\x6cwrite_anchor\x66anchor\x41a\x68sequence\xc2\x49\x01\0\0\0\0\0\0\0\0",
            ),
        ] {
            assert_eq!(wrong, Err(MALFORMED));
        }
    }
}
