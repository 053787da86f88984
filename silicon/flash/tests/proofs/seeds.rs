//! Promise: the same as `exhaust`, for long lives: random operations, many power cuts in a row,
//! any choice of unsynced writes lost or torn at sectors, segments reused and cleaned.
//!
//! A seed replays exactly but for the salts: `FLASH_SEEDS=17..18 cargo test --release -p flash
//! --test proofs seeds -- --nocapture`.

use std::ops::Range;
use std::time::{Duration, Instant};

use flash::Geometry;

use crate::support::driver::{Driver, Op, Setup};
use crate::support::image::{Disk, PAGE};
use crate::support::losses::{Loss, Walk};
use crate::support::model::Model;
use crate::support::random::Random;
use crate::support::{long, medium::Sim};

/// Seeds tried by default, and with FLASH_LONG=1.
const SEEDS: u64 = 400;
const SEEDS_LONG: u64 = 6000;
/// The same for nearly full disks, which take longer.
const FULL_SEEDS: u64 = 60;
const FULL_SEEDS_LONG: u64 = 1000;
/// Operations between two power cuts on those.
const FULL_OPERATIONS: usize = 400;
/// Blocks whose changes fill a checkpoint of some fifteen pieces.
const WIDE: usize = 3000;
/// Power cuts that one disk lives through.
const ROUNDS: usize = 4;
/// Moments at which the power is cut besides, in each round.
const PROBES: usize = 10;

fn seeds(few: u64, many: u64) -> Range<u64> {
    let Ok(text) = std::env::var("FLASH_SEEDS") else {
        return 0..if long() { many } else { few };
    };
    let (first, end) = text.split_once("..").unwrap_or(("0", &text));
    let number = |text: &str| text.parse().expect("FLASH_SEEDS=first..end");
    number(first)..number(end)
}

/// A disk of any sort: small, with several leaves, or sparse with several middle nodes.
fn setup(random: &mut Random) -> Setup {
    let around = |middle: u64| middle - 4..middle + 4;
    let (blocks, places): (u64, Vec<u64>) = match random.below(6) {
        0 => (16, (0..16).collect()),
        1 => (40, (0..40).collect()),
        2 => (300, (0..300).collect()),
        3 => (600, (0..600).collect()),
        // So many changes wait that a checkpoint's body takes several pieces.
        4 => (4000, (0..560).collect()),
        _ => {
            let spots = [around(4), around(256), around(65_536), around(131_072)];
            (131_076, spots.into_iter().flatten().collect())
        }
    };
    Setup {
        geometry: Geometry {
            blocks,
            segment_slots: random.pick(&[8, 16, 32]),
        },
        strict: random.once_in(5),
        lease: random.pick(&[Duration::ZERO, Duration::from_secs(3600)]),
        cache_bytes: random.pick(&[0, 2 * PAGE, 1 << 20]),
        places,
    }
}

/// A disk so full that it has to be cleaned all the time.
fn full_setup(random: &mut Random) -> Setup {
    let mut setup = Setup::small(random.pick(&[200, 300, 400]));
    setup.geometry.segment_slots = random.pick(&[8, 16]);
    setup.strict = random.once_in(8);
    setup.cache_bytes = random.pick(&[0, 1 << 20]);
    setup
}

/// An operation; lengths are mostly small, sometimes of many blocks.
fn op(random: &mut Random, blocks: usize) -> Op {
    let longest = random.pick(&[1, 1, 2, 8, 40]).min(blocks);
    let count = 1 + random.below(longest);
    let (mut at, mut length) = (random.below(blocks - count + 1) * PAGE, count * PAGE);
    if random.once_in(3) {
        // Parts of blocks at both ends.
        let sectors = length / 512;
        let first = random.below(8.min(sectors));
        at += first * 512;
        length = (1 + random.below(sectors - first)) * 512;
    }
    match random.below(100) {
        0..50 => Op::Write { at, length },
        50..58 => Op::Fua { at, length },
        58..66 => Op::Discard { at, length },
        66..70 => Op::Zero { at, length },
        70..83 => Op::Flush,
        83..97 => Op::Tick,
        _ => Op::Reopen,
    }
}

#[derive(Default)]
struct Tally {
    crash_points: usize,
    lives: u64,
    glances: usize,
    cleaned: u64,
    longest_log: usize,
}

/// Opens what is left, compares all blocks.
fn check(driver: &Driver, disk: Disk, position: usize, what: &str) {
    let found = driver
        .setup
        .examine(disk)
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let all = found.prints.iter().copied().collect::<Option<Vec<_>>>();
    let prints = all.unwrap_or_else(|| panic!("{what}: unreadable blocks"));
    let (flushed, started) = driver.oracle(position);
    if let Some(block) = driver.model.wrong(&prints, flushed, started) {
        panic!("{what}: block {block}, flushed {flushed}, started {started}");
    }
}

