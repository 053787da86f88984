//! The power is cut before each single change of the folder, and what is left is opened; files are
//! put back.

use std::cell::Cell;
use std::fs::{self, File};
use std::path::Path;
use std::rc::Rc;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use tempfile::TempDir;

use super::*;
use crate::anchor::{ANCHOR_FILE_NAME, SLOT_SIZE_BYTES};

mod owner;
mod rules;
mod service;
mod starts;
mod tries;

const OLD: &[u8] = b"the old disk's newest anchor";
const NEW: &[u8] = b"a newer one";
/// Size of what a disk writes whole.
const SECTOR_BYTES: usize = 512;
const RIGHT: &str = "correct horse";

/// A clock that a test moves.
#[derive(Clone)]
struct Hand(Rc<Cell<Moment>>);

impl Clock for Hand {
    fn now(&self) -> Moment {
        self.0.get()
    }
}

impl Hand {
    fn new() -> Hand {
        let boot = [1; attempts::BOOT_SIZE_BYTES];
        Hand(Rc::new(Cell::new(Moment { boot, seconds: 0 })))
    }

    fn pass(&self, seconds: u64) {
        let now = self.0.get();
        self.0.set(Moment {
            seconds: now.seconds + seconds,
            ..now
        });
    }

    fn boot(&self) {
        let boot = [self.0.get().boot[0] + 1; attempts::BOOT_SIZE_BYTES];
        self.0.set(Moment { boot, seconds: 0 });
    }
}

fn place_with(folder: &TempDir, clock: &Hand) -> Place {
    let folder = StateFolder::take(File::open(folder.path()).unwrap()).unwrap();
    Place::new(folder, Box::new(clock.clone()))
}

fn place(folder: &TempDir) -> Place {
    place_with(folder, &Hand::new())
}

fn open(place: &Place) -> Vault {
    Vault::open(place, Box::new(KeyFile)).ok().unwrap()
}

thread_local! {
    /// The ticket key of the one authority here.
    static TICKET_KEY: EcdsaKeyPair = new_key();
}

fn new_key() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()
}

fn authority() -> Authority {
    let key = TICKET_KEY.with(|key| key.public_key().as_der().unwrap());
    Authority {
        key: key.as_ref().try_into().unwrap(),
        vendor: vec![0x30; tickets::VENDOR_SIZE_BYTES_MAX],
    }
}

fn password(text: &str) -> Password {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    Password::read(file.into()).ok().unwrap()
}

fn try_with(
    vault: &mut Vault,
    place: &Place,
    budget: Budget,
    text: &str,
) -> Result<(), ChangeError> {
    let secret = &password(text);
    vault.unlock(place, &Proof { budget, secret })
}

/// A chip with a disk whose newest anchor is [`OLD`], with sequence 5.
fn chip() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let place = place(&folder);
    let mut vault = Vault::birth(&place, Box::new(KeyFile), authority())
        .ok()
        .unwrap();
    for (sequence, anchor) in [(1, &b"one"[..]), (5, OLD)] {
        vault.write_anchor(&place, sequence, anchor).unwrap();
    }
    folder
}

/// The same with the password [`RIGHT`].
fn locked_chip() -> TempDir {
    let folder = chip();
    let place = place(&folder);
    open(&place).set_password(&place, &password(RIGHT)).unwrap();
    folder
}

