//! Promise: power cut at any point, torn and reordered writes included: the disk opens, every
//! flushed block is there, and every block is one that was written whole.
//!
//! All sequences of three operations, and for each every moment at which the power can go.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::support::driver::{Driver, Op, Setup};
use crate::support::image::{Disk, PAGE};
use crate::support::losses::{Loss, Walk};
use crate::support::medium::Event;
use crate::support::model::{Model, Print};

const BLOCKS: usize = 24;

/// The operations of which all sequences are tried. They overlap on purpose.
pub const ALPHABET: [Op; 9] = [
    Op::Write {
        at: 3 * PAGE,
        length: PAGE,
    },
    Op::Write {
        at: 3 * PAGE,
        length: 2 * PAGE,
    },
    Op::Write {
        at: 3 * PAGE + 512,
        length: 512,
    },
    Op::Discard {
        at: 2 * PAGE,
        length: 2 * PAGE,
    },
    Op::Discard {
        at: 3 * PAGE + 1024,
        length: PAGE,
    },
    Op::Flush,
    Op::Fua {
        at: 4 * PAGE,
        length: PAGE,
    },
    Op::Tick,
    Op::Reopen,
];

/// What was tried.
#[derive(Default)]
pub struct Tally {
    pub sequences: usize,
    /// Pairs of a moment and a loss, each compared with the model.
    pub crash_points: usize,
    /// Different states among them, each opened.
    pub states: usize,
    /// Power cuts during the opening after a power cut.
    pub second_cuts: usize,
}

impl Tally {
    fn report(&self, what: &str, start: Instant) {
        println!(
            "{what}: {} sequences, {} crash points, {} different states opened, {} second cuts, \
             {:.1} s",
            self.sequences,
            self.crash_points,
            self.states,
            self.second_cuts,
            start.elapsed().as_secs_f64()
        );
        assert!(self.crash_points > 0 && self.states > 0 && self.second_cuts > 0);
    }
}

/// Opens what a power cut left and reads all of it; both have to succeed.
fn contents(setup: &Setup, disk: Disk, place: &dyn Fn() -> String) -> (Vec<Print>, Vec<Event>) {
    let examined = setup
        .examine(disk)
        .unwrap_or_else(|error| panic!("{}: {error}", place()));
    let all = examined.prints.iter().copied().collect::<Option<Vec<_>>>();
    let prints = all.unwrap_or_else(|| panic!("{}: unreadable: {:?}", place(), examined.prints));
    (prints, examined.sim.history().1)
}

/// Tries every loss at every moment of a log from event `from` on.
pub fn every_crash(driver: &Driver, from: usize, what: &str, tally: &mut Tally) {
    let (base, events) = driver.sim.history();
    let mut walk = Walk::new(&base, &events);
    let mut seen: HashMap<u64, Vec<Print>> = HashMap::new();
    loop {
        let position = walk.position();
        if position >= from {
            // Torn writes where most is unsynced: before a sync, an anchor, and at the end.
            let tears = !matches!(events.get(position), Some(Event::Change { .. }));
            let (flushed, started) = driver.oracle(position);
            for loss in walk.losses(tears) {
                let (disk, state) = walk.cut(&loss);
                let place = || format!("{what}, cut after event {position}, loss {loss:?}");
                let prints = seen.entry(state).or_insert_with(|| {
                    tally.states += 1;
                    let (prints, opening) = contents(&driver.setup, disk.clone(), &place);
                    if matches!(loss, Loss::Nothing | Loss::Everything) {
                        second_cut(driver, &disk, &opening, &prints, tally, &place);
                    }
                    prints
                });
                tally.crash_points += 1;
                if let Some(block) = driver.model.wrong(prints, flushed, started) {
                    panic!(
                        "{}: block {block} holds what it may not: flushed {flushed}, started \
                         {started}, {:?}",
                        place(),
                        driver.moments
                    );
                }
            }
        }
        if !walk.step() {
            break;
        }
    }
}

/// The power goes again while the disk is being opened: the next opening finds the same blocks.
fn second_cut(
    driver: &Driver,
    disk: &Disk,
    opening: &[Event],
    first: &[Print],
    tally: &mut Tally,
    place: &dyn Fn() -> String,
) {
    let (mut walk, mut seen) = (Walk::new(disk, opening), HashSet::new());
    while walk.step() {
        for loss in [Loss::Nothing, Loss::Everything] {
            let (left, state) = walk.cut(&loss);
            if !seen.insert(state) {
                continue;
            }
            let again = || {
                format!(
                    "{}, then again after event {} of opening, {loss:?}",
                    place(),
                    walk.position()
                )
            };
            let (prints, _) = contents(&driver.setup, left, &again);
            assert!(prints == first, "{}: another content than before", again());
            tally.second_cuts += 1;
        }
    }
}

