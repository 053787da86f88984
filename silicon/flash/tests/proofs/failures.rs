//! Promise: when the host's disk or the vault fails, nothing acknowledged is lost. A failed sync
//! is fail-stop until the disk is opened again; a lack of room passes when room comes back.

use std::time::Duration;

use flash::Error;

use crate::support::driver::{Driver, Op, Setup};
use crate::support::image::PAGE;
use crate::support::losses::{Loss, Walk};
use crate::support::medium::{Call, Event, Fault, Sim};
use crate::support::model::Model;
use crate::support::random::Random;

const BLOCKS: usize = 24;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn once(call: Call, after: usize, errno: i32) -> Fault {
    Fault {
        call,
        after,
        errno,
        lasting: false,
    }
}

fn lasting(call: Call, errno: i32) -> Fault {
    Fault {
        call,
        after: 0,
        errno,
        lasting: true,
    }
}

fn workload(seed: u64, length: usize) -> Vec<Op> {
    let mut random = Random::new(seed);
    let mut op = || {
        let at = random.below(BLOCKS - 3) * PAGE;
        let length = (1 + random.below(3)) * PAGE;
        match random.below(9) {
            0..4 => Op::Write { at, length },
            4 => Op::Write {
                at: at + 512,
                length: 1024,
            },
            5 => Op::Discard { at, length },
            6 => Op::Fua { at, length },
            7 => Op::Flush,
            _ => Op::Tick,
        }
    };
    (0..length).map(|_| op()).collect()
}

/// Cuts the power at the end, in every way, and compares.
fn nothing_acknowledged_is_lost(driver: &Driver, what: &str) {
    let (base, events) = driver.sim.history();
    let mut walk = Walk::new(&base, &events);
    while walk.step() {}
    let (flushed, started) = driver.oracle(events.len());
    for loss in [
        Loss::Nothing,
        Loss::Everything,
        Loss::Any(1),
        Loss::Any(2),
        Loss::Any(3),
    ] {
        let found = driver.setup.examine(walk.cut(&loss).0);
        let found = found.unwrap_or_else(|error| panic!("{what}, {loss:?}: {error}"));
        let prints: Option<Vec<_>> = found.prints.into_iter().collect();
        let prints = prints.unwrap_or_else(|| panic!("{what}, {loss:?}: unreadable"));
        let wrong = driver.model.wrong(&prints, flushed, started);
        assert_eq!(wrong, None, "{what}, {loss:?}, flushed {flushed}");
    }
}

/// Each call of each sort fails in turn, once or from then on, while a disk is in use.
#[test]
fn every_call_fails_once_or_for_good() {
    let (mut failed, mut survived, mut stopped) = (0, 0, 0);
    let calls = [
        Call::Read,
        Call::Write,
        Call::Sync,
        Call::Allocate,
        Call::Punch,
        Call::Store,
    ];
    for lease in [Duration::ZERO, Duration::from_secs(3600)] {
        let setup = Setup {
            lease,
            cache_bytes: 0,
            ..Setup::small(BLOCKS)
        };
        let disk = setup.formatted();
        for call in calls {
            for errno in [EIO, ENOSPC] {
                for lasting in [false, true] {
                    for after in 0..40 {
                        let what =
                            format!("{call:?} {after} fails with {errno}, lasting {lasting}");
                        let mut driver = Driver::open(&setup, disk.clone(), Model::new(BLOCKS), 31);
                        driver.apply(Op::Fua {
                            at: 0,
                            length: 8 * PAGE,
                        });
                        driver.sim.fail(Fault {
                            call,
                            after,
                            errno,
                            lasting,
                        });
                        for op in workload(31, 50) {
                            let _ = driver.attempt(op);
                        }
                        if driver.sim.failed() == 0 {
                            break;
                        }
                        failed += 1;
                        driver.sim.heal();
                        let healed = driver.attempt(Op::Fua {
                            at: 0,
                            length: PAGE,
                        });
                        let sync = call == Call::Sync;
                        match healed {
                            Ok(()) => {
                                assert!(!sync, "{what}: a flush was acknowledged after it");
                                driver.compare();
                                survived += 1;
                            }
                            Err(error) => {
                                // A lack of room, and whatever the vault says, passes.
                                let passes = errno == ENOSPC || call == Call::Store;
                                assert!(sync || !passes, "{what}: it did not recover: {error}");
                                stopped += 1;
                            }
                        }
                        driver.cut();
                        nothing_acknowledged_is_lost(&driver, &what);
                    }
                }
            }
        }
    }
    println!("failures: {failed} runs with one, {survived} went on, {stopped} stopped");
    assert!(survived > 0 && stopped > 0);
}

