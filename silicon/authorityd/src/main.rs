//! The signing authority's security module as a process: `authorityd --state-fd N --link-fd N`.
//!
//! It is given two open descriptors, its folder and one end of a socket pair to whoever asks,
//! confines itself, and answers requests until the link closes (`docs/authority-protocol.md`). It
//! opens nothing by an absolute path, reads no environment and no terminal.
//!
//! Invariants: no key is read and no request answered before the confinement is complete; no
//! private key leaves the process but to its own file; a failure prints one line without anything
//! secret. It trusts whoever started it to pass the right descriptors.

mod arguments;
mod authority;
mod confinement;
mod epochs;
mod error;
mod folder;
mod keys;
mod service;

use std::os::fd::AsFd as _;
use std::process::ExitCode;

use wire::Link;

use crate::arguments::Arguments;
use crate::authority::Authority;
use crate::folder::{Folder, LOCK_PATIENCE};

/// Exit status when the authority could not do its work.
const EXIT_FAILED: u8 = 1;
/// Exit status when it was started wrongly.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args_os().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("authorityd: reading the arguments: {problem}; start it from spacegray");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            eprintln!("authorityd: {line}");
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
    let folder = Folder::take(&arguments.state, LOCK_PATIENCE)
        .map_err(|error| format!("taking the folder: {error}"))?;
    drop(arguments.state);
    // Lets the cryptographic library fetch entropy and set itself up.
    aws_lc_rs::rand::fill(&mut [0; 8]).map_err(|_| "cryptography failed: random bytes")?;
    confinement::lock_memory().map_err(|error| format!("locking the memory: {error}"))?;
    confinement::confine(folder.as_fd())
        .map_err(|error| format!("confining the authority: {error}"))?;
    let mut authority =
        Authority::open(folder).map_err(|error| format!("opening the authority: {error}"))?;
    service::serve(&link, &mut authority).map_err(|error| format!("serving the link: {error}"))
}
