//! The descriptors on the command line.
//!
//! Invariant: each is open, above the standard three, and named once, so that owning it is sound.

use std::ffi::OsString;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// What the authority was started with.
pub struct Arguments {
    /// Its folder.
    pub state: OwnedFd,
    /// The socket to whoever asks.
    pub link: OwnedFd,
}

/// The options, in the order of the numbers.
const OPTIONS: [&str; 2] = ["--state-fd", "--link-fd"];

impl Arguments {
    /// Takes the descriptors that the arguments name. To be called once, first thing.
    pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Arguments, String> {
        let numbers = numbers(arguments)?;
        for number in numbers {
            // SAFETY: the descriptor is only asked for its flags; a closed one gives an error.
            let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
            rustix::io::fcntl_getfd(descriptor)
                .map_err(|_| format!("descriptor {number} is not open"))?;
        }
        // SAFETY: both were just seen to be open, they differ, and nothing in this process owns
        // them: it has opened nothing yet and they are not the standard three.
        let [state, link] = numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) });
        Ok(Arguments { state, link })
    }
}

fn numbers(arguments: impl Iterator<Item = OsString>) -> Result<[RawFd; OPTIONS.len()], String> {
    let mut arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    let mut numbers = [None; OPTIONS.len()];
    while let Some(option) = arguments.next() {
        let place = OPTIONS.iter().position(|name| *name == option);
        let place = place
            .filter(|place| numbers[*place].is_none())
            .ok_or(format!("{option} has no place here"))?;
        let number: RawFd = arguments
            .next()
            .and_then(|number| number.parse().ok())
            .filter(|number| *number > 2)
            .ok_or(format!(
                "{option} needs the number of an open descriptor above 2"
            ))?;
        if numbers.contains(&Some(number)) {
            return Err(format!("descriptor {number} is named twice"));
        }
        numbers[place] = Some(number);
    }
    match numbers {
        [Some(state), Some(link)] => Ok([state, link]),
        _ => Err("--state-fd N and --link-fd N are both needed".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<[RawFd; 2], String> {
        numbers(line.split_whitespace().map(OsString::from))
    }

    /// Promise: nothing but the listed descriptors is taken, so none can be owned twice.
    #[test]
    fn only_different_descriptors_are_taken() {
        assert_eq!(read("--state-fd 3 --link-fd 4"), Ok([3, 4]));
        assert_eq!(read("--link-fd 4 --state-fd 3"), Ok([3, 4]));
        for line in [
            "",
            "--state-fd 3",
            "--state-fd 3 --link-fd",
            "--state-fd 3 --link-fd 3",
            "--state-fd 1 --link-fd 4",
            "--state-fd -1 --link-fd 4",
            "--state-fd x --link-fd 4",
            "--state-fd 3 --state-fd 4 --link-fd 5",
            "--state-fd 3 --link-fd 4 --debug",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    /// Promise: a descriptor that is not open is an error, not undefined behaviour.
    #[test]
    fn closed_descriptor_is_refused() {
        let line = ["--state-fd", "1000000", "--link-fd", "1000001"];
        assert!(Arguments::parse(line.iter().map(OsString::from)).is_err());
    }
}
