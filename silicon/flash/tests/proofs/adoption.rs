//! Promise: modules that no anchor fits can be adopted, and everything that was flushed is there.
//! The power can go at any point of it: they are adopted, and no anchor from before opens them, or
//! they can be adopted again.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use flash::{OpenError, Which};

use crate::exhaust::{ALPHABET, base};
use crate::support::driver::{Driver, Op, Setup};
use crate::support::image::{Disk, PAGE};
use crate::support::long;
use crate::support::losses::{Loss, Walk};
use crate::support::medium::{Call, Change, Event, Fault, Sim};
use crate::support::model::{Model, Print};
use crate::support::random::Random;

const BLOCKS: usize = 24;

#[derive(Default)]
struct Tally {
    crash_points: usize,
    states: usize,
    second_cuts: usize,
    /// Second cuts after which the anchor from before still opened.
    untouched: usize,
}

impl Tally {
    fn report(&self, what: &str, start: Instant) {
        println!(
            "adopting, {what}: {} crash points, {} different states adopted, {} power cuts while \
             adopting, {} of them with nothing done yet, {:.1} s",
            self.crash_points,
            self.states,
            self.second_cuts,
            self.untouched,
            start.elapsed().as_secs_f64()
        );
        assert!(self.states > 0 && self.untouched > 0 && self.second_cuts > self.untouched);
    }
}

/// Adopts a disk and reads all of it; both have to succeed.
fn adopted(setup: &Setup, disk: Disk, place: &dyn Fn() -> String) -> (Vec<Print>, Sim) {
    let examined = setup
        .examine_adopted(disk)
        .unwrap_or_else(|error| panic!("{}: {error}", place()));
    assert!(!examined.incomplete, "{}: incomplete", place());
    let all = examined.prints.iter().copied().collect::<Option<Vec<_>>>();
    let prints = all.unwrap_or_else(|| panic!("{}: unreadable: {:?}", place(), examined.prints));
    (prints, examined.sim)
}

pub fn with_anchor(disk: &Disk, anchor: &Option<Vec<u8>>) -> Disk {
    Disk {
        anchor: anchor.clone(),
        ..disk.clone()
    }
}

