//! The anchor: where the newest root of the disk is remembered, apart from the disk's modules.
//!
//! `docs/vault-store.md` has the byte table; a test compares these constants with it.
//!
//! Invariants: what was acknowledged stays the newest until something newer is acknowledged,
//! through failed writes and power cuts, because a write never touches the slot of the kept
//! anchor; the sequence never goes back; an anchor of another chip or from before the newest
//! boundary is none, because it was authenticated with another key. There is always a file: it
//! is made together with the store and may say that there is no anchor. So a missing file is
//! damage, not a new disk.

use aws_lc_rs::hmac;

use crate::folder::{FixedFile, Replaced};
use crate::secret::Secret;
use crate::{Error, StateFolder};

/// The anchor file's name in the state folder.
pub const ANCHOR_FILE_NAME: &str = "anchor";
/// Size of one slot.
pub const SLOT_SIZE_BYTES: usize = 4096;
/// How many slots the file has.
pub const SLOT_COUNT: usize = 2;
/// The first bytes of a slot that was written.
pub const MAGIC: [u8; 8] = *b"SGANCHR\0";
/// The format that this code reads and writes.
pub const VERSION: u16 = 1;
/// Offset of the magic.
pub const MAGIC_OFFSET: usize = 0;
/// Offset of the version, 16 bits. All numbers are big-endian.
pub const VERSION_OFFSET: usize = 8;
/// Offset of the anchor's size in bytes, 16 bits; 0 where there is none yet.
pub const SIZE_OFFSET: usize = 10;
/// Offset of the slot's number, 32 bits.
pub const SLOT_OFFSET: usize = 12;
/// Offset of the counter, 64 bits: the higher one is the newer slot.
pub const COUNTER_OFFSET: usize = 16;
/// Offset of the anchor's sequence, 64 bits.
pub const SEQUENCE_OFFSET: usize = 24;
/// Offset of the anchor; what follows it is zero.
pub const ANCHOR_OFFSET: usize = 32;
/// No anchor is longer.
pub const ANCHOR_SIZE_BYTES_MAX: usize = 512;
/// Offset of the HMAC-SHA-256 over everything before it.
pub const MAC_OFFSET: usize = 4064;
/// Size of the HMAC.
pub const MAC_SIZE_BYTES: usize = 32;
/// Size of the salt in the key's derivation.
pub const ANCHOR_SALT_SIZE_BYTES: usize = 32;
/// What the sealing key is derived for; the ECID follows (HKDF's `info`).
pub const DERIVATION_LABEL: &[u8] = b"spacegray vault anchor 1";

const FILE_SIZE_BYTES: usize = SLOT_COUNT * SLOT_SIZE_BYTES;
/// The counter of both slots of a new file.
const COUNTER_FIRST: u64 = 1;

/// The key that authenticates one disk's anchors.
pub struct AnchorKey {
    secret: Secret,
}

impl AnchorKey {
    pub(crate) fn derive(
        sealing_key: &Secret,
        salt: &[u8; ANCHOR_SALT_SIZE_BYTES],
        ecid: u64,
    ) -> Result<AnchorKey, Error> {
        let secret = sealing_key.derive(salt, &[DERIVATION_LABEL, &ecid.to_be_bytes()])?;
        Ok(AnchorKey { secret })
    }

    fn hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.secret.expose())
    }
}

/// What one slot says.
struct Slot {
    number: usize,
    counter: u64,
    sequence: u64,
    anchor: Vec<u8>,
}

/// The open anchor file of a disk.
pub struct AnchorFile {
    file: FixedFile,
    key: hmac::Key,
    kept: Slot,
}

/// An anchor that is taken into a new file.
#[derive(Clone, Copy)]
pub struct Kept<'a> {
    /// Its sequence.
    pub sequence: u64,
    /// The anchor.
    pub anchor: &'a [u8],
}

/// Writes a new file durably beside the one that is there: of a disk with this anchor, or of one
/// that has none yet. Both slots say it, so that neither is missed.
pub(crate) fn prepare(
    folder: &StateFolder,
    key: &AnchorKey,
    kept: Option<Kept<'_>>,
) -> Result<(), Error> {
    let (key, mut bytes) = (key.hmac(), Vec::with_capacity(FILE_SIZE_BYTES));
    for number in 0..SLOT_COUNT {
        let slot = Slot {
            number,
            counter: COUNTER_FIRST,
            sequence: kept.map_or(0, |kept| kept.sequence),
            anchor: kept.map_or(Vec::new(), |kept| kept.anchor.to_vec()),
        };
        bytes.extend_from_slice(&slot.encode(&key)?);
    }
    folder.prepare(ANCHOR_FILE_NAME, &bytes)
}

/// The prepared file is the anchor file from here on.
pub(crate) fn commit(folder: &StateFolder) -> Result<Replaced, Error> {
    folder.commit(ANCHOR_FILE_NAME)
}

/// Puts a prepared file away.
pub(crate) fn discard(folder: &StateFolder) {
    folder.discard(ANCHOR_FILE_NAME);
}

