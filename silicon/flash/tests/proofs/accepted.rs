//! Promise: an adopted disk holds what the modules held, or it is said that it does not; older
//! anchors and older modules are refused from then on, by their name; what is damaged, foreign or
//! exchanged is not adopted as something else.

use std::time::Instant;

use flash::{Flash, OpenError, Which};

use crate::adoption::{live, lived, with_anchor};
use crate::rollback::{ALL, mixed, refusal as refused};
use crate::support::driver::{Driver, Op, Setup};
use crate::support::image::{Disk, PAGE};
use crate::support::medium::Sim;
use crate::support::model::{Model, Print, print};
use crate::support::random::Random;

const BLOCKS: usize = 24;
/// The four superblocks: module and offset of each.
const SUPERBLOCKS: [(usize, usize); 4] = [(0, PAGE), (0, 2 * PAGE), (1, PAGE), (1, 2 * PAGE)];

/// A backup is put back and accepted: it holds what it held, goes on, and what there was besides
/// is refused from then on, by its name. Again and again.
#[test]
fn an_accepted_backup_is_the_disk() {
    for seed in 0..24 {
        let setup = Setup::small(BLOCKS);
        let mut driver = lived(&setup, seed, seed % 2 == 0);
        let (backup, contents) = (driver.sim.live(), driver.model.contents().to_vec());
        live(&mut driver, seed + 100, 30);
        // Writes all over both modules, so that each of them is older in the backup.
        for at in 0..BLOCKS {
            driver.apply(Op::Fua {
                at: at * PAGE,
                length: PAGE,
            });
        }
        driver.apply(Op::Reopen);
        driver.cut();
        let newest = driver.sim.live();
        let put_back = with_anchor(&backup, &newest.anchor);
        let error = refused(&setup, put_back.clone());
        assert!(matches!(error, OpenError::Stale(Which::Both)), "{error}");

        let mut accepted = Driver::adopt(&setup, put_back, Model::with(contents), seed);
        accepted.compare();
        let at_once = accepted.sim.live();
        live(&mut accepted, seed + 200, 30);
        accepted.apply(Op::Reopen);
        accepted.compare();
        accepted.cut();
        let end = accepted.sim.live();
        for disk in [&at_once, &end] {
            for old in [&backup, &newest] {
                let error = refused(&setup, with_anchor(disk, &old.anchor));
                assert!(matches!(error, OpenError::Adopted(Which::Both)), "{error}");
                for which in ALL {
                    match refused(&setup, mixed(disk, old, which)) {
                        OpenError::Stale(named) => assert_eq!(named, which),
                        error => panic!("{which}: {error}"),
                    }
                }
            }
        }
        let error = refused(&setup, mixed(&end, &at_once, Which::Both));
        assert!(matches!(error, OpenError::Stale(_)), "{error}");

        // A third chip takes over: the second one is told so.
        let contents = accepted.model.contents().to_vec();
        let third = Driver::adopt(&setup, end.clone(), Model::with(contents), seed);
        third.compare();
        let taken = third.sim.live();
        let error = refused(&setup, with_anchor(&taken, &end.anchor));
        assert!(matches!(error, OpenError::Adopted(Which::Both)), "{error}");
        match refused(&setup, mixed(&end, &taken, Which::One)) {
            OpenError::Adopted(Which::One) => {}
            error => panic!("{error}"),
        }
    }
}

/// A module that is newer or older than the other: the newest state of which both have everything
/// is taken, or none; nothing that was not written is ever read.
#[test]
fn unequal_modules_are_adopted_whole_or_not() {
    let (mut took, mut no) = (0, 0);
    for seed in 0..12 {
        let setup = Setup::small(BLOCKS);
        let mut driver = Driver::new(&setup, seed);
        let mut copies = vec![driver.sim.live()];
        for round in 0..8 {
            live(&mut driver, seed * 8 + round, 12);
            copies.push(driver.sim.live());
        }
        driver.cut();
        for zero in &copies {
            for one in &copies {
                let disk = mixed(zero, one, Which::One);
                match setup.examine_adopted(disk) {
                    Err(OpenError::Stale(_) | OpenError::Damaged(..)) => no += 1,
                    Err(error) => panic!("{error}"),
                    Ok(found) => {
                        took += 1;
                        nothing_else(&driver, &found.prints);
                    }
                }
            }
        }
    }
    println!("unequal modules: {took} adopted, {no} refused");
    assert!(took > 0 && no > 0);
}

