//! Promise: no module file, however it was made, makes the controller panic or hang; also not
//! one that was sealed with the right key by somebody who writes nonsense.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use flash::Geometry;

use crate::support::driver::{Driver, Op, Setup};
use crate::support::image::{Disk, PAGE};
use crate::support::long;
use crate::support::medium::Sim;
use crate::support::model::print;
use crate::support::random::Random;
use crate::support::writer::{Group, Member, Writer};

const CASES: u64 = 20_000;
const CASES_LONG: u64 = 500_000;
const BLOCKS: u32 = 300;
/// Every so many-th image is adopted, the others are opened.
const ADOPTED_ONE_IN: u64 = 4;
/// Longer for one image is a hang.
const CASE_TIME_MAX: Duration = Duration::from_secs(10);

fn cases() -> Range<u64> {
    match std::env::var("FLASH_SEEDS")
        .ok()
        .as_deref()
        .and_then(|text| text.split_once(".."))
    {
        Some((first, end)) => {
            first.parse().expect("FLASH_SEEDS=first..end")
                ..end.parse().expect("FLASH_SEEDS=first..end")
        }
        None => 0..if long() { CASES_LONG } else { CASES },
    }
}

fn setup() -> Setup {
    let mut setup = Setup::small(BLOCKS as usize);
    setup.geometry = Geometry {
        blocks: u64::from(BLOCKS),
        segment_slots: 16,
    };
    setup
}

fn data(block: u32) -> Member {
    let mut plain = vec![0; PAGE];
    Random::new(u64::from(block)).fill(&mut plain);
    Member {
        kind: 0,
        number: block,
        plain,
    }
}

/// A small disk with everything in it: two leaves, a checkpoint with its superblock, records and
/// trims after it.
/// Before each plain text is sealed, `change` may change it.
fn image(change: &mut dyn FnMut(usize, &mut [u8])) -> Disk {
    let mut writer = Writer::new(u64::from(BLOCKS), 16, change);
    let group = |members| Group {
        members,
        ..Group::default()
    };
    let mut leaves = vec![vec![0; PAGE]; 2];
    let blocks = [0, 1, 2, 3, 4, 255, 256, 257, 299];
    let mut written = writer.group(group(blocks.into_iter().chain([20]).map(data).collect()));
    // The tree does not know of this one yet.
    let change = (20, written.pop().expect("the last block"));
    for (block, at) in blocks.into_iter().zip(&written) {
        let (leaf, place) = (block as usize / 256, block as usize % 256 * 16);
        leaves[leaf][place..place + 16].copy_from_slice(&at.entry());
    }
    let numbered = (0..).zip(leaves).map(|(number, plain)| Member {
        kind: 1,
        number,
        plain,
    });
    let written = writer.group(group(numbered.collect()));
    let mut middle = vec![0; PAGE];
    for (place, at) in written.iter().enumerate() {
        middle[place * 16..place * 16 + 16].copy_from_slice(&at.entry());
    }
    let root = writer.group(group(vec![Member {
        kind: 2,
        number: 0,
        plain: middle,
    }]));
    writer.next_segment();
    assert_eq!((writer.segment(), writer.generation), (3, 2));
    let table = [(0, 0), (0, 0), (1, 13), (2, 0)];
    let plain = writer.body(blocks.len() as u64, &table, &root, &[change]);
    let piece = Member {
        kind: 3,
        number: 0,
        plain,
    };
    writer.group(Group {
        members: vec![piece],
        flags: 3,
        ..Group::default()
    });
    writer.superblock();
    writer.group(group(vec![data(5), data(3)]));
    writer.group(Group {
        trims: vec![(1, 2), (258, 10)],
        ..group(vec![data(6)])
    });
    writer.anchor();
    writer.group(group((7..14).map(data).collect()));
    writer.group(Group {
        trims: vec![(7, 1)],
        ..Group::default()
    });
    writer.group(group(vec![data(298)]));
    writer.disk
}

/// The blocks that [`image`] holds.
fn held() -> Vec<u32> {
    let mut blocks = vec![0, 3, 4, 5, 6, 20, 255, 256, 257, 298, 299];
    blocks.extend(8..14);
    blocks
}

#[test]
fn images_of_the_second_implementation_are_read() {
    let disk = image(&mut |_, _| {});
    let opened = setup().examine(disk.clone()).expect("opening");
    let adopted = setup().examine_adopted(disk).expect("adopting");
    for block in 0..BLOCKS {
        let wanted = if held().contains(&block) {
            data(block).plain
        } else {
            vec![0; PAGE]
        };
        for found in [&opened, &adopted] {
            let found = found.prints[block as usize];
            assert_eq!(found, Some(print(&wanted)), "block {block}");
        }
    }
}

/// One change of a text: a byte, a number that is special, or bytes from elsewhere.
fn mutate(random: &mut Random, bytes: &mut [u8]) {
    // Mostly where the structure is.
    let end = if random.once_in(4) {
        bytes.len()
    } else {
        bytes.len().min(200)
    };
    let special = [
        0,
        1,
        2,
        3,
        15,
        16,
        17,
        239,
        240,
        241,
        255,
        256,
        299,
        300,
        301,
        0x7fff,
        0x8000,
        0xffff,
        1 << 16,
        1 << 28,
        (1 << 30) - 1,
        1 << 30,
        1 << 31,
        u64::from(u32::MAX),
        1 << 32,
        u64::MAX,
    ];
    let size = random.pick(&[1, 2, 4, 4, 4, 8]).min(end);
    let at = match random.below(4) {
        0 => random.below(end - size + 1),
        _ => random.below((end - size) / size + 1) * size,
    };
    let mut value = random.pick(&special).to_le_bytes();
    match random.below(5) {
        0 => random.fill(&mut value),
        1 => {
            let mut now = [0; 8];
            now[..size].copy_from_slice(&bytes[at..at + size]);
            let by = random.pick(&[1, u64::MAX, 2, 16]);
            value = u64::from_le_bytes(now).wrapping_add(by).to_le_bytes();
        }
        2 => {
            let from = random.below(end - size + 1);
            value[..size].copy_from_slice(&bytes[from..from + size]);
        }
        _ => {}
    }
    bytes[at..at + size].copy_from_slice(&value[..size]);
}

