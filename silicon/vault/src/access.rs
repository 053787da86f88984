//! Who may have the disk's key: passwords and the recovery key.
//!
//! Invariants: a try is charged durably before anything is computed for it, and given back only
//! if it was right or the same wrong one as just before; a secret that replaces another leaves
//! the old wrapping dead; nothing here tells how wrong a secret was.

use zeroize::Zeroizing;

use crate::Error;
use crate::attempts::Attempts;
use crate::boundary::Place;
use crate::contents::{Contents, Standing};
use crate::error::ChangeError;
use crate::hierarchy::{Guess, Hierarchy};
use crate::password::{Cost, Password};
use crate::recovery_key::RecoveryKey;
use crate::secret::Secret;
use crate::start::Target;
use crate::vault::{Keep, Session, Vault};

/// Which tries a secret is charged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// The password, at power-on or in the running system.
    Password,
    /// The password, in the recovery system.
    PasswordInRecovery,
    /// The recovery key.
    RecoveryKey,
}

/// A secret that proves its bearer to be the owner.
pub struct Proof<'a> {
    /// Which tries it is charged to, and with that what it claims to be.
    pub budget: Budget,
    /// The secret.
    pub secret: &'a Password,
}

impl Vault {
    /// Checks a secret; from then on the disk's key can be had.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Secret`], [`Error::Wait`], [`Error::Disabled`],
    /// [`Error::PutBack`]: nothing was charged. [`Error::Wrong`]: it was.
    pub fn unlock(&mut self, place: &Place, proof: &Proof<'_>) -> Result<(), ChangeError> {
        let class_key = self.prove(place, proof)?;
        self.class_key = Some(class_key);
        Ok(())
    }

    /// The same in the recovery system: where that was started, its owner is there from now on.
    ///
    /// # Errors
    /// As [`Vault::unlock`].
    pub fn unlock_in_recovery(
        &mut self,
        place: &Place,
        proof: &Proof<'_>,
    ) -> Result<(), ChangeError> {
        self.unlock(place, proof)?;
        self.start.owner_present = self.start.target == Some(Target::Recovery);
        Ok(())
    }

    /// From now on the disk needs this password.
    ///
    /// # Errors
    /// [`Error::Present`] when it needs one already.
    pub fn set_password(&mut self, place: &Place, new: &Password) -> Result<(), ChangeError> {
        self.must_fit()?;
        if self.hierarchy()?.by_password.is_some() {
            return Err(Error::Present.into());
        }
        self.put_password(place, new)
    }

    /// From now on the disk needs this password instead.
    ///
    /// # Errors
    /// As [`Vault::unlock`].
    pub fn change_password(
        &mut self,
        place: &Place,
        proof: &Proof<'_>,
        new: &Password,
    ) -> Result<(), ChangeError> {
        self.must_fit()?;
        self.unlock(place, proof)?;
        self.put_password(place, new)
    }

    /// From now on the disk needs none.
    ///
    /// # Errors
    /// As [`Vault::unlock`].
    pub fn remove_password(&mut self, place: &Place, proof: &Proof<'_>) -> Result<(), ChangeError> {
        self.must_fit()?;
        if self.hierarchy()?.by_password.is_none() {
            return Err(Error::Absent.into());
        }
        self.unlock(place, proof)?;
        self.rewrap(place, |uid, class_key, hierarchy| {
            hierarchy.remove_password(uid, class_key)
        })
    }

    /// Makes a recovery key in the place of any earlier one; where there is a password, it has
    /// to be proven. Its text is shown once and is nowhere afterwards.
    ///
    /// # Errors
    /// As [`Vault::unlock`]; [`Error::Unauthorised`] without the proof.
    pub fn make_recovery_key(
        &mut self,
        place: &Place,
        proof: Option<&Proof<'_>>,
    ) -> Result<Zeroizing<String>, ChangeError> {
        self.must_fit()?;
        match (proof, &self.hierarchy()?.by_password) {
            (Some(proof), _) => self.unlock(place, proof)?,
            (None, Some(_)) => return Err(Error::Unauthorised.into()),
            (None, None) => {}
        }
        let key = RecoveryKey::generate()?;
        self.rewrap(place, |uid, class_key, hierarchy| {
            hierarchy.set_recovery_key(uid, class_key, &key)
        })?;
        Ok(key.text())
    }

    /// Lets the next SSD adopt whatever state its modules are in. Where there is any secret, it
    /// has to be proven.
    ///
    /// # Errors
    /// As [`Vault::unlock`]; [`Error::Unauthorised`] without the proof.
    pub fn authorise_rollback(
        &mut self,
        place: &Place,
        proof: Option<&Proof<'_>>,
    ) -> Result<(), ChangeError> {
        let hierarchy = self.hierarchy()?;
        let has_secret = hierarchy.by_password.is_some() || hierarchy.by_recovery.is_some();
        match proof {
            Some(proof) => self.unlock(place, proof)?,
            None if has_secret => return Err(Error::Unauthorised.into()),
            None => {}
        }
        self.session = Session::Authorised;
        Ok(())
    }

