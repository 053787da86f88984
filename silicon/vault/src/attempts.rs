//! How often a secret may be guessed, and how soon again.
//!
//! The limits are those of the current edition of Apple's platform security guide for the Mac:
//! three tries free, then growing waits, disabled after the tenth.
//!
//! Invariants: no wall clock: a wait runs in the seconds of one boot of the host, and a new boot
//! begins it again; a try is charged before anything is computed for it.

use rustix::time::{ClockId, clock_gettime};

use crate::Error;

/// No secret has more tries.
pub const TRIES: u64 = 10;
/// After the third wrong try and each later one: how long until the next, in seconds.
const WAITS_SECONDS: [u64; 7] = [60, 300, 900, 3600, 3 * 3600, 8 * 3600, 8 * 3600];
/// So many wrong tries are followed by no wait.
const FREE: usize = 2;
/// Size of a boot's name.
pub const BOOT_SIZE_BYTES: usize = 16;
/// Size of what is remembered of the last wrong secret.
pub const MARK_SIZE_BYTES: usize = 32;

/// A moment on the host, as no user can set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Which boot of the host.
    pub boot: [u8; BOOT_SIZE_BYTES],
    /// Seconds since then, those asleep included.
    pub seconds: u64,
}

/// Tells what moment it is.
pub trait Clock {
    /// Now.
    fn now(&self) -> Moment;
}

/// The host's own clock: its boot ID and `CLOCK_BOOTTIME`.
pub struct HostClock {
    boot: [u8; BOOT_SIZE_BYTES],
    /// What this process's time name space adds.
    offset_seconds: i64,
}

impl HostClock {
    /// A clock for the boot of this name, as in `/proc/sys/kernel/random/boot_id`. `offsets` is
    /// what `/proc/self/timens_offsets` says, empty on a kernel without: everybody may start
    /// a process in a time name space where more seconds seem to have passed.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the one is no UUID, or the other no list of offsets.
    pub fn new(boot_id: &str, offsets: &str) -> Result<HostClock, Error> {
        let digits: Vec<u8> = (boot_id.trim().chars())
            .filter(|each| *each != '-')
            .map_while(|each| each.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect();
        let bytes: Vec<u8> = digits
            .chunks_exact(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect();
        match <[u8; BOOT_SIZE_BYTES]>::try_from(bytes) {
            Ok(boot) if digits.len() == 2 * BOOT_SIZE_BYTES => Ok(HostClock {
                boot,
                offset_seconds: boot_offset(offsets).ok_or(Error::Corrupt("the time's offset"))?,
            }),
            _ => Err(Error::Corrupt("the name of this boot")),
        }
    }
}

impl Clock for HostClock {
    fn now(&self) -> Moment {
        let now = clock_gettime(ClockId::Boottime);
        Moment {
            boot: self.boot,
            seconds: u64::try_from(now.tv_sec.saturating_sub(self.offset_seconds)).unwrap_or(0),
        }
    }
}

/// The whole seconds that a time name space adds to `CLOCK_BOOTTIME` (time_namespaces(7)).
fn boot_offset(offsets: &str) -> Option<i64> {
    for line in offsets.lines() {
        let mut words = line.split_whitespace();
        // Older kernels name the clock by its number.
        if let Some("boottime" | "7") = words.next() {
            return words.next()?.parse().ok();
        }
    }
    Some(0)
}

/// The tries of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attempts {
    /// Tries that were charged since the last right one.
    pub failures: u64,
    /// What is remembered of the last wrong secret.
    pub last_wrong: Option<[u8; MARK_SIZE_BYTES]>,
    /// Since when the wait runs.
    pub since: Option<Moment>,
}

impl Attempts {
    /// Tries that are left.
    pub fn left(&self) -> u64 {
        TRIES.saturating_sub(self.failures)
    }

    /// Seconds until the next try is taken.
    pub fn wait_seconds(&self, now: Moment) -> u64 {
        let wait = self.whole_wait_seconds();
        match self.since {
            Some(since) if since.boot == now.boot => {
                wait.saturating_sub(now.seconds.saturating_sub(since.seconds))
            }
            _ => wait,
        }
    }

