//! The confinement, tried from inside: what the vault's own list of system calls opens.
//!
//! What no program of the chip may do at all is tried in `confine`.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, openat, renameat, renameat_with, unlinkat,
};
use rustix::io::Errno;

use super::*;

/// Exit status of a probe that was allowed.
const ALLOWED_STATUS: i32 = 0;
/// Exit status of a probe that Landlock refused.
const REFUSED_STATUS: i32 = 13;
/// Exit status where the kernel has no Landlock.
const NO_LANDLOCK_STATUS: i32 = 77;
const LARGE_BYTES: usize = 64 << 20;

fn probe(name: &str) -> ExitStatus {
    // Made here, because a process that is killed cannot put its folder away.
    let place = tempfile::tempdir().unwrap();
    for folder in ["state", "host", "third"] {
        std::fs::create_dir(place.path().join(folder)).unwrap();
        for file in ["one", "two"] {
            std::fs::write(place.path().join(folder).join(file), file).unwrap();
        }
    }
    confine::probe::run("confinement::tests::probe_process", name, place.path())
}

fn assert_killed(name: &str) {
    assert_eq!(probe(name).signal(), Some(libc::SIGSYS), "{name}");
}

#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn probe_process() {
    let (name, place) = confine::probe::asked();
    let folder = |name| OwnedFd::from(std::fs::File::open(place.join(name)).unwrap());
    let (state, host, third) = (folder("state"), folder("host"), folder("third"));
    let folders = [state.as_fd(), host.as_fd()];
    let landlock = confine::restrict_files(&folders).unwrap();
    calls(&folders).unwrap().enforce().unwrap();

    let status = |result: Result<(), Errno>| match result {
        Ok(()) if !landlock => NO_LANDLOCK_STATUS,
        Ok(()) => ALLOWED_STATUS,
        Err(Errno::ACCESS | Errno::XDEV) => REFUSED_STATUS,
        Err(errno) => panic!("{errno}"),
    };
    let open = |path: &Path| openat(&state, path, OFlags::RDONLY, Mode::empty()).map(drop);
    let unlink = |folder| unlinkat(folder, "one", AtFlags::empty());
    let exchange = |from, to| renameat_with(from, "one", to, "two", RenameFlags::EXCHANGE);
    std::process::exit(status(match name.as_str() {
        "file of a folder" => open("one".as_ref()),
        "exchange in a folder" => exchange(&state, &state),
        "exchange in the other folder" => exchange(&host, &host),
        "rename in a folder" => renameat(&state, "one", &state, "two"),
        "removal in a folder" => unlink(&host),
        "much memory" => {
            let memory = std::hint::black_box(vec![1_u8; LARGE_BYTES]);
            // SAFETY: the range is that of a live allocation.
            unsafe {
                // Whether the limit allows it or not.
                let _ = rustix::mm::mlock(memory.as_ptr() as *mut _, LARGE_BYTES);
                let _ = rustix::mm::munlock(memory.as_ptr() as *mut _, LARGE_BYTES);
            }
            Ok(())
        }
        "pipe's mode" => rustix::fs::fcntl_getfl(&state).map(drop),
        "absolute path" => open(&place.join("third/one")),
        "path upwards" => open("../third/one".as_ref()),
        "rename upwards" => renameat(&state, "one", &state, "../third/stolen"),
        "open elsewhere" => openat(CWD, "/", OFlags::RDONLY, Mode::empty()).map(drop),
        "open in another folder" => openat(&third, "one", OFlags::RDONLY, Mode::empty()).map(drop),
        "removal in another folder" => unlink(&third),
        "rename to another folder" => renameat(&state, "one", &third, "two"),
        "rename between the folders" => renameat(&state, "one", &host, "two"),
        "exchange between the folders" => exchange(&state, &host),
        "whiteout" => renameat_with(&state, "one", &state, "two", RenameFlags::WHITEOUT),
        _ => panic!("no probe {name}"),
    }))
}

/// The control: its folders, much memory and its descriptors stay usable.
#[test]
fn its_own_folders_stay_open() {
    for name in [
        "file of a folder",
        "exchange in a folder",
        "exchange in the other folder",
        "rename in a folder",
        "removal in a folder",
        "much memory",
        "pipe's mode",
    ] {
        let code = probe(name).code();
        assert!(
            matches!(code, Some(ALLOWED_STATUS | NO_LANDLOCK_STATUS)),
            "{name}: {code:?}"
        );
    }
}

/// Promise: no file outside of its folders is reached, by whatever path.
#[test]
fn other_files_are_out_of_reach() {
    for name in ["absolute path", "path upwards", "rename upwards"] {
        match probe(name).code() {
            Some(NO_LANDLOCK_STATUS) => eprintln!("{name}: not tested, no Landlock here"),
            code => assert_eq!(code, Some(REFUSED_STATUS), "{name}"),
        }
    }
    for name in [
        "open elsewhere",
        "open in another folder",
        "removal in another folder",
    ] {
        assert_killed(name);
    }
}

/// Promise: names stay in their folder, and are exchanged or replaced in no other way.
#[test]
fn names_stay_in_their_folder() {
    for name in [
        "rename to another folder",
        "rename between the folders",
        "exchange between the folders",
        "whiteout",
    ] {
        assert_killed(name);
    }
}
