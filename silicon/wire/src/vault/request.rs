//! What may be asked of the vault, over either link.
//!
//! Invariant: a request is taken only if it is exactly what `docs/vault-protocol.md` lists: one
//! definite map, `op` and the fields of that operation, each once, and no byte after it. The two
//! links share no operation.

use super::{
    ANCHOR_SIZE_BYTES_MAX, AUTHORITY_KEY_SIZE_BYTES, DETAIL_SIZE_BYTES_MAX, DIGEST_SIZE_BYTES,
    JOB_SIZE_BYTES_MAX, NONCE_SIZE_BYTES_MAX, NONCE_SIZE_BYTES_MIN, ORDER_SIZE_BYTES_MAX,
    PRODUCT_SIZE_BYTES_MAX, PROVIDER_KEY_SIZE_BYTES, PROVIDER_NAME_SIZE_BYTES_MAX,
    SOFTWARE_SIZE_BYTES_MAX, TICKET_SIZE_BYTES_MAX, TRIES_MAX, VENDOR_SIZE_BYTES_MAX,
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

/// Who signs for a chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// `SubjectPublicKeyInfo` of its ticket key, P-256, DER.
    pub key: [u8; AUTHORITY_KEY_SIZE_BYTES],
    /// Its vendor certificate, DER, 1 to [`VENDOR_SIZE_BYTES_MAX`] bytes.
    pub vendor: Vec<u8>,
}

/// A place for a whole system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

/// What is to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The system in a slot.
    Main,
    /// Another system on the internal disk.
    Other,
    /// A system on a disk outside.
    External,
    /// The recovery system.
    Recovery,
}

/// What may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// What a ticket names.
    Full,
    /// What a trusted signer signed.
    Medium,
    /// Anything.
    None,
}

/// What a ticket is to name: a SHA-256 digest of each part of a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Components {
    /// The machine's firmware, the file.
    pub firmware: [u8; DIGEST_SIZE_BYTES],
    /// The template of its variables, the file.
    pub variables: [u8; DIGEST_SIZE_BYTES],
    /// The kernel image, its Authenticode digest.
    pub kernel: [u8; DIGEST_SIZE_BYTES],
    /// The root of the system volume's tree.
    pub system: [u8; DIGEST_SIZE_BYTES],
    /// The recovery system's medium, the file.
    pub recovery: [u8; DIGEST_SIZE_BYTES],
    /// The kernel image on it, its Authenticode digest.
    pub recovery_kernel: [u8; DIGEST_SIZE_BYTES],
}

