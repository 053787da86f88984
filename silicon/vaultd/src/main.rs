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
mod service;
mod ssd;

use std::process::ExitCode;

use vault::StateFolder;
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
    confinement::outlive_file_limits();
    confinement::hide_memory().map_err(|error| format!("hiding the memory: {error}"))?;
    let link = Link::new(arguments.link).map_err(|error| {
        format!("taking the link: {error}; it has to be a SOCK_SEQPACKET socket")
    })?;
    let folder = StateFolder::take(&arguments.state)
        .map_err(|error| format!("{error}; is another vault using this folder?"))?;
    drop(arguments.state);
    vault::warm_up().map_err(|error| error.to_string())?;
    confinement::confine(&folder).map_err(|error| format!("confining the vault: {error}"))?;
    service::serve(&link, &folder).map_err(|error| format!("serving the link: {error}"))
}
