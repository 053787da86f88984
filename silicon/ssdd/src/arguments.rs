//! The four descriptors on the command line.
//!
//! Invariant: each is open, above the standard three, and named once, so that owning it is sound.

use std::ffi::OsString;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// What the SSD was started with.
pub struct Arguments {
    /// The socket to the firmware.
    pub link: OwnedFd,
    /// The socket to the vault.
    pub vault: OwnedFd,
    /// The two modules, number 0 first.
    pub modules: [OwnedFd; 2],
}

#[derive(Debug, PartialEq, Eq)]
struct Numbers {
    link: RawFd,
    vault: RawFd,
    modules: [RawFd; 2],
}

impl Arguments {
    /// Takes the descriptors that the arguments name. To be called once, first thing.
    pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Arguments, String> {
        let numbers = numbers(arguments)?;
        for number in numbers.all() {
            // SAFETY: the descriptor is only asked for its flags; a closed one gives an error.
            let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
            rustix::io::fcntl_getfd(descriptor)
                .map_err(|_| format!("descriptor {number} is not open"))?;
        }
        // SAFETY: all were just seen to be open, they differ, and nothing in this process owns
        // them: it has opened nothing yet and they are not the standard three.
        let own = |number| unsafe { OwnedFd::from_raw_fd(number) };
        Ok(Arguments {
            link: own(numbers.link),
            vault: own(numbers.vault),
            modules: numbers.modules.map(own),
        })
    }
}

impl Numbers {
    fn all(&self) -> [RawFd; 4] {
        [self.link, self.vault, self.modules[0], self.modules[1]]
    }
}

fn numbers(arguments: impl Iterator<Item = OsString>) -> Result<Numbers, String> {
    let mut arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    let (mut link, mut vault, mut modules) = (None, None, [None; 2]);
    while let Some(option) = arguments.next() {
        let place = match option.as_str() {
            "--link-fd" if link.is_none() => &mut link,
            "--vault-fd" if vault.is_none() => &mut vault,
            "--module-fd" if modules[0].is_none() => &mut modules[0],
            "--module-fd" if modules[1].is_none() => &mut modules[1],
            _ => return Err(format!("{option} has no place here")),
        };
        let number: RawFd = arguments
            .next()
            .and_then(|number| number.parse().ok())
            .filter(|number| *number > 2)
            .ok_or(format!(
                "{option} needs the number of an open descriptor above 2"
            ))?;
        *place = Some(number);
    }
    let (Some(link), Some(vault), [Some(zero), Some(one)]) = (link, vault, modules) else {
        return Err("--link-fd N, --vault-fd N and twice --module-fd N are needed".into());
    };
    let numbers = Numbers {
        link,
        vault,
        modules: [zero, one],
    };
    let mut all = numbers.all();
    all.sort_unstable();
    if all.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("two descriptors are the same".into());
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Numbers, String> {
        numbers(line.split_whitespace().map(OsString::from))
    }

    /// Promise: nothing but four different descriptors is taken, so none can be owned twice.
    #[test]
    fn only_four_different_descriptors_are_taken() {
        let whole = "--link-fd 3 --vault-fd 4 --module-fd 5 --module-fd 6";
        let numbers = Numbers {
            link: 3,
            vault: 4,
            modules: [5, 6],
        };
        assert_eq!(read(whole).as_ref(), Ok(&numbers));
        let mixed = "--module-fd 5 --vault-fd 4 --module-fd 6 --link-fd 3";
        assert_eq!(read(mixed), Ok(numbers));
        for line in [
            "",
            "--link-fd 3 --vault-fd 4 --module-fd 5",
            "--link-fd 3 --vault-fd 4 --module-fd 5 --module-fd",
            "--link-fd 3 --vault-fd 4 --module-fd 5 --module-fd 5",
            "--link-fd 3 --vault-fd 4 --module-fd 5 --module-fd 3",
            "--link-fd 3 --vault-fd 4 --module-fd 5 --module-fd 2",
            "--link-fd 3 --vault-fd 4 --module-fd 5 --module-fd -6",
            "--link-fd 3 --vault-fd 4 --module-fd 5 --module-fd x",
            "--link-fd 3 --vault-fd 4 --module-fd 5 --module-fd 6 --module-fd 7",
            "--link-fd 3 --vault-fd 4 --vault-fd 5 --module-fd 6 --module-fd 7",
            "--link-fd 3 --vault-fd 4 --module-fd 5 --module-fd 6 --debug",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    /// Promise: a descriptor that is not open is an error, not undefined behaviour.
    #[test]
    fn closed_descriptor_is_refused() {
        let line = "--link-fd 1000000 --vault-fd 1000001 --module-fd 1000002 --module-fd 1000003";
        assert!(Arguments::parse(line.split_whitespace().map(OsString::from)).is_err());
    }
}
