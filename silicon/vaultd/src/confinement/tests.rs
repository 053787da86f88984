//! The confinement, tried from inside.
//!
//! Each probe runs in a process of its own: this test program starts itself again with the
//! probe's name in the environment, confines itself and does one forbidden thing.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::DumpableBehavior;

use super::*;

const PROBE_VARIABLE: &str = "VAULTD_CONFINEMENT_PROBE";
const PLACE_VARIABLE: &str = "VAULTD_CONFINEMENT_PLACE";
/// Exit status of a probe that was allowed.
const ALLOWED_STATUS: i32 = 0;
/// Exit status of a probe that Landlock refused.
const REFUSED_STATUS: i32 = 13;
/// Exit status where the kernel has no Landlock.
const NO_LANDLOCK_STATUS: i32 = 77;

fn probe(name: &str) -> ExitStatus {
    // Made here, because a process that is killed cannot put its folder away.
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("state")).unwrap();
    std::fs::write(place.path().join("other"), "another's file").unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "confinement::tests::probe_process",
            "--ignored",
            "--nocapture",
        ])
        .env(PROBE_VARIABLE, name)
        .env(PLACE_VARIABLE, place.path())
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
    let place = std::path::PathBuf::from(std::env::var_os(PLACE_VARIABLE).unwrap());
    let (state, other) = (place.join("state"), place.join("other"));
    let folder = StateFolder::take(std::fs::File::open(&state).unwrap()).unwrap();

    hide_memory().unwrap();
    let dumpable = rustix::process::dumpable_behavior().unwrap();
    let core = rustix::process::getrlimit(Resource::Core).maximum;
    if name == "memory" {
        assert_eq!(dumpable, DumpableBehavior::NotDumpable);
        assert_eq!(core, Some(0));
        std::process::exit(ALLOWED_STATUS);
    }
    let program = Command::new("true");
    let landlock = restrict_files(&folder).unwrap();
    seccompiler::apply_filter(&system_call_filter(&folder).unwrap()).unwrap();

    let open = |path: &std::path::Path| match openat(&folder, path, OFlags::RDONLY, Mode::empty()) {
        Ok(_) if !landlock => NO_LANDLOCK_STATUS,
        Ok(_) => ALLOWED_STATUS,
        Err(Errno::ACCESS) => REFUSED_STATUS,
        Err(errno) => panic!("{errno}"),
    };
    std::process::exit(match name.as_str() {
        "state file" => {
            folder.write("probe", b"text").unwrap();
            let file = folder.open_fixed("probe", 4).unwrap().unwrap();
            file.write(0, b"more").unwrap();
            let mut bytes = [0; 4];
            file.read(&mut bytes).unwrap();
            assert_eq!(bytes, *b"more");
            open("probe".as_ref())
        }
        "absolute path" => open(&other),
        "path upwards" => open("../other".as_ref()),
        "open elsewhere" => openat(CWD, "/", OFlags::RDONLY, Mode::empty()).map_or(1, |_| 0),
        "socket" => std::os::unix::net::UnixStream::pair().map_or(1, |_| 0),
        "exec" => {
            let mut program = program;
            drop(program.exec());
            1
        }
        "thread" => std::thread::spawn(|| 0).join().unwrap(),
        "kill" => rustix::process::kill_process(
            rustix::process::getppid().unwrap(),
            rustix::process::Signal::CONT,
        )
        .map_or(1, |_| 0),
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

/// Promise: no core dump and no debugger sees the keys.
#[test]
fn memory_is_hidden() {
    assert_eq!(probe("memory").code(), Some(ALLOWED_STATUS));
}

/// The control: the state folder itself stays usable.
#[test]
fn state_folder_stays_open() {
    let code = probe("state file").code();
    assert!(
        matches!(code, Some(ALLOWED_STATUS | NO_LANDLOCK_STATUS)),
        "{code:?}"
    );
}

/// Promise: no file outside the state folder can be opened, by whatever path.
#[test]
fn other_files_are_out_of_reach() {
    for name in ["absolute path", "path upwards"] {
        match probe(name).code() {
            Some(NO_LANDLOCK_STATUS) => eprintln!("{name}: not tested, no Landlock here"),
            code => assert_eq!(code, Some(REFUSED_STATUS), "{name}"),
        }
    }
    assert_killed("open elsewhere");
}

/// Promise: no new channel to anybody.
#[test]
fn sockets_and_signals_kill() {
    assert_killed("socket");
    assert_killed("kill");
}

/// Promise: no other program, thread or code.
#[test]
fn new_code_kills() {
    assert_killed("exec");
    assert_killed("thread");
    assert_killed("code");
}
