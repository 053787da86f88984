//! The anchor file: what is kept, and everything that can be wrong with it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

mod authority;

use authority::authority;
use tempfile::TempDir;
use vault::anchor::{ANCHOR_FILE_NAME, ANCHOR_SIZE_BYTES_MAX, SLOT_COUNT, SLOT_SIZE_BYTES};
use vault::{ChangeError, Error, HostClock, KeyFile, Place, Remembered, StateFolder, Vault};

fn place_at(path: &Path) -> Place {
    let folder = StateFolder::take(File::open(path).unwrap()).unwrap();
    let clock = HostClock::new(&"0".repeat(32), "").ok().unwrap();
    Place::new(folder, Box::new(clock))
}

fn born() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let born = Vault::birth(&place_at(place.path()), Box::new(KeyFile), authority());
    assert!(born.is_ok());
    place
}

fn file(place: &TempDir) -> PathBuf {
    place.path().join(ANCHOR_FILE_NAME)
}

/// A new vault on this folder.
fn open(place: &Place) -> Vault {
    Vault::open(place, Box::new(KeyFile)).ok().unwrap()
}

/// What a vault remembers, `None` for a disk without an anchor.
fn remembered(vault: &mut Vault) -> Result<Option<Vec<u8>>, Error> {
    Ok(match vault.newest_anchor()? {
        Remembered::Anchor(anchor) => Some(anchor.to_vec()),
        Remembered::Nothing => None,
        Remembered::Adopt => panic!("nobody authorised that"),
    })
}

fn newest(place: &TempDir) -> Option<Vec<u8>> {
    let newest = remembered(&mut open(&place_at(place.path())));
    newest.unwrap_or_else(|error| panic!("{error}"))
}

fn write(place: &TempDir, sequence: u64, anchor: &[u8]) -> Result<(), ChangeError> {
    let place = place_at(place.path());
    open(&place).write_anchor(&place, sequence, anchor)
}

/// No anchor is taken from this folder, and no disk opened with it.
fn assert_unfit(place: &TempDir, what: &str) {
    let place = place_at(place.path());
    let mut vault = open(&place);
    assert!(vault.status(&place).put_back, "{what}");
    assert!(
        matches!(remembered(&mut vault), Err(Error::PutBack(_))),
        "{what}"
    );
    let begun = vault.begin_session(&place);
    assert!(
        matches!(begun, Err(ChangeError::Unchanged(Error::PutBack(_)))),
        "{what}"
    );
}