fn copy(from: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

/// The newest anchor; that it can be had is part of the promise.
fn anchor(vault: &mut Vault) -> Option<Vec<u8>> {
    match vault.newest_anchor().unwrap() {
        Remembered::Anchor(anchor) => Some(anchor.to_vec()),
        Remembered::Nothing => None,
        Remembered::Adopt => panic!("nobody authorised that"),
    }
}

/// The disk in this folder: its key and its newest anchor. That it opens is part of the promise.
fn disk(folder: &TempDir) -> ([u8; 32], Option<Vec<u8>>) {
    disk_at(&place(folder))
}

fn disk_at(place: &Place) -> ([u8; 32], Option<Vec<u8>>) {
    let mut vault = open(place);
    let key = *vault.volume_key().ok().unwrap().expose();
    (key, anchor(&mut vault))
}

/// Promise: whenever the power is cut during a format, and cut again while the next start tidies
/// up, there is the whole old disk or an empty new one; and the answer was not a lie.
#[test]
fn format_cut_at_each_change() {
    let chip = chip();
    let (old_key, old_anchor) = disk(&chip);
    assert_eq!(old_anchor.as_deref(), Some(OLD));
    let (mut old_seen, mut new_seen, mut steps) = (0, 0, 0);
    loop {
        let folder = copy(chip.path());
        let cut = place(&folder);
        let mut vault = open(&cut);
        cut.folder.leave_power(Some(steps));
        let result = vault.format(&cut);
        drop(cut);
        for later_steps in 0..8 {
            let again = copy(folder.path());
            let cut = place(&again);
            cut.folder.leave_power(Some(later_steps));
            drop(Vault::open(&cut, Box::new(KeyFile)));
            drop(cut);
            let (key, anchor) = disk(&again);
            assert_eq!((key == old_key), anchor.is_some(), "{steps}, {later_steps}");
            match &result {
                Err(ChangeError::Unchanged(_)) => assert_eq!(anchor.as_deref(), Some(OLD)),
                Err(ChangeError::Uncertain(_)) => {}
                Ok(()) => {
                    let new_key = *vault.volume_key().ok().unwrap().expose();
                    assert_eq!((key, anchor), (new_key, None));
                }
            }
        }
        match disk(&folder).1 {
            Some(anchor) => old_seen += u32::from(anchor == OLD),
            None => new_seen += 1,
        }
        // Power for the wiping of the old bytes as well, whose failure changes no state.
        if result.is_ok() && new_seen > 8 {
            break;
        }
        steps += 1;
    }
    assert!(old_seen >= 5, "{old_seen}");
}

/// Promise: a birth cut anywhere is repeated, or has come far enough to open.
#[test]
fn birth_cut_at_each_change() {
    let mut steps = 0;
    loop {
        let folder = tempfile::tempdir().unwrap();
        let cut = place(&folder);
        cut.folder.leave_power(Some(steps));
        let key = Secret::random().ok().unwrap();
        let contents = contents::Contents::generate(boot(), &key);
        let finished = Vault::make(&cut, Box::new(KeyFile), 7, || contents).is_ok();
        drop(cut);
        if !folder.path().join(store::STORE_FILE_NAME).exists() {
            assert!(!finished);
            let again = place(&folder);
            let contents = contents::Contents::generate(boot(), &key);
            let made = Vault::make(&again, Box::new(KeyFile), 7, || contents);
            assert!(made.is_ok());
        }
        assert_eq!(disk(&folder), (*key.expose(), None));
        if finished {
            break;
        }
        steps += 1;
    }
    assert!(steps > 10, "{steps}");
}

/// What decides what starts; its keys take long to make, and are made once.
fn boot() -> boot::Boot {
    thread_local! {
        static KEYS: keys::Certificates = keys::Certificates::generate(7).ok().unwrap();
    }
    boot::Boot {
        certificates: KEYS.with(Clone::clone),
        authority: authority(),
        rules: Rules::STRICTEST,
        firmware_password: None,
        minimum_epoch: 0,
        slots: Slots::default(),
        variables: None,
    }
}

/// Promise: whenever the power is cut while an anchor is written, there is the old one or the new
/// one; what was acknowledged is there; and a vault that lives on writes the next one.
#[test]
fn anchor_write_cut_at_each_change() {
    let chip = chip();
    let mut steps = 0;
    loop {
        let folder = copy(chip.path());
        let cut = place(&folder);
        let mut vault = open(&cut);
        cut.folder.leave_power(Some(steps));
        let result = vault.write_anchor(&cut, 6, NEW);
        let kept = anchor(&mut vault).unwrap();
        let after_cut = copy(folder.path());
        let found = disk(&after_cut).1.unwrap();
        if result.is_ok() {
            assert_eq!((&kept[..], &found[..]), (NEW, NEW));
            break;
        }
        assert_eq!(kept, OLD);
        assert!(found == OLD || found == NEW);
        cut.folder.leave_power(None);
        vault.write_anchor(&cut, 6, b"tried again").unwrap();
        drop((vault, cut));
        assert_eq!(disk(&folder).1.unwrap(), b"tried again");
        steps += 1;
    }
    assert_eq!(steps, 2, "a write and a flush");
}

/// Promise: of a slot's eight sectors any may be missing after a power cut: there is the old
/// anchor, or the new one whole.
#[test]
fn torn_slots_leave_one_anchor() {
    let chip = chip();
    let path = chip.path().join(ANCHOR_FILE_NAME);
    let before = fs::read(&path).unwrap();
    let ours = place(&chip);
    open(&ours).write_anchor(&ours, 6, &[0xaa; 512]).unwrap();
    let after = fs::read(&path).unwrap();
    let slot = (0..2)
        .map(|number| number * SLOT_SIZE_BYTES..(number + 1) * SLOT_SIZE_BYTES)
        .find(|slot| before[slot.clone()] != after[slot.clone()])
        .unwrap();
    let mut new_seen = 0;
    for written in 0..1_u32 << (SLOT_SIZE_BYTES / SECTOR_BYTES) {
        let mut torn = before.clone();
        for sector in (0..8).filter(|sector| written >> sector & 1 == 1) {
            let start = slot.start + sector * SECTOR_BYTES;
            let sector = start..start + SECTOR_BYTES;
            torn[sector.clone()].copy_from_slice(&after[sector]);
        }
        fs::write(&path, &torn).unwrap();
        let found = anchor(&mut open(&ours)).unwrap();
        if torn == after {
            assert_eq!(found, [0xaa; 512]);
            new_seen += 1;
        } else {
            assert_eq!(found, OLD, "{written:08b}");
        }
    }
    assert!(new_seen >= 1);
}

/// Promise: after a session that ended in order, an old copy of one slot is no way back.
#[test]
fn one_slot_put_back() {
    let chip = chip();
    let path = chip.path().join(ANCHOR_FILE_NAME);
    let ours = place(&chip);
    let mut vault = open(&ours);
    vault.begin_session(&ours).unwrap();
    vault.write_anchor(&ours, 6, b"older").unwrap();
    let copy = fs::read(&path).unwrap();
    vault.write_anchor(&ours, 7, NEW).unwrap();
    vault.end_session(&ours).unwrap();
    drop(vault);
    let newest = fs::read(&path).unwrap();
    for slot in 0..2 {
        let (mut mixed, slot) = (newest.clone(), slot * SLOT_SIZE_BYTES);
        mixed[slot..slot + SLOT_SIZE_BYTES].copy_from_slice(&copy[slot..slot + SLOT_SIZE_BYTES]);
        fs::write(&path, &mixed).unwrap();
        assert_eq!(anchor(&mut open(&ours)).unwrap(), NEW);
    }
}

/// Promise: of an earlier state any file or files may be put back, in any of their places: as
/// long as one file is left, no password is tried and no disk is opened; the whole is a state of
/// its own, which a key file alone cannot tell from the newest.
#[test]
fn parts_put_back() {
    let old = locked_chip();
    let new = copy(old.path());
    let ours = place(&new);
    let wrong = try_with(&mut open(&ours), &ours, Budget::Password, "guess");
    assert_eq!(wrong, Err(Error::Wrong.into()));
    drop(ours);
    let names = ["vault.sealed", "anchor", "vault.sealed.new", "anchor.new"];
    let read =
        |folder: &TempDir, name: &str| fs::read(folder.path().join(name)).unwrap_or_default();
    let mut counts = [0; 3];
    for choice in 0..81_u32 {
        let folder = copy(new.path());
        let mut store_and_anchor = [0; 2];
        for (number, name) in names.iter().enumerate() {
            let path = folder.path().join(name);
            // Today's, yesterday's, or yesterday's of the other place (a name ending in .new).
            let of = choice / 3_u32.pow(u32::try_from(number).unwrap()) % 3;
            let bytes = match of {
                0 => read(&new, name),
                1 => read(&old, name),
                _ => read(&old, names[(number + 2) % 4]),
            };
            fs::write(path, bytes).unwrap();
            if number < 2 {
                store_and_anchor[number] = of;
            }
        }
        let ours = place(&folder);
        let Ok(mut vault) = Vault::open(&ours, Box::new(KeyFile)) else {
            counts[0] += 1;
            continue;
        };
        let answer = try_with(&mut vault, &ours, Budget::Password, RIGHT);
        match vault.status(&ours).put_back {
            true => {
                assert!(matches!(
                    answer,
                    Err(ChangeError::Unchanged(Error::PutBack(_)))
                ));
                let attached = vault.begin_session(&ours);
                assert!(attached.is_err());
                counts[1] += 1;
            }
            false => {
                answer.unwrap();
                let fits = store_and_anchor[0] == 0 || choice % 9 != 3;
                assert!(fits, "{choice}");
                counts[2] += 1;
            }
        }
    }
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}