/// Work inside the machine, to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// What is done, 1 to [`JOB_SIZE_BYTES_MAX`] bytes.
    pub job: String,
    /// More about it, at most [`DETAIL_SIZE_BYTES_MAX`] bytes.
    pub detail: Vec<u8>,
    /// When, seconds since 1970.
    pub time: u64,
    /// The work order, at most [`ORDER_SIZE_BYTES_MAX`] bytes; empty where the owner does it.
    pub order: Vec<u8>,
    /// The end of the record that it goes on from.
    pub continues: Option<[u8; DIGEST_SIZE_BYTES]>,
    /// How the owner proves to be one.
    pub proof: Proof,
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
    /// Make the keys; this authority's tickets count.
    Birth(SealKind, Authority),
    /// Make a chip that takes over the disk of another one.
    AdoptBundle(SealKind, Authority),
    /// Unseal the keys made earlier.
    Open,
    /// Show the public half of the keys.
    Identity,
    /// Tell what state the chip is in.
    Status,
    /// Tell what may start.
    Boot,
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
    /// Check the firmware password.
    CheckFirmwarePassword,
    /// Have a firmware password from now on, or another one.
    SetFirmwarePassword,
    /// Have none any more.
    RemoveFirmwarePassword,
    /// Have other rules for what may start.
    SetPolicy {
        /// What may start from the internal disk.
        policy: Policy,
        /// Whether a disk outside may be started from.
        external_boot: bool,
        /// Whether Microsoft's signatures count beside the vendor's.
        other_systems: bool,
    },
    /// Make the request for a ticket.
    RequestTicket {
        /// Which edition it is, 1 to [`PRODUCT_SIZE_BYTES_MAX`] bytes.
        product: String,
        /// Its security epoch.
        epoch: u64,
        /// What it consists of.
        components: Box<Components>,
    },
    /// Let the system that a ticket names be the one of a slot.
    AcceptTicket {
        /// The slot.
        slot: Slot,
        /// The ticket, 1 to [`TICKET_SIZE_BYTES_MAX`] bytes.
        ticket: Vec<u8>,
        /// How often it is tried, at most [`TRIES_MAX`]; with 0 it is the current one at once.
        tries: u64,
    },
    /// Begin a start of the machine.
    BeginStart(Target),
    /// The system that was started last is up.
    CameUp,
    /// The system that was being tried is given up.
    GiveUp,
    /// Remember which of the guest's variables are kept.
    KeepVariables {
        /// SHA-256 of what is kept.
        digest: [u8; DIGEST_SIZE_BYTES],
    },
    /// Tell what was done inside the machine, and whose work orders count.
    Service,
    /// Let work orders that are signed with this key count.
    TrustProvider {
        /// What it is called, 1 to [`PROVIDER_NAME_SIZE_BYTES_MAX`] bytes.
        name: String,
        /// The key, `SubjectPublicKeyInfo`.
        key: [u8; PROVIDER_KEY_SIZE_BYTES],
        /// How the owner proves to be one.
        proof: Proof,
    },
    /// Let them count no more.
    DistrustProvider {
        /// SHA-256 of the key.
        fingerprint: [u8; DIGEST_SIZE_BYTES],
        /// How the owner proves to be one.
        proof: Proof,
    },
    /// Record work inside the machine.
    RecordService(Box<Service>),
    /// Serve the SSD on the socket that came with the packet.
    AttachSsd(AttachMode),
    /// Let the next SSD be attached to adopt.
    AuthoriseRollback(Proof),
    /// Destroy every key to the disk.
    Erase,
    /// Erase, and begin a new life, in which this authority's tickets count.
    Restore(Authority),
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
            "birth" => Request::Birth(seal(&mut map)?, authority(&mut map)?),
            "adopt_bundle" => Request::AdoptBundle(seal(&mut map)?, authority(&mut map)?),
            "open" => Request::Open,
            "identity" => Request::Identity,
            "status" => Request::Status,
            "boot" => Request::Boot,
            "unlock" => Request::Unlock(proof(&mut map)?),
            "set_password" => Request::SetPassword,
            "change_password" => Request::ChangePassword(proof(&mut map)?),
            "remove_password" => Request::RemovePassword(proof(&mut map)?),
            "make_recovery_key" => Request::MakeRecoveryKey(proof(&mut map)?),
            "check_firmware_password" => Request::CheckFirmwarePassword,
            "set_firmware_password" => Request::SetFirmwarePassword,
            "remove_firmware_password" => Request::RemoveFirmwarePassword,
            "set_policy" => Request::SetPolicy {
                policy: policy(&mut map)?,
                external_boot: map.bool("external_boot")?,
                other_systems: map.bool("other_systems")?,
            },
            "request_ticket" => Request::RequestTicket {
                product: text(&mut map, "product", PRODUCT_SIZE_BYTES_MAX)?,
                epoch: map.uint("epoch")?,
                components: Box::new(components(&mut map)?),
            },
            "accept_ticket" => Request::AcceptTicket {
                slot: slot(&mut map)?,
                ticket: sized(&mut map, "ticket", 1, TICKET_SIZE_BYTES_MAX)?,
                tries: tries(&mut map)?,
            },
            "begin_start" => Request::BeginStart(target(&mut map)?),
            "came_up" => Request::CameUp,
            "give_up" => Request::GiveUp,
            "keep_variables" => Request::KeepVariables {
                digest: digest(&mut map, "digest")?,
            },
            "service" => Request::Service,
            "trust_provider" => Request::TrustProvider {
                name: text(&mut map, "name", PROVIDER_NAME_SIZE_BYTES_MAX)?,
                key: (map.bytes("key")?.try_into()).map_err(|_| Malformed)?,
                proof: proof(&mut map)?,
            },
            "distrust_provider" => Request::DistrustProvider {
                fingerprint: digest(&mut map, "fingerprint")?,
                proof: proof(&mut map)?,
            },
            "record_service" => Request::RecordService(Box::new(service(&mut map)?)),
            "attach_ssd" => Request::AttachSsd(match map.text("mode")? {
                "open" => AttachMode::Open,
                "format" => AttachMode::Format,
                "adopt" => AttachMode::Adopt,
                _ => return Err(RequestError::Malformed),
            }),
            "authorise_rollback" => Request::AuthoriseRollback(proof(&mut map)?),
            "erase" => Request::Erase,
            "restore" => Request::Restore(authority(&mut map)?),
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

