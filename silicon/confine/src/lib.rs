//! What the chip's programs take from themselves before they answer anybody.
//!
//! - `end_with_parent`: no life of its own after whoever started it;
//! - `hide_memory`: no core dump, no reading by others of the same user (`ptrace`,
//!   `/proc/PID/mem`);
//! - `lock_memory`: what is written to memory stays out of swap;
//! - `restrict_files`: Landlock; no files but those in given folders, no TCP, no signals to others;
//! - `Calls`: seccomp; system calls that were not named kill the process.
//!
//! Invariants: once applied, none of it can be undone, and each holds for what comes after. It
//! trusts the kernel. What a kernel may lack is told to the caller, who goes on with the rest and
//! says so.

use std::error::Error;

use rustix::process::Signal;

mod calls;
mod files;
mod memory;
pub mod probe;

pub use calls::{Argument, Calls, refuse};
pub use files::restrict_files;
pub use memory::{hide_memory, limit_arenas, lock_memory};

/// From now on the kernel ends this process at once when its parent ends.
///
/// A parent that ended before is noticed at the link, which nobody holds then.
pub fn end_with_parent() -> Result<(), Box<dyn Error>> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

/// Lets a write over the limit on file sizes fail like one on a full disk, instead of killing the
/// process.
pub fn outlive_file_limits() {
    // SAFETY: ignoring a signal installs no handler, so there is none that could do harm.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

#[cfg(test)]
mod tests;