    /// Whether somebody proved to be the owner; where there is a password, nobody else gets past.
    /// The disk's key is as open or closed afterwards as before.
    ///
    /// # Errors
    /// As [`Vault::unlock`]; [`Error::Unauthorised`] without the proof.
    pub(crate) fn must_be_owner(
        &mut self,
        place: &Place,
        proof: Option<&Proof<'_>>,
    ) -> Result<bool, ChangeError> {
        let hierarchy = self.contents.hierarchy.as_ref();
        match proof {
            Some(proof) => self.prove(place, proof).map(|_| true),
            None if hierarchy.is_some_and(|keys| keys.by_password.is_some()) => {
                Err(Error::Unauthorised.into())
            }
            None => Ok(false),
        }
    }

    fn put_password(&mut self, place: &Place, new: &Password) -> Result<(), ChangeError> {
        let cost = Cost::calibrated()?;
        self.rewrap(place, |uid, class_key, hierarchy| {
            hierarchy.set_password(uid, class_key, new, cost)
        })
    }

    /// Wraps the class key anew, under a new media key, and forgets all wrong tries: who gets
    /// here has proven to be the owner.
    fn rewrap(
        &mut self,
        place: &Place,
        wrap: impl FnOnce(&Secret, &Secret, &mut Hierarchy) -> Result<(), Error>,
    ) -> Result<(), ChangeError> {
        let class_key = self.class_key.take().ok_or(Error::Locked)?;
        let changed = self.change(place, Keep::Anchor, true, |next| {
            let Contents { uid, hierarchy, .. } = next;
            let hierarchy = hierarchy.as_mut().ok_or(Error::Absent)?;
            let volume_key = hierarchy.volume_key(&class_key)?;
            hierarchy.set_volume_key(&volume_key, &class_key)?;
            wrap(uid, &class_key, hierarchy)?;
            next.forget_disk_tries();
            Ok(())
        });
        self.class_key = Some(class_key);
        changed.map(|_| ())
    }

    /// The class key, for a right secret.
    fn prove(&mut self, place: &Place, proof: &Proof<'_>) -> Result<Secret, ChangeError> {
        let hierarchy = self.hierarchy()?;
        let recovery_key = match proof.budget {
            Budget::RecoveryKey if hierarchy.by_recovery.is_none() => {
                return Err(Error::Absent.into());
            }
            Budget::RecoveryKey => {
                let mistyped = Error::Secret("this is no recovery key: look for a typing error");
                Some(RecoveryKey::parse(proof.secret).ok_or(mistyped)?)
            }
            _ if hierarchy.by_password.is_none() => return Err(Error::Absent.into()),
            // The counters of the password may be among what was put back.
            _ if self.standing == Standing::Unfitting => {
                return Err(Error::PutBack("a part of the chip's state folder").into());
            }
            _ => None,
        };
        self.charged(place, proof.budget as usize, |contents| {
            let (uid, hierarchy) = (&contents.uid, contents.hierarchy.as_ref());
            let hierarchy = hierarchy.ok_or(Error::Absent)?;
            let (by_recovery, by_password) = (&hierarchy.by_recovery, &hierarchy.by_password);
            match (&recovery_key, by_recovery, by_password) {
                (Some(key), Some(wrapped), _) => wrapped.open(uid, key),
                (None, _, Some(wrapped)) => wrapped.open(uid, proof.secret),
                _ => Err(Error::Absent),
            }
        })
    }

    /// What `guess` yields for the right secret. A try of the kind with this number is charged
    /// before it is asked, and settled after.
    pub(crate) fn charged<T>(
        &mut self,
        place: &Place,
        place_of: usize,
        guess: impl FnOnce(&Contents) -> Result<Guess<T>, Error>,
    ) -> Result<T, ChangeError> {
        let now = place.clock.now();
        let before = self.contents.attempts[place_of].clone();
        before.check(now)?;
        self.change(place, Keep::Anchor, false, |next| {
            next.attempts[place_of].charge(now);
            Ok(())
        })?;
        match guess(&self.contents)? {
            Guess::Right(opened) => {
                self.settle_try(place, place_of, Attempts::default())?;
                Ok(opened)
            }
            Guess::Wrong(mark) => {
                let is_the_same = before.last_wrong.is_some_and(|last| mark.is(&last));
                let after = if is_the_same {
                    before
                } else {
                    Attempts {
                        last_wrong: Some(*mark.expose()),
                        ..self.contents.attempts[place_of].clone()
                    }
                };
                self.settle_try(place, place_of, after)?;
                Err(Error::Wrong.into())
            }
        }
    }

    fn settle_try(
        &mut self,
        place: &Place,
        place_of: usize,
        after: Attempts,
    ) -> Result<(), ChangeError> {
        let settled = self.change(place, Keep::Anchor, false, |next| {
            next.attempts[place_of] = after;
            Ok(())
        });
        settled.map(|_| ())
    }

    pub(crate) fn hierarchy(&self) -> Result<&Hierarchy, Error> {
        self.contents.hierarchy.as_ref().ok_or(Error::Absent)
    }
}
