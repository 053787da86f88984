//! A vault's life on disk: birth, reopening, and everything that can be wrong with its files.

use std::fs::{self, File};
use std::path::Path;

mod authority;

use authority::authority;
use tempfile::TempDir;
use vault::{ChangeError, Error, HostClock, KeyFile, Place, StateFolder, Vault};

const STORE: &str = "vault.sealed";
const KEY: &str = "sealing.key";
const ANCHOR: &str = "anchor";

fn folder(path: &Path) -> StateFolder {
    StateFolder::take(File::open(path).unwrap()).unwrap()
}

fn place_at(path: &Path) -> Place {
    let clock = HostClock::new(&"0".repeat(32), "").ok().unwrap();
    Place::new(folder(path), Box::new(clock))
}

fn birth(path: &Path) -> Vault {
    let place = place_at(path);
    Vault::birth(&place, Box::new(KeyFile), authority())
        .ok()
        .unwrap()
}

fn open(path: &Path) -> Result<Vault, ChangeError> {
    Vault::open(&place_at(path), Box::new(KeyFile))
}

fn volume_key(vault: &Vault) -> [u8; 32] {
    *vault.volume_key().ok().unwrap().expose()
}

/// The error of opening; a vault that opens is a failure of the test.
fn refusal(path: &Path) -> Error {
    match open(path).err().expect("the vault has to stay closed") {
        ChangeError::Unchanged(error) => error,
        error => panic!("{error:?}"),
    }
}

fn born() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    birth(place.path());
    place
}

/// Promise: a chip keeps its number, identity, certificates and both keys.
#[test]
fn reopened_vault_is_the_same() {
    let place = tempfile::tempdir().unwrap();
    let first = birth(place.path());
    let second = open(place.path()).ok().unwrap();
    let (a, b) = (first.identity(), second.identity());
    assert_eq!(a.ecid, b.ecid);
    assert_eq!(a.identity_public_key, b.identity_public_key);
    assert_eq!((a.pk, a.kek, a.vendor), (b.pk, b.kek, b.vendor));
    assert_eq!(volume_key(&first), volume_key(&second));
}

/// Promise: no two chips share anything.
#[test]
fn two_births_differ() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, two) = (birth(one.path()), birth(two.path()));
    assert_ne!(one.ecid(), two.ecid());
    assert_ne!(volume_key(&one), volume_key(&two));
    assert_ne!(
        one.identity().identity_public_key,
        two.identity().identity_public_key
    );
    assert_ne!(one.identity().pk, two.identity().pk);
}

/// Promise: a second birth refuses and changes nothing.
#[test]
fn second_birth_is_refused() {
    let place = born();
    let before = fs::read(place.path().join(STORE)).unwrap();
    let again = Vault::birth(&place_at(place.path()), Box::new(KeyFile), authority());
    assert_eq!(again.err(), Some(Error::Exists.into()));
    assert_eq!(fs::read(place.path().join(STORE)).unwrap(), before);
}

/// Promise: a damaged store is not born over either.
#[test]
fn birth_over_a_damaged_store_is_refused() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join(STORE), "").unwrap();
    let birth = Vault::birth(&place_at(place.path()), Box::new(KeyFile), authority());
    assert_eq!(birth.err(), Some(Error::Exists.into()));
}

/// Promise: an empty folder is said to be one.
#[test]
fn empty_folder_is_unborn() {
    let place = tempfile::tempdir().unwrap();
    assert_eq!(refusal(place.path()), Error::Unborn);
}

/// Promise: all files are for their owner alone, and nothing else is left.
#[test]
fn files_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = born();
    let mut names = Vec::new();
    for entry in fs::read_dir(place.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, [ANCHOR, KEY, STORE]);
}

/// Promise: without its sealing key, or with another's, the store stays closed.
#[test]
fn missing_or_wrong_key_file_is_sealed() {
    let place = born();
    let key = place.path().join(KEY);
    let right = fs::read(&key).unwrap();
    for wrong in [&b""[..], &[0; 31], &[0; 32], &[0; 33]] {
        fs::write(&key, wrong).unwrap();
        assert!(
            matches!(refusal(place.path()), Error::Sealed(_)),
            "{} bytes",
            wrong.len()
        );
    }
    fs::remove_file(&key).unwrap();
    assert!(matches!(refusal(place.path()), Error::Sealed(_)));
    std::os::unix::fs::symlink("/dev/zero", &key).unwrap();
    assert!(matches!(refusal(place.path()), Error::Sealed(_)));
    fs::remove_file(&key).unwrap();
    fs::write(&key, right).unwrap();
    assert!(open(place.path()).is_ok());
}

/// The store's bytes to try: all of the header, of the tag and the check sum, and of what lies
/// between, where one is like the other, every fifth.
fn telling_positions(size: usize) -> impl Iterator<Item = usize> {
    use vault::store::{CHECK_SUM_OFFSET, CONTENTS_OFFSET};
    (0..size).filter(|at| *at < CONTENTS_OFFSET || *at >= CHECK_SUM_OFFSET || at % 5 == 0)
}

