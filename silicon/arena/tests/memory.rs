//! What the kernel says about the arena's memory.

use std::collections::HashSet;
use std::fs;
use std::sync::Mutex;

use arena::{Area, SLOTS, Slot};

/// Held by the tests that take slots: one of them takes all there are.
static SLOTS_TAKEN: Mutex<()> = Mutex::new(());

/// One mapping out of `/proc/self/smaps`.
struct Mapping {
    start: usize,
    end: usize,
    rights: String,
    flags: HashSet<String>,
}

fn mappings() -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in fs::read_to_string("/proc/self/smaps").unwrap().lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap();
        if first == "VmFlags:" {
            mappings.last_mut().unwrap().flags = words.map(str::to_owned).collect();
        } else if let (false, Some((start, end))) = (first.ends_with(':'), first.split_once('-')) {
            mappings.push(Mapping {
                start: usize::from_str_radix(start, 16).unwrap(),
                end: usize::from_str_radix(end, 16).unwrap(),
                rights: words.next().unwrap().to_owned(),
                flags: HashSet::new(),
            });
        }
    }
    mappings
}

fn assert_kept_apart(address: usize, locked: bool) {
    let mappings = mappings();
    let own = (mappings.iter())
        .position(|map| (map.start..map.end).contains(&address))
        .unwrap();
    let mapping = &mappings[own];
    assert_eq!(mapping.rights, "rw-p");
    assert!(mapping.flags.contains("dd"), "left out of core dumps");
    assert!(mapping.flags.contains("wf"), "empty after a fork");
    assert_eq!(mapping.flags.contains("lo"), locked, "locked as it says");
    for (guard, beside) in [
        (&mappings[own - 1], mappings[own - 1].end == mapping.start),
        (&mappings[own + 1], mappings[own + 1].start == mapping.end),
    ] {
        assert!(beside, "a guard follows without a gap");
        assert_eq!(guard.rights, "---p");
    }
}

/// Promise: keys lie in memory that is locked, in no core dump, empty after a fork, and fenced.
#[test]
fn slots_lie_in_memory_of_their_own() {
    let _turn = SLOTS_TAKEN.lock();
    let locked = arena::prepare().unwrap();
    let slot = Slot::take().unwrap();
    assert_kept_apart(slot.as_ptr() as usize, locked);
    // Every machine that is tested on allows this little.
    assert!(locked);
}

/// Promise: the same for an area of any size, locked or said not to be.
#[test]
fn areas_lie_in_memory_of_their_own() {
    for count in [1, 1024, 5000] {
        let mut area = Area::filled(7u8, count).unwrap();
        assert!(area.iter().all(|byte| *byte == 7) && area.len() == count);
        area[count - 1] = 9;
        assert_kept_apart(area.as_ptr() as usize, area.locked());
    }
    assert!(Area::filled(0u64, usize::MAX).is_err());
    assert!(Area::filled(0u64, usize::MAX / 64).is_err());
    assert!(Area::filled(0u8, 0).is_err());
}

/// Promise: a slot is all zero when it is taken, whatever was in it before; and their number is
/// limited and said.
#[test]
fn slots_are_wiped_and_counted() {
    let _turn = SLOTS_TAKEN.lock();
    let mut slots = Vec::new();
    while let Ok(mut slot) = Slot::take() {
        assert_eq!(*slot, [0; 32]);
        slot.fill(0xa5);
        slots.push(slot);
    }
    assert_eq!(slots.len(), SLOTS);
    let places: HashSet<_> = slots.iter().map(|slot| slot.as_ptr() as usize).collect();
    assert_eq!(places.len(), slots.len());
    slots.truncate(SLOTS / 2);
    for _ in 0..3 {
        assert_eq!(*Slot::take().unwrap(), [0; 32]);
    }
}
