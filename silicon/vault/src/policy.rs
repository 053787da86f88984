//! The rules for what may start, and who may change them.
//!
//! Invariants: the rules change, and the firmware password comes, changes and goes, only while the
//! recovery system was started last and the owner has proven to be one since; each change is a
//! boundary; a new life begins with the strictest rules.

use crate::Error;
use crate::boundary::Place;
use crate::contents::Contents;
use crate::error::ChangeError;
use crate::firmware_password::FirmwarePassword;
use crate::password::{Cost, Password};
use crate::start::Target;
use crate::vault::{Keep, Vault};

/// Which of the systems on the internal disk may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// What a ticket names.
    Full,
    /// What a trusted signer signed.
    Medium,
    /// Anything.
    None,
}

/// The rules for what may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Which systems.
    pub policy: Policy,
    /// Whether a disk outside may be started from.
    pub external_boot: bool,
    /// Whether Microsoft's signatures count beside the vendor's.
    pub other_systems: bool,
}

impl Policy {
    const ALL: [Policy; 3] = [Policy::Full, Policy::Medium, Policy::None];

    /// The policy's name.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Full => "full",
            Policy::Medium => "medium",
            Policy::None => "none",
        }
    }

    /// How the store writes it.
    pub(crate) fn number(self) -> u64 {
        self as u64
    }

    pub(crate) fn from_number(number: u64) -> Result<Policy, Error> {
        (Policy::ALL.into_iter())
            .find(|policy| policy.number() == number)
            .ok_or(Error::Corrupt("policy"))
    }
}

impl Rules {
    /// What a new life begins with.
    pub const STRICTEST: Rules = Rules {
        policy: Policy::Full,
        external_boot: false,
        other_systems: false,
    };
}

impl Vault {
    /// From now on these rules count.
    ///
    /// # Errors
    /// [`Error::NotRecovery`] unless the recovery system was started last,
    /// [`Error::Unauthorised`] before the owner has proven to be one in it.
    pub fn set_policy(&mut self, place: &Place, rules: Rules) -> Result<(), ChangeError> {
        self.change_rules(place, |next| {
            next.boot.rules = rules;
            Ok(())
        })
    }

    /// From now on this password is asked for before anything but the chosen system starts.
    ///
    /// # Errors
    /// As [`Vault::set_policy`].
    pub fn set_firmware_password(
        &mut self,
        place: &Place,
        new: &Password,
    ) -> Result<(), ChangeError> {
        self.must_be_allowed()?;
        let cost = Cost::calibrated()?;
        self.change_firmware_password(place, |next| {
            Ok(Some(FirmwarePassword::new(&next.uid, new, cost)?))
        })
    }

    /// From now on none is asked for.
    ///
    /// # Errors
    /// As [`Vault::set_policy`]; [`Error::Absent`] where there is none.
    pub fn remove_firmware_password(&mut self, place: &Place) -> Result<(), ChangeError> {
        self.must_be_allowed()?;
        if self.contents.boot.firmware_password.is_none() {
            return Err(Error::Absent.into());
        }
        self.change_firmware_password(place, |_| Ok(None))
    }

    /// What was counted and given is the old one's.
    fn change_firmware_password(
        &mut self,
        place: &Place,
        make: impl FnOnce(&Contents) -> Result<Option<FirmwarePassword>, Error>,
    ) -> Result<(), ChangeError> {
        self.change_rules(place, |next| {
            next.boot.firmware_password = make(next)?;
            next.forget_firmware_tries();
            Ok(())
        })?;
        self.start.firmware_password_given = false;
        Ok(())
    }

    fn change_rules(
        &mut self,
        place: &Place,
        edit: impl FnOnce(&mut Contents) -> Result<(), Error>,
    ) -> Result<(), ChangeError> {
        self.must_be_allowed()?;
        self.change(place, Keep::Anchor, false, edit).map(|_| ())
    }

    /// The one door to every change of the rules.
    fn must_be_allowed(&self) -> Result<(), Error> {
        if self.start.target != Some(Target::Recovery) {
            return Err(Error::NotRecovery);
        }
        if !self.start.owner_present {
            return Err(Error::Unauthorised);
        }
        Ok(())
    }
}