/// Each call fails while a disk is being opened: refused, and the next opening finds everything.
#[test]
fn every_call_fails_during_opening() {
    let setup = Setup::small(BLOCKS);
    let mut driver = Driver::new(&setup, 32);
    for op in workload(32, 60) {
        driver.apply(op);
    }
    driver.apply(Op::Flush);
    let wanted = setup.prints(driver.flash());
    driver.cut();
    let (disk, mut failed) = (driver.sim.live(), 0);
    for call in [
        Call::Read,
        Call::Write,
        Call::Sync,
        Call::Allocate,
        Call::Store,
        Call::Load,
    ] {
        for errno in [EIO, ENOSPC] {
            for after in 0..1000 {
                let sim = Sim::new(disk.clone());
                sim.fail(once(call, after, errno));
                let what = format!("{call:?} {after} fails with {errno}");
                let opened = setup.open(&sim).is_ok();
                if sim.failed() == 0 {
                    assert!(opened, "{what}");
                    break;
                }
                failed += 1;
                assert!(
                    !opened || call == Call::Allocate,
                    "{what}: and yet it opened"
                );
                sim.heal();
                // What is left, with what was not synced and without.
                let (base, events) = sim.history();
                let mut walk = Walk::new(&base, &events);
                while walk.step() {}
                for loss in [Loss::Nothing, Loss::Everything] {
                    let found = setup.examine(walk.cut(&loss).0);
                    let found = found.unwrap_or_else(|error| panic!("{what}, {loss:?}: {error}"));
                    assert!(found.prints == wanted, "{what}, {loss:?}: another content");
                }
            }
        }
    }
    println!("failures while opening: {failed}");
    assert!(failed > 10);
}

/// After a failed sync: no flush succeeds, no anchor is stored, reads are right or refused; what
/// was flushed before is there when the disk is opened again.
#[test]
fn a_failed_sync_is_fail_stop() {
    let mut tried = 0;
    for module_sync in 0..6 {
        let mut driver = Driver::new(&Setup::small(BLOCKS), 33);
        driver.apply(Op::Fua {
            at: 0,
            length: 4 * PAGE,
        });
        driver.sim.fail(once(Call::Sync, module_sync, EIO));
        let mut at = 0;
        while driver.sim.failed() == 0 {
            let _ = driver.attempt(Op::Fua {
                at: at % BLOCKS * PAGE,
                length: PAGE,
            });
            at += 1;
        }
        tried += 1;
        let stores = driver.sim.stores();
        for op in [
            Op::Flush,
            Op::Fua {
                at: 0,
                length: PAGE,
            },
            Op::Flush,
        ] {
            let error = driver.attempt(op).expect_err("a flush after a failed sync");
            assert!(matches!(error, Error::Stopped), "{op:?}: {error}");
            driver.apply(Op::Tick);
        }
        assert!(driver.flash().stop().is_err());
        assert_eq!(
            driver.sim.stores(),
            stores,
            "an anchor was stored after a failed sync"
        );
        assert!(driver.flash().status().stopped);
        for (block, found) in driver.setup.prints(driver.flash()).iter().enumerate() {
            let mut any = driver.model.admissible(block, 0, driver.moments.len());
            assert!(
                found.is_none_or(|found| any.any(|it| it == found)),
                "block {block}"
            );
        }
        driver.cut();
        nothing_acknowledged_is_lost(&driver, "failed sync");
    }
    assert_eq!(tried, 6);
}

