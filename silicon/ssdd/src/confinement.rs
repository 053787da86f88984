//! What the SSD leaves itself before it answers anybody: its descriptors and a few system calls.
//!
//! Its memory is not locked: it maps that of a virtual machine, which may be larger than what the
//! host would lock.
//!
//! Invariants: once applied, none of it can be undone. It trusts the kernel. Where a kernel lacks
//! Landlock, the SSD says so in one line and goes on with the rest.

use std::error::Error;

use confine::{Argument, Calls};

/// System calls that are allowed with any arguments. None of them opens a file, makes a socket or
/// starts a program.
const ALLOWED: &[libc::c_long] = &[
    // The modules.
    libc::SYS_pread64,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_fdatasync,
    libc::SYS_fsync,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_lseek,
    // Links, clients, events.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_accept4,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_ppoll,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    // Threads and time.
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    // It is answered with ENOSYS below, before this list is asked.
    libc::SYS_clone3,
    libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall,
];

/// Those of x86 that newer architectures do without.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[libc::c_long] = &[libc::SYS_poll, libc::SYS_epoll_wait];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[libc::c_long] = &[];

/// Leaves the process its open descriptors and a few system calls.
pub fn confine() -> Result<(), Box<dyn Error>> {
    confine::limit_arenas();
    if !confine::restrict_files(&[])? {
        eprintln!("ssdd: confining the SSD: no Landlock in this kernel; only seccomp confines it");
    }
    // What it would start lies behind a pointer, which a filter cannot follow; without it the C
    // library takes `clone`, whose flags can be seen.
    confine::refuse(libc::SYS_clone3, libc::ENOSYS)?;
    Calls::basic()?
        .with(ALLOWED)
        .with(ALLOWED_HERE)
        // What is cloned is a thread.
        .with_if(
            libc::SYS_clone,
            &[Argument::With(0, libc::CLONE_THREAD as u64)],
        )?
        .with_if(
            libc::SYS_prctl,
            &[Argument::Is(0, libc::PR_SET_NAME as u64)],
        )?
        .enforce()
}

#[cfg(test)]
mod tests;