/// The power goes while a disk is being adopted, with each of these losses.
fn cut_while_adopting(
    setup: &Setup,
    disk: &Disk,
    adopting: &Sim,
    first: &[Print],
    losses: &dyn Fn(&Walk<'_>) -> Vec<Loss>,
    tally: &mut Tally,
    place: &dyn Fn() -> String,
) {
    let events = adopting.history().1;
    let (mut walk, mut seen) = (Walk::new(disk, &events), HashSet::new());
    while walk.step() {
        for loss in losses(&walk) {
            let (left, state) = walk.cut(&loss);
            if !seen.insert(state) {
                continue;
            }
            tally.second_cuts += 1;
            let after = walk.position();
            let again = || format!("{}, cut after event {after} of adopting, {loss:?}", place());
            if left.anchor != disk.anchor {
                let found = setup.examine(left.clone());
                let found = found.unwrap_or_else(|error| panic!("{}: {error}", again()));
                let prints: Vec<_> = found.prints.into_iter().flatten().collect();
                assert!(prints == first, "{}: another content than before", again());
                // The chip from before has lost them.
                match setup.examine(with_anchor(&left, &disk.anchor)) {
                    Err(OpenError::Adopted(Which::Both)) => {}
                    Err(error) => panic!("{}: the old anchor: {error}", again()),
                    Ok(_) => panic!("{}: the old anchor opens it as well", again()),
                }
                continue;
            }
            let (prints, _) = adopted(setup, left.clone(), &again);
            assert!(prints == first, "{}: another content than before", again());
            match setup.examine(left) {
                Ok(_) => tally.untouched += 1,
                Err(OpenError::Adopted(_) | OpenError::Damaged(_, "its header")) => {}
                Err(error) => panic!("{}: the old anchor: {error}", again()),
            }
        }
    }
}

/// Adopts what every loss at every moment of a log leaves.
fn every_crash(driver: &Driver, from: usize, what: &str, tally: &mut Tally) {
    let (base, events) = driver.sim.history();
    let mut walk = Walk::new(&base, &events);
    let mut seen = HashMap::new();
    loop {
        let position = walk.position();
        if position >= from {
            let tears = !matches!(events.get(position), Some(Event::Change { .. }));
            let (flushed, started) = driver.oracle(position);
            for loss in walk.losses(tears) {
                let (disk, state) = walk.cut(&loss);
                let place = || format!("{what}, cut after event {position}, loss {loss:?}");
                let prints = seen.entry(state).or_insert_with(|| {
                    tally.states += 1;
                    let (prints, sim) = adopted(&driver.setup, disk.clone(), &place);
                    if matches!(loss, Loss::Nothing | Loss::Everything) {
                        let both = |_: &Walk<'_>| vec![Loss::Nothing, Loss::Everything];
                        let setup = &driver.setup;
                        cut_while_adopting(setup, &disk, &sim, &prints, &both, tally, &place);
                    }
                    prints
                });
                tally.crash_points += 1;
                let wrong = driver.model.wrong(prints, flushed, started);
                assert_eq!(wrong, None, "{}: flushed {flushed}", place());
            }
        }
        if !walk.step() {
            break;
        }
    }
}

/// All sequences of two operations after `before`, the second among `last`, each cut at every
/// point, then adopted.
fn all_sequences(what: &str, setup: &Setup, before: &[Op], last: &[Op]) {
    let (start, mut tally) = (Instant::now(), Tally::default());
    let (disk, model) = base(setup);
    for a in ALPHABET {
        for &b in last {
            let model = Model::with(model.clone());
            let mut driver = Driver::open(setup, disk.clone(), model, 11);
            before.iter().for_each(|&op| driver.apply(op));
            let from = driver.sim.log_length();
            driver.apply(a);
            driver.apply(b);
            driver.cut();
            every_crash(&driver, from, &format!("{what}: {:?}", [a, b]), &mut tally);
        }
    }
    tally.report(what, start);
}

/// Blocks and a trim that no flush has covered are in the log before each sequence.
#[test]
fn all_that_was_flushed_is_adopted_after_a_power_cut() {
    let before = [
        Op::Write {
            at: 10 * PAGE,
            length: 7 * PAGE,
        },
        Op::Discard {
            at: 9 * PAGE,
            length: PAGE,
        },
    ];
    let setup = Setup::small(BLOCKS);
    all_sequences("unflushed blocks", &setup, &before, &ALPHABET);
}

/// Leaves are written by the checkpoints.
#[test]
fn all_that_was_flushed_is_adopted_while_leaves_are_merged() {
    let blocks = flash::policy::CHANGES_MIN as usize + 2;
    let write = Op::Write {
        at: 2 * PAGE,
        length: (blocks - 2) * PAGE,
    };
    all_sequences("merging", &Setup::small(blocks), &[write], &[Op::Reopen]);
}

/// Long lives with few flushes, in which checkpoints free what is written anew, cut at random.
#[test]
fn all_that_was_flushed_is_adopted_after_long_lives() {
    let (start, mut tally) = (Instant::now(), Tally::default());
    for seed in 0..if long() { 2000 } else { 40 } {
        let mut setup = Setup::small(5 * BLOCKS);
        setup.geometry.segment_slots = 8;
        let (mut driver, mut random) = (Driver::new(&setup, seed), Random::new(seed));
        let busy = 5 * BLOCKS - random.below(4 * BLOCKS);
        for _ in 0..80 {
            let length = (1 + random.below(BLOCKS.min(busy - 1))) * PAGE;
            let at = random.below(busy - length / PAGE + 1) * PAGE;
            driver.apply(match random.below(24) {
                0 => Op::Discard { at, length },
                1 => Op::Flush,
                2 => Op::Reopen,
                _ => Op::Write { at, length },
            });
        }
        driver.cut();
        let (base, events) = driver.sim.history();
        let mut walk = Walk::new(&base, &events);
        while walk.step() {
            if !random.once_in(6) {
                continue;
            }
            let (flushed, started) = driver.oracle(walk.position());
            for loss in [Loss::Nothing, Loss::Everything, Loss::Any(random.next())] {
                let place = || format!("seed {seed}, event {}, {loss:?}", walk.position());
                let (prints, _) = adopted(&setup, walk.cut(&loss).0, &place);
                let wrong = driver.model.wrong(&prints, flushed, started);
                assert_eq!(wrong, None, "{}: flushed {flushed}", place());
                tally.crash_points += 1;
            }
        }
    }
    println!(
        "adopting, long lives: {} crash points, {:.1} s",
        tally.crash_points,
        start.elapsed().as_secs_f64()
    );
}

/// A disk that has lived for a while; `stopped` in order, or cut in the middle of something.
pub fn lived(setup: &Setup, seed: u64, stopped: bool) -> Driver {
    let mut driver = Driver::new(setup, seed);
    live(&mut driver, seed, 40);
    driver.apply(if stopped { Op::Reopen } else { Op::Flush });
    driver
}

pub fn live(driver: &mut Driver, seed: u64, operations: usize) {
    let (mut random, blocks) = (Random::new(seed), driver.model.blocks());
    for _ in 0..operations {
        let at = random.below(blocks - 3) * PAGE;
        let length = (1 + random.below(3)) * PAGE;
        driver.apply(match random.below(12) {
            0..6 => Op::Write { at, length },
            6 => Op::Discard { at, length },
            7 | 8 => Op::Fua { at, length },
            9 => Op::Flush,
            10 => Op::Tick,
            _ => Op::Reopen,
        });
    }
}

/// Every write of an adoption lost, alone and with each other one, and torn at every sector.
#[test]
fn every_loss_while_adopting() {
    let (start, mut tally) = (Instant::now(), Tally::default());
    for seed in 0..12 {
        let setup = Setup::small(BLOCKS);
        let mut driver = lived(&setup, seed, seed % 2 == 0);
        driver.cut();
        let disk = driver.sim.live();
        let place = || format!("seed {seed}");
        let (prints, sim) = adopted(&setup, disk.clone(), &place);
        assert_eq!(
            driver
                .model
                .wrong(&prints, driver.moments.len(), usize::MAX),
            None
        );
        let losses = |walk: &Walk<'_>| walk.losses(true);
        cut_while_adopting(&setup, &disk, &sim, &prints, &losses, &mut tally, &place);
        tally.states += 1;
    }
    tally.report("every loss", start);
}

/// An adoption that was cut short and given up: the chip from before goes on, and when its disk is
/// adopted later, what it wrote meanwhile is there.
#[test]
fn an_adoption_given_up_takes_nothing_later() {
    let setup = Setup::small(BLOCKS);
    let mut driver = lived(&setup, 41, false);
    driver.cut();
    adoption_given_up(&setup, &driver.sim.live());
}

/// The same when the adoption did not find the newest superblock: it wrote where the chip from
/// before does not write next.
#[test]
fn an_adoption_given_up_is_not_taken_for_newer() {
    let mut setup = Setup::small(3 * BLOCKS);
    setup.geometry.segment_slots = 8;
    let (mut driver, mut random) = (Driver::new(&setup, 46), Random::new(46));
    for _ in 0..40 {
        let at = random.below(2 * BLOCKS) * PAGE;
        let length = BLOCKS * PAGE;
        driver.apply(Op::Write { at, length });
    }
    driver.cut();
    // Right after a checkpoint was anchored, the superblock before is whole as well.
    let (base, events) = driver.sim.history();
    let (mut walk, mut tried) = (Walk::new(&base, &events), 0);
    let mut last = base.anchor.clone().expect("an anchor");
    while walk.step() {
        let Event::Anchor(Some(anchor)) = &events[walk.position() - 1] else {
            continue;
        };
        let before = std::mem::replace(&mut last, anchor.clone());
        // Another checkpoint, and of the same session: an older one does not lead to this.
        if before[80..88] == anchor[80..88] || before[112..144] != anchor[112..144] {
            continue;
        }
        let (mut disk, _) = walk.cut(&Loss::Nothing);
        let found = setup.examine(disk.clone()).expect("opening");
        for module in &mut disk.modules {
            module.punch(u64::from(anchor[108]) * PAGE as u64, PAGE as u64);
        }
        let adopted = setup.examine_adopted(disk.clone()).expect("adopting");
        assert!(adopted.prints == found.prints);
        adoption_given_up(&setup, &disk);
        tried += 1;
    }
    assert!(tried > 2);
}

fn adoption_given_up(setup: &Setup, disk: &Disk) {
    let sim = Sim::new(disk.clone());
    let flash = setup.adopt(&sim).expect("adopting");
    let contents = setup.contents(&flash);
    drop(flash);
    let (_, events) = sim.history();
    let (mut walk, mut went_on) = (Walk::new(disk, &events), 0);
    while walk.step() {
        for loss in [Loss::Nothing, Loss::Everything] {
            let (left, _) = walk.cut(&loss);
            if left.anchor != disk.anchor || setup.examine(left.clone()).is_err() {
                continue;
            }
            went_on += 1;
            for operations in [0, 3, 12] {
                let model = Model::with(contents.clone());
                let mut again = Driver::open(setup, left.clone(), model, 42);
                live(&mut again, 43, operations);
                again.apply(Op::Flush);
                again.cut();
                let place = || format!("event {}, {loss:?}", walk.position());
                let (prints, _) = adopted(setup, again.sim.live(), &place);
                let flushed = again.moments.len();
                let wrong = again.model.wrong(&prints, flushed, flushed);
                assert_eq!(wrong, None, "{}", place());
            }
        }
    }
    assert!(went_on > 3);
}

/// The controller dies, the host keeps what it was given and has not made durable, and while the
/// disk is being opened the power goes.
#[test]
fn what_only_the_host_had_is_not_taken_for_durable() {
    let setup = Setup::small(BLOCKS);
    let mut driver = Driver::new(&setup, 44);
    for round in 0..5 {
        driver.apply(Op::Write {
            at: round * PAGE,
            length: 16 * PAGE,
        });
    }
    driver.cut();
    let from = driver.sim.log_length();
    drop(setup.open(&driver.sim).expect("opening"));
    let (base, events) = driver.sim.history();
    let (mut walk, mut tried) = (Walk::new(&base, &events), 0);
    loop {
        if walk.position() >= from {
            let (flushed, started) = driver.oracle(walk.position());
            for loss in walk.losses(true) {
                let (disk, _) = walk.cut(&loss);
                let place = || format!("event {}, {loss:?}", walk.position());
                let (prints, _) = adopted(&setup, disk, &place);
                let wrong = driver.model.wrong(&prints, flushed, started);
                assert_eq!(wrong, None, "{}", place());
                tried += 1;
            }
        }
        if !walk.step() {
            break;
        }
    }
    assert!(tried > 500);
}

/// The vault takes no anchors for a while, the power goes, and goes again while the disk is being
/// opened: one superblock is whole all the time.
#[test]
fn superblocks_outlive_a_vault_that_fails() {
    let mut tried = 0;
    for seed in 0..4 {
        let mut setup = Setup::small(3 * BLOCKS);
        setup.geometry.segment_slots = 8;
        let mut driver = Driver::new(&setup, seed);
        let from = driver.sim.log_length();
        driver.sim.fail(Fault {
            call: Call::Store,
            after: 0,
            errno: 5,
            lasting: true,
        });
        // Enough is written for a checkpoint, stopping makes another one; neither is anchored.
        let mut random = Random::new(seed);
        for _ in 0..40 {
            let at = random.below(2 * BLOCKS) * PAGE;
            let length = BLOCKS * PAGE;
            let _ = driver.attempt(Op::Write { at, length });
            let _ = driver.attempt(Op::Flush);
        }
        assert!(driver.flash().stop().is_err());
        driver.cut();
        let (base, events) = driver.sim.history();
        let mut walk = Walk::new(&base, &events);
        while walk.step() {
            let Some(written) = superblock(&events[walk.position() - 1]) else {
                continue;
            };
            if walk.position() <= from {
                continue;
            }
            for whole in [false, true] {
                let mut disk = walk.cut(&Loss::Nothing).0;
                if !whole {
                    disk = walk.cut(&Loss::Everything).0;
                    tear(&mut disk, written);
                }
                let sim = Sim::new(disk.clone());
                drop(setup.open(&sim).expect("opening"));
                let opening = sim.history().1;
                let mut again = Walk::new(&disk, &opening);
                while again.step() {
                    let mut left = again.cut(&Loss::Everything).0;
                    if let Some(written) = superblock(&opening[again.position() - 1]) {
                        tear(&mut left, written);
                    }
                    let place =
                        || format!("seed {seed}, {} and {}", walk.position(), again.position());
                    adopted(&setup, left, &place);
                    tried += 1;
                }
            }
        }
    }
    println!("a vault that fails: {tried} states adopted");
    assert!(tried > 100);
}

/// Where a superblock was written, if one was.
fn superblock(event: &Event) -> Option<u64> {
    match event {
        Event::Change {
            change: Change::Write { offset, .. },
            ..
        } => [1, 2]
            .map(|slot| slot * PAGE as u64)
            .into_iter()
            .find(|place| place == offset),
        _ => None,
    }
}

/// The superblock that was being written is neither the old nor the new one.
fn tear(disk: &mut Disk, offset: u64) {
    for module in &mut disk.modules {
        module.write(offset, &[0xee; PAGE]);
    }
}

/// Within a session no count is used for two superblocks, also not for one that could not be
/// written whole.
#[test]
fn no_two_superblocks_share_a_nonce() {
    let mut setup = Setup::small(3 * BLOCKS);
    setup.geometry.segment_slots = 8;
    let (mut driver, mut random) = (Driver::new(&setup, 45), Random::new(45));
    for _ in 0..150 {
        driver.sim.fail(Fault {
            call: Call::Write,
            after: random.below(30),
            errno: 28,
            lasting: false,
        });
        let at = random.below(2 * BLOCKS) * PAGE;
        let length = BLOCKS * PAGE;
        let _ = driver.attempt(Op::Write { at, length });
    }
    let (mut seen, mut in_part) = (HashMap::<[u8; 36], Vec<u8>>::new(), 0);
    for event in driver.sim.history().1 {
        let Event::Change {
            change: Change::Write { offset, data },
            ..
        } = event
        else {
            continue;
        };
        if ![PAGE, 2 * PAGE].contains(&(offset as usize)) {
            continue;
        }
        in_part += usize::from(data.len() < PAGE);
        let nonce = data[..36].try_into().expect("salt and count");
        let known = seen.entry(nonce).or_insert(data.to_vec());
        let both = known.len().min(data.len());
        assert!(known[..both] == data[..both], "two superblocks, one nonce");
    }
    println!("superblocks: {}, {in_part} written in part", seen.len());
    assert!(seen.len() > 10 && in_part > 0);
}

/// Each call fails while a disk is being adopted: refused, and the next time it is adopted.
#[test]
fn every_call_fails_while_adopting() {
    let setup = Setup::small(BLOCKS);
    let mut driver = lived(&setup, 65, false);
    let wanted = setup.prints(driver.flash());
    driver.cut();
    let (disk, mut failed) = (driver.sim.live(), 0);
    for call in [
        Call::Read,
        Call::Write,
        Call::Sync,
        Call::Allocate,
        Call::Store,
    ] {
        for errno in [5, 28] {
            for after in 0..1000 {
                let sim = Sim::new(disk.clone());
                sim.fail(Fault {
                    call,
                    after,
                    errno,
                    lasting: false,
                });
                let what = format!("{call:?} {after} fails with {errno}");
                let opened = setup.adopt(&sim).is_ok();
                if sim.failed() == 0 {
                    assert!(opened, "{what}");
                    break;
                }
                failed += 1;
                let passes = matches!(call, Call::Allocate | Call::Read);
                assert!(!opened || passes, "{what}: and yet it was adopted");
                sim.heal();
                let (base, events) = sim.history();
                let mut walk = Walk::new(&base, &events);
                while walk.step() {}
                for loss in [Loss::Nothing, Loss::Everything] {
                    let found = setup.examine_adopted(walk.cut(&loss).0);
                    let found = found.unwrap_or_else(|error| panic!("{what}, {loss:?}: {error}"));
                    assert!(found.prints == wanted, "{what}, {loss:?}: another content");
                }
            }
        }
    }
    println!("failures while adopting: {failed}");
    assert!(failed > 10);
}