/// One disk's life.
fn live(seed: u64, full: bool, tally: &mut Tally) {
    let mut random = Random::new(seed);
    let setup = if full {
        full_setup(&mut random)
    } else {
        setup(&mut random)
    };
    tally.lives += 1;
    let mut disk = setup.formatted();
    let mut contents = vec![[0; PAGE]; setup.places.len()];
    for round in 0..ROUNDS {
        let mut driver = Driver::open(&setup, disk.clone(), Model::with(contents), random.next());
        driver.compare();
        if full && round == 0 {
            let length = setup.places.len() * PAGE / 10 * 9 / PAGE * PAGE;
            driver.apply(Op::Write { at: 0, length });
        }
        let most = if random.once_in(4) { 250 } else { 40 };
        let operations = if full {
            FULL_OPERATIONS
        } else {
            10 + random.below(most)
        };
        for _ in 0..operations {
            driver.sim.set_cold(random.once_in(4));
            driver.apply(op(&mut random, setup.places.len()));
            tally.glances += usize::from(driver.glance(random.below(setup.places.len())));
        }
        driver.compare();
        tally.cleaned += driver.flash().status().blocks_cleaned;
        driver.cut();
        let (base, events) = driver.sim.history();
        tally.longest_log = tally.longest_log.max(events.len());
        let mut moments: Vec<_> = (0..PROBES)
            .map(|_| random.below(events.len() + 1))
            .collect();
        moments.sort_unstable();
        let mut walk = Walk::new(&base, &events);
        for position in moments {
            while walk.position() < position {
                walk.step();
            }
            let any = Loss::Any(random.next());
            for loss in [Loss::Nothing, Loss::Everything, any] {
                let what = format!("seed {seed}, round {round}, event {position}, {loss:?}");
                disk = walk.cut(&loss).0;
                check(&driver, disk.clone(), position, &what);
                tally.crash_points += 1;
            }
        }
        // The last of them is where this disk goes on.
        let sim = Sim::new(disk.clone());
        contents = setup.contents(&setup.open(&sim).expect("it opened before"));
        if random.once_in(2) {
            // It had been opened already when the power went again.
            disk = sim.live();
        }
    }
}

fn lives(what: &str, seeds: Range<u64>, full: bool) -> Tally {
    let (start, mut tally) = (Instant::now(), Tally::default());
    for seed in seeds.clone() {
        live(seed, full, &mut tally);
    }
    println!(
        "{what}, seeds {seeds:?}: {} crash points, {} blocks moved by cleaning, longest log {} \
         events, {:.1} s",
        tally.crash_points,
        tally.cleaned,
        tally.longest_log,
        start.elapsed().as_secs_f64()
    );
    assert!(tally.crash_points > 0 && tally.glances > 0 || seeds.is_empty());
    tally
}

#[test]
fn random_lives_with_power_cuts() {
    lives("lives", seeds(SEEDS, SEEDS_LONG), false);
}

#[test]
fn lives_of_nearly_full_disks_with_power_cuts() {
    let tally = lives("full disks", seeds(FULL_SEEDS, FULL_SEEDS_LONG), true);
    assert!(
        tally.cleaned > 50 * tally.lives,
        "hardly anything was cleaned"
    );
}

/// Checkpoints that fill several segments: nothing of one is written over while it is the one to
/// start from.
#[test]
fn checkpoints_longer_than_segments_with_power_cuts() {
    let mut setup = Setup::small(WIDE);
    setup.geometry = Geometry {
        blocks: 8 * WIDE as u64,
        segment_slots: 8,
    };
    let mut random = Random::new(91);
    let mut driver = Driver::new(&setup, 91);
    driver.apply(Op::Write {
        at: 0,
        length: (WIDE - 100) * PAGE,
    });
    driver.apply(Op::Reopen);
    for _ in 0..120 {
        driver.apply(Op::Fua {
            at: random.below(WIDE - 4) * PAGE,
            length: 4 * PAGE,
        });
    }
    let crash_points = cut_often(&mut driver, 1, 4, &mut random);
    println!("checkpoints longer than segments: {crash_points} crash points");
    assert!(crash_points > 100);
}

/// Segments of production's kind, filled by single flushes: what is done ahead for those.
#[test]
fn flush_after_flush_with_power_cuts() {
    let mut setup = Setup::small(40);
    setup.geometry.segment_slots = 256;
    let mut random = Random::new(92);
    let mut driver = Driver::new(&setup, 92);
    for _ in 0..700 {
        let at = random.below(40) * PAGE;
        driver.apply(Op::Fua { at, length: PAGE });
    }
    let crash_points = cut_often(&mut driver, 0, 2, &mut random);
    println!("flush after flush: {crash_points} crash points");
    assert!(crash_points > 1000);
}

/// Cuts the power at one in so many events from an operation on, and compares.
fn cut_often(driver: &mut Driver, from: usize, one_in: usize, random: &mut Random) -> usize {
    driver.compare();
    driver.cut();
    let (base, events) = driver.sim.history();
    let mut walk = Walk::new(&base, &events);
    let (from, mut crash_points) = (driver.moments[from].start, 0);
    while walk.step() {
        let position = walk.position();
        if position > from && random.once_in(one_in) {
            for loss in [Loss::Nothing, Loss::Any(random.next())] {
                let what = format!("event {position}, {loss:?}");
                check(driver, walk.cut(&loss).0, position, &what);
                crash_points += 1;
            }
        }
    }
    crash_points
}
