use ticket::{Components, Product};

use super::*;

fn entry(epoch: u64) -> Entry {
    Entry {
        components: Components {
            firmware: [0; 32],
            variables: [1; 32],
            kernel: [2; 32],
            system: [3; 32],
            recovery: [4; 32],
            recovery_kernel: [5; 32],
        },
        epoch,
        issued: 1,
        product: Product::parse("tiny").unwrap(),
    }
}

/// A system in A, and another in B that is tried `tries` times.
fn tried(tries: u64) -> Slots {
    let mut slots = Slots::default();
    slots.accept(Slot::A, entry(1), 0).unwrap();
    slots.accept(Slot::B, entry(2), tries).unwrap();
    slots
}

/// Promise: the current slot is never written to, and there is always one to fall back to.
#[test]
fn the_current_slot_stays() {
    let mut slots = Slots::default();
    assert_eq!(slots.accept(Slot::A, entry(1), 1), Err(Error::NoTicket));
    assert_eq!(slots, Slots::default());
    let mut slots = tried(2);
    let before = slots.clone();
    for tries in [0, 1] {
        assert_eq!(slots.accept(Slot::A, entry(3), tries), Err(Error::InUse));
    }
    assert_eq!(slots, before);
    slots.accept(Slot::B, entry(3), 0).unwrap();
    assert_eq!(slots.current(), Some(Slot::B));
    assert_eq!(slots.tries_left(), None);
    assert_eq!(slots.entry(Slot::A), Some(&entry(1)));
}

/// Promise: a system is tried as often as was said, and then gone.
#[test]
fn tries_end() {
    for tries in 1..4 {
        let mut slots = tried(tries);
        for _ in 0..tries {
            slots.charge();
            assert_eq!(slots.tried_entry(), Some((Slot::B, &entry(2))));
        }
        slots.charge();
        assert_eq!(slots.tried_entry(), None);
        assert_eq!(slots.entry(Slot::B), None);
        assert_eq!(slots.current_entry(), Some((Slot::A, &entry(1))));
        let after = slots.clone();
        slots.charge();
        slots.give_up();
        assert_eq!(slots, after);
    }
}

/// Promise: what came up is the current one; what is older than the minimum goes, and a system
/// that is not tried any more is never dropped by giving up.
#[test]
fn what_came_up_stays() {
    let mut slots = tried(1);
    slots.came_up(Slot::B, 1);
    assert_eq!(slots.current(), Some(Slot::B));
    assert_eq!(slots.entry(Slot::A), Some(&entry(1)));
    slots.give_up();
    assert_eq!(slots.entry(Slot::A), Some(&entry(1)));
    slots.came_up(Slot::B, 2);
    assert_eq!(slots.entry(Slot::A), None);

    let mut older = Slots::default();
    older.accept(Slot::A, entry(5), 0).unwrap();
    older.accept(Slot::B, entry(4), 3).unwrap();
    older.came_up(Slot::A, 5);
    assert_eq!((older.current(), older.tries_left()), (Some(Slot::A), None));
    assert_eq!(older.entry(Slot::B), None);
}

/// Promise: what no change leads to is no state.
#[test]
fn other_states_are_corrupt() {
    let (some, none) = (Some(entry(1)), None);
    for (entries, current, tries_left) in [
        ([none.clone(), some.clone()], Some(Slot::A), None),
        ([some.clone(), none.clone()], Some(Slot::A), Some(1)),
        ([some.clone(), some.clone()], None, Some(0)),
    ] {
        let read = Slots::read(entries, current, tries_left);
        assert_eq!(read, Err(Error::Corrupt("slots")));
    }
    let both = [some.clone(), some];
    assert!(Slots::read(both, Some(Slot::B), Some(0)).is_ok());
    assert!(Slots::read([none.clone(), none], None, None).is_ok());
}
