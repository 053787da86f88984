//! One chip's keys, unsealed, and the way from one state of the chip to the next.

use crate::anchor::{AnchorFile, AnchorKey, Kept};
use crate::attempts::{Attempts, Moment};
use crate::boot::Boot;
use crate::boundary::{Claim, Place, cross, settled_store};
use crate::contents::{BUDGETS, Contents, Standing};
use crate::error::ChangeError;
use crate::hierarchy::Hierarchy;
use crate::seal::{Destroyed, Parameters, Passphrase};
use crate::secret::Secret;
use crate::start::Start;
use crate::store::Header;
use crate::tickets::Authority;
use crate::{Error, Seal, keys, store};

/// With a witness, the longest a session goes without telling it, in seconds: so much of it can
/// be turned back together with the whole host.
pub const WITNESS_LEASE_SECONDS: u64 = 3600;

/// A chip's keys, unsealed.
pub struct Vault {
    pub(crate) seal: Box<dyn Seal>,
    pub(crate) ecid: u64,
    pub(crate) parameters: Parameters,
    sealing_key: Secret,
    pub(crate) contents: Contents,
    /// There while the disk's key can be had.
    pub(crate) class_key: Option<Secret>,
    /// `None` while no anchor file fits to the store.
    anchors: Option<AnchorFile>,
    pub(crate) standing: Standing,
    pub(crate) session: Session,
    pub(crate) start: Start,
    last_boundary: Moment,
    identity_public_key: Vec<u8>,
}

/// What the SSD's link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Session {
    /// The disk as the anchor has it.
    Plain,
    /// Its owner authorised whatever state the modules are in, for the next link.
    Authorised,
    /// This link may write an anchor that is older than the kept one, once.
    Adopting,
}

/// The public half of a vault. All byte strings are DER.
pub struct Identity<'a> {
    /// The chip's number.
    pub ecid: u64,
    /// `SubjectPublicKeyInfo` of the identity key.
    pub identity_public_key: &'a [u8],
    /// The platform key's certificate.
    pub pk: &'a [u8],
    /// The key-exchange key's certificate.
    pub kek: &'a [u8],
    /// The authority's vendor certificate.
    pub vendor: &'a [u8],
}

/// What the state of a chip is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Its disk can be opened, perhaps with a secret.
    InUse,
    /// Every try is spent: only an erase is left.
    LockedOut,
    /// There is no key to any data.
    Erased,
}

/// The tries of one kind.
pub struct Tries {
    /// The kind's name, as in [`BUDGETS`].
    pub name: &'static str,
    /// Wrong tries since the last right one.
    pub failures: u64,
    /// Tries that are left.
    pub left: u64,
    /// Seconds until the next is taken.
    pub wait_seconds: u64,
}

/// What may be known of a chip's state.
pub struct Status {
    /// Its life.
    pub life: Life,
    /// How many lives it has had.
    pub lives: u64,
    /// What keeps its store closed: `keyfile`, `passphrase` or `tpm2`.
    pub seal: &'static str,
    /// Whether a TPM remembers its newest state.
    pub has_witness: bool,
    /// Whether the disk needs a password.
    pub password: bool,
    /// Whether there is a recovery key.
    pub recovery_key: bool,
    /// Whether the disk's key can be had.
    pub unlocked: bool,
    /// Whether some part of the state is older than the rest.
    pub put_back: bool,
    /// Whether the modules are to be adopted.
    pub adopting: bool,
    /// What may start.
    pub policy: &'static str,
    /// How often an older state was let in.
    pub rollbacks: u64,
    /// How often the state was replaced.
    pub boundaries: u64,
    /// What is left to try.
    pub tries: [Tries; BUDGETS.len()],
}

impl Status {
    /// What the freshness of everything rests on: `tpm` or `software`.
    pub fn root(&self) -> &'static str {
        if self.has_witness { "tpm" } else { "software" }
    }
}

/// What becomes of the anchor at a boundary.
pub(crate) enum Keep<'a> {
    /// It stays the newest.
    Anchor,
    /// There is none: the disk is new.
    Nothing,
    /// This one is the newest.
    This(Kept<'a>),
}

impl Vault {
    /// Makes a new chip in an empty state folder.
    ///
    /// # Errors
    /// [`Error::Exists`] when the folder holds a vault already; it is left untouched.
    /// [`Error::Malformed`] for an authority that cannot be pinned.
    pub fn birth(
        place: &Place,
        seal: Box<dyn Seal>,
        authority: Authority,
    ) -> Result<Vault, ChangeError> {
        let ecid = keys::random_ecid()?;
        let generate = || {
            let boot = Boot::generate(ecid, authority, 0)?;
            Contents::generate(boot, &Secret::random()?)
        };
        Vault::make(place, seal, ecid, generate)
    }

