//! What may be asked of the vault, over either link.
//!
//! Invariant: a request is taken only if it is exactly what `docs/vault-protocol.md` lists: one
//! definite map, `op` and the fields of that operation, each once, and no byte after it. The two
//! links share no operation.

use super::{
    ANCHOR_SIZE_BYTES_MAX, DIGEST_SIZE_BYTES, NONCE_SIZE_BYTES_MAX, NONCE_SIZE_BYTES_MIN,
    SOFTWARE_SIZE_BYTES_MAX,
};
use crate::{Malformed, Map, RequestError};

/// What a secret claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum With {
    /// The owner's password.
    Password,
    /// The recovery key.
    RecoveryKey,
}

/// From where a password is given: each place has its own tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// At power-on and in the running system.
    Normal,
    /// In the recovery system.
    Recovery,
}

/// What keeps the store closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealKind {
    /// A key file beside it.
    KeyFile,
    /// A passphrase.
    Passphrase,
    /// The host's TPM.
    Tpm,
}

/// What the SSD is attached for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachMode {
    /// The disk as it is.
    Open,
    /// A new disk: new key, no anchor.
    Format,
    /// Modules in a state that no anchor fits, as the owner has authorised.
    Adopt,
}

/// How the owner proves to be one: the secret comes as a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// What the secret claims to be.
    pub with: With,
    /// From where it is given.
    pub mode: Mode,
}

/// One request of the firmware, already checked for form.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// Make the keys.
    Birth(SealKind),
    /// Make a chip that takes over the disk of another one.
    AdoptBundle(SealKind),
    /// Unseal the keys made earlier.
    Open,
    /// Show the public half of the keys.
    Identity,
    /// Tell what state the chip is in.
    Status,
    /// Check a secret, and have the disk's key with it.
    Unlock(Proof),
    /// Have a password from now on.
    SetPassword,
    /// Have another password.
    ChangePassword(Proof),
    /// Have none any more.
    RemovePassword(Proof),
    /// Make a recovery key and show it.
    MakeRecoveryKey(Proof),
    /// Sign the Authenticode SHA-256 digest of an image that may boot.
    SignImage {
        /// The digest.
        digest: [u8; DIGEST_SIZE_BYTES],
    },
    /// Serve the SSD on the socket that came with the packet.
    AttachSsd(AttachMode),
    /// Let the next SSD be attached to adopt.
    AuthoriseRollback(Proof),
    /// Destroy every key to the disk.
    Erase,
    /// Erase, and begin a new life.
    Restore,
    /// State what this chip is.
    Attest {
        /// The asker's own number, [`NONCE_SIZE_BYTES_MIN`] to [`NONCE_SIZE_BYTES_MAX`] bytes.
        nonce: Vec<u8>,
        /// What the firmware says, a CBOR map of at most [`SOFTWARE_SIZE_BYTES_MAX`].
        software: Vec<u8>,
    },
    /// Write what a new chip needs to take over the disk.
    ExportRecovery,
    /// Destroy the chip, opened or not.
    Destroy,
}

impl Request {
    /// Reads one packet.
    ///
    /// # Errors
    /// [`RequestError::UnknownOperation`] for any map whose `op` is none of these.
    pub fn parse(packet: &[u8]) -> Result<Request, RequestError> {
        let mut map = Map::parse(packet)?;
        let request = match map.text("op")? {
            "birth" => Request::Birth(seal(&mut map)?),
            "adopt_bundle" => Request::AdoptBundle(seal(&mut map)?),
            "open" => Request::Open,
            "identity" => Request::Identity,
            "status" => Request::Status,
            "unlock" => Request::Unlock(proof(&mut map)?),
            "set_password" => Request::SetPassword,
            "change_password" => Request::ChangePassword(proof(&mut map)?),
            "remove_password" => Request::RemovePassword(proof(&mut map)?),
            "make_recovery_key" => Request::MakeRecoveryKey(proof(&mut map)?),
            "sign_image" => Request::SignImage {
                digest: map.bytes("digest")?.try_into().map_err(|_| Malformed)?,
            },
            "attach_ssd" => Request::AttachSsd(match map.text("mode")? {
                "open" => AttachMode::Open,
                "format" => AttachMode::Format,
                "adopt" => AttachMode::Adopt,
                _ => return Err(RequestError::Malformed),
            }),
            "authorise_rollback" => Request::AuthoriseRollback(proof(&mut map)?),
            "erase" => Request::Erase,
            "restore" => Request::Restore,
            "attest" => Request::Attest {
                nonce: sized(
                    &mut map,
                    "nonce",
                    NONCE_SIZE_BYTES_MIN,
                    NONCE_SIZE_BYTES_MAX,
                )?,
                software: sized(&mut map, "software", 1, SOFTWARE_SIZE_BYTES_MAX)?,
            },
            "export_recovery" => Request::ExportRecovery,
            "destroy" => Request::Destroy,
            _ => return Err(RequestError::UnknownOperation),
        };
        map.end()?;
        Ok(request)
    }
}

