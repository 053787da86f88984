//! The confinement, tried from inside.
//!
//! Each probe runs in a process of its own: this test program starts itself again with the
//! probe's name in the environment, confines itself and does one thing.

use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus};

use super::*;

const PROBE_VARIABLE: &str = "SSDD_CONFINEMENT_PROBE";
/// Exit status of a probe that was allowed.
const ALLOWED_STATUS: i32 = 0;

fn probe(name: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "confinement::tests::probe_process",
            "--ignored",
            "--nocapture",
        ])
        .env(PROBE_VARIABLE, name)
        .status()
        .unwrap()
}

fn assert_killed(name: &str) {
    assert_eq!(probe(name).signal(), Some(libc::SIGSYS), "{name}");
}

#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn probe_process() {
    let name = std::env::var(PROBE_VARIABLE).unwrap();
    hide_memory().unwrap();
    if name == "memory" {
        let dumpable = rustix::process::dumpable_behavior().unwrap();
        assert_eq!(dumpable, DumpableBehavior::NotDumpable);
        let core = rustix::process::getrlimit(Resource::Core).maximum;
        assert_eq!(core, Some(0));
        std::process::exit(ALLOWED_STATUS);
    }
    let mut program = Command::new("true");
    confine().unwrap();
    std::process::exit(match name.as_str() {
        "threads" => {
            let thread = std::thread::Builder::new().name("probe".into());
            thread.spawn(|| ALLOWED_STATUS).unwrap().join().unwrap()
        }
        "open" => std::fs::File::open("/dev/null").map_or(1, |_| 0),
        "socket" => UnixStream::pair().map_or(1, |_| 0),
        "connect" => UnixStream::connect("/nowhere").map_or(1, |_| 0),
        "listen" => UnixListener::bind("/nowhere").map_or(1, |_| 0),
        "exec" => {
            drop(program.exec());
            1
        }
        // SAFETY: the child, if there ever is one, ends at once.
        "fork" => match unsafe { libc::fork() } {
            0 => std::process::exit(0),
            _ => 1,
        },
        "kill" => rustix::process::kill_process(
            rustix::process::getppid().unwrap(),
            rustix::process::Signal::CONT,
        )
        .map_or(1, |_| 0),
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

/// Promise: no core dump and no debugger sees the keys, and that cannot be undone.
#[test]
fn memory_is_hidden() {
    assert_eq!(probe("memory").code(), Some(ALLOWED_STATUS));
    assert_killed("dumpable");
}

/// The control: threads stay possible.
#[test]
fn threads_stay_possible() {
    assert_eq!(probe("threads").code(), Some(ALLOWED_STATUS));
}

/// Promise: no file, by whatever name.
#[test]
fn opening_kills() {
    assert_killed("open");
}

/// Promise: no new channel to anybody.
#[test]
fn sockets_and_signals_kill() {
    for name in ["socket", "connect", "listen", "kill"] {
        assert_killed(name);
    }
}

/// Promise: no other program, process or code.
#[test]
fn new_code_kills() {
    for name in ["exec", "fork", "code"] {
        assert_killed(name);
    }
}