    /// Whether a try is taken now.
    ///
    /// # Errors
    /// [`Error::Disabled`] for good, [`Error::Wait`] for now.
    pub fn check(&self, now: Moment) -> Result<(), Error> {
        if self.left() == 0 {
            return Err(Error::Disabled);
        }
        if self.wait_seconds(now) > 0 {
            return Err(Error::Wait);
        }
        Ok(())
    }

    /// Counts one more try.
    pub fn charge(&mut self, now: Moment) {
        self.failures += 1;
        self.since = Some(now);
    }

    /// Whether the wait has to begin again, because the host did.
    pub fn is_of_another_boot(&self, now: Moment) -> bool {
        self.whole_wait_seconds() > 0 && self.since.is_none_or(|since| since.boot != now.boot)
    }

    fn whole_wait_seconds(&self) -> u64 {
        let failures = usize::try_from(self.failures).unwrap_or(usize::MAX);
        match failures.checked_sub(FREE + 1) {
            Some(place) if self.left() > 0 => WAITS_SECONDS[place.min(WAITS_SECONDS.len() - 1)],
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boot: u8, seconds: u64) -> Moment {
        Moment {
            boot: [boot; BOOT_SIZE_BYTES],
            seconds,
        }
    }

    /// Promise: three tries at once, then a minute, five, fifteen, an hour, three, eight, and
    /// none after the tenth.
    #[test]
    fn waits_grow_and_end() {
        let (mut attempts, mut now, mut waits) = (Attempts::default(), at(1, 1000), Vec::new());
        while attempts.left() > 0 {
            let wait = attempts.wait_seconds(now);
            waits.push(wait);
            if wait > 0 {
                now.seconds += wait - 1;
                assert_eq!(attempts.check(now), Err(Error::Wait));
                now.seconds += 1;
            }
            assert_eq!(attempts.check(now), Ok(()));
            attempts.charge(now);
        }
        assert_eq!(waits, [0, 0, 0, 60, 300, 900, 3600, 10800, 28800, 28800]);
        now.seconds += 1 << 40;
        assert_eq!(attempts.check(now), Err(Error::Disabled));
    }

    /// Promise: a new boot begins the wait again, and a clock that goes back shortens none.
    #[test]
    fn other_boots_and_clocks() {
        let mut attempts = Attempts::default();
        for _ in 0..4 {
            attempts.charge(at(1, 500));
        }
        assert_eq!(attempts.wait_seconds(at(1, 600)), 200);
        assert_eq!(attempts.wait_seconds(at(1, 100)), 300);
        assert_eq!(attempts.wait_seconds(at(2, 5000)), 300);
        assert!(attempts.is_of_another_boot(at(2, 0)));
        assert!(!attempts.is_of_another_boot(at(1, 0)));
        attempts.since = Some(at(2, 5000));
        assert_eq!(attempts.check(at(2, 5299)), Err(Error::Wait));
        assert_eq!(attempts.check(at(2, 5300)), Ok(()));
        assert!(!Attempts::default().is_of_another_boot(at(3, 0)));
    }

    /// Promise: only a whole boot ID names a boot.
    #[test]
    fn boot_ids() {
        let id = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0\n";
        let clock = HostClock::new(id, "").ok().unwrap();
        assert_eq!(clock.now().boot[..4], [0x0f, 0x1e, 0x2d, 0x3c]);
        assert!(clock.now().seconds > 0);
        for wrong in [
            "",
            "0f1e",
            &id[..34],
            "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0ff",
            "zz",
        ] {
            assert!(HostClock::new(wrong, "").is_err(), "{wrong}");
        }
    }

    /// Promise: a time name space passes no wait.
    #[test]
    fn shifted_clocks() {
        let id = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
        let now = |offsets| HostClock::new(id, offsets).ok().unwrap().now().seconds;
        let plain = now("monotonic           0         0\nboottime            0         0\n");
        let shifted = now("monotonic           0         0\nboottime        -1000         0\n");
        assert!((plain + 1000..plain + 1060).contains(&shifted));
        assert_eq!(now("1 0 0\n7 1000000000000 0\n"), 0);
        assert!(HostClock::new(id, "boottime soon").is_err());
    }
}
