//! The witness: what knows, apart from the chip's state folder, which of its states is the newest.
//!
//! The host's map is one file for all chips of a user that are sealed by the host's TPM. It names
//! the store that counts of each. Which of its own states counts says a counter in the TPM, which
//! never goes back. So whoever puts the whole host's disk back to an older day, state folders and
//! map and all, is noticed: the counter is ahead of everything they have.
//!
//! The map has two slots. The one with the counter's value is the map. A change is written into
//! the other one, for the next value, and flushed; then the counter is counted up: from then on
//! the change counts. A slot for a value that the counter has not reached counts for nothing.
//! `docs/vault-store.md` has the byte tables; a test compares these constants with them.
//!
//! Invariants: a change is durable before the counter moves; the slot that counts is never
//! touched; one vault at a time reads or changes the map (`flock` on its folder); the map was
//! written by who could read the TPM (HMAC under a key that lies there and nowhere else).
//!
//! It trusts the TPM, and its owner, who could delete the counter: that is noticed like a disk put
//! back.

mod format;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use aws_lc_rs::hmac;
use rustix::io::Errno;
use tpm::{Auth, Definition, Error as TpmError, Index, Kind, Session, Tpm};

use crate::folder::FixedFile;
use crate::secret::Secret;
use crate::{Error, StateFolder};
pub use format::*;

/// How long a vault waits until others have done with the map.
const TURN_PATIENCE: Duration = Duration::from_secs(60);
/// So many numbers are tried for the TPM's indices before they are taken to be used up.
const HANDLE_TRIES: usize = 64;

const STALE: Error = Error::PutBack("the host's map");
const GONE: Error = Error::PutBack("the host's map: its counter is gone from the TPM");
const DAMAGED: Error = Error::PutBack("the host's map: it is damaged");

/// What remembers the newest store of chips apart from their folders.
pub trait Witness {
    /// Digest of the chip's store that counts; `None` where nothing is known of this chip. That
    /// is no consent: a chip that was born under a witness is known to it, or was put back.
    ///
    /// # Errors
    /// [`Error::PutBack`] when what the witness itself left on the disk is older than it knows.
    fn expected(&mut self, ecid: u64) -> Result<Option<[u8; 32]>, Error>;

    /// From when this returns, and not before, the store of this digest is the one that counts.
    /// After an error either may be; [`Witness::expected`] tells.
    ///
    /// # Errors
    /// As for [`Witness::expected`].
    fn advance(&mut self, ecid: u64, digest: &[u8; 32]) -> Result<(), Error>;

    /// The chip is gone for good, and every store of it refused. Harmless where it is unknown, and
    /// where the witness was put back: then every store is refused already.
    fn forget(&mut self, ecid: u64) -> Result<(), Error>;

    /// Forgets all chips, after [`Error::PutBack`], so that new ones can be known. The old ones
    /// stay refused.
    fn start_over(&mut self) -> Result<(), Error>;
}

/// The map of this host's TPM.
pub struct HostMap {
    tpm: Tpm,
    folder: StateFolder,
    /// The TPM's name, once it is known.
    key_name: Option<[u8; KEY_NAME_SIZE_BYTES]>,
    /// The key of the map with this header, once it was read.
    key: Option<(CheckSum, Secret)>,
}

/// The map as it counts, and what is needed to change it.
struct Current {
    session: Session,
    file: FixedFile,
    header: Header,
    key: hmac::Key,
    counter: Index,
    /// Where the counter stands.
    count: u64,
    /// Which slot has that count.
    slot: usize,
    map: Map,
}

impl HostMap {
    /// The map in the folder behind `host`, which the chips of one user share.
    pub fn new(tpm: Tpm, host: impl AsFd) -> Result<HostMap, Error> {
        Ok(HostMap {
            tpm,
            folder: StateFolder::share(host)?,
            key_name: None,
            key: None,
        })
    }

    /// Does something while no other vault touches the map.
    fn in_turn<T>(
        &mut self,
        work: impl FnOnce(&mut HostMap) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.folder
            .lock(TURN_PATIENCE)
            .map_err(|errno| Error::Storage("locking the host's map", errno))?;
        let result = work(self);
        self.folder.unlock();
        result
    }

    fn session(&mut self) -> Result<Session, Error> {
        let session = self
            .tpm
            .session(self.key_name.as_ref())
            .map_err(Error::Tpm)?;
        self.key_name = Some(*session.key_name());
        Ok(session)
    }