/// Opens or adopts an image and does everything with it; results do not matter.
fn exercise(setup: &Setup, disk: Disk, adopts: bool) -> bool {
    let opened = if adopts {
        let anchor = None;
        setup.adopt(&Sim::new(Disk { anchor, ..disk }))
    } else {
        setup.open(&Sim::new(disk))
    };
    let Ok(flash) = opened else {
        return false;
    };
    let blocks = flash.capacity_bytes() / PAGE as u64;
    let mut block = vec![0; PAGE];
    for number in (0..blocks.min(300)).chain(blocks - 1..blocks) {
        let _ = flash.read(number * PAGE as u64, &mut block);
    }
    let _ = flash.extents(0, flash.capacity_bytes(), 100);
    let _ = flash.verify(0, blocks.min(300));
    for number in [0, 5, 255, 256, 299] {
        let _ = flash.write(number * PAGE as u64, &[1; 2 * PAGE]);
        let _ = flash.write(number * PAGE as u64 + 512, &[2; 512]);
        let _ = flash.discard(number * PAGE as u64, 4 * PAGE as u64);
    }
    let _ = flash.flush();
    for _ in 0..3 {
        flash.tick();
    }
    let _ = flash.write(0, &vec![3; 64 * PAGE]);
    let _ = flash.stop();
    let _ = flash.status();
    true
}

fn survive(what: &str, setup: &Setup, disk: Disk, case: u64) -> bool {
    let start = Instant::now();
    let adopts = case % ADOPTED_ONE_IN == 0;
    let result = catch_unwind(AssertUnwindSafe(|| exercise(setup, disk, adopts)));
    assert!(
        start.elapsed() < CASE_TIME_MAX,
        "{what}: took {:?}",
        start.elapsed()
    );
    result.unwrap_or_else(|_| panic!("{what}: panicked; FLASH_SEEDS=N..N+1 replays it"))
}

/// With the right key: plain texts are changed before they are sealed.
#[test]
fn nonsense_under_the_right_key() {
    let (setup, start) = (setup(), Instant::now());
    let mut texts = 0;
    image(&mut |number, _| texts = number + 1);
    let (cases, mut opened) = (cases(), 0);
    for case in cases.clone() {
        let mut random = Random::new(case);
        let chosen: Vec<usize> = (0..1 + random.below(3))
            .map(|_| random.below(texts))
            .collect();
        let disk = image(&mut |number, plain| {
            for _ in chosen.iter().filter(|&&it| it == number) {
                mutate(&mut random, plain);
            }
        });
        opened += usize::from(survive(
            &format!("sealed nonsense {case}"),
            &setup,
            disk,
            case,
        ));
    }
    println!(
        "sealed nonsense {cases:?}: {opened} opened, {:.1} s",
        start.elapsed().as_secs_f64()
    );
    assert!(opened > 0 && (opened as u64) < cases.end - cases.start);
}

/// Without the key: bytes of real modules and of the anchor are changed.
#[test]
fn noise_in_modules_and_anchors() {
    let (setup, start) = (Setup::small(40), Instant::now());
    let mut driver = Driver::new(&setup, 71);
    for at in 0..40 {
        driver.apply(Op::Write {
            at: at * PAGE,
            length: PAGE,
        });
    }
    driver.apply(Op::Reopen);
    driver.apply(Op::Fua {
        at: 0,
        length: 4 * PAGE,
    });
    let real = driver.sim.live();
    let (cases, mut opened) = (cases(), 0);
    for case in cases.start..cases.start + (cases.end - cases.start).div_ceil(2) {
        let (mut random, mut disk) = (Random::new(case), real.clone());
        for _ in 0..1 + random.below(4) {
            let module = random.below(2);
            let pages = disk.modules[module].written();
            if pages.is_empty() {
                continue;
            }
            let place = (random.pick(&pages) * PAGE) as u64;
            let mut page = disk.modules[module].page(place as usize / PAGE);
            match random.below(6) {
                0 => disk.modules[module].punch(place, PAGE as u64),
                1 => random.fill(&mut page),
                2 => {
                    let anchor = disk.anchor.as_mut().expect("an anchor");
                    if random.once_in(10) {
                        anchor.truncate(random.below(185));
                    }
                    if anchor.len() > 8 {
                        mutate(&mut random, anchor);
                    }
                }
                3 => disk.modules[module].truncate(place),
                _ => mutate(&mut random, &mut page),
            }
            if disk.modules[module].length() > place {
                disk.modules[module].write(place, &page);
            }
        }
        opened += usize::from(survive(&format!("noise {case}"), &setup, disk, case));
    }
    println!(
        "noise: {opened} opened, {:.1} s",
        start.elapsed().as_secs_f64()
    );
    assert!(opened > 0);
}
