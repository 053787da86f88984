//! What the authority leaves itself before it reads a key or answers anybody: its folder, its link,
//! and a few system calls.
//!
//! Invariants: once applied, none of it can be undone. It trusts the kernel. Where a kernel lacks
//! Landlock or refuses to lock memory, the authority says so in one line and goes on with the rest.

use std::error::Error;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use confine::{Argument, Calls};

/// System calls that are allowed with any arguments, on descriptors that it has.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_fsync,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
];

/// Keeps the process's memory from swap, as far as this host allows it.
pub fn lock_memory() -> Result<(), Box<dyn Error>> {
    if !confine::lock_memory()? {
        eprintln!("authorityd: locking the memory: the limit is too low; keys could reach swap");
    }
    Ok(())
}

/// Leaves the process its `folder`, its open descriptors and a few system calls.
pub fn confine(folder: BorrowedFd<'_>) -> Result<(), Box<dyn Error>> {
    if !confine::restrict_files(&[folder])? {
        eprintln!(
            "authorityd: confining the authority: no Landlock in this kernel; other files stay in reach"
        );
    }
    calls(folder)?.enforce()
}

fn calls(folder: BorrowedFd<'_>) -> Result<Calls, Box<dyn Error>> {
    // Names are looked up beside the folder's descriptor, and stay in it.
    let folder = folder.as_raw_fd().try_into()?;
    let within = [Argument::Is(0, folder), Argument::Is(2, folder)];
    Calls::basic()?
        .with(ALLOWED)
        .with_if(libc::SYS_openat, &within[..1])?
        .with_if(libc::SYS_unlinkat, &within[..1])?
        .with_if(libc::SYS_renameat, &within)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd as _, OwnedFd};
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, renameat, unlinkat};
    use rustix::io::Errno;

    use super::*;

    /// Exit status of a probe that was allowed.
    const ALLOWED_STATUS: i32 = 0;
    /// Exit status of a probe that Landlock refused.
    const REFUSED_STATUS: i32 = 13;
    /// Exit status where the kernel has no Landlock.
    const NO_LANDLOCK_STATUS: i32 = 77;

    fn probe(name: &str) -> ExitStatus {
        // Made here, because a process that is killed cannot put its folder away.
        let place = tempfile::tempdir().unwrap();
        for folder in ["state", "other"] {
            std::fs::create_dir(place.path().join(folder)).unwrap();
            for file in ["one", "two"] {
                std::fs::write(place.path().join(folder).join(file), file).unwrap();
            }
        }
        confine::probe::run("confinement::tests::probe_process", name, place.path())
    }

    #[test]
    #[ignore = "started by the other tests, in a process of its own"]
    fn probe_process() {
        let (name, place) = confine::probe::asked();
        let folder = |name| OwnedFd::from(std::fs::File::open(place.join(name)).unwrap());
        let (state, other) = (folder("state"), folder("other"));
        let landlock = confine::restrict_files(&[state.as_fd()]).unwrap();
        calls(state.as_fd()).unwrap().enforce().unwrap();

        let open = |folder: &OwnedFd, name: &str| {
            openat(folder, name, OFlags::RDONLY, Mode::empty()).map(drop)
        };
        let result = match name.as_str() {
            "file of the folder" => open(&state, "one"),
            "rename in the folder" => renameat(&state, "one", &state, "two"),
            "removal in the folder" => unlinkat(&state, "one", AtFlags::empty()),
            "path upwards" => open(&state, "../other/one"),
            "rename upwards" => renameat(&state, "one", &state, "../other/stolen"),
            "open elsewhere" => openat(CWD, "/", OFlags::RDONLY, Mode::empty()).map(drop),
            "open in another folder" => open(&other, "one"),
            "removal in another folder" => unlinkat(&other, "one", AtFlags::empty()),
            "rename to another folder" => renameat(&state, "one", &other, "two"),
            "socket" => std::os::unix::net::UnixStream::pair()
                .map(drop)
                .map_err(|_| Errno::PERM),
            _ => panic!("no probe {name}"),
        };
        std::process::exit(match result {
            Ok(()) if !landlock => NO_LANDLOCK_STATUS,
            Ok(()) => ALLOWED_STATUS,
            Err(Errno::ACCESS | Errno::XDEV) => REFUSED_STATUS,
            Err(errno) => panic!("{errno}"),
        })
    }

    /// The control: its own folder stays usable.
    #[test]
    fn its_own_folder_stays_open() {
        for name in [
            "file of the folder",
            "rename in the folder",
            "removal in the folder",
        ] {
            let code = probe(name).code();
            assert!(
                matches!(code, Some(ALLOWED_STATUS | NO_LANDLOCK_STATUS)),
                "{name}: {code:?}"
            );
        }
    }

    /// Promise: no other file is reached, and no other descriptor is made.
    #[test]
    fn everything_else_is_out_of_reach() {
        for name in ["path upwards", "rename upwards"] {
            match probe(name).code() {
                Some(NO_LANDLOCK_STATUS) => eprintln!("{name}: not tested, no Landlock here"),
                code => assert_eq!(code, Some(REFUSED_STATUS), "{name}"),
            }
        }
        for name in [
            "open elsewhere",
            "open in another folder",
            "removal in another folder",
            "rename to another folder",
            "socket",
        ] {
            assert_eq!(probe(name).signal(), Some(libc::SIGSYS), "{name}");
        }
    }
}