    /// Makes a chip of what `generate` yields, unless there is one.
    pub(crate) fn make(
        place: &Place,
        mut seal: Box<dyn Seal>,
        ecid: u64,
        generate: impl FnOnce() -> Result<(Contents, Secret), Error>,
    ) -> Result<Vault, ChangeError> {
        if store::exists(&place.folder)? {
            return Err(Error::Exists.into());
        }
        let (mut contents, class_key) = generate()?;
        contents.begin_epoch()?;
        let (sealing_key, parameters) = seal.create(&place.folder, None)?;
        let header = Header {
            seal_kind: seal.kind(),
            ecid,
            parameters,
        };
        cross(place, &header, &sealing_key, &contents, None, Claim::Fresh)?;
        let vault = Vault::assemble(place, seal, header, sealing_key, contents);
        let mut vault = vault.map_err(ChangeError::Uncertain)?;
        vault.class_key = Some(class_key);
        Ok(vault)
    }

    /// Unseals the chip that was born in this folder.
    ///
    /// # Errors
    /// [`Error::Unborn`] without a store, [`Error::Sealed`] when the seal's key is missing or
    /// another's, [`Error::Passphrase`] when that is wrong, [`Error::Corrupt`] when the store is
    /// not what was written.
    pub fn open(place: &Place, mut seal: Box<dyn Seal>) -> Result<Vault, ChangeError> {
        let (sealed, is_known) = settled_store(place)?;
        let header = sealed.header;
        if header.seal_kind != seal.kind() {
            return Err(Error::Corrupt("kind of seal").into());
        }
        let sealing_key = seal.recall(&place.folder, &header.parameters)?;
        let contents = sealed.open(&sealing_key).map_err(|error| match error {
            Error::Sealed(_) if header.seal_kind == Passphrase::KIND => Error::Passphrase,
            error => error,
        })?;
        if is_known {
            seal.tidy(&place.folder, &header.parameters);
        }
        let mut vault = Vault::assemble(place, seal, header, sealing_key, contents)?;
        if !is_known {
            vault.standing = Standing::Unfitting;
        }
        // What was put back tries no password, and may yet be exchanged for the newest.
        if vault.standing != Standing::Unfitting {
            vault.begin_waits_again(place)?;
        }
        Ok(vault)
    }

    fn assemble(
        place: &Place,
        seal: Box<dyn Seal>,
        header: Header,
        sealing_key: Secret,
        contents: Contents,
    ) -> Result<Vault, Error> {
        let anchors = find_anchors(place, &sealing_key, &contents, header.ecid)?;
        Ok(Vault {
            seal,
            ecid: header.ecid,
            parameters: header.parameters,
            identity_public_key: keys::identity_public_key(&contents.identity_key)?,
            class_key: match &contents.hierarchy {
                Some(hierarchy) => hierarchy.class_key_by_uid(&contents.uid)?,
                None => None,
            },
            standing: match anchors {
                Some(_) => contents.standing,
                None => Standing::Unfitting,
            },
            session: match contents.standing {
                Standing::TakingOver => Session::Authorised,
                _ => Session::Plain,
            },
            anchors,
            sealing_key,
            contents,
            start: Start::default(),
            last_boundary: place.clock.now(),
        })
    }

    /// Where the host was started anew, the waits that ran begin anew as well, and durably so.
    fn begin_waits_again(&mut self, place: &Place) -> Result<(), ChangeError> {
        let now = place.clock.now();
        let is_old = |attempts: &Attempts| attempts.is_of_another_boot(now);
        if !self.contents.attempts.iter().any(is_old) {
            return Ok(());
        }
        self.change(place, Keep::Anchor, false, |next| {
            for attempts in next.attempts.iter_mut().filter(|each| is_old(each)) {
                attempts.since = Some(now);
            }
            Ok(())
        })
        .map(|_| ())
    }

    /// Crosses a boundary to the contents that `edit` makes of these. With `rotate` the sealing
    /// key is replaced too, where the seal can; what was destroyed with it is returned, and
    /// whether the old bytes were written over.
    pub(crate) fn change(
        &mut self,
        place: &Place,
        keep: Keep<'_>,
        rotate: bool,
        edit: impl FnOnce(&mut Contents) -> Result<(), Error>,
    ) -> Result<Crossing, ChangeError> {
        // Read again, so that these contents stay as they are until the next ones count.
        let sealed = store::read(&place.folder)?;
        let mut next = sealed.open(&self.sealing_key)?;
        if sealed.header.ecid != self.ecid || next.boundaries != self.contents.boundaries {
            return Err(Error::PutBack("the store was exchanged while it was open").into());
        }
        next.standing = self.standing;
        edit(&mut next)?;
        next.begin_epoch()?;
        let rotate = rotate && self.seal.rotates();
        let (new_key, parameters) = if rotate {
            let (key, parameters) = self.seal.create(&place.folder, Some(&self.parameters))?;
            (Some(key), parameters)
        } else {
            (None, self.parameters)
        };
        let header = Header {
            seal_kind: self.seal.kind(),
            ecid: self.ecid,
            parameters,
        };
        let kept = match keep {
            Keep::Anchor => self.anchors.as_ref().and_then(AnchorFile::newest),
            Keep::Nothing => None,
            Keep::This(kept) => Some(kept),
        };
        let sealing_key = new_key.as_ref().unwrap_or(&self.sealing_key);
        let claim = match self.standing {
            Standing::Unfitting => Claim::Fresh,
            _ => Claim::Following,
        };
        let overwritten = cross(place, &header, sealing_key, &next, kept, claim)?;
        if let Some(key) = new_key {
            self.sealing_key = key;
        }
        let old_parameters = std::mem::replace(&mut self.parameters, parameters);
        self.anchors = find_anchors(place, &self.sealing_key, &next, self.ecid)
            .map_err(ChangeError::Uncertain)?;
        self.standing = next.standing;
        self.contents = next;
        self.last_boundary = place.clock.now();
        let destroyed = match rotate {
            true => (self.seal.destroy(&place.folder, &old_parameters))
                .map_err(ChangeError::Uncertain)?,
            false => None,
        };
        Ok(Crossing {
            overwritten,
            destroyed,
        })
    }

