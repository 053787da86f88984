//! What the vault takes from itself before it answers anybody.
//!
//! - no core dump, no reading by others of the same user (`ptrace`, `/proc/PID/mem`), no swap;
//! - no new privileges;
//! - Landlock: no files but those in the state folder, no TCP, no signals to others;
//! - seccomp: the system calls listed here; any other kills the process.
//!
//! Invariants: once applied, none of it can be undone. It trusts the kernel. Where a kernel lacks
//! Landlock or refuses to lock memory, the vault says so in one line and goes on with the rest.

use std::error::Error;
use std::os::fd::{AsFd as _, AsRawFd as _};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use rustix::mm::MlockAllFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as ArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};
use vault::StateFolder;

/// The newest Landlock that this code knows; an older kernel gives what it has.
const LANDLOCK_ABI: ABI = ABI::V6;

/// System calls that are allowed with any arguments. Those of files reach only the state folder
/// (Landlock); the rest is memory, the links, and ending.
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
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_ppoll,
    // What kind of socket the SSD's is.
    libc::SYS_getsockopt,
    libc::SYS_getrandom,
    libc::SYS_brk,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    // Ending: the run-time puts its signal stack away, or aborts after a panic.
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Lets a write over the limit on file sizes fail like one on a full disk, instead of killing the
/// process.
pub fn outlive_file_limits() {
    // SAFETY: ignoring a signal installs no handler, so there is none that could do harm.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Keeps the process's memory from core dumps, debuggers and swap.
pub fn hide_memory() -> Result<(), Box<dyn Error>> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )?;
    let hard = rustix::process::getrlimit(Resource::Memlock).maximum;
    rustix::process::setrlimit(
        Resource::Memlock,
        Rlimit {
            current: hard,
            maximum: hard,
        },
    )?;
    if rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE).is_err() {
        eprintln!("vaultd: locking the memory: the limit is too low; keys could reach swap");
    }
    Ok(())
}

/// Leaves the process the state folder, its open descriptors and a few system calls.
pub fn confine(folder: &StateFolder) -> Result<(), Box<dyn Error>> {
    if !restrict_files(folder)? {
        eprintln!(
            "vaultd: confining the vault: no Landlock in this kernel; other files stay in reach"
        );
    }
    // Sets "no new privileges" as well, as Landlock does.
    seccompiler::apply_filter(&system_call_filter(folder)?)?;
    Ok(())
}

/// Whether the kernel enforces it, wholly or in part.
fn restrict_files(folder: &StateFolder) -> Result<bool, Box<dyn Error>> {
    let in_the_folder: BitFlags<AccessFs> = AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::MakeReg
        | AccessFs::RemoveFile;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK_ABI))?
        .handle_access(AccessNet::from_all(LANDLOCK_ABI))?
        .scope(Scope::from_all(LANDLOCK_ABI))?
        .create()?
        .add_rule(PathBeneath::new(folder.as_fd(), in_the_folder))?
        .restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

fn system_call_filter(folder: &StateFolder) -> Result<BpfProgram, Box<dyn Error>> {
    let when = |argument, length, operator, value| -> Result<Vec<SeccompRule>, Box<dyn Error>> {
        let condition = SeccompCondition::new(argument, length, operator, value)?;
        Ok(vec![SeccompRule::new(vec![condition])?])
    };
    // Files are opened beside the state folder's descriptor, and no memory becomes code.
    let folder = folder.as_fd().as_raw_fd().try_into()?;
    let code = libc::PROT_EXEC as u64;
    let not_code = || when(2, ArgLen::Dword, SeccompCmpOp::MaskedEq(code), 0);
    let mut rules: Vec<_> = ALLOWED.iter().map(|call| (*call, vec![])).collect();
    rules.extend([
        (
            libc::SYS_openat,
            when(0, ArgLen::Dword, SeccompCmpOp::Eq, folder)?,
        ),
        // A debug build looks whether a descriptor is open before it closes it.
        (
            libc::SYS_fcntl,
            when(1, ArgLen::Dword, SeccompCmpOp::Eq, libc::F_GETFD as u64)?,
        ),
        (libc::SYS_mmap, not_code()?),
        (libc::SYS_mprotect, not_code()?),
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
