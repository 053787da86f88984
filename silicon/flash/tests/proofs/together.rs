//! Promise: the same for several threads that write, trim, read and flush at once while the
//! housekeeping runs: each thread's blocks read as it wrote them, and what it flushed is there
//! after a power cut.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use flash::{Flash, Geometry};

use crate::support::driver::Setup;
use crate::support::image::PAGE;
use crate::support::losses::{Loss, Walk};
use crate::support::medium::Sim;
use crate::support::model::{Print, print};
use crate::support::random::Random;

const THREADS: usize = 4;
/// Blocks of one thread: they share leaves with those of others.
const OWN: usize = 90;
const STEPS: usize = 1500;
/// Power cuts tried afterwards, at random moments of the log.
const CUTS: usize = 300;

/// One content of one block, and when.
#[derive(Clone, Copy)]
struct Version {
    block: usize,
    print: Print,
    /// Events in the log before the write began.
    begun: usize,
    /// Events in the log when a flush that began after it was acknowledged.
    flushed: usize,
}

/// What one thread does to its own blocks, every fourth of each row.
fn work(flash: &Flash<Sim, Sim>, sim: &Sim, thread: usize, seed: u64) -> Vec<Version> {
    let mut random = Random::new(seed ^ thread as u64);
    let mut now = vec![[0; PAGE]; OWN];
    let mut versions = Vec::new();
    let mut waiting = 0;
    for step in 0..STEPS {
        let own = random.below(OWN);
        let block = own * THREADS + thread;
        let offset = (block * PAGE) as u64;
        match random.below(12) {
            0..7 => {
                random.fill(&mut now[own]);
                let begun = sim.log_length();
                flash.write(offset, &now[own]).expect("writing");
                versions.push(Version {
                    block,
                    print: print(&now[own]),
                    begun,
                    flushed: usize::MAX,
                });
            }
            7 => {
                now[own] = [0; PAGE];
                let begun = sim.log_length();
                flash.discard(offset, PAGE as u64).expect("trimming");
                versions.push(Version {
                    block,
                    print: print(&now[own]),
                    begun,
                    flushed: usize::MAX,
                });
            }
            8 if step % 4 == 0 => {
                let end = versions.len();
                flash.flush().expect("flushing");
                let length = sim.log_length();
                versions[waiting..end]
                    .iter_mut()
                    .for_each(|version| version.flushed = length);
                waiting = end;
            }
            _ => {
                let mut found = [0; PAGE];
                flash.read(offset, &mut found).expect("reading");
                assert!(
                    found == now[own],
                    "thread {thread}, step {step}, block {block}"
                );
            }
        }
    }
    versions
}

fn life(seed: u64, segment_slots: u32) -> (usize, u64) {
    let blocks = THREADS * OWN;
    let mut setup = Setup::small(blocks);
    setup.geometry = Geometry {
        blocks: blocks as u64,
        segment_slots,
    };
    setup.cache_bytes = PAGE;
    setup.lease = Duration::from_millis(5 * (seed % 2));
    let sim = Sim::new(setup.formatted());
    let flash = setup.open(&sim).expect("opening");
    // Answers of the vault that overtake each other.
    sim.set_slow(Duration::from_micros(200));
    let (done, all) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                flash.tick();
                std::thread::yield_now();
            }
        });
        let work = |thread| {
            let versions = work(&flash, &sim, thread, seed);
            all.lock().expect("no thread panicked").extend(versions);
        };
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || work(thread)))
            .collect();
        let results: Vec<_> = workers
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        done.store(true, Ordering::Relaxed);
        for result in results {
            result.expect("a thread's blocks were right");
        }
    });
    let cleaned = flash.status().blocks_cleaned;
    drop(flash);
    let all = all.into_inner().expect("no thread panicked");
    (cuts(&setup, &sim, &all, seed), cleaned)
}

/// Cuts the power at random moments and compares.
fn cuts(setup: &Setup, sim: &Sim, all: &[Version], seed: u64) -> usize {
    let (base, events) = sim.history();
    let mut random = Random::new(seed);
    let mut moments: Vec<_> = (0..CUTS).map(|_| random.below(events.len() + 1)).collect();
    moments.sort_unstable();
    let mut by_block: Vec<Vec<Version>> = vec![Vec::new(); setup.places.len()];
    for version in all {
        by_block[version.block].push(*version);
    }
    let empty = print(&[0; PAGE]);
    let mut walk = Walk::new(&base, &events);
    for &position in &moments {
        while walk.position() < position {
            walk.step();
        }
        let loss = random.pick(&[0, 1, 2]);
        let loss = [Loss::Nothing, Loss::Everything, Loss::Any(random.next())][loss].clone();
        let what = format!(
            "seed {seed}, event {position} of {}, {loss:?}",
            events.len()
        );
        let found = setup.examine(walk.cut(&loss).0);
        let found = found.unwrap_or_else(|error| panic!("{what}: {error}"));
        for (block, found) in found.prints.iter().enumerate() {
            let versions = &by_block[block];
            let kept = versions
                .iter()
                .rposition(|version| version.flushed <= position);
            let later = versions[kept.unwrap_or(0)..].iter();
            let mut fits = later.take_while(|version| version.begun <= position);
            let untouched = kept.is_none() && *found == Some(empty);
            assert!(
                untouched || fits.any(|version| Some(version.print) == *found),
                "{what}: block {block}"
            );
        }
    }
    moments.len()
}

#[test]
fn threads_at_once_with_power_cuts() {
    let start = Instant::now();
    let (mut cuts, mut cleaned) = (0, 0);
    for seed in 0..6 {
        let (tried, moved) = life(seed, [8, 16, 64][seed as usize % 3]);
        cuts += tried;
        cleaned += moved;
    }
    println!(
        "{THREADS} threads: {cuts} power cuts, {cleaned} blocks moved meanwhile, {:.1} s",
        start.elapsed().as_secs_f64()
    );
    assert!(cuts > 0);
}
