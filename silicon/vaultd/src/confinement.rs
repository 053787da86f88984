//! What the vault leaves itself before it answers anybody: its folders, its descriptors, and a few
//! system calls.
//!
//! Invariants: once applied, none of it can be undone. It trusts the kernel. Where a kernel lacks
//! Landlock or refuses to lock memory, the vault says so in one line and goes on with the rest.

use std::error::Error;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use confine::{Argument, Calls};

/// System calls that are allowed with any arguments: descriptors that it has, and locked memory.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_fsync,
    // The anchor file, in place.
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_fdatasync,
    libc::SYS_fadvise64,
    // The host's map is shared with other vaults.
    libc::SYS_flock,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_ppoll,
    // What kind of socket the SSD's is.
    libc::SYS_getsockopt,
    // The key arena, and what a password is tangled in.
    libc::SYS_mlock,
    libc::SYS_munlock,
];

/// Keeps the process's memory from swap, as far as this host allows it.
pub fn lock_memory() -> Result<(), Box<dyn Error>> {
    if !confine::lock_memory()? {
        eprintln!("vaultd: locking the memory: the limit is too low; keys could reach swap");
    }
    Ok(())
}

/// Leaves the process its `folders`, its open descriptors and a few system calls.
pub fn confine(folders: &[BorrowedFd<'_>]) -> Result<(), Box<dyn Error>> {
    if !confine::restrict_files(folders)? {
        eprintln!(
            "vaultd: confining the vault: no Landlock in this kernel; other files stay in reach"
        );
    }
    calls(folders)?.enforce()
}

fn calls(folders: &[BorrowedFd<'_>]) -> Result<Calls, Box<dyn Error>> {
    let mut calls = Calls::basic()?.with(ALLOWED);
    for folder in folders {
        // Names are looked up beside a folder's descriptor, and stay in their folder.
        let folder = folder.as_raw_fd().try_into()?;
        let within = [Argument::Is(0, folder), Argument::Is(2, folder)];
        let exchange = Argument::Is(4, libc::RENAME_EXCHANGE.into());
        calls = calls
            .with_if(libc::SYS_openat, &within[..1])?
            .with_if(libc::SYS_unlinkat, &within[..1])?
            .with_if(libc::SYS_renameat, &within)?
            .with_if(libc::SYS_renameat2, &[within[0], within[1], exchange])?;
    }
    Ok(calls)
}

#[cfg(test)]
mod tests;
