//! Each promise tried from inside, each in a process of its own.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{DumpableBehavior, Resource};

use super::*;

/// Exit status of a probe that was allowed.
const ALLOWED_STATUS: i32 = 0;

fn probe(name: &str) -> ExitStatus {
    probe::run("tests::probe_process", name, std::path::Path::new("/"))
}

fn assert_killed(name: &str) {
    assert_eq!(probe(name).signal(), Some(libc::SIGSYS), "{name}");
}

/// What a program that says something at its end makes too.
const FOR_THE_PROBE: &[libc::c_long] = &[libc::SYS_write, libc::SYS_close];

#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn probe_process() {
    let (name, _) = probe::asked();
    hide_memory().unwrap();
    if name == "locked" {
        std::process::exit(probe_locked());
    }
    let mut program = Command::new("true");
    let parent = rustix::process::getppid().unwrap();
    Calls::basic()
        .unwrap()
        .with(FOR_THE_PROBE)
        .enforce()
        .unwrap();
    std::process::exit(match name.as_str() {
        "nothing" => ALLOWED_STATUS,
        "large allocation" => i32::from(std::hint::black_box(vec![1_u8; 64 << 20])[0]) - 1,
        "open" => openat(CWD, "/", OFlags::RDONLY, Mode::empty()).map_or(1, |_| 0),
        "exec" => {
            drop(program.exec());
            1
        }
        // SAFETY: the child, if there ever is one, ends at once.
        "fork" => match unsafe { libc::fork() } {
            0 => std::process::exit(0),
            _ => 1,
        },
        "thread" => std::thread::spawn(|| 0).join().unwrap(),
        "socket" => std::os::unix::net::UnixStream::pair().map_or(1, |_| 0),
        "kill" => {
            rustix::process::kill_process(parent, rustix::process::Signal::CONT).map_or(1, |()| 0)
        }
        // The same by the one call that `abort` needs, and by a descriptor's owner.
        "thread kill" => {
            let parent = parent.as_raw_nonzero().get();
            // SAFETY: it touches no memory.
            unsafe { libc::syscall(libc::SYS_tgkill, parent, parent, libc::SIGCONT) as i32 }
        }
        "owner" => {
            // SAFETY: it touches no memory.
            unsafe { libc::fcntl(1, libc::F_SETOWN, parent.as_raw_nonzero().get()) }
        }
        "dumpable" => {
            rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).map_or(1, |()| 0)
        }
        "code" => {
            use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
            let protection = ProtFlags::READ | ProtFlags::EXEC;
            // SAFETY: a new mapping at a place of the kernel's choice touches no other memory.
            unsafe { mmap_anonymous(std::ptr::null_mut(), 4096, protection, MapFlags::PRIVATE) }
                .map_or(1, |_| 0)
        }
        _ => panic!("no probe {name}"),
    })
}

/// Locks its memory under a small limit, then looks what the kernel says of where things lie.
fn probe_locked() -> i32 {
    const LIMIT_BYTES: u64 = 8 << 20;
    let limit = rustix::process::Rlimit {
        current: Some(LIMIT_BYTES),
        maximum: Some(LIMIT_BYTES),
    };
    rustix::process::setrlimit(Resource::Memlock, limit).unwrap();
    assert!(lock_memory().unwrap());
    let small: Vec<Box<[u8; 1000]>> = (0..500).map(|_| Box::new([7; 1000])).collect();
    let on_the_stack = [7_u8; 100_000];
    // The promise's other half: this is far over the limit, and no error.
    let large = std::hint::black_box(vec![7_u8; 64 << 20]);
    let locked = locked_ranges();
    let is_locked = |at: *const u8| locked.iter().any(|range| range.contains(&(at as usize)));
    assert!(small.iter().all(|each| is_locked(each.as_ptr())));
    assert!(is_locked(on_the_stack.as_ptr()));
    assert!(is_locked(on_the_stack.as_ptr_range().end));
    assert!(is_locked((&raw const STATIC).cast()));
    // The control: not everything is locked anyway.
    assert!(!is_locked(large.as_ptr()));
    ALLOWED_STATUS
}

static STATIC: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(7);

/// The address ranges that `/proc/self/smaps` marks as locked ("lo").
fn locked_ranges() -> Vec<std::ops::Range<usize>> {
    let mut range = 0..0;
    let mut found = vec![];
    for line in std::fs::read_to_string("/proc/self/smaps").unwrap().lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            if flags.split_whitespace().any(|flag| flag == "lo") {
                found.push(range.clone());
            }
        } else if let Some((start, end)) =
            line.split(' ').next().and_then(|word| word.split_once('-'))
        {
            let number = |text| usize::from_str_radix(text, 16).unwrap();
            range = number(start)..number(end);
        }
    }
    found
}

/// Promise: what secrets pass through (small allocations, stack, data) is locked, also where little
/// may be locked, and then no large allocation fails for it.
#[test]
fn memory_is_locked_and_nothing_fails_for_it() {
    assert_eq!(probe("locked").code(), Some(ALLOWED_STATUS));
}

/// Promise: no core dump and no debugger sees the memory, and that cannot be undone.
#[test]
fn memory_is_hidden() {
    hide_memory().unwrap();
    let dumpable = rustix::process::dumpable_behavior().unwrap();
    assert_eq!(dumpable, DumpableBehavior::NotDumpable);
    let core = rustix::process::getrlimit(Resource::Core).maximum;
    assert_eq!(core, Some(0));
    assert_killed("dumpable");
}

/// The control: ending and memory stay possible.
#[test]
fn what_every_program_needs_stays_possible() {
    assert_eq!(probe("nothing").code(), Some(ALLOWED_STATUS));
    assert_eq!(probe("large allocation").code(), Some(ALLOWED_STATUS));
}

/// Promise: no file, no new channel to anybody, no signal, by whatever call.
#[test]
fn what_was_not_named_kills() {
    for name in ["open", "socket", "kill", "thread kill", "owner"] {
        assert_killed(name);
    }
}

/// Promise: no other program, process, thread or code.
#[test]
fn new_code_kills() {
    for name in ["exec", "fork", "thread", "code"] {
        assert_killed(name);
    }
}
