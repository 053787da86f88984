//! What the SSD takes from itself before it answers anybody.
//!
//! - no core dump, no reading by others of the same user (`ptrace`, `/proc/PID/mem`);
//! - no new privileges;
//! - Landlock: no file of any name, no TCP, no signals to others;
//! - seccomp: the system calls listed here; any other kills the process.
//!
//! Its memory is not locked: it maps that of a virtual machine, which may be larger than what the
//! host would lock.
//!
//! Invariants: once applied, none of it can be undone. It trusts the kernel. Where a kernel lacks
//! Landlock, the SSD says so in one line and goes on with the rest.

use std::error::Error;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr as _, RulesetStatus, Scope,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as ArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

/// The newest Landlock that this code knows; an older kernel gives what it has.
const LANDLOCK_ABI: ABI = ABI::V6;

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
    libc::SYS_fcntl,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_madvise,
    // Threads and time.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    // It is answered with ENOSYS below, before this list is asked.
    libc::SYS_clone3,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    // Ending: the run-time puts its signal stack away, or aborts after a panic.
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// All threads share the allocator's main region.
#[cfg(target_env = "gnu")]
const ALLOCATOR_ARENAS: libc::c_int = 1;

/// Those of x86 that newer architectures do without.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[libc::c_long] = &[libc::SYS_poll, libc::SYS_epoll_wait];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[libc::c_long] = &[];

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

/// Leaves the process its open descriptors and a few system calls.
pub fn confine() -> Result<(), Box<dyn Error>> {
    limit_arenas();
    if !restrict_files()? {
        eprintln!("ssdd: confining the SSD: no Landlock in this kernel; only seccomp confines it");
    }
    // Sets "no new privileges" as well, as Landlock does.
    seccompiler::apply_filter(&no_clone3()?)?;
    seccompiler::apply_filter(&system_call_filter()?)?;
    Ok(())
}

/// Left to itself, glibc's allocator gives threads regions of their own, opens a file to count how
/// many are good, and another one before it gives memory of such a region back.
fn limit_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number in the allocator, while there is one thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ALLOCATOR_ARENAS);
    }
}

/// Whether the kernel enforces it, wholly or in part.
fn restrict_files() -> Result<bool, Box<dyn Error>> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK_ABI))?
        .handle_access(AccessNet::from_all(LANDLOCK_ABI))?
        .scope(Scope::from_all(LANDLOCK_ABI))?
        .create()?
        .restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// What `clone3` would start lies behind a pointer, which a filter cannot follow; without it the C
/// library takes `clone`, whose flags can be seen.
fn no_clone3() -> Result<BpfProgram, Box<dyn Error>> {
    let filter = SeccompFilter::new(
        [(libc::SYS_clone3, vec![])].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}

fn system_call_filter() -> Result<BpfProgram, Box<dyn Error>> {
    let when = |argument, length, operator, value| -> Result<Vec<SeccompRule>, Box<dyn Error>> {
        let condition = SeccompCondition::new(argument, length, operator, value)?;
        Ok(vec![SeccompRule::new(vec![condition])?])
    };
    // No memory becomes code, and what is cloned is a thread.
    let code = libc::PROT_EXEC as u64;
    let thread = libc::CLONE_THREAD as u64;
    let name = libc::PR_SET_NAME as u64;
    let not_code = || when(2, ArgLen::Dword, SeccompCmpOp::MaskedEq(code), 0);
    let allowed = ALLOWED.iter().chain(ALLOWED_HERE);
    let mut rules: Vec<_> = allowed.map(|call| (*call, vec![])).collect();
    rules.extend([
        (libc::SYS_mmap, not_code()?),
        (libc::SYS_mprotect, not_code()?),
        (
            libc::SYS_clone,
            when(0, ArgLen::Dword, SeccompCmpOp::MaskedEq(thread), thread)?,
        ),
        (
            libc::SYS_prctl,
            when(0, ArgLen::Dword, SeccompCmpOp::Eq, name)?,
        ),
    ]);
    let filter = SeccompFilter::new(
        rules.into_iter().collect(),
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}

#[cfg(test)]
mod tests;
