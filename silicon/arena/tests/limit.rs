//! A process of its own: what it sets holds for all of it.

use arena::{Area, Slot};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What an ordinary user may lock on an ordinary host.
const USUAL_LIMIT_BYTES: u64 = 8 * 1024 * 1024;
const STRETCHING_BYTES: usize = 64 * 1024 * 1024;

/// Promise: an ordinary user's keys are locked; what is more than may be locked is there all the
/// same, and says that it is not.
#[test]
fn the_limit_on_locked_memory_stops_nothing() {
    let maximum = getrlimit(Resource::Memlock).maximum;
    let current = Some(maximum.map_or(USUAL_LIMIT_BYTES, |most| most.min(USUAL_LIMIT_BYTES)));
    setrlimit(Resource::Memlock, Rlimit { current, maximum }).unwrap();
    // Who may lock as much as they like.
    let privileged = rustix::process::geteuid().is_root();

    assert!(arena::prepare().unwrap());
    let _slot = Slot::take().unwrap();
    let area = Area::filled(1u8, STRETCHING_BYTES).unwrap();
    assert_eq!(area.len(), STRETCHING_BYTES);
    assert_eq!(area.locked(), privileged);

    let none = Some(0);
    setrlimit(
        Resource::Memlock,
        Rlimit {
            current: none,
            maximum,
        },
    )
    .unwrap();
    let area = Area::filled(1u8, 1).unwrap();
    assert_eq!(area.locked(), privileged);
}
