//! A boundary: one state of the chip replaced by the next, so that the old one is dead.
//!
//! Store and anchor file are written anew and belong together: the store draws a new epoch salt,
//! from which the anchor file's key is derived. So no file of an earlier state fits to those of
//! a later one, whichever of them is put back.
//!
//! The order: both files are prepared durably; with a witness (a TPM's counter) it is told; the
//! store takes its place; the anchor file takes its place; the old bytes are written over. What
//! counts is the witness's word where there is one and else the store's rename. What is prepared
//! before that means nothing; what is left to do after it, is done when the vault is opened.

use std::cell::RefCell;

use crate::anchor::{self, AnchorKey, Kept};
use crate::attempts::Clock;
use crate::contents::Contents;
use crate::error::ChangeError;
use crate::host_map::Witness;
use crate::secret::Secret;
use crate::store::{self, Digest, Header, Sealed};
use crate::{Error, StateFolder};

/// Where a chip lives: everything outside of its own memory that it relies on.
pub struct Place {
    /// Its state folder.
    pub folder: StateFolder,
    /// What remembers the newest store apart from the folder, if there is such a thing.
    pub witness: Option<RefCell<Box<dyn Witness>>>,
    /// Tells the time.
    pub clock: Box<dyn Clock>,
}

impl Place {
    /// A place without a witness.
    pub fn new(folder: StateFolder, clock: Box<dyn Clock>) -> Place {
        Place {
            folder,
            witness: None,
            clock,
        }
    }

    /// Which store counts, as far as the witness knows.
    fn expected(&self, ecid: u64) -> Result<Option<Digest>, Error> {
        match &self.witness {
            Some(witness) => witness.borrow_mut().expected(ecid),
            None => Ok(None),
        }
    }
}

/// What a new state says of the host's map, where that is older than the TPM's counter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// This chip's state followed from the one before: it cannot be vouched for now.
    Following,
    /// This chip is new, or known to have been put back, and its owner goes on from there: a new
    /// map begins with it. That gives nothing away, since all chips of the old one are refused.
    Fresh,
}

/// Replaces the chip's state. Returns whether the old bytes could be written over.
pub(crate) fn cross(
    place: &Place,
    header: &Header,
    sealing_key: &Secret,
    contents: &Contents,
    kept: Option<Kept<'_>>,
    claim: Claim,
) -> Result<bool, ChangeError> {
    let folder = &place.folder;
    let anchor_key = AnchorKey::derive(sealing_key, &contents.epoch_salt, header.ecid)?;
    // First the names that an earlier failed flush may have left to the cache.
    let prepared = folder
        .sync()
        .and_then(|()| anchor::prepare(folder, &anchor_key, kept))
        .and_then(|()| store::prepare(folder, header, sealing_key, contents))
        .and_then(|digest| folder.sync().map(|()| digest));
    let digest = match prepared {
        Ok(digest) => digest,
        Err(error) => {
            anchor::discard(folder);
            store::discard(folder);
            return Err(error.into());
        }
    };
    if let Some(witness) = &place.witness {
        let mut witness = witness.borrow_mut();
        let advanced = match witness.advance(header.ecid, &digest) {
            Err(Error::PutBack(_)) if claim == Claim::Fresh => witness
                .start_over()
                .and_then(|()| witness.advance(header.ecid, &digest)),
            advanced => advanced,
        };
        advanced.map_err(ChangeError::Uncertain)?;
    }
    let old_store = store::commit(folder).map_err(ChangeError::Uncertain)?;
    let old_anchor = anchor::commit(folder).map_err(ChangeError::Uncertain)?;
    Ok(old_store.wipe().and(old_anchor.wipe()).is_ok())
}

/// The store that counts, and whether the witness knows of no other.
///
/// # Errors
/// As [`store::read`].
pub(crate) fn settled_store(place: &Place) -> Result<(Sealed, bool), Error> {
    let folder = &place.folder;
    // A vault that ended in the middle of a change may have left names that only the cache
    // knows. What is read here is to be there tomorrow.
    folder.sync()?;
    let found = store::read(folder)?;
    let expected = match place.expected(found.header.ecid) {
        Err(Error::PutBack(_)) => return Ok((found, false)),
        expected => expected?,
    };
    if expected.is_none_or(|digest| digest == found.digest) {
        // Without a word of it the chip was made without a witness, or the witness is another's.
        let is_known = expected.is_some() || place.witness.is_none();
        return Ok((found, is_known));
    }
    // The power was cut after the witness had been told.
    match store::read_unfinished(folder) {
        Ok(prepared) if Some(prepared.digest) == expected => {
            let _ = store::commit(folder)?.wipe();
            Ok((prepared, true))
        }
        _ => Ok((found, false)),
    }
}