    /// The map, `None` where this TPM has none here.
    fn current(&mut self) -> Result<Option<Current>, Error> {
        let mut session = self.session()?;
        let name = file_name(session.key_name());
        let file = match self.folder.open_fixed(&name, FILE_SIZE_BYTES) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(None),
            Err(Error::Corrupt(_)) => return Err(DAMAGED),
            Err(error) => return Err(error),
        };
        let mut bytes = vec![0; FILE_SIZE_BYTES];
        file.read(&mut bytes)?;
        let (header, slots) = bytes.split_at(HEADER_SIZE_BYTES);
        let header = Header::decode(header, session.key_name()).ok_or(DAMAGED)?;
        let key = self.key_of(&mut session, &header)?;
        let counter = find(&session, header.counter(), &header.auth)?;
        let count = session.count(&counter).map_err(gone)?;
        let (slot, map) = (slots.chunks_exact(SLOT_SIZE_BYTES).enumerate())
            .filter_map(|(number, bytes)| Slot::decode(number, bytes, &header, &key))
            .find(|slot| slot.count == count)
            .map(|slot| (slot.number, slot.map))
            .ok_or(STALE)?;
        Ok(Some(Current {
            session,
            file,
            header,
            key,
            counter,
            count,
            slot,
            map,
        }))
    }

    /// The key of the map with this header: the TPM's secret, for this purpose.
    fn key_of(&mut self, session: &mut Session, header: &Header) -> Result<hmac::Key, Error> {
        let known = self.key.take();
        let key = match known.filter(|(check_sum, _)| *check_sum == header.check_sum) {
            Some((_, key)) => key,
            None => {
                let index = find(session, header.key(), &header.auth)?;
                map_key(&*session.read(&index).map_err(gone)?, header)?
            }
        };
        let mac_key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        self.key = Some((header.check_sum, key));
        Ok(mac_key)
    }

    /// An empty map for this TPM, in the place of any other: a counter and a key of its own.
    fn create(&mut self) -> Result<Current, Error> {
        let mut session = self.session()?;
        let name = file_name(session.key_name());
        // One that was cut short has left its indices.
        if let Ok(Some(header)) = self.header(&session, |folder| {
            folder.open_unfinished(&name, FILE_SIZE_BYTES)
        }) {
            discard_indices(&mut session, &header)?;
        }
        let header = Header::new(free_handle(&session)?, session.key_name())?;
        let made = self.make(&mut session, &name, &header);
        let (file, key, counter, count) = made.inspect_err(|_| {
            // The first error is the one to tell; what cannot be put away now is put away by the
            // next try, as long as its header is there.
            if discard_indices(&mut session, &header).is_ok() {
                self.folder.discard(&name);
            }
        })?;
        self.folder.commit(&name)?.wipe()?;
        Ok(Current {
            session,
            file,
            header,
            key,
            counter,
            count,
            slot: 0,
            map: Map::default(),
        })
    }

    /// Prepares the map's file and makes its indices; the file says first which they will be.
    fn make(
        &self,
        session: &mut Session,
        name: &str,
        header: &Header,
    ) -> Result<(FixedFile, hmac::Key, Index, u64), Error> {
        let mut bytes = header.encode();
        bytes.resize(FILE_SIZE_BYTES, 0);
        self.folder.prepare(name, &bytes)?;
        self.folder.sync()?;

        let secret = Secret::random()?;
        let mut index = session
            .define(header.key(), &header.auth)
            .map_err(Error::Tpm)?;
        session
            .write(&mut index, secret.expose())
            .map_err(Error::Tpm)?;
        let mut counter = session
            .define(header.counter(), &header.auth)
            .map_err(Error::Tpm)?;
        session.increment(&mut counter).map_err(Error::Tpm)?;
        let count = session.count(&counter).map_err(Error::Tpm)?;

        let key = map_key(secret.expose(), header)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        let file = (self.folder.open_unfinished(name, FILE_SIZE_BYTES)?)
            .ok_or(Error::Corrupt("the prepared map is gone"))?;
        let slot = Slot {
            number: 0,
            count,
            map: Map::default(),
        };
        file.write(slot_offset(slot.number), &slot.encode(header, &key))?;
        Ok((file, key, counter, count))
    }

    /// Puts away a map that says nothing any more, and its indices: a TPM has little room. From the
    /// first of them on no copy of the map counts.
    fn remove(&self, mut current: Current) -> Result<(), Error> {
        discard_indices(&mut current.session, &current.header)?;
        self.folder.destroy(&file_name(current.session.key_name()))
    }

    /// The header of a file, if it has one for this TPM.
    fn header(
        &self,
        session: &Session,
        open: impl FnOnce(&StateFolder) -> Result<Option<FixedFile>, Error>,
    ) -> Result<Option<Header>, Error> {
        let Some(file) = open(&self.folder)? else {
            return Ok(None);
        };
        let mut bytes = vec![0; FILE_SIZE_BYTES];
        file.read(&mut bytes)?;
        Ok(Header::decode(
            &bytes[..HEADER_SIZE_BYTES],
            session.key_name(),
        ))
    }
}