    /// The chip's number.
    pub fn ecid(&self) -> u64 {
        self.ecid
    }

    /// What may be known about this chip.
    pub fn identity(&self) -> Identity<'_> {
        let boot = &self.contents.boot;
        Identity {
            ecid: self.ecid,
            identity_public_key: &self.identity_public_key,
            pk: &boot.certificates.pk,
            kek: &boot.certificates.kek,
            vendor: &boot.authority.vendor,
        }
    }

    /// What state the chip is in.
    pub fn status(&self, place: &Place) -> Status {
        let contents = &self.contents;
        let hierarchy = contents.hierarchy.as_ref();
        let now = place.clock.now();
        let tries = |number: usize| Tries {
            name: BUDGETS[number],
            failures: contents.attempts[number].failures,
            left: contents.attempts[number].left(),
            wait_seconds: contents.attempts[number].wait_seconds(now),
        };
        Status {
            life: self.life(),
            lives: contents.lives,
            seal: self.seal.name(),
            has_witness: place.witness.is_some(),
            password: hierarchy.is_some_and(|keys| keys.by_password.is_some()),
            recovery_key: hierarchy.is_some_and(|keys| keys.by_recovery.is_some()),
            unlocked: self.class_key.is_some(),
            put_back: self.standing == Standing::Unfitting,
            adopting: self.standing == Standing::TakingOver,
            policy: contents.boot.rules.policy.name(),
            rollbacks: contents.rollbacks,
            boundaries: contents.boundaries,
            tries: [tries(0), tries(1), tries(2), tries(3)],
        }
    }

    fn life(&self) -> Life {
        let Some(Hierarchy {
            by_uid,
            by_recovery,
            ..
        }) = &self.contents.hierarchy
        else {
            return Life::Erased;
        };
        let [password, in_recovery, recovery_key, _] = &self.contents.attempts;
        let password_is_spent = password.left() == 0 && in_recovery.left() == 0;
        let recovery_is_spent = by_recovery.is_none() || recovery_key.left() == 0;
        match by_uid.is_none() && password_is_spent && recovery_is_spent {
            true => Life::LockedOut,
            false => Life::InUse,
        }
    }

    /// Whether the disk can be opened as the chip remembers it.
    pub(crate) fn must_fit(&self) -> Result<(), Error> {
        match self.standing {
            Standing::Unfitting => Err(Error::PutBack("a part of the chip's state folder")),
            _ => Ok(()),
        }
    }

    /// The class key, as far as it can be had without a secret, or was with one.
    pub(crate) fn unlocked(&self) -> Result<&Secret, Error> {
        self.class_key.as_ref().ok_or(Error::Locked)
    }

    pub(crate) fn anchors(&mut self) -> Result<&mut AnchorFile, Error> {
        let missing = Error::PutBack("the anchor file is damaged or of another time");
        self.anchors.as_mut().ok_or(missing)
    }

    /// Whether the witness is to be told again.
    pub(crate) fn lease_is_over(&self, place: &Place) -> bool {
        let now = place.clock.now();
        let since = now.seconds.saturating_sub(self.last_boundary.seconds);
        place.witness.is_some() && since >= WITNESS_LEASE_SECONDS
    }
}

/// What a boundary left behind.
pub(crate) struct Crossing {
    /// Whether the old bytes were written over.
    pub overwritten: bool,
    /// What else is gone.
    pub destroyed: Option<Destroyed>,
}

/// The anchor file, if there is one that fits to these contents.
fn find_anchors(
    place: &Place,
    sealing_key: &Secret,
    contents: &Contents,
    ecid: u64,
) -> Result<Option<AnchorFile>, Error> {
    let key = AnchorKey::derive(sealing_key, &contents.epoch_salt, ecid)?;
    match AnchorFile::open(&place.folder, &key) {
        Ok(file) => Ok(Some(file)),
        Err(Error::Corrupt(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
