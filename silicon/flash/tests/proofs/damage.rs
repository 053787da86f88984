//! Promise: damage stays where it is. A disk with an unreadable slot goes on working; what was
//! hit is an error until it is written again, through checkpoints, cleaning and reopening, and
//! never turns into zeros or anything else; all other blocks are as they were.

use std::time::{Duration, Instant};

use flash::{Error, Flash, Geometry};

use crate::support::driver::Setup;
use crate::support::image::{Disk, PAGE};
use crate::support::long;
use crate::support::medium::Sim;
use crate::support::random::Random;

/// Three leaves.
const BLOCKS: usize = 600;
const ROUNDS: usize = 3;
const WRITES: usize = 150;
/// Of all slots, every so many-th is damaged in turn.
const EVERY: usize = 5;

/// What the guest believes, and what it has seen to be lost.
struct Guest {
    contents: Vec<[u8; PAGE]>,
    lost: Vec<bool>,
}

impl Guest {
    /// Reads everything: lost blocks are errors, the others right. Damage found for the first
    /// time is noted where `may_be_new`.
    fn compare(&mut self, flash: &Flash<Sim, Sim>, may_be_new: bool, what: &str) {
        for block in 0..BLOCKS {
            let mut found = [0; PAGE];
            match flash.read((block * PAGE) as u64, &mut found) {
                Ok(()) => {
                    assert!(
                        !self.lost[block],
                        "{what}: block {block} was lost, and reads"
                    );
                    assert!(
                        found == self.contents[block],
                        "{what}: block {block} is wrong"
                    );
                }
                Err(Error::Corrupt { .. }) => {
                    assert!(
                        self.lost[block] || may_be_new,
                        "{what}: block {block} got lost"
                    );
                    self.lost[block] = true;
                    assert!(
                        found == [0; PAGE],
                        "{what}: something of block {block} came out"
                    );
                }
                Err(other) => panic!("{what}: block {block}: {other}"),
            }
        }
    }

    fn write(&mut self, flash: &Flash<Sim, Sim>, random: &mut Random, block: usize) {
        random.fill(&mut self.contents[block]);
        let written = flash.write((block * PAGE) as u64, &self.contents[block]);
        written.unwrap_or_else(|error| panic!("block {block}: {error}; {:?}", flash.status()));
        self.lost[block] = false;
    }

    fn trim(&mut self, flash: &Flash<Sim, Sim>, block: usize) {
        flash
            .discard((block * PAGE) as u64, PAGE as u64)
            .expect("trimming");
        self.contents[block] = [0; PAGE];
        self.lost[block] = false;
    }
}

fn setup() -> Setup {
    let mut setup = Setup::small(BLOCKS);
    setup.geometry = Geometry {
        blocks: BLOCKS as u64,
        segment_slots: 16,
    };
    setup.lease = Duration::ZERO;
    setup
}

/// A disk of which every block was written.
fn full(setup: &Setup) -> (Disk, Vec<[u8; PAGE]>) {
    let (sim, mut random) = (Sim::new(setup.formatted()), Random::new(81));
    let mut guest = Guest {
        contents: vec![[0; PAGE]; BLOCKS],
        lost: vec![false; BLOCKS],
    };
    let flash = setup.open(&sim).expect("opening");
    (0..BLOCKS).for_each(|block| guest.write(&flash, &mut random, block));
    (0..60).for_each(|block| guest.write(&flash, &mut random, block * 10));
    flash.close().expect("closing");
    (sim.live(), guest.contents)
}

/// Uses a damaged disk until everything was written again; the number of blocks lost at first.
fn use_it(setup: &Setup, disk: Disk, contents: &[[u8; PAGE]], what: &str) -> Option<usize> {
    let (sim, mut random) = (Sim::new(disk), Random::new(82));
    let mut flash = setup.open(&sim).ok()?;
    let mut guest = Guest {
        contents: contents.to_vec(),
        lost: vec![false; BLOCKS],
    };
    guest.compare(&flash, true, what);
    let lost = guest.lost.iter().filter(|&&lost| lost).count();
    for round in 0..ROUNDS {
        let what = format!("{what}, round {round}");
        for _ in 0..WRITES {
            // Mostly elsewhere, so that what is lost is carried along.
            let block = random.below(BLOCKS);
            if !guest.lost[block] || random.once_in(40) {
                if random.once_in(8) {
                    guest.trim(&flash, block);
                } else {
                    guest.write(&flash, &mut random, block);
                }
            }
        }
        guest.compare(&flash, false, &what);
        flash.flush().expect("flushing");
        if random.once_in(2) {
            flash.stop().expect("stopping");
        }
        drop(flash);
        flash = setup
            .open(&sim)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        guest.compare(&flash, false, &what);
    }
    let bad: Vec<u64> = (0..BLOCKS as u64)
        .filter(|&block| guest.lost[block as usize])
        .collect();
    let (mut named, mut next) = (Vec::new(), 0);
    while next < BLOCKS as u64 {
        let verified = flash.verify(next, BLOCKS as u64).expect("verifying");
        named.extend(verified.bad);
        next = verified.next;
    }
    assert_eq!(named, bad, "{what}: verification names others");
    (0..BLOCKS).for_each(|block| guest.write(&flash, &mut random, block));
    guest.compare(&flash, false, what);
    flash.close().expect("closing");
    let flash = setup.open(&sim).expect("opening");
    guest.compare(&flash, false, what);
    Some(lost)
}

#[test]
fn damage_stays_where_it_is() {
    let start = Instant::now();
    let setup = setup();
    let (disk, contents) = full(&setup);
    assert_eq!(use_it(&setup, disk.clone(), &contents, "whole"), Some(0));
    let (mut damaged, mut refused, mut lost, mut worst) = (0, 0, 0, 0);
    let slots: Vec<(usize, usize)> = (0..2)
        .flat_map(|module| {
            disk.modules[module]
                .written()
                .into_iter()
                .map(move |page| (module, page))
        })
        .collect();
    // The last ones are the index of all: every one of them.
    for (number, &(module, page)) in slots.iter().enumerate() {
        if number % EVERY != 0 && !long() && page + 20 < disk.modules[module].written().len() {
            continue;
        }
        let mut disk = disk.clone();
        disk.modules[module].flip((page * PAGE + 99) as u64, 4);
        damaged += 1;
        match use_it(
            &setup,
            disk,
            &contents,
            &format!("module {module}, slot {page}"),
        ) {
            Some(blocks) => {
                lost += blocks;
                worst = worst.max(blocks);
            }
            None => refused += 1,
        }
    }
    println!(
        "damage: {damaged} slots in turn, {refused} refused, {lost} blocks lost, at most {worst} \
         at once, {:.1} s",
        start.elapsed().as_secs_f64()
    );
    assert!(lost > 0 && worst >= 256 && refused > 0);
}
