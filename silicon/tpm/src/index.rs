//! Indices of the TPM's memory (Part 1 and Part 3, "Non-Volatile Storage").
//!
//! Why these attributes (Part 2, `TPMA_NV`):
//! - `AUTHREAD`, `AUTHWRITE`: the index yields to its own authorisation and to nothing else. Not
//!   `OWNERREAD`: the owner's authorisation is empty on most hosts, so everybody could read.
//! - `NO_DA`: a wrong authorisation does not count towards the TPM's lock-out. There is nothing to
//!   guess in 256 random bits, and whoever may speak to the TPM could lock it for everybody.
//! - No `ORDERLY`: a counter's each step is kept before it is acknowledged, so that a power cut
//!   takes none back. A new counter begins above every other that the TPM ever had, so it cannot
//!   be turned back by deleting it either.
//!
//! Deleting takes the owner's authorisation, as making does. So who may speak to the TPM can
//! destroy an index, but not learn what is in it.
//!
//! Invariant: an index is used only after its definition was compared with what it should be; the
//! HMAC of the next command then vouches for the comparison, because the name is part of it.

use aws_lc_rs::digest::{SHA256, digest};
use zeroize::Zeroizing;

use crate::Error;
use crate::bytes::{Reader, Writer};
use crate::key::{ALG_SHA256, RH_OWNER};
use crate::session::{Entity, Hidden, Session};

/// The first handle that is taken for an index: of those that belong to the owner (TCG registry of
/// reserved TPM 2.0 handles), a range that nobody is known to use.
pub const HANDLE_FIRST: u32 = 0x0187_0000;
/// The last one.
pub const HANDLE_LAST: u32 = 0x0187_ffff;
/// Size of what a [`Kind::Data`] index holds.
pub const DATA_SIZE_BYTES: usize = 32;
/// Size of an authorisation: the most that a TPM takes with SHA-256.
pub const AUTH_SIZE_BYTES: usize = 32;

const COUNTER_SIZE_BYTES: usize = 8;
const AUTHWRITE: u32 = 1 << 2;
const NT_COUNTER: u32 = 1 << 4;
const AUTHREAD: u32 = 1 << 18;
const NO_DA: u32 = 1 << 25;
const WRITTEN: u32 = 1 << 29;

const CC_NV_UNDEFINE_SPACE: u32 = 0x122;
const CC_NV_DEFINE_SPACE: u32 = 0x12a;
const CC_NV_INCREMENT: u32 = 0x134;
const CC_NV_WRITE: u32 = 0x137;
const CC_NV_READ: u32 = 0x14e;
const CC_NV_READ_PUBLIC: u32 = 0x169;

/// What opens an index.
pub type Auth = Zeroizing<[u8; AUTH_SIZE_BYTES]>;

/// What an index holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`DATA_SIZE_BYTES`] bytes.
    Data,
    /// A number that only grows.
    Counter,
}

/// Which index, and what it is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Definition {
    /// Its number.
    pub handle: u32,
    /// What it holds.
    pub kind: Kind,
}

/// An index that was found as it should be, and what opens it.
pub struct Index {
    definition: Definition,
    auth: Auth,
    written: bool,
}

/// A random handle among [`HANDLE_FIRST`] to [`HANDLE_LAST`]; even, so that the next is in the
/// range too.
pub fn random_handle() -> Result<u32, Error> {
    let mut bytes = [0; 2];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Cryptography("random bytes"))?;
    Ok(HANDLE_FIRST | u32::from(u16::from_be_bytes(bytes) & !1))
}

impl Definition {
    /// The index's public part: `TPMS_NV_PUBLIC` (Part 2).
    fn public(&self, written: bool) -> Writer {
        let (kind, size) = match self.kind {
            Kind::Data => (0, DATA_SIZE_BYTES),
            Kind::Counter => (NT_COUNTER, COUNTER_SIZE_BYTES),
        };
        let state = if written { WRITTEN } else { 0 };
        Writer::new()
            .u32(self.handle)
            .u16(ALG_SHA256)
            .u32(AUTHREAD | AUTHWRITE | NO_DA | kind | state)
            .sized(&[]) // no policy
            .u16(size as u16)
    }

    fn entity(&self, written: bool) -> Entity {
        let public = self.public(written);
        let mut name = ALG_SHA256.to_be_bytes().to_vec();
        name.extend_from_slice(digest(&SHA256, public.bytes()).as_ref());
        let handle = self.handle;
        Entity { handle, name }
    }
}

impl Index {
    /// Which it is.
    pub fn definition(&self) -> Definition {
        self.definition
    }

    fn entity(&self) -> Entity {
        self.definition.entity(self.written)
    }

    /// Once as what authorises the command, once as what it is about.
    fn twice(&self) -> [Entity; 2] {
        [self.entity(), self.entity()]
    }
}

