//! Promise: a module that is older than what the vault remembers is refused, and named; nothing
//! that the vault has acknowledged can be taken back. And: a module that is missing, foreign or
//! in the other's place is named.

use std::time::Duration;

use flash::{OpenError, Which};

use crate::support::driver::{Driver, Op, Setup};
use crate::support::image::{Disk, Image, PAGE};
use crate::support::losses::{Loss, Walk};
use crate::support::medium::{Event, Sim};
use crate::support::model::Model;
use crate::support::random::Random;

const BLOCKS: usize = 24;

/// How an opening ended, for comparing.
pub fn refusal(setup: &Setup, disk: Disk) -> OpenError {
    match setup.examine(disk) {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

/// Writes all over both modules, so that each has something new.
fn work(driver: &mut Driver) {
    for at in 0..BLOCKS {
        driver.apply(Op::Write {
            at: at * PAGE,
            length: PAGE,
        });
        if at % 3 == 2 {
            driver.apply(Op::Flush);
        }
    }
}

pub fn mixed(new: &Disk, old: &Disk, which: Which) -> Disk {
    let mut disk = new.clone();
    for module in 0..2 {
        if which == Which::Both || which == [Which::Zero, Which::One][module] {
            disk.modules[module] = old.modules[module].clone();
        }
    }
    disk
}

pub const ALL: [Which; 3] = [Which::Zero, Which::One, Which::Both];

/// A copy from one clean stop, put back after another.
#[test]
fn older_modules_are_refused_after_a_clean_stop() {
    let setup = Setup::small(BLOCKS);
    let mut driver = Driver::new(&setup, 1);
    work(&mut driver);
    driver.apply(Op::Reopen);
    let old = driver.sim.live();
    work(&mut driver);
    driver.apply(Op::Reopen);
    driver.compare();
    driver.cut();
    let new = driver.sim.live();
    for which in ALL {
        match refusal(&setup, mixed(&new, &old, which)) {
            OpenError::Stale(named) => assert_eq!(named, which),
            other => panic!("{which}: {other}"),
        }
    }
    setup.examine(new).expect("the newest opens");
}

/// The smallest possible difference: one flushed block, then a clean stop.
#[test]
fn one_block_less_is_refused() {
    let setup = Setup::small(BLOCKS);
    let mut driver = Driver::new(&setup, 2);
    work(&mut driver);
    driver.apply(Op::Fua {
        at: 0,
        length: PAGE,
    });
    let old = driver.sim.live();
    driver.apply(Op::Fua {
        at: 0,
        length: PAGE,
    });
    driver.apply(Op::Reopen);
    driver.cut();
    let new = driver.sim.live();
    let error = refusal(&setup, mixed(&new, &old, Which::Both));
    assert!(matches!(error, OpenError::Stale(_)), "{error}");
}

/// Strict: a copy taken in the middle of a session, then a flush, then a power cut.
#[test]
fn strict_mode_refuses_a_copy_from_before_the_last_flush() {
    let setup = Setup {
        strict: true,
        ..Setup::small(BLOCKS)
    };
    let mut driver = Driver::new(&setup, 3);
    work(&mut driver);
    let old = driver.sim.live();
    driver.apply(Op::Fua {
        at: 5 * PAGE,
        length: PAGE,
    });
    driver.cut();
    let new = driver.sim.live();
    let error = refusal(&setup, mixed(&new, &old, Which::Both));
    assert!(matches!(error, OpenError::Stale(_)), "{error}");
    setup.examine(new).expect("the newest opens");
}

/// Not strict: within the lease a copy opens, and that is all that it gains: what was anchored
/// is there. This is the bound that the document states, so it is shown and not hidden.
#[test]
fn within_the_lease_a_power_cut_can_hide_a_rollback() {
    let setup = Setup::small(BLOCKS);
    let mut driver = Driver::new(&setup, 4);
    work(&mut driver);
    driver.apply(Op::Reopen);
    driver.apply(Op::Fua {
        at: 0,
        length: PAGE,
    });
    let old = driver.sim.live();
    driver.apply(Op::Fua {
        at: PAGE,
        length: PAGE,
    });
    let end = driver.sim.log_length();
    driver.cut();
    let found = setup
        .examine(mixed(&driver.sim.live(), &old, Which::Both))
        .expect("it opens");
    assert!(found.recovered, "it is taken for a power cut");
    let prints: Vec<_> = found.prints.into_iter().flatten().collect();
    let (flushed, started) = driver.oracle(end);
    assert_eq!(
        driver.model.wrong(&prints, driver.anchored(end), started),
        None
    );
    assert_eq!(
        driver.model.wrong(&prints, flushed, started),
        Some(1),
        "nothing was rolled back"
    );
}

/// The lease is kept: once it is over, a flush waits for the vault.
#[test]
fn a_flush_beyond_the_lease_is_anchored_first() {
    let lease = Duration::from_millis(60);
    let setup = Setup {
        lease,
        ..Setup::small(BLOCKS)
    };
    let mut driver = Driver::new(&setup, 5);
    driver.apply(Op::Fua {
        at: 0,
        length: PAGE,
    });
    std::thread::sleep(lease + Duration::from_millis(20));
    driver.apply(Op::Fua {
        at: PAGE,
        length: PAGE,
    });
    let status = driver.flash().status();
    let first = driver.moments[0].sequence;
    assert!(
        status.anchored_sequence >= first,
        "{} < {first}",
        status.anchored_sequence
    );
}

/// Idle: half a second later the tick has anchored everything.
#[test]
fn an_idle_disk_is_anchored_exactly() {
    let setup = Setup {
        lease: Duration::from_secs(1),
        ..Setup::small(BLOCKS)
    };
    let mut driver = Driver::new(&setup, 6);
    driver.apply(Op::Write {
        at: 0,
        length: PAGE,
    });
    let old = driver.sim.live();
    driver.apply(Op::Fua {
        at: 0,
        length: PAGE,
    });
    for _ in 0..12 {
        std::thread::sleep(Duration::from_millis(100));
        driver.apply(Op::Tick);
    }
    let status = driver.flash().status();
    assert_eq!(status.sequence, status.anchored_sequence);
    driver.cut();
    let error = refusal(&setup, mixed(&driver.sim.live(), &old, Which::Both));
    assert!(matches!(error, OpenError::Stale(_)), "{error}");
}

/// Every version that each module ever had, against the newest anchor and every earlier one,
/// after a power cut: refused, or all that this anchor knew is there. Blocks may be unreadable.
#[test]
fn every_pair_of_older_modules_is_refused_or_has_what_is_anchored() {
    let (mut opened, mut refused) = (0, 0);
    for (seed, strict) in [(0, false), (1, true), (2, false)] {
        let setup = Setup {
            strict,
            ..Setup::small(BLOCKS)
        };
        let mut driver = Driver::new(&setup, seed);
        let mut random = Random::new(seed);
        for step in 0..40 {
            let at = random.below(BLOCKS) * PAGE;
            driver.apply(match random.below(8) {
                0..4 => Op::Write { at, length: PAGE },
                4 => Op::Discard { at, length: PAGE },
                5 | 6 => Op::Fua { at, length: PAGE },
                _ => Op::Flush,
            });
            if step == 20 {
                driver.apply(Op::Reopen);
            }
        }
        driver.cut();
        pairs(&driver, &mut opened, &mut refused);
    }
    println!("rollback: {opened} pairs opened with all that is anchored, {refused} refused");
    assert!(opened > 0 && refused > 0);
}

/// All pairs of versions at each moment at which an anchor had just been stored, and at the end.
fn pairs(driver: &Driver, opened: &mut usize, refused: &mut usize) {
    let (base, events) = driver.sim.history();
    let mut walk = Walk::new(&base, &events);
    let mut versions: [Vec<Image>; 2] = base.modules.clone().map(|image| vec![image]);
    loop {
        let position = walk.position();
        let (disk, _) = walk.cut(&Loss::Nothing);
        if position > 0 {
            match &events[position - 1] {
                Event::Change { module, .. } => {
                    versions[*module].push(disk.modules[*module].clone());
                }
                Event::Anchor(_) => try_all(driver, position, &disk, &versions, opened, refused),
                _ => {}
            }
        }
        if !walk.step() {
            try_all(driver, position, &disk, &versions, opened, refused);
            return;
        }
    }
}

fn try_all(
    driver: &Driver,
    position: usize,
    now: &Disk,
    versions: &[Vec<Image>; 2],
    opened: &mut usize,
    refused: &mut usize,
) {
    let anchored = driver.anchored(position);
    let (_, started) = driver.oracle(position);
    // The last ones of each, all of them would be a hundred thousand pairs.
    let late = |versions: &[Image]| versions[versions.len().saturating_sub(24)..].to_vec();
    let [zeros, ones] = [late(&versions[0]), late(&versions[1])];
    for (a, zero) in zeros.iter().enumerate() {
        for (b, one) in ones.iter().enumerate() {
            let anchor = now.anchor.clone();
            let disk = Disk {
                modules: [zero.clone(), one.clone()],
                anchor,
            };
            let what = format!(
                "event {position}, versions {a} of {}, {b} of {}",
                zeros.len(),
                ones.len()
            );
            match driver.setup.examine(disk) {
                Err(OpenError::Stale(_) | OpenError::Damaged(..) | OpenError::Missing(_)) => {
                    *refused += 1;
                }
                Err(OpenError::Unformatted) if now.anchor.is_none() => *refused += 1,
                Err(other) => panic!("{what}: {other}"),
                Ok(found) => {
                    *opened += 1;
                    for (block, found) in found.prints.iter().enumerate() {
                        let Some(found) = found else { continue };
                        let mut fits = driver.model.admissible(block, anchored, started);
                        assert!(fits.any(|it| it == *found), "{what}: block {block}");
                    }
                }
            }
        }
    }
}

/// The vault's memory gone: not taken for a new disk's, nothing opens.
#[test]
fn without_an_anchor_nothing_opens() {
    let setup = Setup::small(BLOCKS);
    let mut driver = Driver::new(&setup, 8);
    work(&mut driver);
    driver.apply(Op::Reopen);
    let mut disk = driver.sim.live();
    disk.anchor = None;
    let error = refusal(&setup, disk);
    assert!(matches!(error, OpenError::Unformatted), "{error}");
}

#[test]
fn missing_foreign_and_exchanged_modules_are_named() {
    let setup = Setup::small(BLOCKS);
    let [one, other] = [9, 10].map(|seed| {
        let mut driver = Driver::new(&setup, seed);
        work(&mut driver);
        driver.apply(Op::Reopen);
        driver.sim.live()
    });
    let error = refusal(&setup, {
        let mut disk = one.clone();
        disk.modules.swap(0, 1);
        disk
    });
    assert!(matches!(error, OpenError::Exchanged), "{error}");
    let nothing = Disk::default();
    let mut noise = Disk::default();
    for module in &mut noise.modules {
        let mut bytes = vec![0; 40 * PAGE];
        Random::new(3).fill(&mut bytes);
        module.write(0, &bytes);
    }
    for which in ALL {
        for gone in [&nothing, &noise] {
            match refusal(&setup, mixed(&one, gone, which)) {
                OpenError::Missing(named) => assert_eq!(named, which),
                error => panic!("{which}: {error}"),
            }
        }
        match refusal(&setup, mixed(&one, &other, which)) {
            OpenError::Foreign(named) => assert_eq!(named, which),
            error => panic!("{which}: {error}"),
        }
    }
}

/// Another key: nothing of it is readable, and it is not taken for an empty disk.
#[test]
fn another_key_opens_nothing() {
    let setup = Setup::small(BLOCKS);
    let mut driver = Driver::new(&setup, 11);
    work(&mut driver);
    driver.apply(Op::Reopen);
    let sim = Sim::new(driver.sim.live());
    let key = flash::VolumeKey::new(zeroize::Zeroizing::new([1; 32]));
    let options = flash::Options {
        strict: false,
        cache_bytes: 1 << 20,
        lease: Duration::from_secs(1),
    };
    assert!(flash::Flash::open(sim.clone(), sim, key, options).is_err());
}

/// Formatting again makes another disk; the old one's modules are foreign to it.
#[test]
fn modules_from_before_a_format_are_foreign() {
    let setup = Setup::small(BLOCKS);
    let mut driver = Driver::new(&setup, 12);
    work(&mut driver);
    driver.apply(Op::Reopen);
    driver.cut();
    let old = driver.sim.live();
    let sim = Sim::new(old.clone());
    sim.forget_anchor();
    flash::format(&sim, &sim, &crate::support::key(), setup.geometry).expect("formatting");
    let new = sim.live();
    let fresh = Driver::open(&setup, new.clone(), Model::new(BLOCKS), 13);
    fresh.compare();
    for which in ALL {
        match refusal(&setup, mixed(&new, &old, which)) {
            OpenError::Foreign(named) => assert_eq!(named, which),
            error => panic!("{which}: {error}"),
        }
    }
}

/// The whole state put back, anchor and all: the next session still has a key of its own, so
/// that no two slots are ever sealed under one nonce.
#[test]
fn a_restored_state_repeats_no_nonce() {
    let setup = Setup::small(BLOCKS);
    let mut driver = Driver::new(&setup, 14);
    work(&mut driver);
    driver.apply(Op::Reopen);
    driver.cut();
    let before = driver.sim.live();
    // The same writes from the same state, twice.
    let [one, other] = [0, 1].map(|_| {
        let contents = driver.model.contents().to_vec();
        let mut again = Driver::open(&setup, before.clone(), Model::with(contents), 15);
        work(&mut again);
        again.apply(Op::Flush);
        again.sim.live()
    });
    let mut compared = 0;
    for module in 0..2 {
        for page in one.modules[module].written() {
            let [was, a, b] = [&before, &one, &other].map(|disk| disk.modules[module].page(page));
            if a != was {
                compared += 1;
                let same = a.iter().zip(&b).filter(|(a, b)| a == b).count();
                assert!(
                    same < 100,
                    "module {module}, slot {page}: {same} bytes are the same"
                );
            }
        }
    }
    assert!(compared >= BLOCKS, "only {compared} slots were written");
}

/// An older module into which the newest tag was planted, where opening looks for it first.
#[test]
fn a_planted_tag_does_not_make_a_module_newer() {
    let setup = Setup::small(BLOCKS);
    let mut driver = Driver::new(&setup, 16);
    work(&mut driver);
    driver.apply(Op::Reopen);
    let old = driver.sim.live();
    work(&mut driver);
    driver.apply(Op::Reopen);
    driver.cut();
    let new = driver.sim.live();
    let anchor = new.anchor.clone().expect("an anchor");
    for module in 0..2 {
        let tail = &anchor[144 + 20 * module..][..20];
        let slot = u32::from_le_bytes(tail[..4].try_into().expect("four bytes"));
        assert_ne!(slot, 0, "module {module} has no tail");
        let (segment, index) = (slot / 16, slot % 16);
        let mut forged = mixed(&new, &old, [Which::Zero, Which::One][module]);
        let end = u64::from(segment / 2 * 16 + index + 1) * PAGE as u64;
        forged.modules[module].write(end - 12, &tail[8..]);
        let error = refusal(&setup, forged);
        let named = matches!(error, OpenError::Stale(_) | OpenError::Damaged(..));
        assert!(named, "module {module}: {error}");
    }
}