/// Every block is one that was written there at some time, or unreadable.
fn nothing_else(driver: &Driver, prints: &[Option<Print>]) {
    for (block, found) in prints.iter().enumerate() {
        let mut any = driver.model.admissible(block, 0, driver.moments.len());
        assert!(
            found.is_none_or(|found| any.any(|it| it == found)),
            "block {block}"
        );
    }
}

/// Superblocks changed at each byte: an opening does not care, an adoption takes the other copy,
/// and with all copies of the newest one gone an older state or none.
#[test]
fn superblocks_are_not_needed_and_not_believed() {
    let start = Instant::now();
    let setup = Setup::small(BLOCKS);
    let mut driver = lived(&setup, 51, false);
    let wanted: Vec<Option<Print>> = setup.prints(driver.flash());
    driver.cut();
    let disk = driver.sim.live();
    let mut older = 0;
    for (module, offset) in SUPERBLOCKS {
        for byte in 0..PAGE {
            let mut changed = disk.clone();
            changed.modules[module].flip((offset + byte) as u64, 1 << (byte % 8));
            let found = setup.examine_adopted(changed.clone()).expect("adopting");
            assert!(found.prints == wanted, "module {module}, byte {byte}");
            if byte % 64 == 0 {
                let found = setup.examine(changed.clone()).expect("opening");
                assert!(found.prints == wanted, "module {module}, byte {byte}");
            }
            changed.modules[1 - module].flip((offset + byte) as u64, 0x10);
            match setup.examine_adopted(changed) {
                Ok(found) => nothing_else(&driver, &found.prints),
                Err(OpenError::Stale(_) | OpenError::Damaged(..)) => older += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    // Each other's, in the other place, and none at all.
    let mut none = disk.clone();
    for module in 0..2 {
        let [one, two] = [1, 2].map(|place| disk.modules[module].page(place));
        none.modules[module].write(PAGE as u64, &two);
        none.modules[module].write(2 * PAGE as u64, &one);
    }
    for _ in 0..2 {
        let found = setup.examine(none.clone()).expect("opening");
        assert!(found.prints == wanted);
        match setup.examine_adopted(none.clone()) {
            Err(OpenError::Damaged(Which::Both, "their superblocks")) => {}
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("it was adopted"),
        }
        for module in &mut none.modules {
            module.punch(PAGE as u64, 2 * PAGE as u64);
        }
    }
    println!(
        "superblocks changed: {older} refused with both copies, {:.1} s",
        start.elapsed().as_secs_f64()
    );
}

/// A slot changed before the modules are adopted: the newest state, blocks that cannot be read
/// aside; or it is said that it is not. Superblocks are there twice.
#[test]
fn damaged_modules_are_adopted_in_their_newest_state() {
    let (start, mut took, mut unreadable, mut incomplete) = (Instant::now(), 0, 0, 0);
    for seed in 0..16 {
        let mut setup = Setup::small(BLOCKS);
        setup.geometry.segment_slots = 8;
        let mut driver = Driver::new(&setup, seed);
        // Without an end to the session, so that checkpoints free what is written anew.
        let mut random = Random::new(seed);
        for _ in 0..150 {
            let at = random.below(BLOCKS - 3) * PAGE;
            driver.apply(match random.below(8) {
                0 => Op::Flush,
                1 => Op::Discard { at, length: PAGE },
                _ => Op::Write {
                    at,
                    length: 3 * PAGE,
                },
            });
        }
        driver.apply(Op::Flush);
        driver.close();
        let (disk, last) = (driver.sim.live(), driver.moments.len());
        for module in 0..2 {
            for page in disk.modules[module].written() {
                let is_superblock = SUPERBLOCKS.contains(&(module, page * PAGE));
                for byte in [page % PAGE, PAGE - 5] {
                    let mut changed = disk.clone();
                    changed.modules[module].flip((page * PAGE + byte) as u64, 4);
                    let found = match setup.examine_adopted(changed) {
                        Ok(found) if !found.incomplete => found,
                        _ => {
                            assert!(!is_superblock, "the other module has it as well");
                            incomplete += 1;
                            continue;
                        }
                    };
                    took += 1;
                    unreadable += usize::from(found.prints.contains(&None));
                    for (block, print) in found.prints.iter().enumerate() {
                        let mut newest = driver.model.admissible(block, last, last);
                        let fits = print.is_none_or(|print| newest.any(|it| it == print));
                        assert!(fits, "seed {seed}, module {module}, slot {page}: {block}");
                    }
                }
            }
        }
    }
    println!(
        "damaged before they were adopted: {took} adopted, {unreadable} of them with unreadable \
         blocks, {incomplete} incomplete or refused, {:.1} s",
        start.elapsed().as_secs_f64()
    );
    assert!(took > 0 && unreadable > 0 && incomplete > 0);
}

#[test]
fn what_cannot_be_adopted_is_named() {
    let setup = Setup::small(BLOCKS);
    let [one, other] = [61, 62].map(|seed| {
        let mut driver = lived(&setup, seed, true);
        driver.cut();
        driver.sim.live()
    });
    let refusal = |disk: Disk| match setup.examine_adopted(disk) {
        Ok(_) => panic!("it was adopted"),
        Err(error) => error,
    };
    let mut exchanged = one.clone();
    exchanged.modules.swap(0, 1);
    assert!(matches!(refusal(exchanged), OpenError::Exchanged));
    for which in [Which::Zero, Which::One, Which::Both] {
        match refusal(mixed(&one, &Disk::default(), which)) {
            OpenError::Missing(named) => assert_eq!(named, which),
            error => panic!("{which}: {error}"),
        }
    }
    // Another disk's under the same key, as there is none outside of these proofs.
    for which in [Which::Zero, Which::One] {
        let error = refusal(mixed(&one, &other, which));
        assert!(
            matches!(error, OpenError::Foreign(_) | OpenError::Stale(_)),
            "{error}"
        );
    }
    // Another key: nothing is changed.
    let sim = Sim::new(one.clone());
    sim.set_forgiving();
    let key = flash::VolumeKey::new(zeroize::Zeroizing::new([1; 32]));
    match Flash::adopt(sim.clone(), sim.clone(), key, flash::Options::default()) {
        Err(OpenError::Foreign(Which::Both)) => {}
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was adopted with another key"),
    }
    assert_eq!(sim.log_length(), 0, "something was written");
    setup.examine(one).expect("it opens as before");
}

/// One header that is not whole, as an adoption that was cut off leaves it, is no obstacle.
#[test]
fn one_damaged_header_is_replaced() {
    let setup = Setup::small(BLOCKS);
    let mut driver = lived(&setup, 63, true);
    driver.cut();
    for module in 0..2 {
        let mut torn = driver.sim.live();
        for byte in 32..96 {
            torn.modules[module].flip(byte, 0x80);
        }
        let adopted = Driver::adopt(&setup, torn.clone(), Model::new(BLOCKS), 64);
        let prints: Vec<_> = setup
            .prints(adopted.flash())
            .into_iter()
            .flatten()
            .collect();
        let last = driver.moments.len();
        assert_eq!(driver.model.wrong(&prints, last, last), None);
        drop(adopted);
        for byte in 32..96 {
            torn.modules[1 - module].flip(byte, 0x80);
        }
        let error = setup.examine_adopted(torn).err().expect("both are damaged");
        assert!(matches!(
            error,
            OpenError::Damaged(Which::Both, "their headers")
        ));
    }
}

/// The same backup accepted twice: no slot is sealed twice under one nonce.
#[test]
fn a_backup_accepted_twice_repeats_no_nonce() {
    let setup = Setup::small(BLOCKS);
    let mut driver = lived(&setup, 66, true);
    driver.cut();
    let before = driver.sim.live();
    let [one, other] = [0, 1].map(|_| {
        let contents = driver.model.contents().to_vec();
        let mut again = Driver::adopt(&setup, before.clone(), Model::with(contents), 67);
        live(&mut again, 68, 20);
        again.apply(Op::Flush);
        again.sim.live()
    });
    let mut compared = 0;
    for module in 0..2 {
        // The headers are public.
        for page in one.modules[module]
            .written()
            .into_iter()
            .filter(|&page| page > 0)
        {
            let [was, a, b] = [&before, &one, &other].map(|disk| disk.modules[module].page(page));
            if print(&a) != print(&was) && print(&b) != print(&was) {
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
