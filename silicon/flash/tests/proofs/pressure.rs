//! Promise: sustained random overwrite of a nearly full disk goes on, its write amplification
//! bounded, and everything reads back.

use std::time::{Duration, Instant};

use flash::{Flash, Geometry, Options};

use crate::support::image::{Disk, PAGE};
use crate::support::medium::Sim;
use crate::support::random::{Random, mix};
use crate::support::{key, long};

/// Slots written for each block of the guest, at 90 % full under random overwrite, at most.
const WRITE_AMPLIFICATION_MAX: f64 = 3.0;
/// How many times the disk's capacity is overwritten.
const TURNS: usize = 4;
const TURNS_LONG: usize = 40;
const BLOCKS: usize = 16 * 1024;
/// Blocks written by one call at most, and calls between two flushes.
const RUN_MAX: usize = 4;
const CALLS_A_FLUSH: usize = 64;

fn content(block: usize, version: u32) -> [u8; PAGE] {
    let mut bytes = [0; PAGE];
    if version > 0 {
        Random::new(mix(block as u64) ^ u64::from(version)).fill(&mut bytes);
    }
    bytes
}

fn open(sim: &Sim) -> Flash<Sim, Sim> {
    let lease = Duration::from_secs(3600);
    let options = Options {
        strict: false,
        cache_bytes: 1 << 20,
        lease,
    };
    Flash::open(sim.clone(), sim.clone(), key(), options).expect("opening")
}

fn compare(flash: &Flash<Sim, Sim>, versions: &[u32]) {
    for (block, &version) in versions.iter().enumerate() {
        let mut found = [0; PAGE];
        flash
            .read((block * PAGE) as u64, &mut found)
            .expect("reading");
        assert!(found == content(block, version), "block {block}");
    }
}

#[test]
fn random_overwrite_at_ninety_percent_goes_on() {
    let start = Instant::now();
    let sim = Sim::new(Disk::default());
    let geometry = Geometry {
        blocks: BLOCKS as u64,
        segment_slots: 64,
    };
    flash::format(&sim, &sim, &key(), geometry).expect("formatting");
    let mut flash = open(&sim);
    let mut versions = vec![0_u32; BLOCKS];
    let used = BLOCKS * 9 / 10;
    let mut random = Random::new(51);
    let write = |flash: &Flash<Sim, Sim>, versions: &mut [u32], first: usize, count: usize| {
        let mut data = Vec::with_capacity(count * PAGE);
        for (block, version) in (first..).zip(&mut versions[first..first + count]) {
            *version += 1;
            data.extend_from_slice(&content(block, *version));
        }
        flash.write((first * PAGE) as u64, &data).expect("writing");
    };
    for first in (0..used).step_by(RUN_MAX) {
        write(&flash, &mut versions, first, RUN_MAX.min(used - first));
    }
    flash.flush().expect("flushing");
    let turns = if long() { TURNS_LONG } else { TURNS };
    let (mut before, mut worst) = (flash.status(), 0.0_f64);
    let (mut slowest, mut written, mut calls) = (Duration::ZERO, 0, 0);
    for turn in 0..turns {
        while written < (turn + 1) * BLOCKS {
            let count = 1 + random.below(RUN_MAX);
            let first = random.below(used - count + 1);
            let began = Instant::now();
            write(&flash, &mut versions, first, count);
            slowest = slowest.max(began.elapsed());
            written += count;
            calls += 1;
            if calls % CALLS_A_FLUSH == 0 {
                flash.flush().expect("flushing");
                flash.tick();
            }
        }
        sim.forget();
        let status = flash.status();
        let slots = (status.slots_written - before.slots_written) as f64;
        let blocks = (status.host_written_blocks - before.host_written_blocks) as f64;
        worst = worst.max(slots / blocks);
        before = status;
        if turn == turns / 2 {
            // A power cut half-way.
            flash.flush().expect("flushing");
            drop(flash);
            flash = open(&sim);
            compare(&flash, &versions);
            before = flash.status();
        }
    }
    compare(&flash, &versions);
    let status = flash.status();
    println!(
        "90 % full, {turns} times the capacity overwritten: write amplification {worst:.2} in the \
         worst turn, {} blocks moved, {} segments cleaned, spare {} KiB, slowest write {:.1} ms, \
         {:.1} s",
        status.blocks_cleaned,
        status.segments_cleaned,
        status.spare_bytes / 1024,
        slowest.as_secs_f64() * 1e3,
        start.elapsed().as_secs_f64()
    );
    assert!(status.blocks_cleaned > 0);
    assert!(worst < WRITE_AMPLIFICATION_MAX, "{worst}");
    // Room is given back: what a TRIM frees can be used, and the host has it again.
    flash
        .discard(0, (BLOCKS * PAGE) as u64)
        .expect("discarding");
    flash.flush().expect("flushing");
    versions.fill(0);
    // An idle disk tidies up.
    std::thread::sleep(Duration::from_secs(1));
    for _ in 0..200 {
        flash.tick();
    }
    flash.stop().expect("stopping");
    drop(flash);
    compare(&open(&sim), &versions);
    let held: usize = sim
        .live()
        .modules
        .iter()
        .map(|module| module.written().len())
        .sum();
    println!("after TRIM of everything: {held} of {BLOCKS} slots still on the host");
    assert!(held < BLOCKS / 4, "{held} slots are still held");
}

/// The largest disk: both ends, trimmed as a whole in one call, before and after a power cut.
#[test]
fn the_largest_disk_works_at_both_ends() {
    let start = Instant::now();
    let sim = Sim::new(Disk::default());
    let geometry = Geometry::for_capacity(4 << 40);
    flash::format(&sim, &sim, &key(), geometry).expect("formatting");
    let flash = open(&sim);
    let capacity = flash.capacity_bytes();
    assert_eq!(capacity, 4 << 40);
    let places = [
        0,
        1,
        255,
        256,
        65_535,
        65_536,
        geometry.blocks / 2,
        geometry.blocks - 1,
    ];
    let check = |flash: &Flash<Sim, Sim>, version: u32| {
        for place in places {
            let mut found = [1; PAGE];
            flash
                .read(place * PAGE as u64, &mut found)
                .expect("reading");
            assert!(found == content(place as usize, version), "block {place}");
        }
    };
    check(&flash, 0);
    for place in places {
        flash
            .write(place * PAGE as u64, &content(place as usize, 1))
            .expect("writing");
    }
    let beyond = flash.write(capacity - 512, &[0; PAGE]);
    assert!(matches!(beyond, Err(flash::Error::Range)), "{beyond:?}");
    flash.flush().expect("flushing");
    drop(flash);
    let flash = open(&sim);
    check(&flash, 1);
    let extents = flash.extents(0, capacity, 100).expect("extents");
    let mapped: u64 = extents
        .iter()
        .filter(|it| it.mapped)
        .map(|it| it.length)
        .sum();
    assert_eq!(mapped, (places.len() * PAGE) as u64);
    assert_eq!(extents.iter().map(|it| it.length).sum::<u64>(), capacity);
    let verified = flash.verify(0, geometry.blocks).expect("verifying");
    assert_eq!(
        (verified.next, verified.checked),
        (geometry.blocks, places.len() as u64)
    );
    flash.discard(0, capacity).expect("discarding");
    flash.flush().expect("flushing");
    check(&flash, 0);
    drop(flash);
    let flash = open(&sim);
    check(&flash, 0);
    flash.close().expect("closing");
    check(&open(&sim), 0);
    println!("4 TiB: {:.1} s", start.elapsed().as_secs_f64());
}
