//! For tests: one forbidden thing tried from inside, in a process of its own.
//!
//! The test program starts itself again with the probe's name in its environment; there the ignored
//! test `…::probe_process` confines itself and does what `asked` says.

use std::path::PathBuf;
use std::process::{Command, ExitStatus};

const NAME_VARIABLE: &str = "CONFINEMENT_PROBE";
const PLACE_VARIABLE: &str = "CONFINEMENT_PROBE_PLACE";

/// Runs the probe `name` by the ignored test `test` (its whole path), with a folder at hand.
///
/// # Panics
/// When the test program cannot be started again.
#[must_use]
pub fn run(test: &str, name: &str, place: &std::path::Path) -> ExitStatus {
    let program = std::env::current_exe().expect("the test program has a path");
    Command::new(program)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(NAME_VARIABLE, name)
        .env(PLACE_VARIABLE, place)
        .status()
        .expect("the test program starts again")
}

/// In that process: which probe it is to do, and its folder.
///
/// # Panics
/// When it was not started by `run`.
#[must_use]
pub fn asked() -> (String, PathBuf) {
    let place = std::env::var_os(PLACE_VARIABLE).expect("started by `run`");
    let name = std::env::var(NAME_VARIABLE).expect("started by `run`");
    (name, place.into())
}
