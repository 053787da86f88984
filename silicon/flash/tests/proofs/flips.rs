//! Promise: whatever byte was flipped, block swapped, spliced or replayed at its own address,
//! module truncated, TRIM forged: a read returns what was last written, or an error.

use std::time::{Duration, Instant};

use flash::Geometry;

use crate::support::driver::{Driver, Op, Setup};
use crate::support::image::{Disk, PAGE};
use crate::support::losses::{Loss, Walk};
use crate::support::model::print;
use crate::support::{long, medium::Event, random::Random};

/// The smallest disk; its changes all wait in the body.
const FEW: usize = flash::layout::BLOCKS_MIN as usize;
/// Enough blocks for leaves to be written.
const MANY: usize = flash::policy::CHANGES_MIN as usize + 2;
/// Of a slot with data, or with nothing that is still needed, every so many-th byte is flipped
/// in the larger image; of all others each one.
const SPARSE: usize = 16;
const LEASE: Duration = Duration::from_millis(50);

/// What came of changed images.
#[derive(Default, Debug)]
struct Outcome {
    tried: usize,
    /// Refused at opening.
    refused: usize,
    /// Opened, some blocks unreadable.
    unreadable: usize,
    /// Opened, everything as it was.
    unharmed: usize,
    /// Read something else than was written. Has to be 0.
    wrong: usize,
}

impl Outcome {
    /// Opens a changed image; blocks may hold what was flushed or, in an image that was not
    /// stopped cleanly, what came since the anchor.
    fn take(&mut self, driver: &Driver, disk: Disk, position: usize) {
        self.tried += 1;
        let Ok(found) = driver.setup.examine(disk) else {
            self.refused += 1;
            return;
        };
        let anchored = driver.anchored(position);
        let (_, started) = driver.oracle(position);
        let fits = |(block, found): (usize, &Option<u64>)| {
            found.is_none_or(|it| {
                driver
                    .model
                    .admissible(block, anchored, started)
                    .any(|print| print == it)
            })
        };
        if !found.prints.iter().enumerate().all(fits) {
            self.wrong += 1;
        } else if found.prints.contains(&None) {
            self.unreadable += 1;
        } else {
            self.unharmed += 1;
        }
    }

    fn report(&self, what: &str, start: Instant) {
        println!("{what}: {self:?}, {:.1} s", start.elapsed().as_secs_f64());
        assert!(self.tried > 0);
        assert_eq!(self.wrong, 0, "silent wrong reads");
    }
}

/// A full disk that has lived a little: blocks overwritten, some trimmed, two sessions.
fn full(blocks: usize, stopped: bool) -> Driver {
    let mut setup = Setup::small(blocks);
    setup.geometry = Geometry {
        blocks: blocks as u64,
        segment_slots: 8,
    };
    setup.lease = if stopped { setup.lease } else { LEASE };
    let mut driver = Driver::new(&setup, 21);
    driver.apply(Op::Write {
        at: 0,
        length: 6 * PAGE,
    });
    driver.apply(Op::Reopen);
    driver.apply(Op::Write {
        at: 0,
        length: blocks * PAGE,
    });
    driver.apply(Op::Discard {
        at: 2 * PAGE,
        length: PAGE,
    });
    driver.apply(Op::Fua {
        at: 7 * PAGE,
        length: PAGE,
    });
    driver.apply(Op::Reopen);
    if !stopped {
        // Records that are anchored after the checkpoint, then some that are only flushed.
        driver.apply(Op::Fua {
            at: PAGE,
            length: PAGE,
        });
        std::thread::sleep(LEASE);
        driver.apply(Op::Fua {
            at: 12 * PAGE,
            length: 2 * PAGE,
        });
        driver.apply(Op::Write {
            at: 3 * PAGE,
            length: 2 * PAGE,
        });
        driver.apply(Op::Discard {
            at: 5 * PAGE,
            length: PAGE,
        });
        driver.apply(Op::Fua {
            at: 2 * PAGE,
            length: PAGE,
        });
        driver.apply(Op::Write {
            at: 9 * PAGE,
            length: PAGE,
        });
    } else {
        // Opened once more and left untouched: dropped, after a clean stop's anchor.
        driver.apply(Op::Flush);
    }
    driver.compare();
    driver.cut();
    driver
}

fn flip_all(what: &str, driver: &Driver, bits: u8, sparse: usize) {
    let (start, mut outcome) = (Instant::now(), Outcome::default());
    let (disk, end) = (driver.sim.live(), driver.sim.log_length());
    let flipped = |module: usize, page: usize, byte: usize| {
        let mut changed = disk.clone();
        changed.modules[module].flip((page * PAGE + byte) as u64, bits);
        changed
    };
    let mut slots = 0;
    for module in 0..2 {
        for page in disk.modules[module].written() {
            slots += 1;
            let lost = driver
                .setup
                .examine(flipped(module, page, 7))
                .map_or(usize::MAX, |found| {
                    found.prints.iter().filter(|print| print.is_none()).count()
                });
            let step = if lost <= 1 && !long() { sparse } else { 1 };
            for byte in (0..PAGE).step_by(step) {
                outcome.take(driver, flipped(module, page, byte), end);
            }
        }
    }
    outcome.report(
        &format!("{what}, {slots} slots, bytes xor {bits:02x}"),
        start,
    );
    assert!(outcome.refused > 0 && outcome.unreadable > 0);
}

