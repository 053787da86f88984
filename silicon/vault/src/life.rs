//! The chip's life beyond its birth: erased, restored, taken over, destroyed; and what it states
//! of itself.

use zeroize::Zeroizing;

use crate::anchor::ANCHOR_FILE_NAME;
use crate::boot::Boot;
use crate::boundary::Place;
use crate::bundle;
use crate::contents::fields::{Reader, Writer};
use crate::contents::{Contents, Standing};
use crate::error::ChangeError;
use crate::recovery_key::RecoveryKey;
use crate::seal::{Destroyed, KEY_FILE_NAME};
use crate::secret::Secret;
use crate::start::Start;
use crate::statement::{self, Attestation, Receipt};
use crate::store::{Header, STORE_FILE_NAME};
use crate::tickets::Authority;
use crate::vault::{Crossing, Keep, Life, Session, Vault};
use crate::{Error, OVERWRITTEN, Seal, keys, store};

/// What a bundle is sealed for.
const BUNDLE_INFO: &[u8] = b"spacegray recovery bundle 2";
/// Room for a bundle's contents, in bytes.
const BUNDLE_CONTENTS_BYTES_MAX: usize = 256;
/// How many fields a bundle's contents have.
const BUNDLE_FIELDS: u64 = 1;
/// Said of bytes whose file was replaced, but could not be written over.
const UNLINKED: &str = "replaced; the old bytes could not be written over and may still be there";

impl Vault {
    /// Destroys every key to the disk, with the password and all else that leads to them.
    /// Returns a receipt, signed (COSE).
    pub fn erase(&mut self, place: &Place) -> Result<Vec<u8>, ChangeError> {
        self.class_key = None;
        self.session = Session::Plain;
        self.start.owner_present = false;
        let crossing = self.change(place, Keep::Nothing, true, |next| {
            forget_disk(next);
            Ok(())
        })?;
        self.receipt(crossing).map_err(ChangeError::Uncertain)
    }

    /// Begins a new life: all of an erase, and everything new that decides what starts but for
    /// the minimum epoch; `authority` signs for the chip from now on.
    ///
    /// # Errors
    /// [`Error::Malformed`] for an authority that cannot be pinned.
    pub fn restore(&mut self, place: &Place, authority: Authority) -> Result<Vec<u8>, ChangeError> {
        let boot = Boot::generate(self.ecid, authority, self.contents.boot.minimum_epoch)?;
        self.class_key = None;
        self.session = Session::Plain;
        self.start = Start::default();
        let crossing = self.change(place, Keep::Nothing, true, |next| {
            forget_disk(next);
            next.boot = boot;
            next.forget_firmware_tries();
            next.lives += 1;
            Ok(())
        })?;
        self.receipt(crossing).map_err(ChangeError::Uncertain)
    }

    /// What a new chip needs to take the disk over, for the recovery key alone.
    ///
    /// # Errors
    /// [`Error::Absent`] without a recovery key, [`Error::Locked`] before the password was given.
    pub fn export_recovery(&self) -> Result<Vec<u8>, Error> {
        let recovery = self.hierarchy()?.by_recovery.as_ref();
        let public_key = &recovery.ok_or(Error::Absent)?.public_key;
        let plain = encode_bundle(&self.volume_key()?)?;
        bundle::seal(public_key, self.ecid, BUNDLE_INFO, &plain)
    }

    /// Makes a new chip that takes over the disk of the one that wrote `bundle`.
    ///
    /// # Errors
    /// [`Error::Wrong`] for another recovery key, [`Error::Corrupt`] for no bundle,
    /// [`Error::Exists`] when the folder holds a vault already.
    pub fn adopt_bundle(
        place: &Place,
        seal: Box<dyn Seal>,
        bundle: &[u8],
        key: &RecoveryKey,
        authority: Authority,
    ) -> Result<Vault, ChangeError> {
        let ecid = keys::random_ecid()?;
        let generate = || {
            let volume_key = decode_bundle(&bundle::open(key, BUNDLE_INFO, bundle)?)?;
            let boot = Boot::generate(ecid, authority, 0)?;
            let (mut contents, class_key) = Contents::generate(boot, &volume_key)?;
            let Contents { uid, hierarchy, .. } = &mut contents;
            let hierarchy = hierarchy.as_mut().ok_or(Error::Absent)?;
            hierarchy.set_recovery_key(uid, &class_key, key)?;
            contents.standing = Standing::TakingOver;
            Ok((contents, class_key))
        };
        let vault = Vault::make(place, seal, ecid, generate)?;
        if let Some(witness) = &place.witness {
            // The chip before this one is refused from now on, where it is on the same host.
            let forgotten = witness.borrow_mut().forget(bundle::ecid(bundle)?);
            forgotten.map_err(ChangeError::Uncertain)?;
        }
        Ok(vault)
    }

