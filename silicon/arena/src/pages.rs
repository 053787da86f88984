//! Pages between two guards.

use std::ptr::{NonNull, null_mut};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};

/// From here on large pages are asked for: so much memory in small ones takes longer to get than
/// to fill.
const LARGE_SIZE_BYTES: usize = 4 * 1024 * 1024;

/// Readable and writable pages of this process, all zero at first.
///
/// Invariant: `whole` is a mapping of `whole_size_bytes` that nobody else unmaps; of it the bytes
/// from `guard_size_bytes` on, `size_bytes` of them, may be read and written.
pub struct Pages {
    whole: NonNull<u8>,
    whole_size_bytes: usize,
    guard_size_bytes: usize,
    size_bytes: usize,
    locked: bool,
}

// SAFETY: the mapping belongs to the value alone, and no thread has a special part in it.
unsafe impl Send for Pages {}
// SAFETY: through a shared reference nothing of the memory can be reached.
unsafe impl Sync for Pages {}

impl Pages {
    /// At least `size_bytes`, rounded up to whole pages.
    ///
    /// # Errors
    /// `ENOMEM` when the kernel has not that much, or nothing was asked for.
    pub fn map(size_bytes: usize) -> Result<Pages, Errno> {
        let page = rustix::param::page_size();
        let size_bytes = size_bytes
            .checked_next_multiple_of(page)
            .filter(|size| *size > 0)
            .ok_or(Errno::NOMEM)?;
        let whole_size_bytes = size_bytes.checked_add(2 * page).ok_or(Errno::NOMEM)?;
        // SAFETY: a new anonymous mapping where the kernel finds room is nobody's memory.
        let whole = unsafe {
            let (rights, flags) = (ProtFlags::empty(), MapFlags::PRIVATE);
            rustix::mm::mmap_anonymous(null_mut(), whole_size_bytes, rights, flags)?
        };
        let mut pages = Pages {
            whole: NonNull::new(whole.cast()).ok_or(Errno::NOMEM)?,
            whole_size_bytes,
            guard_size_bytes: page,
            size_bytes,
            locked: false,
        };
        let start = pages.start().as_ptr().cast();
        // SAFETY: these are pages of the mapping above, which nothing refers to yet. What is
        // changed are rights and properties; their bytes stay.
        unsafe {
            rustix::mm::mprotect(
                start,
                size_bytes,
                MprotectFlags::READ | MprotectFlags::WRITE,
            )?;
            rustix::mm::madvise(start, size_bytes, Advice::LinuxDontDump)?;
            rustix::mm::madvise(start, size_bytes, Advice::LinuxWipeOnFork)?;
            if size_bytes >= LARGE_SIZE_BYTES {
                // A wish: a kernel without large pages does without.
                let _ = rustix::mm::madvise(start, size_bytes, Advice::LinuxHugepage);
            }
            pages.locked = rustix::mm::mlock(start, size_bytes).is_ok();
        }
        Ok(pages)
    }

    /// The first byte that may be used; a whole page begins with it.
    pub fn start(&self) -> NonNull<u8> {
        // SAFETY: inside of the mapping, which is larger than its first guard.
        unsafe { self.whole.add(self.guard_size_bytes) }
    }

    /// How many bytes may be used.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Whether the kernel keeps them from swap.
    pub fn locked(&self) -> bool {
        self.locked
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and whoever borrowed from it is gone.
        // It can fail only for want of memory to split a mapping, and then the pages stay mapped.
        let _ = unsafe { rustix::mm::munmap(self.whole.as_ptr().cast(), self.whole_size_bytes) };
    }
}
