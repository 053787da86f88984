//! Passwords: taken from a descriptor, stretched into a key.
//!
//! Invariants: a password's bytes are in locked memory of their own, never printed, copied or
//! compared, and wiped when dropped; reading one never waits for whoever writes it; what is
//! stretched in is wiped afterwards. It trusts the kernel, and the file system that a regular
//! file lies on to answer.
//!
//! Argon2id is the RustCrypto project's: no unsafe code but the choice of AVX2, and as fast here
//! as the reference in C.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use arena::Area;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::Error;
use crate::secret::{KEY_SIZE_BYTES, Secret};

/// A password's length.
pub const PASSWORD_SIZE_BYTES_MAX: usize = 1024;
/// How a line may end.
const LINE_END_SIZE_BYTES_MAX: usize = 2;

/// Size of a salt.
pub const SALT_SIZE_BYTES: usize = 32;

/// Memory for one guess, where there is that much. It does not grow with the machine: the chip
/// takes this much each time.
pub const MEMORY_KIB: u32 = 64 * 1024;
/// A machine with less for it gets no password.
pub const MEMORY_KIB_MIN: u32 = 16 * 1024;
/// What a store may ask for.
pub const MEMORY_KIB_MAX: u32 = 256 * 1024;
/// Passes over the memory that a store may ask for.
pub const PASSES_MAX: u32 = 64;
/// How long one guess is to take.
pub const GUESS_TIME: Duration = Duration::from_millis(80);
/// Guesses that are timed to find out; the fastest counts.
const TIMED_GUESSES: u32 = 3;

/// What somebody typed, without the end of its line.
pub struct Password {
    /// Room for the longest one and the end of its line.
    bytes: Area<u8>,
    size_bytes: usize,
}

impl Password {
    /// The first line of a regular file, from its position on, or of a pipe that has been
    /// written already.
    ///
    /// # Errors
    /// [`Error::Secret`] for any other descriptor, a line that is empty, too long, or contains a
    /// zero byte, and a pipe whose writer may have more to write.
    pub fn read(descriptor: OwnedFd) -> Result<Password, Error> {
        let status = rustix::fs::fstat(&descriptor).map_err(|_| UNREADABLE)?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => {}
            FileType::Fifo => {
                let flags = rustix::fs::fcntl_getfl(&descriptor).map_err(|_| UNREADABLE)?;
                rustix::fs::fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK)
                    .map_err(|_| UNREADABLE)?;
            }
            _ => return Err(Error::Secret("neither a file nor a pipe")),
        }
        let room = PASSWORD_SIZE_BYTES_MAX + LINE_END_SIZE_BYTES_MAX;
        let mut bytes = Area::filled(0, room).map_err(|_| NO_MEMORY)?;
        let mut filled = 0;
        while filled < bytes.len() && !bytes[..filled].contains(&b'\n') {
            match rustix::io::read(&descriptor, &mut bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(Error::Secret("its writer is not done")),
                Err(_) => return Err(UNREADABLE),
            }
        }
        Password::first_line(bytes, filled)
    }

    fn first_line(bytes: Area<u8>, filled: usize) -> Result<Password, Error> {
        let read = &bytes[..filled];
        let line = match read.iter().position(|byte| *byte == b'\n') {
            Some(end) => read[..end].strip_suffix(b"\r").unwrap_or(&read[..end]),
            None => read,
        };
        if line.is_empty() {
            return Err(Error::Secret("empty"));
        }
        if line.len() > PASSWORD_SIZE_BYTES_MAX {
            return Err(Error::Secret("longer than 1024 bytes"));
        }
        if line.contains(&0) {
            return Err(Error::Secret("a zero byte in it"));
        }
        let size_bytes = line.len();
        Ok(Password { bytes, size_bytes })
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8] {
        &self.bytes[..self.size_bytes]
    }

    /// A password out of a test.
    #[cfg(test)]
    pub fn of(text: &str) -> Password {
        let mut bytes = Area::filled(0, text.len().max(1)).unwrap();
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Password::first_line(bytes, text.len()).unwrap()
    }
}

