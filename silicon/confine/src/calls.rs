//! seccomp.

use std::collections::BTreeMap;
use std::error::Error;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// What every program needs: memory, time, randomness, and ending.
const BASIC: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    // Ending: the run-time puts its signal stack away, or aborts after a panic.
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What may be done to a descriptor, besides what is allowed by name. Not among them: having its
/// events signalled to another process. A debug build looks whether a descriptor is open before it
/// closes it.
const CONTROLS: &[libc::c_int] = &[
    libc::F_GETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_DUPFD_CLOEXEC,
];

/// What an argument of a system call has to be; the number says which one, from 0 on. The kernel
/// takes 32 bits of each that is compared here.
#[derive(Clone, Copy)]
pub enum Argument {
    /// Exactly this value.
    Is(u8, u64),
    /// All of these bits are set.
    With(u8, u64),
    /// None of these bits is set.
    Without(u8, u64),
}

/// The system calls that a program may make.
pub struct Calls {
    rules: BTreeMap<libc::c_long, Vec<SeccompRule>>,
}

impl Calls {
    /// Memory (never with code in it), time, randomness, harmless `fcntl`s, and ending.
    pub fn basic() -> Result<Self, Box<dyn Error>> {
        let calls = Self {
            rules: BTreeMap::new(),
        };
        let not_code = [Argument::Without(2, libc::PROT_EXEC as u64)];
        calls
            .with(BASIC)
            .with_if(libc::SYS_mmap, &not_code)?
            .with_if(libc::SYS_mprotect, &not_code)?
            // How `abort` ends the process; nobody else is to get a signal.
            .with_if(
                libc::SYS_tgkill,
                &[Argument::Is(0, std::process::id().into())],
            )?
            .with_if_any(libc::SYS_fcntl, 1, CONTROLS)
    }

    /// These too, with any arguments.
    #[must_use]
    pub fn with(mut self, calls: &[libc::c_long]) -> Self {
        self.rules.extend(calls.iter().map(|call| (*call, vec![])));
        self
    }

    /// `call` too where all of `arguments` hold; given again, where those or these hold.
    pub fn with_if(
        mut self,
        call: libc::c_long,
        arguments: &[Argument],
    ) -> Result<Self, Box<dyn Error>> {
        let conditions: Result<_, _> = arguments.iter().map(Argument::condition).collect();
        let rule = SeccompRule::new(conditions?)?;
        self.rules.entry(call).or_default().push(rule);
        Ok(self)
    }

    /// `call` too where its argument of this number is one of `values`.
    fn with_if_any(
        self,
        call: libc::c_long,
        number: u8,
        values: &[libc::c_int],
    ) -> Result<Self, Box<dyn Error>> {
        values.iter().try_fold(self, |calls, value| {
            calls.with_if(call, &[Argument::Is(number, (*value).try_into()?)])
        })
    }

    /// From here on any other system call kills the process. There is no way to gain privileges.
    pub fn enforce(self) -> Result<(), Box<dyn Error>> {
        apply(self.rules, SeccompAction::KillProcess, SeccompAction::Allow)
    }
}

impl Argument {
    fn condition(&self) -> Result<SeccompCondition, seccompiler::BackendError> {
        let (number, operator, value) = match *self {
            Self::Is(number, value) => (number, SeccompCmpOp::Eq, value),
            Self::With(number, bits) => (number, SeccompCmpOp::MaskedEq(bits), bits),
            Self::Without(number, bits) => (number, SeccompCmpOp::MaskedEq(bits), 0),
        };
        SeccompCondition::new(number, SeccompCmpArgLen::Dword, operator, value)
    }
}

/// Has the kernel answer `call` with the error number `errno`, whatever `Calls` allow.
pub fn refuse(call: libc::c_long, errno: libc::c_int) -> Result<(), Box<dyn Error>> {
    let answer = SeccompAction::Errno(errno.try_into()?);
    apply([(call, vec![])].into(), SeccompAction::Allow, answer)
}

fn apply(
    rules: BTreeMap<libc::c_long, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<(), Box<dyn Error>> {
    let filter = SeccompFilter::new(
        rules,
        otherwise,
        matched,
        std::env::consts::ARCH.try_into()?,
    )?;
    // Sets "no new privileges" as well, as Landlock does.
    seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?;
    Ok(())
}
