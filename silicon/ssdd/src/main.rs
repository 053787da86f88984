//! The SSD as a process: `ssdd --link-fd N --vault-fd N --module-fd N --module-fd N`.
//!
//! It is given four open descriptors: a link to the firmware, one to the vault, and the two module
//! files. It confines itself and answers the firmware until that link closes or SIGTERM comes;
//! `docs/ssd-protocol.md` says what. It opens nothing by a path, reads no environment and no
//! terminal.
//!
//! Invariants: no request is read before the confinement is complete; the volume key goes from the
//! vault into the flash and nowhere else; a failure prints one line without anything secret. It
//! trusts whoever started it to pass the right descriptors, and neither the guest, nor a client of
//! NBD, nor the modules.

mod arguments;
mod confinement;
mod device;
mod disk;
#[cfg(test)]
mod document;
mod flash_device;
mod nbd;
#[cfg(test)]
mod panics;
mod refusal;
mod request;
mod service;
mod termination;
mod vault_link;
mod virtio;
mod waker;

use std::process::ExitCode;

use wire::Link;

use crate::arguments::Arguments;
use crate::service::Service;
use crate::termination::Termination;
use crate::vault_link::VaultLink;

/// Exit status when the SSD could not do its work.
const EXIT_FAILED: u8 = 1;
/// Exit status when it was started wrongly.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args_os().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("ssdd: reading the arguments: {problem}; start it from the chip's firmware");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            eprintln!("ssdd: {line}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn run(arguments: Arguments) -> Result<(), String> {
    // The usual hook would open files for its backtrace, and be killed for that.
    std::panic::set_hook(Box::new(|panic| eprintln!("ssdd: {panic}")));
    confine::end_with_parent().map_err(|error| format!("tying it to its parent: {error}"))?;
    confine::hide_memory().map_err(|error| format!("hiding the memory: {error}"))?;
    let link = |socket| {
        Link::new(socket).map_err(|error| {
            format!("taking a link: {error}; it has to be a SOCK_SEQPACKET socket")
        })
    };
    let firmware = link(arguments.link)?;
    let vault = VaultLink::new(link(arguments.vault)?);
    let termination =
        Termination::catch().map_err(|error| format!("waiting for signals: {error}"))?;
    confinement::confine().map_err(|error| format!("confining the SSD: {error}"))?;
    Service::new(arguments.modules, vault).run(&firmware, &termination)
}