/// A disk with something on it, stopped cleanly, and the model of it.
pub fn base(setup: &Setup) -> (Disk, Vec<[u8; PAGE]>) {
    let mut driver = Driver::new(setup, 7);
    for at in [0, 3, 4, 9] {
        driver.apply(Op::Write {
            at: at * PAGE,
            length: PAGE,
        });
    }
    driver.apply(Op::Reopen);
    (driver.sim.live(), driver.model.contents().to_vec())
}

/// All sequences of three operations, after `before`.
fn all_sequences(what: &str, setup: &Setup, before: &[Op]) {
    let start = Instant::now();
    let (disk, model) = base(setup);
    let mut tally = Tally::default();
    for a in ALPHABET {
        for b in ALPHABET {
            for c in ALPHABET {
                let model = Model::with(model.clone());
                let mut driver = Driver::open(setup, disk.clone(), model, 11);
                for &op in before {
                    driver.apply(op);
                }
                let from = driver.sim.log_length();
                for op in [a, b, c] {
                    driver.apply(op);
                }
                driver.compare();
                driver.cut();
                let sequence = format!("{what}: {before:?} then {:?}", [a, b, c]);
                every_crash(&driver, from, &sequence, &mut tally);
                tally.sequences += 1;
            }
        }
    }
    tally.report(what, start);
    assert_eq!(tally.sequences, ALPHABET.len().pow(3));
}

#[test]
fn all_sequences_on_a_quiet_disk() {
    all_sequences("quiet disk", &Setup::small(BLOCKS), &[]);
}

/// The sequence begins with blocks that no flush has covered yet, near the end of a segment.
#[test]
fn all_sequences_across_the_end_of_a_segment() {
    let before = [
        Op::Fua {
            at: 12 * PAGE,
            length: 3 * PAGE,
        },
        Op::Write {
            at: 15 * PAGE,
            length: 2 * PAGE,
        },
        Op::Write {
            at: 2 * PAGE,
            length: 2 * PAGE,
        },
    ];
    all_sequences("end of a segment", &Setup::small(BLOCKS), &before);
}

#[test]
fn all_sequences_in_strict_mode() {
    let setup = Setup {
        strict: true,
        ..Setup::small(BLOCKS)
    };
    all_sequences(
        "strict",
        &setup,
        &[Op::Write {
            at: 3 * PAGE,
            length: PAGE,
        }],
    );
}

/// Every flush and tick finds its lease over, and the first write finds as many changes waiting
/// as may: a leaf is merged.
#[test]
fn all_sequences_while_leaves_are_merged() {
    let blocks = flash::policy::CHANGES_MIN as usize + 2;
    let setup = Setup {
        lease: Duration::ZERO,
        ..Setup::small(blocks)
    };
    let write = Op::Write {
        at: 2 * PAGE,
        length: (blocks - 2) * PAGE,
    };
    all_sequences("merging", &setup, &[write, Op::Flush]);
}

/// Formatting and the first opening: the disk is empty, or the chip knows none.
#[test]
fn the_power_can_go_while_formatting() {
    let setup = Setup::small(BLOCKS);
    let sim = crate::support::medium::Sim::new(base(&setup).0);
    sim.forget_anchor();
    flash::format(&sim, &sim, &crate::support::key(), setup.geometry).expect("formatting");
    drop(setup.open(&sim).expect("opening"));
    let (disk, events) = sim.history();
    let mut walk = Walk::new(&disk, &events);
    let (mut opened, mut refused) = (0, 0);
    let empty = crate::support::model::print(&[0; PAGE]);
    let old = Setup::small(BLOCKS)
        .examine(disk.clone())
        .expect("the old disk")
        .prints;
    while walk.step() {
        for loss in walk.losses(true) {
            match setup.examine(walk.cut(&loss).0) {
                // Reads of the half-erased old disk may fail, but give nothing else.
                Ok(found) => {
                    opened += 1;
                    for (block, found) in found.prints.iter().enumerate() {
                        let fits = *found == Some(empty) || found.is_none() || *found == old[block];
                        assert!(fits, "block {block} at {} with {loss:?}", walk.position());
                    }
                }
                Err(_) => refused += 1,
            }
        }
    }
    println!("formatting: {opened} states opened, {refused} refused");
    assert!(opened > 0 && refused > 0);
}