impl AnchorFile {
    /// Opens the disk's anchor file. Where a format was cut short between the store and the
    /// anchor file, the prepared one is put in its place.
    pub(crate) fn open(folder: &StateFolder, key: &AnchorKey) -> Result<AnchorFile, Error> {
        let key = key.hmac();
        let file = folder.open_fixed(ANCHOR_FILE_NAME, FILE_SIZE_BYTES);
        let (file, kept) = match newest(file, &key) {
            Err(damage @ Error::Corrupt(_)) => {
                let prepared = folder.open_unfinished(ANCHOR_FILE_NAME, FILE_SIZE_BYTES);
                let found = newest(prepared, &key).map_err(|error| match error {
                    Error::Corrupt(_) => damage,
                    error => error,
                })?;
                let _ = commit(folder)?.wipe();
                found
            }
            found => found?,
        };
        Ok(AnchorFile { file, key, kept })
    }

    /// The anchor that was written last; `None` since the disk was formatted.
    pub fn newest(&self) -> Option<Kept<'_>> {
        (!self.kept.anchor.is_empty()).then_some(Kept {
            sequence: self.kept.sequence,
            anchor: &self.kept.anchor,
        })
    }

    /// Keeps an anchor of 1 to [`ANCHOR_SIZE_BYTES_MAX`] bytes; it is durable when this returns.
    ///
    /// # Errors
    /// [`Error::Backwards`] when its sequence is lower than the kept one's. After
    /// [`Error::Storage`] the kept anchor is what it was, and the next try begins afresh; should
    /// the power be cut before that, either of the two may be the newest.
    ///
    /// # Panics
    /// When the anchor has another size.
    pub fn write(&mut self, sequence: u64, anchor: &[u8]) -> Result<(), Error> {
        assert!((1..=ANCHOR_SIZE_BYTES_MAX).contains(&anchor.len()));
        if sequence < self.kept.sequence {
            return Err(Error::Backwards);
        }
        let counter = self.kept.counter.checked_add(1);
        let slot = Slot {
            number: (self.kept.number + 1) % SLOT_COUNT,
            counter: counter.ok_or(Error::Corrupt("the anchor's counter is used up"))?,
            sequence,
            anchor: anchor.to_vec(),
        };
        let offset = (slot.number * SLOT_SIZE_BYTES) as u64;
        self.file.write(offset, &slot.encode(&self.key)?)?;
        self.kept = slot;
        Ok(())
    }
}

/// The file, and the newer of its slots that are whole.
fn newest(
    file: Result<Option<FixedFile>, Error>,
    key: &hmac::Key,
) -> Result<(FixedFile, Slot), Error> {
    let file = file?.ok_or(Error::Corrupt("the anchor file is missing"))?;
    let mut bytes = vec![0; FILE_SIZE_BYTES];
    file.read(&mut bytes)?;
    let kept = (bytes.chunks_exact(SLOT_SIZE_BYTES).enumerate())
        .filter_map(|(number, bytes)| Slot::decode(number, bytes, key))
        .max_by_key(|slot| slot.counter)
        .ok_or(Error::Corrupt("no slot of the anchor file is whole"))?;
    Ok((file, kept))
}

impl Slot {
    fn encode(&self, key: &hmac::Key) -> Result<Vec<u8>, Error> {
        let too_long = |_| Error::Corrupt("the anchor is too long");
        let mut bytes = Vec::with_capacity(FILE_SIZE_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(
            &u16::try_from(self.anchor.len())
                .map_err(too_long)?
                .to_be_bytes(),
        );
        bytes.extend_from_slice(&u32::try_from(self.number).map_err(too_long)?.to_be_bytes());
        bytes.extend_from_slice(&self.counter.to_be_bytes());
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.anchor);
        bytes.resize(MAC_OFFSET, 0);
        let mac = hmac::sign(key, &bytes);
        bytes.extend_from_slice(mac.as_ref());
        Ok(bytes)
    }

    /// The slot, if it was written there with this key, whole.
    fn decode(number: usize, bytes: &[u8], key: &hmac::Key) -> Option<Slot> {
        let (body, mac) = bytes.split_at(MAC_OFFSET);
        hmac::verify(key, body, mac).ok()?;
        let anchor_end = ANCHOR_OFFSET + usize::from(u16::from_be_bytes(field(body, SIZE_OFFSET)));
        let well_formed = body[MAGIC_OFFSET..VERSION_OFFSET] == MAGIC
            && u16::from_be_bytes(field(body, VERSION_OFFSET)) == VERSION
            && u32::from_be_bytes(field(body, SLOT_OFFSET)) as usize == number
            && anchor_end <= ANCHOR_OFFSET + ANCHOR_SIZE_BYTES_MAX;
        well_formed.then(|| Slot {
            number,
            counter: u64::from_be_bytes(field(body, COUNTER_OFFSET)),
            sequence: u64::from_be_bytes(field(body, SEQUENCE_OFFSET)),
            anchor: body[ANCHOR_OFFSET..anchor_end].to_vec(),
        })
    }
}

/// `SIZE` bytes at `offset` of a slice whose length has been checked.
fn field<const SIZE: usize>(bytes: &[u8], offset: usize) -> [u8; SIZE] {
    bytes[offset..offset + SIZE]
        .try_into()
        .expect("the slice has this size")
}