fn authority(map: &mut Map<'_>) -> Result<Authority, Malformed> {
    Ok(Authority {
        key: (map.bytes("authority")?.try_into()).map_err(|_| Malformed)?,
        vendor: sized(map, "vendor", 1, VENDOR_SIZE_BYTES_MAX)?,
    })
}

fn slot(map: &mut Map<'_>) -> Result<Slot, Malformed> {
    match map.text("slot")? {
        "a" => Ok(Slot::A),
        "b" => Ok(Slot::B),
        _ => Err(Malformed),
    }
}

fn target(map: &mut Map<'_>) -> Result<Target, Malformed> {
    match map.text("target")? {
        "main" => Ok(Target::Main),
        "other" => Ok(Target::Other),
        "external" => Ok(Target::External),
        "recovery" => Ok(Target::Recovery),
        _ => Err(Malformed),
    }
}

fn policy(map: &mut Map<'_>) -> Result<Policy, Malformed> {
    match map.text("policy")? {
        "full" => Ok(Policy::Full),
        "medium" => Ok(Policy::Medium),
        "none" => Ok(Policy::None),
        _ => Err(Malformed),
    }
}

fn text(map: &mut Map<'_>, name: &str, most: usize) -> Result<String, Malformed> {
    let text = map.text(name)?;
    let fits = (1..=most).contains(&text.len());
    fits.then(|| text.to_owned()).ok_or(Malformed)
}

fn service(map: &mut Map<'_>) -> Result<Service, Malformed> {
    Ok(Service {
        job: text(map, "job", JOB_SIZE_BYTES_MAX)?,
        detail: sized(map, "detail", 0, DETAIL_SIZE_BYTES_MAX)?,
        time: map.uint("time")?,
        order: sized(map, "order", 0, ORDER_SIZE_BYTES_MAX)?,
        continues: match map.bytes("continues")? {
            [] => None,
            head => Some(head.try_into().map_err(|_| Malformed)?),
        },
        proof: proof(map)?,
    })
}

fn components(map: &mut Map<'_>) -> Result<Components, Malformed> {
    Ok(Components {
        firmware: digest(map, "firmware")?,
        variables: digest(map, "variables")?,
        kernel: digest(map, "kernel")?,
        system: digest(map, "system")?,
        recovery: digest(map, "recovery")?,
        recovery_kernel: digest(map, "recovery_kernel")?,
    })
}

fn tries(map: &mut Map<'_>) -> Result<u64, Malformed> {
    let tries = map.uint("tries")?;
    (tries <= TRIES_MAX).then_some(tries).ok_or(Malformed)
}

fn digest(map: &mut Map<'_>, name: &str) -> Result<[u8; DIGEST_SIZE_BYTES], Malformed> {
    map.bytes(name)?.try_into().map_err(|_| Malformed)
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
mod tests;