fn seal(map: &mut Map<'_>) -> Result<SealKind, Malformed> {
    match map.text("seal")? {
        "keyfile" => Ok(SealKind::KeyFile),
        "passphrase" => Ok(SealKind::Passphrase),
        "tpm2" => Ok(SealKind::Tpm),
        _ => Err(Malformed),
    }
}

fn proof(map: &mut Map<'_>) -> Result<Proof, Malformed> {
    let with = match map.text("with")? {
        "password" => With::Password,
        "recovery_key" => With::RecoveryKey,
        _ => return Err(Malformed),
    };
    let mode = match map.text("mode")? {
        "normal" => Mode::Normal,
        "recovery" => Mode::Recovery,
        _ => return Err(Malformed),
    };
    Ok(Proof { with, mode })
}

fn sized(map: &mut Map<'_>, name: &str, least: usize, most: usize) -> Result<Vec<u8>, Malformed> {
    let bytes = map.bytes(name)?;
    let fits = (least..=most).contains(&bytes.len());
    fits.then(|| bytes.to_vec()).ok_or(Malformed)
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

    fn attest(nonce: &[u8], software: &[u8]) -> Result<Request, RequestError> {
        let fields = [
            ("nonce", Value::Bytes(nonce)),
            ("software", Value::Bytes(software)),
        ];
        main_link("attest", &fields)
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
        for (name, kind) in [
            ("keyfile", SealKind::KeyFile),
            ("passphrase", SealKind::Passphrase),
            ("tpm2", SealKind::Tpm),
        ] {
            let seal = [("seal", Value::Text(name))];
            assert_eq!(main_link("birth", &seal), Ok(Request::Birth(kind)));
            let adopting = Ok(Request::AdoptBundle(kind));
            assert_eq!(main_link("adopt_bundle", &seal), adopting);
        }
        for (op, request) in [
            ("open", Request::Open),
            ("identity", Request::Identity),
            ("status", Request::Status),
            ("set_password", Request::SetPassword),
            ("erase", Request::Erase),
            ("restore", Request::Restore),
            ("export_recovery", Request::ExportRecovery),
            ("destroy", Request::Destroy),
        ] {
            assert_eq!(main_link(op, &[]), Ok(request));
        }
        for (with, with_kind) in [
            ("password", With::Password),
            ("recovery_key", With::RecoveryKey),
        ] {
            for (mode, mode_kind) in [("normal", Mode::Normal), ("recovery", Mode::Recovery)] {
                let fields = [("with", Value::Text(with)), ("mode", Value::Text(mode))];
                let proof = Proof {
                    with: with_kind,
                    mode: mode_kind,
                };
                for (op, request) in [
                    ("unlock", Request::Unlock(proof)),
                    ("change_password", Request::ChangePassword(proof)),
                    ("remove_password", Request::RemovePassword(proof)),
                    ("make_recovery_key", Request::MakeRecoveryKey(proof)),
                    ("authorise_rollback", Request::AuthoriseRollback(proof)),
                ] {
                    assert_eq!(main_link(op, &fields), Ok(request));
                }
            }
        }
        assert_eq!(
            main_link("sign_image", &[("digest", Value::Bytes(&[7; 32]))]),
            Ok(Request::SignImage { digest: [7; 32] })
        );
        for (mode, kind) in [
            ("open", AttachMode::Open),
            ("format", AttachMode::Format),
            ("adopt", AttachMode::Adopt),
        ] {
            assert_eq!(
                main_link("attach_ssd", &[("mode", Value::Text(mode))]),
                Ok(Request::AttachSsd(kind))
            );
        }
        for size_bytes in [NONCE_SIZE_BYTES_MIN, NONCE_SIZE_BYTES_MAX] {
            let (nonce, software) = (vec![5; size_bytes], vec![0xa0]);
            assert_eq!(
                attest(&nonce, &software),
                Ok(Request::Attest { nonce, software })
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
            "status",
            "unlock",
            "erase",
            "destroy",
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
            main_link("attach_ssd", &[("mode", Value::Text("steal"))]),
            main_link("birth", &[]),
            main_link("birth", &[("seal", Value::Text("none"))]),
            main_link("unlock", &[("with", Value::Text("password"))]),
            main_link(
                "unlock",
                &[
                    ("with", Value::Text("uid")),
                    ("mode", Value::Text("normal")),
                ],
            ),
            main_link(
                "unlock",
                &[("with", Value::Text("password")), ("mode", Value::Text(""))],
            ),
            attest(&[0; NONCE_SIZE_BYTES_MIN - 1], &[0xa0]),
            attest(&[0; NONCE_SIZE_BYTES_MAX + 1], &[0xa0]),
            attest(&[0; NONCE_SIZE_BYTES_MIN], &[]),
            attest(
                &[0; NONCE_SIZE_BYTES_MIN],
                &[0; SOFTWARE_SIZE_BYTES_MAX + 1],
            ),
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