/// What one guess costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over that memory.
    pub passes: u32,
}

impl Cost {
    /// For a new password: as many passes as take [`GUESS_TIME`] on this machine, at least one.
    /// Half the memory, and half again, where there is not enough.
    ///
    /// # Errors
    /// When there is not even [`MEMORY_KIB_MIN`].
    pub fn calibrated() -> Result<Cost, Error> {
        let mut memory_kib = MEMORY_KIB;
        loop {
            let once = Cost {
                memory_kib,
                passes: 1,
            };
            match once.measured() {
                Ok(time) => {
                    let passes = GUESS_TIME.as_secs_f64() / time.as_secs_f64();
                    // Beyond its range a float becomes the nearest number.
                    let passes = (passes.round() as u32).clamp(1, PASSES_MAX);
                    return Ok(Cost { memory_kib, passes });
                }
                Err(_) if memory_kib / 2 >= MEMORY_KIB_MIN => memory_kib /= 2,
                Err(error) => return Err(error),
            }
        }
    }

    /// A cost out of a store; `None` if it is beyond the limits.
    pub fn checked(memory_kib: u32, passes: u32) -> Option<Cost> {
        let allowed = (MEMORY_KIB_MIN..=MEMORY_KIB_MAX).contains(&memory_kib)
            && (1..=PASSES_MAX).contains(&passes);
        allowed.then_some(Cost { memory_kib, passes })
    }

    /// The same for numbers as a store has them.
    ///
    /// # Errors
    /// [`Error::Corrupt`] beyond the limits.
    pub fn kept(memory_kib: u64, passes: u64) -> Result<Cost, Error> {
        let (memory_kib, passes) = (u32::try_from(memory_kib), u32::try_from(passes));
        (memory_kib.ok().zip(passes.ok()))
            .and_then(|(memory_kib, passes)| Cost::checked(memory_kib, passes))
            .ok_or(Error::Corrupt("cost of a password"))
    }

    /// How long one guess takes. Other work only makes it longer.
    fn measured(self) -> Result<Duration, Error> {
        let mut fastest = Duration::MAX;
        for _ in 0..TIMED_GUESSES {
            let mut out = [0; KEY_SIZE_BYTES];
            let begin = Instant::now();
            argon2id(b"", &[0; SALT_SIZE_BYTES], &[], self.params()?, &mut out)?;
            fastest = fastest.min(begin.elapsed());
        }
        Ok(fastest)
    }

    fn params(self) -> Result<Params, Error> {
        Params::new(self.memory_kib, self.passes, 1, Some(KEY_SIZE_BYTES)).map_err(|_| REFUSED)
    }
}

/// The key that hangs on both the password and `tangle`: Argon2id (RFC 9106) with `tangle` as
/// its secret value, one lane.
pub fn stretch(
    password: &Password,
    salt: &[u8; SALT_SIZE_BYTES],
    tangle: &Secret,
    cost: Cost,
) -> Result<Secret, Error> {
    Secret::filled(|out| {
        argon2id(
            password.expose(),
            salt,
            tangle.expose(),
            cost.params()?,
            out,
        )
    })
}

fn argon2id(
    password: &[u8],
    salt: &[u8],
    secret: &[u8],
    params: Params,
    out: &mut [u8],
) -> Result<(), Error> {
    let mut memory = Area::filled(Block::new(), params.block_count()).map_err(|_| NO_MEMORY)?;
    Argon2::new_with_secret(secret, Algorithm::Argon2id, Version::V0x13, params)
        .and_then(|argon2| {
            argon2.hash_password_into_with_memory(password, salt, out, &mut memory[..])
        })
        .map_err(|_| REFUSED)
}

const UNREADABLE: Error = Error::Secret("cannot be read");
const NO_MEMORY: Error = Error::Cryptography("no memory for a password");
const REFUSED: Error = Error::Cryptography("stretching a password");

#[cfg(test)]
mod tests;
