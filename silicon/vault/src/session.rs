//! What the SSD gets: the volume key, and a place for its anchors.

use crate::Error;
use crate::anchor::Kept;
use crate::boundary::Place;
use crate::contents::{Contents, Standing};
use crate::error::ChangeError;
use crate::hierarchy::Hierarchy;
use crate::secret::Secret;
use crate::vault::{Keep, Session, Vault};

/// What the vault remembers of the disk.
pub enum Remembered<'a> {
    /// The newest anchor.
    Anchor(&'a [u8]),
    /// Nothing since it was formatted.
    Nothing,
    /// Its owner authorised whatever state it is in.
    Adopt,
}

impl Vault {
    /// Begins a session with the disk as it is. It is a boundary: what was kept of the state
    /// folder before fits no more.
    ///
    /// # Errors
    /// [`Error::Locked`] before the password was given, [`Error::PutBack`].
    pub fn begin_session(&mut self, place: &Place) -> Result<(), ChangeError> {
        self.unlocked()?;
        self.must_fit()?;
        if self.standing == Standing::TakingOver {
            return Err(Error::PutBack("this chip has yet to take the modules over").into());
        }
        self.session = Session::Plain;
        self.change(place, Keep::Anchor, false, |_| Ok(()))
            .map(|_| ())
    }

    /// Begins a session with modules in whatever state they are.
    ///
    /// # Errors
    /// [`Error::Locked`] before the password was given, [`Error::Unauthorised`].
    pub fn begin_adoption(&mut self) -> Result<(), Error> {
        self.unlocked()?;
        if self.session != Session::Authorised {
            return Err(Error::Unauthorised);
        }
        self.session = Session::Adopting;
        Ok(())
    }

    /// Ends whatever session there was: its last anchor goes into both slots of a new epoch.
    pub fn end_session(&mut self, place: &Place) -> Result<(), ChangeError> {
        if self.session == Session::Adopting {
            self.session = Session::Plain;
        }
        if self.standing != Standing::Whole {
            return Ok(());
        }
        self.change(place, Keep::Anchor, false, |_| Ok(()))
            .map(|_| ())
    }

    /// Forgets the disk: a new volume key, and no anchor. What was written under the old key is
    /// lost with it.
    ///
    /// # Errors
    /// [`Error::Locked`] before the password was given.
    pub fn format(&mut self, place: &Place) -> Result<(), ChangeError> {
        let volume_key = Secret::random()?;
        let class_key = match &self.contents.hierarchy {
            Some(_) => Some(self.class_key.take().ok_or(Error::Locked)?),
            None => None,
        };
        let mut made = None;
        let changed = self.change(place, Keep::Nothing, false, |next| {
            let Contents { uid, hierarchy, .. } = next;
            match (hierarchy.as_mut(), &class_key) {
                (Some(hierarchy), Some(class_key)) => {
                    hierarchy.set_volume_key(&volume_key, class_key)?;
                }
                _ => {
                    let (new, class_key) = Hierarchy::new(uid, &volume_key)?;
                    *hierarchy = Some(new);
                    made = Some(class_key);
                }
            }
            next.standing = Standing::Whole;
            Ok(())
        });
        self.class_key = match changed {
            Ok(_) => made.or(class_key),
            Err(_) => class_key,
        };
        self.session = Session::Plain;
        changed.map(|_| ())
    }

    /// The key of everything on the disk's modules.
    ///
    /// # Errors
    /// [`Error::Locked`] before the password was given.
    pub fn volume_key(&self) -> Result<Secret, Error> {
        self.hierarchy()?.volume_key(self.unlocked()?)
    }

    /// What is remembered of the disk.
    ///
    /// # Errors
    /// [`Error::PutBack`] when the anchor file does not fit.
    pub fn newest_anchor(&mut self) -> Result<Remembered<'_>, Error> {
        if self.session == Session::Adopting {
            return Ok(Remembered::Adopt);
        }
        let newest = self.anchors()?.newest();
        Ok(newest.map_or(Remembered::Nothing, |kept| Remembered::Anchor(kept.anchor)))
    }

    /// Keeps an anchor of 1 to [`crate::anchor::ANCHOR_SIZE_BYTES_MAX`] bytes; it is durable when
    /// this returns.
    ///
    /// # Errors
    /// [`Error::Backwards`] when its sequence is lower than the kept one's, unless an adoption
    /// writes its first. After [`Error::Storage`] the kept anchor is what it was.
    pub fn write_anchor(
        &mut self,
        place: &Place,
        sequence: u64,
        anchor: &[u8],
    ) -> Result<(), ChangeError> {
        if self.session == Session::Adopting {
            let kept = Kept { sequence, anchor };
            self.change(place, Keep::This(kept), false, |next| {
                next.rollbacks += 1;
                next.standing = Standing::Whole;
                Ok(())
            })?;
            self.session = Session::Plain;
            return Ok(());
        }
        self.anchors()?.write(sequence, anchor)?;
        if self.lease_is_over(place) {
            self.change(place, Keep::Anchor, false, |_| Ok(()))?;
        }
        Ok(())
    }
}
