//! The arena of keys.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::io::Errno;
use zeroize::Zeroize as _;

use crate::Area;

/// Size of a slot: one symmetric key.
pub const SLOT_SIZE_BYTES: usize = 32;

/// How many slots there are; a chip at work has a few dozen in use.
pub const SLOTS: usize = 256;

type Bytes = [u8; SLOT_SIZE_BYTES];

struct Arena {
    /// Room for all of them from the beginning, so that giving one back never allocates.
    free: Mutex<Vec<&'static mut Bytes>>,
    locked: bool,
}

static ARENA: OnceLock<Result<Arena, Errno>> = OnceLock::new();

/// No slot is free, or the arena could not be mapped.
#[derive(Debug)]
pub struct Full;

/// Maps the arena, unless it is there already, and says whether it is locked. From then on slots
/// take no system call.
///
/// # Errors
/// When there is no memory for it; then there are no slots, now or later.
pub fn prepare() -> Result<bool, Errno> {
    let arena = arena();
    arena.map(|arena| arena.locked).map_err(|errno| *errno)
}

/// 32 bytes, all zero at first. Wiped and given back when dropped.
pub struct Slot {
    /// Always there, until it is dropped.
    bytes: Option<&'static mut Bytes>,
}

impl Slot {
    /// A free one.
    ///
    /// # Errors
    /// [`Full`] when [`SLOTS`] are in use.
    pub fn take() -> Result<Slot, Full> {
        let bytes = arena().map_err(|_| Full)?.free().pop().ok_or(Full)?;
        Ok(Slot { bytes: Some(bytes) })
    }
}

impl Deref for Slot {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        self.bytes.as_deref().expect(IN_USE)
    }
}

impl DerefMut for Slot {
    fn deref_mut(&mut self) -> &mut Bytes {
        self.bytes.as_deref_mut().expect(IN_USE)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let (Some(bytes), Ok(arena)) = (self.bytes.take(), arena()) {
            bytes.zeroize();
            arena.free().push(bytes);
        }
    }
}

const IN_USE: &str = "a slot has its bytes until it is dropped";

impl Arena {
    fn map() -> Result<Arena, Errno> {
        // Never unmapped: the slots' references are good for as long as the process.
        let area = Box::leak(Box::new(Area::filled(Bytes::default(), SLOTS)?));
        let locked = area.locked();
        let free = Mutex::new(area.iter_mut().collect());
        Ok(Arena { free, locked })
    }

    /// A thread that panicked with the list in its hands left it whole: it is pushed or popped.
    fn free(&self) -> MutexGuard<'_, Vec<&'static mut Bytes>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn arena() -> Result<&'static Arena, &'static Errno> {
    ARENA.get_or_init(Arena::map).as_ref()
}
