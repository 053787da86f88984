//! Memory for keys.
//!
//! - [`Slot`]: 32 bytes for one key, out of one small arena that is mapped once.
//! - [`Area`]: pages of their own, for a password or for what a password is stretched in.
//!
//! Invariants: the pages lie between two that nobody may touch, are left out of core dumps, and
//! are empty in a child after a fork; slots and areas are wiped when they are given back. They
//! are locked (never on swap) if the limit on locked memory allows it; whether they are is said,
//! not assumed. It trusts the kernel.
//!
//! Memory that even the kernel has no map of (`memfd_secret`) is not used: while there is any, the
//! whole host cannot hibernate, and those it would hold off (root on the host) are not promised
//! anything.
//!
//! What it takes of a confinement: `mmap`, `mprotect`, `madvise`, `mlock`, `munmap`. After [`prepare`] slots take none of them.

mod area;
mod pages;
mod slots;

pub use area::Area;
pub use slots::{Full, SLOT_SIZE_BYTES, SLOTS, Slot, prepare};
