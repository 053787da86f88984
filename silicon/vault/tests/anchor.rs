//! The anchor file: what is kept, and everything that can be wrong with it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use vault::anchor::{ANCHOR_FILE_NAME, ANCHOR_SIZE_BYTES_MAX, SLOT_COUNT, SLOT_SIZE_BYTES};
use vault::{AnchorFile, Error, KeyFile, StateFolder, Vault};

fn folder(path: &Path) -> StateFolder {
    StateFolder::take(File::open(path).unwrap()).unwrap()
}

fn born() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    assert!(Vault::birth(&folder(place.path()), &KeyFile).is_ok());
    place
}

fn file(place: &TempDir) -> PathBuf {
    place.path().join(ANCHOR_FILE_NAME)
}

/// The anchor file as a new vault on this folder opens it.
fn anchors(place: &TempDir) -> Result<AnchorFile, Error> {
    let folder = folder(place.path());
    let vault = Vault::open(&folder, &KeyFile).ok().unwrap();
    vault.anchors(&folder)
}

fn newest(place: &TempDir) -> Option<Vec<u8>> {
    let anchors = anchors(place).unwrap_or_else(|error| panic!("{error}"));
    anchors.newest().map(<[u8]>::to_vec)
}

fn write(place: &TempDir, sequence: u64, anchor: &[u8]) -> Result<(), Error> {
    anchors(place).ok().unwrap().write(sequence, anchor)
}

fn assert_corrupt(place: &TempDir, what: &str) {
    assert!(matches!(anchors(place), Err(Error::Corrupt(_))), "{what}");
}

/// Promise: the newest anchor is kept, of any size, across any number of writes and openings.
#[test]
fn newest_anchor_is_kept() {
    let place = born();
    assert_eq!(newest(&place), None);
    let mut open = anchors(&place).ok().unwrap();
    for sequence in 0..20 {
        let anchor = vec![sequence; [1, 184, ANCHOR_SIZE_BYTES_MAX][usize::from(sequence) % 3]];
        open.write(sequence.into(), &anchor).unwrap();
        assert_eq!(open.newest(), Some(&anchor[..]));
        assert_eq!(newest(&place), Some(anchor));
        assert_eq!(
            fs::metadata(file(&place)).unwrap().len(),
            (SLOT_COUNT * SLOT_SIZE_BYTES) as u64
        );
    }
}

/// Promise: the sequence never goes back, also not after a restart; the same one may come again,
/// because a clean stop says something new about the same state.
#[test]
fn sequence_never_goes_back() {
    let place = born();
    let mut open = anchors(&place).ok().unwrap();
    open.write(7, b"seven").unwrap();
    assert_eq!(open.write(6, b"six"), Err(Error::Backwards));
    open.write(7, b"seven, stopped").unwrap();
    drop(open);
    assert_eq!(write(&place, 6, b"six"), Err(Error::Backwards));
    assert_eq!(newest(&place).unwrap(), b"seven, stopped");
    write(&place, u64::MAX, b"last").unwrap();
    assert_eq!(write(&place, u64::MAX - 1, b"x"), Err(Error::Backwards));
    write(&place, u64::MAX, b"last, stopped").unwrap();
}

/// Promise: one damaged slot, in whichever byte, leaves the other one's anchor; both leave none.
#[test]
fn each_byte_of_a_slot_matters() {
    let place = born();
    for (sequence, anchor) in [(1, b"older"), (2, b"newer")] {
        write(&place, sequence, anchor).unwrap();
    }
    let right = fs::read(file(&place)).unwrap();
    let damaged = |positions: &[usize]| {
        let mut wrong = right.clone();
        for position in positions {
            wrong[*position] ^= 1 << (position % 8);
        }
        fs::write(file(&place), &wrong).unwrap();
    };
    let folder = folder(place.path());
    let vault = Vault::open(&folder, &KeyFile).ok().unwrap();
    let newest_of_one = || {
        let anchors = vault
            .anchors(&folder)
            .unwrap_or_else(|error| panic!("{error}"));
        anchors.newest().unwrap().to_vec()
    };
    // Birth wrote slot 0, so the first anchor is in slot 1 and the second in slot 0 again.
    for position in 0..SLOT_SIZE_BYTES {
        damaged(&[position]);
        assert_eq!(newest_of_one(), b"older", "byte {position}");
        damaged(&[position + SLOT_SIZE_BYTES]);
        assert_eq!(newest_of_one(), b"newer", "byte {position}");
    }
    drop((vault, folder));
    damaged(&[40, SLOT_SIZE_BYTES + 40]);
    assert_corrupt(&place, "both slots");
    // After one slot was damaged, writing goes on in that one.
    damaged(&[40]);
    write(&place, 3, b"newest").unwrap();
    assert_eq!(newest(&place).unwrap(), b"newest");
    let repaired = fs::read(file(&place)).unwrap();
    assert_eq!(repaired[SLOT_SIZE_BYTES..], right[SLOT_SIZE_BYTES..]);
}