/// The bits of each byte that are flipped, one at a time: one of them, or all in the long run.
fn bits(one: u32) -> impl Iterator<Item = u8> {
    (0..8)
        .filter(move |&bit| long() || bit == one)
        .map(|bit| 1 << bit)
}

#[test]
fn every_byte_of_a_stopped_image_flipped() {
    let driver = full(FEW, true);
    bits(0).for_each(|bits| flip_all("smallest image, stopped", &driver, bits, 1));
}

#[test]
fn every_byte_of_an_image_with_leaves_after_a_power_cut_flipped() {
    let driver = full(MANY, false);
    bits(7).for_each(|bits| flip_all("image with leaves, cut", &driver, bits, SPARSE));
}

/// Any two slots of both modules exchanged, and any copied over any other.
#[test]
fn slots_swapped_and_spliced() {
    for stopped in [true, false] {
        let driver = full(MANY, stopped);
        let (start, mut outcome) = (Instant::now(), Outcome::default());
        let (disk, end) = (driver.sim.live(), driver.sim.log_length());
        let slots: Vec<(usize, usize)> = (0..2)
            .flat_map(|module| {
                disk.modules[module]
                    .written()
                    .into_iter()
                    .map(move |page| (module, page))
            })
            .collect();
        let put = |disk: &mut Disk, (module, page): (usize, usize), bytes: &[u8]| {
            disk.modules[module].write((page * PAGE) as u64, bytes);
        };
        for &a in &slots {
            let from = disk.modules[a.0].page(a.1);
            for &b in &slots {
                if a == b {
                    continue;
                }
                let mut copied = disk.clone();
                put(&mut copied, b, &from);
                if a < b {
                    let mut swapped = copied.clone();
                    put(&mut swapped, a, &disk.modules[b.0].page(b.1));
                    outcome.take(&driver, swapped, end);
                }
                outcome.take(&driver, copied, end);
            }
        }
        outcome.report(
            &format!("{} slots swapped, spliced, stopped {stopped}", slots.len()),
            start,
        );
    }
}

/// Whatever a slot held at any time before is put back, alone and together with its neighbours.
#[test]
fn older_contents_replayed_at_their_own_address() {
    let mut setup = Setup::small(MANY);
    setup.geometry.segment_slots = 8;
    let mut driver = Driver::new(&setup, 22);
    let mut random = Random::new(22);
    for step in 0..400 {
        let at = random.below(MANY) * PAGE;
        driver.apply(match random.below(10) {
            0..6 => Op::Write { at, length: PAGE },
            6 => Op::Discard { at, length: PAGE },
            _ => Op::Fua { at, length: PAGE },
        });
        if step % 50 == 49 {
            driver.apply(Op::Reopen);
        }
    }
    driver.cut();
    let (start, mut outcome) = (Instant::now(), Outcome::default());
    let (disk, end) = (driver.sim.live(), driver.sim.log_length());
    let (base, events) = driver.sim.history();
    let mut walk = Walk::new(&base, &events);
    while walk.step() {
        let Event::Change { module, .. } = &events[walk.position() - 1] else {
            continue;
        };
        let old = &walk.cut(&Loss::Nothing).0.modules[*module];
        let now = &disk.modules[*module];
        let other: Vec<usize> = old
            .written()
            .into_iter()
            .filter(|&page| old.page(page) != now.page(page))
            .collect();
        let mut all = disk.clone();
        for &page in &other {
            let mut changed = disk.clone();
            changed.modules[*module].write((page * PAGE) as u64, &old.page(page));
            outcome.take(&driver, changed, end);
            all.modules[*module].write((page * PAGE) as u64, &old.page(page));
            outcome.take(&driver, all.clone(), end);
        }
    }
    outcome.report("older contents replayed", start);
    assert!(outcome.tried > 1000);
}

/// Cut at every slot, zeroed slot by slot, holes of every length from every slot: a forged TRIM.
#[test]
fn truncations_and_forged_trims() {
    for stopped in [true, false] {
        let driver = full(MANY, stopped);
        let (start, mut outcome) = (Instant::now(), Outcome::default());
        let (disk, end) = (driver.sim.live(), driver.sim.log_length());
        for module in 0..2 {
            let length = disk.modules[module].length();
            for at in (0..length).step_by(PAGE) {
                let mut cut = disk.clone();
                cut.modules[module].truncate(at);
                outcome.take(&driver, cut, end);
                for count in 1..=(length - at) / PAGE as u64 {
                    let mut hole = disk.clone();
                    hole.modules[module].punch(at, count * PAGE as u64);
                    outcome.take(&driver, hole, end);
                }
            }
        }
        outcome.report(&format!("truncated and punched, stopped {stopped}"), start);
    }
}

/// The checker itself: a medium that lies would be found out.
#[test]
fn the_checker_notices_a_wrong_block() {
    let mut driver = full(FEW, true);
    let end = driver.sim.log_length();
    let disk = driver.sim.live();
    let mut outcome = Outcome::default();
    outcome.take(&driver, disk.clone(), end);
    assert_eq!((outcome.unharmed, outcome.wrong), (1, 0));
    // The model believes in another block than was written.
    let last = driver.moments.len();
    driver.model.write(last, 0, &[0x77; PAGE]);
    assert_ne!(print(driver.model.now(0)), print(&[0; PAGE]));
    outcome.take(&driver, disk, end);
    assert_eq!(outcome.wrong, 1);
}
