//! The confinement, tried from inside: what the SSD's own list of system calls opens.
//!
//! What no program of the chip may do at all is tried in `confine`.

use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus};

use super::*;

/// Exit status of a probe that was allowed.
const ALLOWED_STATUS: i32 = 0;

fn probe(name: &str) -> ExitStatus {
    confine::probe::run(
        "confinement::tests::probe_process",
        name,
        std::path::Path::new("/"),
    )
}

fn assert_killed(name: &str) {
    assert_eq!(probe(name).signal(), Some(libc::SIGSYS), "{name}");
}

#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn probe_process() {
    let (name, _) = confine::probe::asked();
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
        _ => panic!("no probe {name}"),
    })
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
fn sockets_kill() {
    for name in ["socket", "connect", "listen"] {
        assert_killed(name);
    }
}

/// Promise: no other program or process.
#[test]
fn new_processes_kill() {
    for name in ["exec", "fork"] {
        assert_killed(name);
    }
}