    /// States what this chip is, signed (COSE): `nonce` is the asker's, `software` what the
    /// firmware says, a CBOR map.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when `software` is none.
    pub fn attest(&self, place: &Place, nonce: &[u8], software: &[u8]) -> Result<Vec<u8>, Error> {
        let status = self.status(place);
        let chip = Attestation {
            nonce,
            ecid: self.ecid,
            life: status.life.name(),
            lives: status.lives,
            seal: status.seal,
            root: status.root(),
            password_required: status.password,
            recovery_key: status.recovery_key,
            rollbacks: status.rollbacks,
            boundaries: status.boundaries,
            boot: &self.contents.boot,
            software,
        };
        statement::attestation(&self.contents.identity_key, &chip)
    }

    fn receipt(&self, crossing: Crossing) -> Result<Vec<u8>, Error> {
        let how = if crossing.overwritten {
            OVERWRITTEN
        } else {
            UNLINKED
        };
        let lay = |what, name| Destroyed {
            what,
            place: format!("{name} in the chip's state folder"),
            how,
        };
        let mut items = vec![
            lay(
                "media key, class keys and wrapped volume key",
                STORE_FILE_NAME,
            ),
            lay("newest root of the disk", ANCHOR_FILE_NAME),
        ];
        items.extend(crossing.destroyed);
        let erased = Receipt {
            ecid: self.ecid,
            lives: self.contents.lives,
            boundaries: self.contents.boundaries,
            items: &items,
        };
        statement::receipt(&self.contents.identity_key, &erased)
    }
}

/// Destroys the chip in this folder, whether or not it could be opened. What lies in a TPM that
/// is dead, cleared or another goes by itself, or has gone.
///
/// # Errors
/// When something of it is left.
pub fn destroy(place: &Place, seal: Option<Box<dyn Seal>>) -> Result<(), Error> {
    let folder = &place.folder;
    let elsewhere = match store::read(folder) {
        Ok(sealed) => destroy_elsewhere(place, seal, &sealed.header),
        Err(_) => Ok(()),
    };
    for name in [STORE_FILE_NAME, ANCHOR_FILE_NAME, KEY_FILE_NAME] {
        folder.destroy(name)?;
    }
    match elsewhere {
        Err(Error::Tpm(_)) => Ok(()),
        result => result,
    }
}

fn destroy_elsewhere(
    place: &Place,
    seal: Option<Box<dyn Seal>>,
    header: &Header,
) -> Result<(), Error> {
    if let Some(mut seal) = seal {
        seal.destroy(&place.folder, &header.parameters)?;
    }
    match &place.witness {
        Some(witness) => witness.borrow_mut().forget(header.ecid),
        None => Ok(()),
    }
}

impl Life {
    /// The life's name.
    pub fn name(self) -> &'static str {
        match self {
            Life::InUse => "in use",
            Life::LockedOut => "locked out",
            Life::Erased => "erased",
        }
    }
}

fn forget_disk(next: &mut Contents) {
    next.hierarchy = None;
    next.standing = Standing::Whole;
    next.forget_disk_tries();
}

fn encode_bundle(volume_key: &Secret) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut bytes = Zeroizing::new(vec![0; BUNDLE_CONTENTS_BYTES_MAX]);
    let mut writer = Writer::new(&mut bytes);
    let written = writer
        .begin(BUNDLE_FIELDS)
        .and_then(|()| writer.bytes("volume_key", volume_key.expose()));
    written.map_err(|_| Error::Corrupt("bundle too long"))?;
    let size = writer.position();
    bytes.truncate(size);
    Ok(bytes)
}

fn decode_bundle(plain: &[u8]) -> Result<Secret, Error> {
    (Reader::new(plain, BUNDLE_FIELDS)?.secret("volume_key")?).ok_or(Error::Corrupt("bundle"))
}
