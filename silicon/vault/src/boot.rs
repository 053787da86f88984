//! What decides what starts, as the store keeps it.
//!
//! It is the system's, not the disk's: an erase leaves it as it is. A new life begins with new
//! certificates, the authority that came along, the strictest rules and no system; only the
//! minimum epoch stays.

use minicbor::encode::Error as EncodeError;
use minicbor::encode::write::EndOfSlice;

use crate::Error;
use crate::contents::fields::{Reader, Writer, bytes};
use crate::firmware_password::FirmwarePassword;
use crate::keys::Certificates;
use crate::password::Cost;
use crate::policy::{Policy, Rules};
use crate::slots::{Slot, Slots};
use crate::start::DIGEST_SIZE_BYTES;
use crate::tickets::Authority;

/// What decides what starts.
pub struct Boot {
    /// What the firmware's variables hold.
    pub certificates: Certificates,
    /// Who signs for this chip.
    pub authority: Authority,
    /// The rules for what may start.
    pub rules: Rules,
    /// Asked for before anything but the chosen system starts.
    pub firmware_password: Option<FirmwarePassword>,
    /// No ticket for a lower one is taken.
    pub minimum_epoch: u64,
    /// The systems.
    pub slots: Slots,
    /// SHA-256 of the guest's variables that are kept.
    pub variables: Option<[u8; DIGEST_SIZE_BYTES]>,
}

/// How many fields there are.
pub const FIELDS: u64 = 17;

impl Boot {
    /// For a new life of this chip.
    ///
    /// # Errors
    /// [`Error::Malformed`] for an authority that cannot be pinned.
    pub fn generate(ecid: u64, authority: Authority, minimum_epoch: u64) -> Result<Boot, Error> {
        authority.check()?;
        Ok(Boot {
            certificates: Certificates::generate(ecid)?,
            authority,
            rules: Rules::STRICTEST,
            firmware_password: None,
            minimum_epoch,
            slots: Slots::default(),
            variables: None,
        })
    }

    /// Writes its fields.
    pub fn write(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError<EndOfSlice>> {
        writer.bytes("pk", &self.certificates.pk)?;
        writer.bytes("kek", &self.certificates.kek)?;
        writer.bytes("authority", &self.authority.key)?;
        writer.bytes("vendor", &self.authority.vendor)?;
        writer.uint("policy", self.rules.policy.number())?;
        writer.uint("external_boot", self.rules.external_boot.into())?;
        writer.uint("other_systems", self.rules.other_systems.into())?;
        let password = self.firmware_password.as_ref();
        let cost = password.map(|each| each.cost);
        writer.bytes(
            "firmware_password_salt",
            bytes(password.map(|each| &each.salt)),
        )?;
        writer.uint(
            "firmware_password_memory_kib",
            cost.map_or(0, |cost| cost.memory_kib.into()),
        )?;
        writer.uint(
            "firmware_password_passes",
            cost.map_or(0, |cost| cost.passes.into()),
        )?;
        writer.bytes(
            "firmware_password_check",
            bytes(password.map(|each| &each.check)),
        )?;
        writer.uint("minimum_epoch", self.minimum_epoch)?;
        for (name, slot) in ["slot_a", "slot_b"].into_iter().zip(Slot::ALL) {
            let entry = self.slots.entry(slot).map(ticket::Entry::encode);
            writer.bytes(name, entry.as_deref().unwrap_or_default())?;
        }
        let current = self.slots.current().map_or(0, |slot| slot as u64 + 1);
        writer.uint("current", current)?;
        writer.uint("trial", self.slots.tries_left().map_or(0, |left| left + 1))?;
        writer.bytes("variables", bytes(self.variables.as_ref()))
    }

    /// Reads what [`Boot::write`] wrote.
    pub fn read(reader: &mut Reader<'_>) -> Result<Boot, Error> {
        let certificates = Certificates {
            pk: reader.bytes("pk")?.to_vec(),
            kek: reader.bytes("kek")?.to_vec(),
        };
        let authority = Authority {
            key: (reader.array("authority")?).ok_or(Error::Corrupt("authority"))?,
            vendor: reader.bytes("vendor")?.to_vec(),
        };
        let rules = Rules {
            policy: Policy::from_number(reader.uint("policy")?)?,
            external_boot: reader.flag("external_boot")?,
            other_systems: reader.flag("other_systems")?,
        };
        Ok(Boot {
            certificates,
            authority,
            rules,
            firmware_password: firmware_password(reader)?,
            minimum_epoch: reader.uint("minimum_epoch")?,
            slots: slots(reader)?,
            variables: reader.array("variables")?,
        })
    }
}

fn firmware_password(reader: &mut Reader<'_>) -> Result<Option<FirmwarePassword>, Error> {
    let salt = reader.array("firmware_password_salt")?;
    let memory_kib = reader.uint("firmware_password_memory_kib")?;
    let passes = reader.uint("firmware_password_passes")?;
    let check = reader.array("firmware_password_check")?;
    let Some((salt, check)) = salt.zip(check) else {
        return Ok(None);
    };
    let cost = Cost::kept(memory_kib, passes)?;
    Ok(Some(FirmwarePassword { salt, cost, check }))
}

fn slots(reader: &mut Reader<'_>) -> Result<Slots, Error> {
    let entries = [entry(reader, "slot_a")?, entry(reader, "slot_b")?];
    let current = match reader.uint("current")? {
        0 => None,
        1 => Some(Slot::A),
        2 => Some(Slot::B),
        _ => return Err(Error::Corrupt("current slot")),
    };
    Slots::read(entries, current, reader.uint("trial")?.checked_sub(1))
}

fn entry(reader: &mut Reader<'_>, name: &str) -> Result<Option<ticket::Entry>, Error> {
    match reader.bytes(name)? {
        [] => Ok(None),
        bytes => (ticket::parse_entry(bytes).map(Some)).map_err(|_| Error::Corrupt("ticket")),
    }
}
