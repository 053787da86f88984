//! Pages as values of one type.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use rustix::io::Errno;

use crate::pages::Pages;

/// A number of values in pages of their own. Wiped when dropped.
///
/// Invariant: the pages begin with `count` initialised values of `T`.
pub struct Area<T: Copy> {
    pages: Pages,
    count: usize,
    values: PhantomData<[T]>,
}

impl<T: Copy> Area<T> {
    /// `count` times `value`.
    ///
    /// # Errors
    /// `ENOMEM` when there is not that much memory.
    pub fn filled(value: T, count: usize) -> Result<Area<T>, Errno> {
        let size_bytes = size_of::<T>().checked_mul(count).ok_or(Errno::NOMEM)?;
        let pages = Pages::map(size_bytes)?;
        let start: *mut T = pages.start().as_ptr().cast();
        assert!(
            start.is_aligned(),
            "a type with an alignment above a page's"
        );
        for index in 0..count {
            // SAFETY: the pages have room for `count` values, are writable, aligned as just
            // checked, and nothing refers to them yet. `T` is `Copy`: nothing there to drop.
            unsafe { start.add(index).write(value) };
        }
        Ok(Area {
            pages,
            count,
            values: PhantomData,
        })
    }

    /// Whether the kernel keeps it from swap.
    pub fn locked(&self) -> bool {
        self.pages.locked()
    }
}

impl<T: Copy> Deref for Area<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: by the invariant `count` values are there; they live as long as the area, and
        // whoever wants to change them borrows the area for it.
        unsafe { std::slice::from_raw_parts(self.pages.start().as_ptr().cast(), self.count) }
    }
}

impl<T: Copy> DerefMut for Area<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and the area is borrowed for this alone.
        unsafe { std::slice::from_raw_parts_mut(self.pages.start().as_ptr().cast(), self.count) }
    }
}

impl<T: Copy> Drop for Area<T> {
    fn drop(&mut self) {
        let (start, size_bytes) = (self.pages.start().as_ptr(), self.pages.size_bytes());
        // SAFETY: all of it is writable memory of the area, which nobody borrows any more. The
        // values have no destructors (`Copy`), and none is looked at again.
        let bytes = unsafe {
            start.write_bytes(0, size_bytes);
            std::slice::from_raw_parts(start, size_bytes)
        };
        // The zeros count as looked at, so that no compiler leaves them out.
        zeroize::optimization_barrier(bytes);
    }
}
