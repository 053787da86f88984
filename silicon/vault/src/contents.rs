//! What the store holds, and its CBOR form.
//!
//! Invariant: the encoded form lives in one buffer that is never moved and is wiped when dropped.

pub mod fields;

use minicbor::encode::Error as EncodeError;
use minicbor::encode::write::EndOfSlice;
use zeroize::Zeroizing;

use crate::anchor::ANCHOR_SALT_SIZE_BYTES;
use crate::attempts::{Attempts, Moment};
use crate::boot::{self, Boot};
use crate::contents::fields::{Reader, Writer, bytes};
use crate::hierarchy::{Hierarchy, UnderPassword, UnderRecovery};
use crate::password::Cost;
use crate::record::{self, Record};
use crate::secret::Secret;
use crate::{Error, keys};

/// Room for the encoded contents; they need at most about 11 KiB.
pub const CONTENTS_SIZE_BYTES_MAX: usize = 15 * 1024;
/// The kinds of tries, in the order of [`Contents::attempts`]: names of their fields.
pub const BUDGETS: [&str; 4] = ["password", "recovery", "recovery_key", "firmware_password"];
/// The place of the firmware password's; those before it are of the secrets to the disk.
pub const FIRMWARE_PASSWORD: usize = 3;

/// How the parts of the chip's state stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// They fit.
    Whole,
    /// This chip takes over a disk: its modules are to be adopted.
    TakingOver,
    /// They do not fit: something is older than the rest, or damaged.
    Unfitting,
}

/// Everything that one chip knows.
pub struct Contents {
    /// Made at birth, used only in here.
    pub uid: Secret,
    /// PKCS#8, P-256.
    pub identity_key: Zeroizing<Vec<u8>>,
    /// What decides what starts.
    pub boot: Boot,
    /// How many lives this chip has had, this one included.
    pub lives: u64,
    /// How often this store has been replaced.
    pub boundaries: u64,
    /// How often its owner let an older state of the disk in.
    pub rollbacks: u64,
    /// Makes the key of the anchor file; new with each boundary, so that no anchor file from
    /// before fits to this store.
    pub epoch_salt: [u8; ANCHOR_SALT_SIZE_BYTES],
    /// How the anchor file stood to this store when it was last looked at.
    pub standing: Standing,
    /// The keys to the disk; none since it was erased.
    pub hierarchy: Option<Hierarchy>,
    /// Of each kind of secret.
    pub attempts: [Attempts; BUDGETS.len()],
    /// What was done inside the machine.
    pub record: Record,
}

impl Contents {
    /// A new chip, with an empty disk; the class key beside it.
    pub fn generate(boot: Boot, volume_key: &Secret) -> Result<(Contents, Secret), Error> {
        let uid = Secret::random()?;
        let (hierarchy, class_key) = Hierarchy::new(&uid, volume_key)?;
        let contents = Contents {
            uid,
            identity_key: keys::generate_identity_key()?,
            boot,
            lives: 1,
            boundaries: 0,
            rollbacks: 0,
            epoch_salt: [0; ANCHOR_SALT_SIZE_BYTES],
            standing: Standing::Whole,
            hierarchy: Some(hierarchy),
            attempts: Default::default(),
            record: Record::default(),
        };
        Ok((contents, class_key))
    }

    /// Begins a new epoch: what belongs to the one before fits no more.
    pub fn begin_epoch(&mut self) -> Result<(), Error> {
        self.boundaries += 1;
        aws_lc_rs::rand::fill(&mut self.epoch_salt).map_err(|_| Error::Cryptography("random bytes"))
    }

    /// The secrets to the disk have all their tries again.
    pub fn forget_disk_tries(&mut self) {
        for attempts in &mut self.attempts[..FIRMWARE_PASSWORD] {
            *attempts = Attempts::default();
        }
    }

