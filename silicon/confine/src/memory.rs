//! Memory that nobody else reads, and that does not reach swap.

use std::error::Error;
use std::hint::black_box;

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// How much memory for small allocations is made and locked at once. What the programs hold at a
/// time is a small part of it.
const HEAP_RESERVE_BYTES: usize = 1 << 20;
/// Likewise of the stack: several times what the deepest calls (making an RSA key) take.
const STACK_RESERVE_BYTES: usize = 256 << 10;
/// Allocations of this size and more are mappings of their own, given back when they are freed.
#[cfg(target_env = "gnu")]
const OWN_MAPPING_BYTES: libc::c_int = 128 << 10;
/// All threads share the allocator's main region.
#[cfg(target_env = "gnu")]
const ALLOCATOR_ARENAS: libc::c_int = 1;

/// Keeps the process's memory from core dumps and debuggers.
pub fn hide_memory() -> Result<(), Box<dyn Error>> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(Resource::Core, none)?;
    Ok(())
}

/// Keeps from swap all that this process writes to: its data, its stack, and a heap that is made
/// large enough now. Returns whether the limit on locked memory (RLIMIT_MEMLOCK) allowed it.
///
/// Only what exists now is locked: no allocation can ever fail for the limit. One that is too large
/// for the reserve (`OWN_MAPPING_BYTES` and more) is not locked; whoever makes it for a secret has
/// to do that. To be called before the process is confined, and after libraries have made their
/// state.
pub fn lock_memory() -> Result<bool, Box<dyn Error>> {
    let hard = rustix::process::getrlimit(Resource::Memlock).maximum;
    rustix::process::setrlimit(
        Resource::Memlock,
        Rlimit {
            current: hard,
            maximum: hard,
        },
    )?;
    reserve_heap();
    reserve_stack();
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let mut all = true;
    for (start, size_bytes) in maps.lines().filter_map(writable) {
        // SAFETY: locking changes nothing about what is mapped or what is in it.
        all &= unsafe { rustix::mm::mlock(start as *mut _, size_bytes) }.is_ok();
    }
    Ok(all)
}

/// Left to itself, glibc's allocator gives threads regions of their own, opens a file to count how
/// many are good, and another one before it gives memory of such a region back.
pub fn limit_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number in the allocator, while there is one thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ALLOCATOR_ARENAS);
    }
}

/// Makes the allocator ask for memory once, keep it, and take small allocations from it.
fn reserve_heap() {
    // SAFETY: these set numbers in the allocator, while there is one thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        libc::mallopt(
            libc::M_MMAP_THRESHOLD,
            2 * HEAP_RESERVE_BYTES as libc::c_int,
        );
    }
    drop(black_box(vec![1_u8; HEAP_RESERVE_BYTES]));
    // SAFETY: as above.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MAPPING_BYTES);
    }
}

#[inline(never)]
fn reserve_stack() {
    black_box([1_u8; STACK_RESERVE_BYTES]);
}

/// Address and size of the mapping in a line of `/proc/self/maps`, if it may be written to.
fn writable(line: &str) -> Option<(usize, usize)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    rest.starts_with("rw").then_some((start, end - start))
}
