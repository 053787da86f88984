//! The power is cut before each single change of the folder, and what is left is opened.

use std::fs::{self, File};
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::anchor::{ANCHOR_FILE_NAME, SLOT_SIZE_BYTES};

const OLD: &[u8] = b"the old disk's newest anchor";
const NEW: &[u8] = b"a newer one";
/// Size of what a disk writes whole.
const SECTOR_BYTES: usize = 512;

fn folder(place: &TempDir) -> StateFolder {
    StateFolder::take(File::open(place.path()).unwrap()).unwrap()
}

fn open(folder: &StateFolder) -> Vault {
    Vault::open(folder, &KeyFile).ok().unwrap()
}

/// A chip with a disk whose newest anchor is [`OLD`], with sequence 5.
fn chip() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let folder = folder(&place);
    let vault = Vault::birth(&folder, &KeyFile).ok().unwrap();
    let mut anchors = vault.anchors(&folder).ok().unwrap();
    for (sequence, anchor) in [(1, &b"one"[..]), (5, OLD)] {
        anchors.write(sequence, anchor).unwrap();
    }
    place
}

fn copy(from: &Path) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), place.path().join(entry.file_name())).unwrap();
    }
    place
}

/// The disk in this folder: its key and its newest anchor. That it opens is part of the promise.
fn disk(place: &TempDir) -> ([u8; 32], Option<Vec<u8>>) {
    let folder = folder(place);
    let vault = open(&folder);
    let anchors = vault.anchors(&folder).map_err(|error| error.to_string());
    (
        *vault.volume_key(),
        anchors.ok().unwrap().newest().map(<[u8]>::to_vec),
    )
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
        let place = copy(chip.path());
        let cut = folder(&place);
        let mut vault = open(&cut);
        cut.leave_power(Some(steps));
        let result = vault.format(&cut, &KeyFile);
        drop(cut);
        for later_steps in 0..8 {
            let again = copy(place.path());
            let cut = folder(&again);
            cut.leave_power(Some(later_steps));
            if let Ok(vault) = Vault::open(&cut, &KeyFile) {
                drop(vault.anchors(&cut));
            }
            drop(cut);
            let (key, anchor) = disk(&again);
            assert_eq!((key == old_key), anchor.is_some(), "{steps}, {later_steps}");
            match &result {
                Err(FormatError::Unchanged(_)) => assert_eq!(anchor.as_deref(), Some(OLD)),
                Err(FormatError::Uncertain(_)) => {}
                Ok(()) => assert_eq!((key, anchor), (*vault.volume_key(), None)),
            }
        }
        match disk(&place).1 {
            Some(anchor) => old_seen += u32::from(anchor == OLD),
            None => new_seen += 1,
        }
        if result.is_ok() {
            break;
        }
        steps += 1;
    }
    // Flush; clear, make, write, flush the anchor file; the same for the store; flush. Then, each
    // with a flush: the store's rename, from which on the disk is new, and the anchor file's.
    assert_eq!((old_seen, new_seen, steps), (11, 4, 14));
}

/// Promise: a birth cut anywhere is repeated, or has come far enough to open.
#[test]
fn birth_cut_at_each_change() {
    let (ecid, contents) = (7, Contents::generate(7).unwrap());
    let write = |folder: &StateFolder| -> Result<(), Error> {
        let sealing_key = KeyFile.prepare(folder)?;
        Ok(commit(
            folder,
            KeyFile.kind(),
            &sealing_key,
            ecid,
            &contents,
        )?)
    };
    let mut steps = 0;
    loop {
        let place = tempfile::tempdir().unwrap();
        let cut = folder(&place);
        cut.leave_power(Some(steps));
        let finished = write(&cut).is_ok();
        drop(cut);
        let state = folder(&place);
        if !store::exists(&state).unwrap() {
            assert!(!finished);
            write(&state).unwrap();
        }
        drop(state);
        assert_eq!(disk(&place), (*contents.disk.volume_key.expose(), None));
        if finished {
            break;
        }
        steps += 1;
    }
    assert!(steps > 10, "{steps}");
}

/// Promise: whenever the power is cut while an anchor is written, there is the old one or the new
/// one; what was acknowledged is there; and a vault that lives on writes the next one.
#[test]
fn anchor_write_cut_at_each_change() {
    let chip = chip();
    let mut steps = 0;
    loop {
        let place = copy(chip.path());
        let cut = folder(&place);
        let vault = open(&cut);
        let mut anchors = vault.anchors(&cut).ok().unwrap();
        cut.leave_power(Some(steps));
        let result = anchors.write(6, NEW);
        let kept = anchors.newest().unwrap().to_vec();
        let after_cut = copy(place.path());
        let found = disk(&after_cut).1.unwrap();
        if result.is_ok() {
            assert_eq!((&kept[..], &found[..]), (NEW, NEW));
            break;
        }
        assert_eq!(kept, OLD);
        assert!(found == OLD || found == NEW);
        cut.leave_power(None);
        anchors.write(6, b"tried again").unwrap();
        drop((anchors, vault, cut));
        assert_eq!(disk(&place).1.unwrap(), b"tried again");
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
    let state = folder(&chip);
    let mut anchors = open(&state).anchors(&state).ok().unwrap();
    anchors.write(6, &[0xaa; 512]).unwrap();
    let vault = open(&state);
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
        let found = vault.anchors(&state).ok().unwrap();
        let found = found.newest().unwrap();
        if torn == after {
            assert_eq!(found, [0xaa; 512]);
            new_seen += 1;
        } else {
            assert_eq!(found, OLD, "{written:08b}");
        }
    }
    assert!(new_seen >= 1);
}

/// Promise: whatever of a format reached the host's disk in whatever order it may, no key is ever
/// used with another disk's anchor.
#[test]
fn formats_in_part() {
    let old = chip();
    let new = copy(old.path());
    let state = folder(&new);
    open(&state).format(&state, &KeyFile).unwrap();
    drop(state);
    let read = |place: &TempDir, name| fs::read(place.path().join(name)).unwrap();
    let [store, anchor] = ["vault.sealed", ANCHOR_FILE_NAME];
    let new_anchor = read(&new, anchor);
    let mut counts = [0; 3];
    for store_of in [&old, &new] {
        for anchor_of in [None, Some(&old), Some(&new)] {
            for prepared in [None, Some(&new_anchor[..100]), Some(&new_anchor[..])] {
                let place = copy(old.path());
                fs::write(place.path().join(store), read(store_of, store)).unwrap();
                fs::remove_file(place.path().join(anchor)).unwrap();
                if let Some(source) = anchor_of {
                    fs::write(place.path().join(anchor), read(source, anchor)).unwrap();
                }
                if let Some(bytes) = prepared {
                    fs::write(place.path().join("anchor.new"), bytes).unwrap();
                }
                let state = folder(&place);
                let vault = open(&state);
                let is_old = std::ptr::eq(store_of, &old);
                match vault.anchors(&state) {
                    Ok(anchors) if is_old => {
                        assert_eq!(anchors.newest(), Some(OLD));
                        assert!(anchor_of.is_some_and(|source| std::ptr::eq(source, &old)));
                        counts[0] += 1;
                    }
                    Ok(anchors) => {
                        assert_eq!(anchors.newest(), None);
                        counts[1] += 1;
                    }
                    Err(error) => {
                        assert!(matches!(error, Error::Corrupt(_)), "{error}");
                        counts[2] += 1;
                    }
                }
            }
        }
    }
    // Old store and old anchor: 3. New store: with its own anchor 3, or with the prepared one 2.
    assert_eq!(counts, [3, 5, 10]);
}
