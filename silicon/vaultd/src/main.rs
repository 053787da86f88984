//! The vault as a process: `vaultd --state-fd N --link-fd N`.
//!
//! It is given two open descriptors, the chip's state folder and one end of a socket pair to the
//! firmware, confines itself, and answers requests until the link closes. Over that link it may be
//! given another, to the SSD. It opens nothing by an absolute path, reads no environment and no
//! terminal.
//!
//! Invariants: no request is read before the confinement is complete; a failure prints one line
//! without anything secret. It trusts whoever started it to pass the right descriptors.

mod arguments;
mod confinement;
mod refusals;
mod service;
mod ssd;
mod transfer;

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;

use vault::{HostClock, HostMap, Place, StateFolder};
use wire::Link;

use crate::arguments::Arguments;

/// Exit status when the vault could not do its work.
const EXIT_FAILED: u8 = 1;
/// Exit status when it was started wrongly.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args_os().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!(
                "vaultd: reading the arguments: {problem}; start it from the chip's firmware"
            );
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            eprintln!("vaultd: {line}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn run(arguments: Arguments) -> Result<(), String> {
    confine::outlive_file_limits();
    confine::end_with_parent().map_err(|error| format!("tying it to its parent: {error}"))?;
    confine::hide_memory().map_err(|error| format!("hiding the memory: {error}"))?;
    let link = Link::new(arguments.link).map_err(|error| {
        format!("taking the link: {error}; it has to be a SOCK_SEQPACKET socket")
    })?;
    let folder = StateFolder::take(&arguments.state)
        .map_err(|error| format!("{error}; is another vault using this folder?"))?;
    drop(arguments.state);
    let boot = std::fs::read_to_string(BOOT_ID)
        .map_err(|error| format!("reading {BOOT_ID}: {error}; is /proc mounted?"))?;
    // A kernel without time name spaces has no such file.
    let offsets = std::fs::read_to_string(TIME_OFFSETS).unwrap_or_default();
    let clock = HostClock::new(&boot, &offsets).map_err(|error| error.to_string())?;
    let mut place = Place::new(folder, Box::new(clock));
    let (mut tpm_of_host, mut map) = (None, None);
    if let Some(host) = arguments.host {
        let tpm = tpm::Tpm::new(host.tpm).map_err(|error| error.to_string())?;
        map = Some(HostMap::new(tpm.clone(), host.folder).map_err(|error| error.to_string())?);
        tpm_of_host = Some(tpm);
    }
    if !vault::warm_up().map_err(|error| error.to_string())? {
        eprintln!("vaultd: locking the keys: the limit is too low; they could reach swap");
    }
    confinement::lock_memory().map_err(|error| format!("locking the memory: {error}"))?;
    let folders: Vec<BorrowedFd<'_>> = [Some(place.folder.as_fd()), map.as_ref().map(AsFd::as_fd)]
        .into_iter()
        .flatten()
        .collect();
    confinement::confine(&folders).map_err(|error| format!("confining the vault: {error}"))?;
    if let Some(map) = map {
        place.witness = Some(RefCell::new(Box::new(map)));
    }
    service::serve(&link, &place, tpm_of_host).map_err(|error| format!("serving the link: {error}"))
}

/// Names this boot of the host (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// What this process's clocks are ahead of the host's (time_namespaces(7)).
const TIME_OFFSETS: &str = "/proc/self/timens_offsets";