    /// So has the firmware password.
    pub fn forget_firmware_tries(&mut self) {
        self.attempts[FIRMWARE_PASSWORD] = Attempts::default();
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
        let mut writer = Writer::new(buffer);
        writer.begin(FIELDS)?;
        writer.bytes("uid", self.uid.expose())?;
        writer.bytes("identity_key", &self.identity_key)?;
        self.boot.write(&mut writer)?;
        writer.uint("lives", self.lives)?;
        writer.uint("boundaries", self.boundaries)?;
        writer.uint("rollbacks", self.rollbacks)?;
        writer.bytes("epoch_salt", &self.epoch_salt)?;
        writer.uint("standing", self.standing.number())?;
        let hierarchy = self.hierarchy.as_ref();
        let password = hierarchy.and_then(|keys| keys.by_password.as_ref());
        let recovery = hierarchy.and_then(|keys| keys.by_recovery.as_ref());
        let by_uid = hierarchy.and_then(|keys| keys.by_uid.as_ref());
        writer.bytes(
            "media_key",
            bytes(hierarchy.map(|keys| keys.media_key.expose())),
        )?;
        writer.bytes("volume_key", bytes(hierarchy.map(|keys| &keys.volume_key)))?;
        writer.bytes("class_key_by_uid", bytes(by_uid))?;
        writer.bytes("password_salt", bytes(password.map(|each| &each.salt)))?;
        writer.uint(
            "password_memory_kib",
            password.map_or(0, |each| each.cost.memory_kib.into()),
        )?;
        writer.uint(
            "password_passes",
            password.map_or(0, |each| each.cost.passes.into()),
        )?;
        writer.bytes(
            "class_key_by_password",
            bytes(password.map(|each| &each.class_key)),
        )?;
        writer.bytes(
            "class_key_by_recovery",
            bytes(recovery.map(|each| &each.class_key)),
        )?;
        writer.bytes(
            "recovery_public_key",
            bytes(recovery.map(|each| &each.public_key)),
        )?;
        for (name, attempts) in BUDGETS.iter().zip(&self.attempts) {
            let since = attempts.since.as_ref();
            writer.uint(&format!("{name}_failures"), attempts.failures)?;
            writer.bytes(
                &format!("{name}_last_wrong"),
                bytes(attempts.last_wrong.as_ref()),
            )?;
            writer.bytes(
                &format!("{name}_boot"),
                bytes(since.map(|since| &since.boot)),
            )?;
            writer.uint(
                &format!("{name}_since"),
                since.map_or(0, |since| since.seconds),
            )?;
        }
        self.record.write(&mut writer)?;
        Ok(writer.position())
    }

    /// Reads what [`Contents::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Contents, Error> {
        let mut reader = Reader::new(bytes, FIELDS)?;
        let contents = Contents {
            uid: reader.secret("uid")?.ok_or(Error::Corrupt("UID"))?,
            identity_key: Zeroizing::new(reader.bytes("identity_key")?.to_vec()),
            boot: Boot::read(&mut reader)?,
            lives: reader.uint("lives")?,
            boundaries: reader.uint("boundaries")?,
            rollbacks: reader.uint("rollbacks")?,
            epoch_salt: reader.array("epoch_salt")?.ok_or(Error::Corrupt("epoch"))?,
            standing: Standing::from_number(reader.uint("standing")?)?,
            hierarchy: reader.hierarchy()?,
            attempts: [
                reader.attempts(BUDGETS[0])?,
                reader.attempts(BUDGETS[1])?,
                reader.attempts(BUDGETS[2])?,
                reader.attempts(BUDGETS[3])?,
            ],
            record: Record::read(&mut reader)?,
        };
        Ok(contents)
    }
}

/// How many fields there are.
const FIELDS: u64 = 16 + boot::FIELDS + 4 * BUDGETS.len() as u64 + record::FIELDS;

impl Standing {
    fn number(self) -> u64 {
        match self {
            Standing::Whole => 0,
            Standing::TakingOver => 1,
            Standing::Unfitting => 2,
        }
    }

    fn from_number(number: u64) -> Result<Standing, Error> {
        match number {
            0 => Ok(Standing::Whole),
            1 => Ok(Standing::TakingOver),
            2 => Ok(Standing::Unfitting),
            _ => Err(Error::Corrupt("standing")),
        }
    }
}

impl Reader<'_> {
    fn hierarchy(&mut self) -> Result<Option<Hierarchy>, Error> {
        let (media_key, volume_key) = (self.secret("media_key")?, self.array("volume_key")?);
        let by_uid = self.array("class_key_by_uid")?;
        let salt = self.array("password_salt")?;
        let memory_kib = self.uint("password_memory_kib")?;
        let passes = self.uint("password_passes")?;
        let by_password = match (salt, self.array("class_key_by_password")?) {
            (Some(salt), Some(class_key)) => Some(UnderPassword {
                salt,
                cost: Cost::kept(memory_kib, passes)?,
                class_key,
            }),
            _ => None,
        };
        let wrapped = self.array("class_key_by_recovery")?;
        let by_recovery = match (wrapped, self.array("recovery_public_key")?) {
            (Some(class_key), Some(public_key)) => Some(UnderRecovery {
                class_key,
                public_key,
            }),
            _ => None,
        };
        Ok(
            (media_key.zip(volume_key)).map(|(media_key, volume_key)| Hierarchy {
                media_key,
                volume_key,
                by_uid,
                by_password,
                by_recovery,
            }),
        )
    }

    fn attempts(&mut self, name: &str) -> Result<Attempts, Error> {
        let failures = self.uint(&format!("{name}_failures"))?;
        let last_wrong = self.array(&format!("{name}_last_wrong"))?;
        let boot = self.array(&format!("{name}_boot"))?;
        let seconds = self.uint(&format!("{name}_since"))?;
        Ok(Attempts {
            failures,
            last_wrong,
            since: boot.map(|boot| Moment { boot, seconds }),
        })
    }
}