/// Promise: the newest anchor is kept, of any size, across any number of writes and openings.
#[test]
fn newest_anchor_is_kept() {
    let place = born();
    assert_eq!(newest(&place), None);
    for sequence in 0..20 {
        let anchor = vec![sequence; [1, 184, ANCHOR_SIZE_BYTES_MAX][usize::from(sequence) % 3]];
        write(&place, sequence.into(), &anchor).unwrap();
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
    write(&place, 7, b"seven").unwrap();
    assert_eq!(write(&place, 6, b"six"), Err(Error::Backwards.into()));
    write(&place, 7, b"seven, stopped").unwrap();
    assert_eq!(write(&place, 6, b"six"), Err(Error::Backwards.into()));
    assert_eq!(newest(&place).unwrap(), b"seven, stopped");
    write(&place, u64::MAX, b"last").unwrap();
    assert_eq!(
        write(&place, u64::MAX - 1, b"x"),
        Err(Error::Backwards.into())
    );
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
    // Birth wrote both slots alike, of which the second counts, so the first anchor is in slot 0.
    // All that means something, and of the zeros behind it every seventh byte.
    for position in (0..SLOT_SIZE_BYTES).filter(|at| !(64..4064).contains(at) || at % 7 == 0) {
        damaged(&[position]);
        assert_eq!(newest(&place).unwrap(), b"newer", "byte {position}");
        damaged(&[position + SLOT_SIZE_BYTES]);
        assert_eq!(newest(&place).unwrap(), b"older", "byte {position}");
    }
    damaged(&[40, SLOT_SIZE_BYTES + 40]);
    assert_unfit(&place, "both slots");
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
    assert_unfit(&place, "exchanged");
}

/// Promise: a missing, emptied, cut or grown file is damage and never a new disk; so is what is
/// no file at all.
#[test]
fn missing_file_is_corrupt() {
    let place = born();
    write(&place, 1, b"one").unwrap();
    let right = fs::read(file(&place)).unwrap();
    fs::remove_file(file(&place)).unwrap();
    assert_unfit(&place, "missing");
    for size in [0, 1, 4095, 4096, 8191, 8193] {
        let mut bytes = right.clone();
        bytes.resize(size, 0);
        fs::write(file(&place), bytes).unwrap();
        assert_unfit(&place, &format!("{size} bytes"));
    }
    fs::write(file(&place), vec![0; 8192]).unwrap();
    assert_unfit(&place, "zeros");
    fs::remove_file(file(&place)).unwrap();
    std::os::unix::fs::symlink("/dev/zero", file(&place)).unwrap();
    assert_unfit(&place, "a link");
    fs::remove_file(file(&place)).unwrap();
    fs::create_dir(file(&place)).unwrap();
    assert_unfit(&place, "a folder");
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
    assert_unfit(&place, "a pipe");
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
    assert_unfit(&one, "another chip's");
    // Nor with the other's sealing key: its store does not open.
    fs::copy(
        other.path().join("sealing.key"),
        one.path().join("sealing.key"),
    )
    .unwrap();
    assert!(Vault::open(&place_at(one.path()), Box::new(KeyFile)).is_err());
}

/// Promise: a format makes another key, forgets the anchor, lets the sequence begin again, keeps
/// the rest of the chip; and the old anchor, put back, is none.
#[test]
fn format_forgets_the_disk() {
    let place = born();
    write(&place, 9, b"old").unwrap();
    let old_file = fs::read(file(&place)).unwrap();
    let ours = place_at(place.path());
    let mut vault = open(&ours);
    let key = |vault: &Vault| *vault.volume_key().ok().unwrap().expose();
    let (old_key, ecid) = (key(&vault), vault.ecid());
    let kek = vault.identity().kek.to_vec();
    assert_eq!(vault.format(&ours), Ok(()));
    assert_ne!(key(&vault), old_key);
    assert_eq!((vault.ecid(), vault.identity().kek), (ecid, &kek[..]));
    assert_eq!(remembered(&mut vault), Ok(None));

    let again = open(&ours);
    assert_eq!(key(&again), key(&vault));
    assert_eq!((again.ecid(), again.identity().kek), (ecid, &kek[..]));
    drop(ours);
    write(&place, 1, b"new").unwrap();
    fs::write(file(&place), old_file).unwrap();
    assert_unfit(&place, "the old disk's");
    // What the next boundary is written into holds nothing of the one before.
    for name in ["anchor.new", "vault.sealed.new"] {
        let room = fs::read(place.path().join(name)).unwrap();
        assert!(room.iter().all(|byte| *byte == 0), "{name}");
    }
}

/// Promise: a format that cannot write leaves the old disk as it is.
#[test]
fn format_that_fails_changes_nothing() {
    for obstacle in ["anchor.new", "vault.sealed.new"] {
        let place = born();
        write(&place, 9, b"old").unwrap();
        fs::create_dir(place.path().join(obstacle)).unwrap();
        let ours = place_at(place.path());
        let mut vault = open(&ours);
        let key = *vault.volume_key().ok().unwrap().expose();
        let error = vault.format(&ours).unwrap_err();
        assert!(
            matches!(error, ChangeError::Unchanged(Error::Storage(..))),
            "{error:?}"
        );
        assert_eq!(*vault.volume_key().ok().unwrap().expose(), key);
        drop(ours);
        assert_eq!(newest(&place).unwrap(), b"old");
    }
}