/// Promise: a slot counts in its own place only.
#[test]
fn exchanged_slots_are_corrupt() {
    let place = born();
    write(&place, 1, b"one").unwrap();
    let mut bytes = fs::read(file(&place)).unwrap();
    bytes.rotate_left(SLOT_SIZE_BYTES);
    fs::write(file(&place), bytes).unwrap();
    assert_corrupt(&place, "exchanged");
}

/// Promise: a missing, emptied, cut or grown file is damage and never a new disk; so is what is
/// no file at all.
#[test]
fn missing_file_is_corrupt() {
    let place = born();
    write(&place, 1, b"one").unwrap();
    let right = fs::read(file(&place)).unwrap();
    fs::remove_file(file(&place)).unwrap();
    assert_corrupt(&place, "missing");
    for size in [0, 1, 4095, 4096, 8191, 8193] {
        let mut bytes = right.clone();
        bytes.resize(size, 0);
        fs::write(file(&place), bytes).unwrap();
        assert_corrupt(&place, &format!("{size} bytes"));
    }
    fs::write(file(&place), vec![0; 8192]).unwrap();
    assert_corrupt(&place, "zeros");
    fs::remove_file(file(&place)).unwrap();
    std::os::unix::fs::symlink("/dev/zero", file(&place)).unwrap();
    assert_corrupt(&place, "a link");
    fs::remove_file(file(&place)).unwrap();
    fs::create_dir(file(&place)).unwrap();
    assert_corrupt(&place, "a folder");
    fs::remove_dir(file(&place)).unwrap();
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        file(&place),
        rustix::fs::FileType::Fifo,
        mode,
        0,
    )
    .unwrap();
    assert!(anchors(&place).is_err());
    fs::remove_file(file(&place)).unwrap();
    fs::write(file(&place), right).unwrap();
    assert_eq!(newest(&place).unwrap(), b"one");
}

/// Promise: another chip's anchor is none.
#[test]
fn foreign_anchor_is_corrupt() {
    let (one, other) = (born(), born());
    write(&other, 1, b"other").unwrap();
    fs::copy(file(&other), file(&one)).unwrap();
    assert_corrupt(&one, "another chip's");
    // Nor with the other's sealing key: its store does not open.
    fs::copy(
        other.path().join("sealing.key"),
        one.path().join("sealing.key"),
    )
    .unwrap();
    assert!(Vault::open(&folder(one.path()), &KeyFile).is_err());
}

/// Promise: a format makes another key, forgets the anchor, lets the sequence begin again, keeps
/// the rest of the chip; and the old anchor, put back, is none.
#[test]
fn format_forgets_the_disk() {
    let place = born();
    write(&place, 9, b"old").unwrap();
    let old_file = fs::read(file(&place)).unwrap();
    let folder = folder(place.path());
    let mut vault = Vault::open(&folder, &KeyFile).ok().unwrap();
    let (old_key, ecid) = (*vault.volume_key(), vault.ecid());
    let db = vault.identity().db.to_vec();
    assert_eq!(vault.format(&folder, &KeyFile), Ok(()));
    assert_ne!(*vault.volume_key(), old_key);
    assert_eq!((vault.ecid(), vault.identity().db), (ecid, &db[..]));
    assert_eq!(vault.anchors(&folder).ok().unwrap().newest(), None);

    let again = Vault::open(&folder, &KeyFile).ok().unwrap();
    assert_eq!(again.volume_key(), vault.volume_key());
    assert_eq!((again.ecid(), again.identity().db), (ecid, &db[..]));
    assert_eq!(again.sign_image(&[1; 32]), vault.sign_image(&[1; 32]));
    drop(folder);
    write(&place, 1, b"new").unwrap();
    fs::write(file(&place), old_file).unwrap();
    assert_corrupt(&place, "the old disk's");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 3);
}

/// Promise: a format that cannot write leaves the old disk as it is.
#[test]
fn format_that_fails_changes_nothing() {
    for obstacle in ["anchor.new", "vault.sealed.new"] {
        let place = born();
        write(&place, 9, b"old").unwrap();
        fs::create_dir(place.path().join(obstacle)).unwrap();
        let folder = folder(place.path());
        let mut vault = Vault::open(&folder, &KeyFile).ok().unwrap();
        let key = *vault.volume_key();
        let error = vault.format(&folder, &KeyFile).unwrap_err();
        assert!(
            matches!(error, vault::FormatError::Unchanged(Error::Storage(..))),
            "{error:?}"
        );
        assert_eq!(*vault.volume_key(), key);
        drop(folder);
        assert_eq!(newest(&place).unwrap(), b"old");
    }
}