/// The descriptor of the map's folder, below which its files are opened.
impl AsFd for HostMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

impl Witness for HostMap {
    fn expected(&mut self, ecid: u64) -> Result<Option<[u8; 32]>, Error> {
        self.in_turn(|host| {
            let current = host.current()?;
            Ok(current.and_then(|current| current.map.get(&ecid).copied()))
        })
    }

    fn advance(&mut self, ecid: u64, digest: &[u8; 32]) -> Result<(), Error> {
        self.in_turn(|host| {
            let mut current = match host.current()? {
                Some(current) => current,
                None => host.create()?,
            };
            if current.map.insert(ecid, *digest) == Some(*digest) {
                return Ok(());
            }
            if current.map.len() > ENTRIES_MAX {
                return Err(Error::Storage("the host's map is full", Errno::NOSPC));
            }
            current.commit()
        })
    }

    fn forget(&mut self, ecid: u64) -> Result<(), Error> {
        self.in_turn(|host| {
            let mut current = match host.current() {
                Ok(Some(current)) => current,
                // A map that does not count says nothing of the chip either.
                Ok(None) | Err(Error::PutBack(_)) => return Ok(()),
                Err(error) => return Err(error),
            };
            match current.map.remove(&ecid) {
                Some(_) if current.map.is_empty() => host.remove(current),
                Some(_) => current.commit(),
                None => Ok(()),
            }
        })
    }

    fn start_over(&mut self) -> Result<(), Error> {
        self.in_turn(|host| {
            let mut session = host.session()?;
            let name = file_name(session.key_name());
            if let Ok(Some(header)) =
                host.header(&session, |folder| folder.open_fixed(&name, FILE_SIZE_BYTES))
            {
                discard_indices(&mut session, &header)?;
            }
            drop(session);
            host.create().map(|_| ())
        })
    }
}

impl Current {
    /// Has the changed map count.
    fn commit(mut self) -> Result<(), Error> {
        let slot = Slot {
            number: (self.slot + 1) % SLOT_COUNT,
            count: self.count + 1,
            map: self.map,
        };
        let bytes = slot.encode(&self.header, &self.key);
        self.file.write(slot_offset(slot.number), &bytes)?;
        self.session
            .increment(&mut self.counter)
            .map_err(Error::Tpm)
    }
}

/// The key that authenticates a map, from what lies in the TPM.
fn map_key(secret: &[u8; tpm::DATA_SIZE_BYTES], header: &Header) -> Result<Secret, Error> {
    let secret = Secret::filled(|bytes| {
        bytes.copy_from_slice(secret);
        Ok(())
    })?;
    secret.derive(&header.auth[..], &[DERIVATION_LABEL])
}

/// A handle that is free, as the one after it is.
fn free_handle(session: &Session) -> Result<u32, Error> {
    for _ in 0..HANDLE_TRIES {
        let handle = tpm::random_handle().map_err(Error::Tpm)?;
        if is_free(session, handle)? && is_free(session, handle + 1)? {
            return Ok(handle);
        }
    }
    Err(Error::Tpm(TpmError::Occupied))
}

fn is_free(session: &Session, handle: u32) -> Result<bool, Error> {
    let kind = Kind::Data;
    match session.look(Definition { handle, kind }) {
        Ok(found) => Ok(found.is_none()),
        Err(TpmError::Foreign) => Ok(false),
        Err(error) => Err(Error::Tpm(error)),
    }
}

fn find(session: &Session, definition: Definition, auth: &Auth) -> Result<Index, Error> {
    session.find(definition, auth).map_err(gone)
}

/// What becomes of a map whose indices are no longer what they were.
fn gone(error: TpmError) -> Error {
    match error {
        TpmError::Missing | TpmError::Foreign | TpmError::Unauthorised | TpmError::Unwritten => {
            GONE
        }
        error => Error::Tpm(error),
    }
}

/// Deletes the indices that a map names, as far as they are its own.
fn discard_indices(session: &mut Session, header: &Header) -> Result<(), Error> {
    for definition in [header.key(), header.counter()] {
        let index = match session.find(definition, &header.auth) {
            Err(TpmError::Missing | TpmError::Foreign) => continue,
            index => index.map_err(Error::Tpm)?,
        };
        // An index is whose authorisation opens it.
        let tried = match definition.kind {
            Kind::Data => session.read(&index).map(|_| ()),
            Kind::Counter => session.count(&index).map(|_| ()),
        };
        match tried {
            Ok(()) | Err(TpmError::Unwritten) => session.undefine(index).map_err(Error::Tpm)?,
            Err(TpmError::Unauthorised) => {}
            Err(error) => return Err(Error::Tpm(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