impl Session {
    /// Looks for an index: whether it was ever written, `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Foreign`] where it is not as defined.
    pub fn look(&self, definition: Definition) -> Result<Option<bool>, Error> {
        let handle = definition.handle.to_be_bytes();
        let answer = match self.run_openly(CC_NV_READ_PUBLIC, &handle) {
            Err(Error::Missing) => return Ok(None),
            answer => answer?,
        };
        let public = Reader::new(&answer).sized()?;
        for written in [true, false] {
            if public == definition.public(written).bytes() {
                return Ok(Some(written));
            }
        }
        Err(Error::Foreign)
    }

    /// The index of this definition, to be opened with `auth`. That it yields to `auth` shows only
    /// when it is used.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Foreign`].
    pub fn find(&self, definition: Definition, auth: &Auth) -> Result<Index, Error> {
        let written = self.look(definition)?.ok_or(Error::Missing)?;
        Ok(Index {
            definition,
            auth: auth.clone(),
            written,
        })
    }

    /// Makes an index: TPM2_NV_DefineSpace.
    ///
    /// # Errors
    /// [`Error::Occupied`], [`Error::Full`], [`Error::OwnerAuthorisation`].
    pub fn define(&mut self, definition: Definition, auth: &Auth) -> Result<Index, Error> {
        let public = Writer::new().sized(definition.public(false).bytes());
        self.run(
            CC_NV_DEFINE_SPACE,
            &[Entity::permanent(RH_OWNER)],
            &[],
            Hidden::First,
            &auth[..],
            public.bytes(),
        )
        .map_err(owner)?;
        Ok(Index {
            definition,
            auth: auth.clone(),
            written: false,
        })
    }

    /// Writes all of a [`Kind::Data`] index: TPM2_NV_Write.
    pub fn write(&mut self, index: &mut Index, data: &[u8; DATA_SIZE_BYTES]) -> Result<(), Error> {
        let offset = 0_u16.to_be_bytes();
        let entities = index.twice();
        let auth = &index.auth[..];
        self.run(CC_NV_WRITE, &entities, auth, Hidden::First, data, &offset)?;
        index.written = true;
        Ok(())
    }

    /// Reads all of a [`Kind::Data`] index: TPM2_NV_Read.
    ///
    /// # Errors
    /// [`Error::Unauthorised`] where it does not yield to its authorisation, [`Error::Unwritten`].
    pub fn read(&mut self, index: &Index) -> Result<Zeroizing<[u8; DATA_SIZE_BYTES]>, Error> {
        let mut data = Zeroizing::new([0; DATA_SIZE_BYTES]);
        self.read_into(index, &mut data[..])?;
        Ok(data)
    }

    /// Where a [`Kind::Counter`] index stands.
    ///
    /// # Errors
    /// As for [`Session::read`].
    pub fn count(&mut self, index: &Index) -> Result<u64, Error> {
        let mut number = [0; COUNTER_SIZE_BYTES];
        self.read_into(index, &mut number)?;
        Ok(u64::from_be_bytes(number))
    }

    fn read_into(&mut self, index: &Index, output: &mut [u8]) -> Result<(), Error> {
        let size = output.len() as u16;
        let (size, offset) = (size.to_be_bytes(), 0_u16.to_be_bytes());
        let (entities, auth) = (index.twice(), &index.auth[..]);
        let answer = self.run(CC_NV_READ, &entities, auth, Hidden::Answer, &size, &offset)?;
        let mut reader = Reader::new(&answer);
        let data = reader.sized()?;
        reader.end()?;
        if data.len() != output.len() {
            return Err(Error::Garbled("size of an index"));
        }
        output.copy_from_slice(data);
        Ok(())
    }

    /// Counts a [`Kind::Counter`] index up by one: TPM2_NV_Increment. The first time it becomes
    /// readable.
    pub fn increment(&mut self, index: &mut Index) -> Result<(), Error> {
        let (entities, auth) = (index.twice(), &index.auth[..]);
        self.run(CC_NV_INCREMENT, &entities, auth, Hidden::Nothing, &[], &[])?;
        index.written = true;
        Ok(())
    }

    /// Deletes an index and what is in it: TPM2_NV_UndefineSpace. The answer is the TPM's own.
    ///
    /// # Errors
    /// [`Error::OwnerAuthorisation`].
    pub fn undefine(&mut self, index: Index) -> Result<(), Error> {
        let entities = [Entity::permanent(RH_OWNER), index.entity()];
        self.run(
            CC_NV_UNDEFINE_SPACE,
            &entities,
            &[],
            Hidden::Nothing,
            &[],
            &[],
        )
        .map_err(owner)?;
        Ok(())
    }
}

/// What a command in the owner's name says when it is not authorised.
fn owner(error: Error) -> Error {
    match error {
        Error::Unauthorised => Error::OwnerAuthorisation,
        error => error,
    }
}