/// The host's disk is full: writes end with `NoSpace`, reads go on, and it recovers.
#[test]
fn a_full_host_disk_passes() {
    let setup = Setup::small(400);
    let mut driver = Driver::new(&setup, 34);
    driver.apply(Op::Fua {
        at: 0,
        length: 16 * PAGE,
    });
    for call in [Call::Allocate, Call::Write] {
        driver.sim.fail(lasting(call, ENOSPC));
        let mut refused = 0;
        for at in 0..400 {
            match driver.attempt(Op::Write {
                at: at * PAGE,
                length: PAGE,
            }) {
                Ok(()) => {}
                Err(Error::NoSpace) => refused += 1,
                Err(other) => panic!("{call:?}: {other}"),
            }
            driver.apply(Op::Tick);
        }
        assert!(refused > 0, "{call:?}: nothing was refused");
        driver.compare();
        let flushed = driver.attempt(Op::Flush);
        assert!(
            matches!(flushed, Ok(()) | Err(Error::NoSpace)),
            "{flushed:?}"
        );
        nothing_acknowledged_is_lost(&driver, "full");
        driver.sim.heal();
        driver.apply(Op::Fua {
            at: 0,
            length: 400 * PAGE,
        });
        driver.compare();
        driver.apply(Op::Reopen);
        driver.compare();
    }
}

/// A disk of which every block is written, again and again, never says that it is full.
#[test]
fn a_full_disk_can_always_be_overwritten() {
    for segment_slots in [8, 16] {
        let mut setup = Setup::small(300);
        setup.geometry.segment_slots = segment_slots;
        let mut driver = Driver::new(&setup, 35);
        for _ in 0..12 {
            driver.apply(Op::Write {
                at: 0,
                length: 300 * PAGE,
            });
            driver.sim.forget();
        }
        driver.compare();
        driver.apply(Op::Reopen);
        driver.compare();
    }
}

/// The folder of the anchor is full or fails: beyond the lease no flush is acknowledged, nothing
/// is lost, and it goes on when there is room again.
#[test]
fn a_vault_that_cannot_store_passes() {
    for errno in [EIO, ENOSPC] {
        let lease = Duration::from_millis(50);
        let mut driver = Driver::new(
            &Setup {
                lease,
                ..Setup::small(BLOCKS)
            },
            36,
        );
        driver.apply(Op::Fua {
            at: 0,
            length: PAGE,
        });
        driver.sim.fail(lasting(Call::Store, errno));
        std::thread::sleep(2 * lease);
        for at in 1..4 {
            driver.apply(Op::Write {
                at: at * PAGE,
                length: PAGE,
            });
            let error = driver
                .attempt(Op::Flush)
                .expect_err("a flush beyond the lease");
            assert!(matches!(error, Error::Vault(_) | Error::NoSpace), "{error}");
            driver.apply(Op::Tick);
        }
        driver.compare();
        nothing_acknowledged_is_lost(&driver, "vault");
        driver.sim.heal();
        driver.apply(Op::Flush);
        let status = driver.flash().status();
        assert!(status.anchored_sequence >= driver.moments[0].sequence);
        driver.apply(Op::Fua {
            at: 5 * PAGE,
            length: PAGE,
        });
        driver.apply(Op::Reopen);
        driver.compare();
    }
}

/// A failing read is an error to its reader and to nobody else.
#[test]
fn a_failed_read_passes() {
    let setup = Setup {
        cache_bytes: 0,
        ..Setup::small(BLOCKS)
    };
    let mut driver = Driver::new(&setup, 37);
    driver.apply(Op::Fua {
        at: 0,
        length: BLOCKS * PAGE,
    });
    driver.apply(Op::Reopen);
    driver.sim.fail(once(Call::Read, 0, EIO));
    let mut block = [0; PAGE];
    let error = driver
        .flash()
        .read(0, &mut block)
        .expect_err("the read fails");
    assert!(matches!(error, Error::Storage(_)), "{error}");
    driver.compare();
    driver.apply(Op::Fua {
        at: 512,
        length: 512,
    });
    driver.compare();
}

/// Nothing is written to a module between a failed sync and the next opening that a later,
/// successful sync could be taken for.
#[test]
fn nothing_is_synced_after_a_failed_sync() {
    let mut driver = Driver::new(&Setup::small(BLOCKS), 38);
    driver.sim.fail(once(Call::Sync, 0, EIO));
    for op in workload(38, 60) {
        let _ = driver.attempt(op);
    }
    driver.cut();
    let (_, events) = driver.sim.history();
    let failed = events
        .iter()
        .position(|event| matches!(event, Event::FailedSync { .. }));
    let after = &events[failed.expect("a sync failed")..];
    assert!(!after.iter().any(|event| matches!(event, Event::Anchor(_))));
}
