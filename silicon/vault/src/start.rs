//! Starts of the machine: what is started, what may come of it, and what ends with it.
//!
//! Invariants: a start that is refused has begun nothing, and the one before it is over all the
//! same; a try is charged durably before the system that is tried is named; who was there as the
//! owner is so until the next start; no epoch goes back, and only a system that was started can
//! have come up.

use ticket::Entry;

use crate::Error;
use crate::boundary::Place;
use crate::contents::FIRMWARE_PASSWORD;
use crate::error::ChangeError;
use crate::password::Password;
use crate::policy::Rules;
use crate::slots::{Slot, Slots};
use crate::vault::{Keep, Vault};

/// Size of a SHA-256 digest.
pub const DIGEST_SIZE_BYTES: usize = 32;

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

impl Target {
    /// The target's name.
    pub fn name(self) -> &'static str {
        match self {
            Target::Main => "main",
            Target::Other => "other",
            Target::External => "external",
            Target::Recovery => "recovery",
        }
    }
}

/// What is remembered from one start to the next, in memory alone.
#[derive(Default)]
pub(crate) struct Start {
    /// What was started last.
    pub target: Option<Target>,
    /// The system that was started, if it was the main one.
    main: Option<(Slot, Entry)>,
    /// Whether the owner has proven to be one in the recovery system that was started.
    pub owner_present: bool,
    /// Whether the firmware password was given for the next start.
    pub firmware_password_given: bool,
    /// The request for a ticket that is open.
    pub request: Option<ticket::Request>,
}

/// What is started, and by which rules.
pub struct Started<'a> {
    /// From which slot.
    pub slot: Slot,
    /// What was kept of that slot's ticket.
    pub entry: &'a Entry,
    /// Whether the system is tried.
    pub trying: bool,
    /// The rules.
    pub rules: Rules,
    /// SHA-256 of the guest's variables that are kept.
    pub variables: Option<&'a [u8; DIGEST_SIZE_BYTES]>,
}

/// What decides what starts.
pub struct BootState<'a> {
    /// The rules.
    pub rules: Rules,
    /// Whether there is a firmware password.
    pub firmware_password: bool,
    /// Whether it was given for the next start.
    pub firmware_password_given: bool,
    /// No ticket for a lower one is taken.
    pub minimum_epoch: u64,
    /// Both slots.
    pub slots: &'a Slots,
    /// What was started last.
    pub target: Option<Target>,
    /// Whether the owner has proven to be one since.
    pub owner_present: bool,
    /// SHA-256 of the guest's variables that are kept.
    pub variables: Option<&'a [u8; DIGEST_SIZE_BYTES]>,
}

impl Vault {
    /// What decides what starts, now.
    pub fn boot(&self) -> BootState<'_> {
        let boot = &self.contents.boot;
        BootState {
            rules: boot.rules,
            firmware_password: boot.firmware_password.is_some(),
            firmware_password_given: self.start.firmware_password_given,
            minimum_epoch: boot.minimum_epoch,
            slots: &boot.slots,
            target: self.start.target,
            owner_present: self.start.owner_present,
            variables: boot.variables.as_ref(),
        }
    }

    /// Begins a start of the machine. The one before is over, also where this one is refused.
    ///
    /// # Errors
    /// [`Error::PutBack`] when the rules may be older than the newest, [`Error::NoTicket`]
    /// without a current system, [`Error::ExternalBoot`], [`Error::FirmwarePassword`] when it was
    /// not given.
    pub fn begin_start(
        &mut self,
        place: &Place,
        target: Target,
    ) -> Result<Started<'_>, ChangeError> {
        self.start.end();
        self.must_fit()?;
        let boot = &self.contents.boot;
        if boot.slots.current().is_none() {
            return Err(Error::NoTicket.into());
        }
        if target == Target::External && !boot.rules.external_boot {
            return Err(Error::ExternalBoot.into());
        }
        let is_guarded = target != Target::Main && boot.firmware_password.is_some();
        if is_guarded && !self.start.firmware_password_given {
            return Err(Error::FirmwarePassword.into());
        }
        if target == Target::Main && boot.slots.tries_left().is_some() {
            self.change(place, Keep::Anchor, false, |next| {
                next.boot.slots.charge();
                Ok(())
            })?;
        }
        let boot = &self.contents.boot;
        let tried = match target {
            Target::Main => boot.slots.tried_entry(),
            _ => None,
        };
        let (slot, entry) = (tried.or(boot.slots.current_entry())).ok_or(Error::NoTicket)?;
        self.start.firmware_password_given = false;
        self.start.target = Some(target);
        self.start.main = (target == Target::Main).then(|| (slot, entry.clone()));
        Ok(Started {
            slot,
            entry,
            trying: tried.is_some(),
            rules: boot.rules,
            variables: boot.variables.as_ref(),
        })
    }

    /// The main system that was started is up: if it was tried it is the current one from now
    /// on, and no older one is taken any more.
    ///
    /// # Errors
    /// [`Error::NotStarted`] when it was not, or its slot holds another one by now.
    pub fn came_up(&mut self, place: &Place) -> Result<(), ChangeError> {
        let (slot, entry) = self.start.main.as_ref().ok_or(Error::NotStarted)?;
        let (slot, boot) = (*slot, &self.contents.boot);
        if boot.slots.entry(slot) != Some(entry) {
            return Err(Error::NotStarted.into());
        }
        let minimum_epoch = boot.minimum_epoch.max(entry.epoch);
        let mut slots = boot.slots.clone();
        slots.came_up(slot, minimum_epoch);
        if (slots == boot.slots) && minimum_epoch == boot.minimum_epoch {
            return Ok(());
        }
        let changed = self.change(place, Keep::Anchor, false, |next| {
            next.boot.slots = slots;
            next.boot.minimum_epoch = minimum_epoch;
            Ok(())
        });
        changed.map(|_| ())
    }

    /// The system that is tried is given up, if there is one.
    pub fn give_up(&mut self, place: &Place) -> Result<(), ChangeError> {
        if self.contents.boot.slots.tries_left().is_none() {
            return Ok(());
        }
        let changed = self.change(place, Keep::Anchor, false, |next| {
            next.boot.slots.give_up();
            Ok(())
        });
        changed.map(|_| ())
    }

    /// Checks the firmware password for the next start.
    ///
    /// # Errors
    /// As [`Vault::unlock`].
    pub fn check_firmware_password(
        &mut self,
        place: &Place,
        password: &Password,
    ) -> Result<(), ChangeError> {
        if self.contents.boot.firmware_password.is_none() {
            return Err(Error::Absent.into());
        }
        // Its counter may be among what was put back.
        self.must_fit()?;
        self.charged(place, FIRMWARE_PASSWORD, |contents| {
            let kept = contents.boot.firmware_password.as_ref();
            kept.ok_or(Error::Absent)?.check(&contents.uid, password)
        })?;
        self.start.firmware_password_given = true;
        Ok(())
    }

    /// From now on these of the guest's variables are kept.
    pub fn keep_variables(
        &mut self,
        place: &Place,
        digest: &[u8; DIGEST_SIZE_BYTES],
    ) -> Result<(), ChangeError> {
        if self.contents.boot.variables.as_ref() == Some(digest) {
            return Ok(());
        }
        let changed = self.change(place, Keep::Anchor, false, |next| {
            next.boot.variables = Some(*digest);
            Ok(())
        });
        changed.map(|_| ())
    }
}

impl Start {
    /// The machine is off; what was given for the next start stays.
    fn end(&mut self) {
        self.target = None;
        self.main = None;
        self.owner_present = false;
    }
}