/// Promise: each single wrong bit of the key file keeps the store closed.
#[test]
fn each_bit_of_the_key_matters() {
    let place = born();
    let key = place.path().join(KEY);
    let right = fs::read(&key).unwrap();
    for bit in 0..right.len() * 8 {
        let mut wrong = right.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        fs::write(&key, wrong).unwrap();
        assert!(
            matches!(refusal(place.path()), Error::Sealed(_)),
            "bit {bit}"
        );
    }
}

/// Promise: a store with a flipped bit, in whichever byte, is corrupt.
#[test]
fn each_byte_of_the_store_matters() {
    let place = born();
    let store = place.path().join(STORE);
    let right = fs::read(&store).unwrap();
    for position in telling_positions(right.len()) {
        let mut wrong = right.clone();
        wrong[position] ^= 1 << (position % 8);
        fs::write(&store, wrong).unwrap();
        assert!(
            matches!(refusal(place.path()), Error::Corrupt(_)),
            "byte {position}"
        );
    }
}

/// Promise: the check sum is no protection that has to hold: with one made to fit, a changed
/// store stays closed all the same.
#[test]
fn forged_check_sum_does_not_help() {
    use vault::store::CHECK_SUM_SIZE_BYTES;
    let place = born();
    let store = place.path().join(STORE);
    let right = fs::read(&store).unwrap();
    let body_size = right.len() - CHECK_SUM_SIZE_BYTES;
    for position in telling_positions(body_size) {
        let mut wrong = right[..body_size].to_vec();
        wrong[position] ^= 0x80;
        let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &wrong);
        wrong.extend_from_slice(sum.as_ref());
        fs::write(&store, wrong).unwrap();
        let error = refusal(place.path());
        assert!(
            matches!(error, Error::Corrupt(_) | Error::Sealed(_)),
            "byte {position}: {error}"
        );
    }
}

/// Promise: a store cut short or grown is corrupt, at every length.
#[test]
fn torn_store_is_corrupt() {
    let place = born();
    let store = place.path().join(STORE);
    let right = fs::read(&store).unwrap();
    for size in telling_positions(right.len()) {
        fs::write(&store, &right[..size]).unwrap();
        assert!(
            matches!(refusal(place.path()), Error::Corrupt(_)),
            "{size} bytes"
        );
    }
    for more in [1, 32, vault::store::STORE_SIZE_BYTES] {
        fs::write(&store, [&right[..], &vec![0; more]].concat()).unwrap();
        assert!(
            matches!(refusal(place.path()), Error::Corrupt(_)),
            "{more} bytes more"
        );
    }
}

/// Promise: something that is no file in the store's place is an error, not a hang.
#[test]
fn store_that_is_no_file_is_corrupt() {
    let place = born();
    let store = place.path().join(STORE);
    fs::remove_file(&store).unwrap();
    std::os::unix::fs::symlink(KEY, &store).unwrap();
    assert!(matches!(refusal(place.path()), Error::Corrupt(_)));
    fs::remove_file(&store).unwrap();
    fs::create_dir(&store).unwrap();
    assert!(matches!(refusal(place.path()), Error::Corrupt(_)));
    fs::remove_dir(&store).unwrap();
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &store, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(matches!(refusal(place.path()), Error::Corrupt(_)));
}

/// Promise: a birth cut short at any point leaves a folder that can be born again.
#[test]
fn interrupted_birth_can_be_repeated() {
    let donor = born();
    let key = fs::read(donor.path().join(KEY)).unwrap();
    let store = fs::read(donor.path().join(STORE)).unwrap();
    let anchor = fs::read(donor.path().join(ANCHOR)).unwrap();
    let leftovers: [&[(&str, &[u8])]; 5] = [
        &[("sealing.key.new", &key[..7])],
        &[(KEY, &key)],
        &[(KEY, &key), ("vault.sealed.new", &store[..100])],
        &[
            (KEY, &key),
            ("anchor.new", &anchor),
            ("vault.sealed.new", &store),
        ],
        &[
            (KEY, &key),
            ("anchor.new", &anchor[..100]),
            (ANCHOR, &anchor),
        ],
    ];
    for left in leftovers {
        let place = tempfile::tempdir().unwrap();
        for (name, bytes) in left {
            fs::write(place.path().join(name), bytes).unwrap();
        }
        assert_eq!(refusal(place.path()), Error::Unborn);
        let ecid = birth(place.path()).ecid();
        assert_eq!(open(place.path()).ok().unwrap().ecid(), ecid);
        let is_left = |name: &str| place.path().join(name).exists();
        assert!([KEY, STORE, ANCHOR].into_iter().all(is_left));
        assert!(!is_left("vault.sealed.new"));
    }
}

/// Promise: one folder, one vault at a time.
#[test]
fn folder_belongs_to_one() {
    let place = tempfile::tempdir().unwrap();
    let first = folder(place.path());
    assert!(StateFolder::take(File::open(place.path()).unwrap()).is_err());
    drop(first);
    assert!(StateFolder::take(File::open(place.path()).unwrap()).is_ok());
}
