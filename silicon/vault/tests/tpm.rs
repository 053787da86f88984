//! A chip whose seal and whose freshness are a TPM's: what is copied, put back and cut short.

use std::cell::RefCell;
use std::fs::{self, File};
use std::path::Path;

mod authority;

use authority::authority;
use emulated_tpm::{EmulatedTpm, cut_at};
use tempfile::TempDir;
use tpm::Tpm;
use vault::{ChangeError, Error, HostClock, HostMap, Life, Place, StateFolder, TpmSeal, Vault};

/// A host: its TPM, and a folder with the chip's state and the map.
struct Host {
    tpm: EmulatedTpm,
    disk: TempDir,
}

/// What of the host's disk is copied or put back.
const STATE: &[&str] = &["state"];
const MAP: &[&str] = &["host"];
const ALL: &[&str] = &["state", "host"];

impl Host {
    fn start() -> Host {
        let host = Host {
            tpm: EmulatedTpm::start(),
            disk: tempfile::tempdir().unwrap(),
        };
        for folder in ALL {
            fs::create_dir(host.disk.path().join(folder)).unwrap();
        }
        host
    }

    /// A host with a chip, and the chip.
    fn with_chip() -> (Host, Place, Vault) {
        let host = Host::start();
        let (place, seal) = host.place();
        let vault = Vault::birth(&place, seal, authority()).ok().unwrap();
        (host, place, vault)
    }

    /// Where a vault that has just been started finds the chip.
    fn place(&self) -> (Place, Box<TpmSeal>) {
        let open = |name: &str| File::open(self.disk.path().join(name)).unwrap();
        let clock = HostClock::new(&"0".repeat(32), "").ok().unwrap();
        let tpm = Tpm::new(self.tpm.connect()).unwrap();
        let map = HostMap::new(tpm.clone(), open("host")).unwrap();
        let folder = StateFolder::take(open("state")).unwrap();
        let mut place = Place::new(folder, Box::new(clock));
        place.witness = Some(RefCell::new(Box::new(map)));
        (place, Box::new(TpmSeal::new(tpm)))
    }

    /// Opens the chip as a vault that has just been started.
    fn open(&self) -> Result<(Place, Vault), Error> {
        let (place, seal) = self.place();
        match Vault::open(&place, seal) {
            Ok(vault) => Ok((place, vault)),
            Err(ChangeError::Unchanged(error) | ChangeError::Uncertain(error)) => Err(error),
        }
    }

    /// Whether the chip says that something was put back. Then it gives no disk away.
    fn is_put_back(&self) -> bool {
        let (place, mut vault) = self.open().ok().unwrap();
        let is_put_back = vault.status(&place).put_back;
        if is_put_back {
            let refused = vault.begin_session(&place).unwrap_err();
            assert!(matches!(refused, ChangeError::Unchanged(Error::PutBack(_))));
        }
        is_put_back
    }

    fn copy(&self) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_folders(self.disk.path(), copy.path(), ALL);
        copy
    }

    fn put_back(&self, copy: &TempDir, folders: &[&str]) {
        copy_folders(copy.path(), self.disk.path(), folders);
    }
}

fn copy_folders(from: &Path, to: &Path, folders: &[&str]) {
    for folder in folders {
        let (from, to) = (from.join(folder), to.join(folder));
        let _ = fs::remove_dir_all(&to);
        fs::create_dir(&to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn volume_key(vault: &Vault) -> [u8; 32] {
    *vault.volume_key().ok().unwrap().expose()
}

/// Promise: the chip is the same after the host was switched off.
#[test]
fn chip_is_the_same() {
    let (mut host, place, vault) = Host::with_chip();
    let (ecid, key) = (vault.ecid(), volume_key(&vault));
    drop((place, vault));
    host.tpm.cut_power();
    let (place, vault) = host.open().ok().unwrap();
    assert_eq!((vault.ecid(), volume_key(&vault)), (ecid, key));
    let status = vault.status(&place);
    assert_eq!(
        (status.seal, status.root(), status.put_back),
        ("tpm2", "tpm", false)
    );
}

/// Attack: the disk of the host is stolen, or copied to another host, which has a TPM too.
#[test]
fn stolen_disk_opens_nowhere() {
    let (host, place, vault) = Host::with_chip();
    drop((place, vault));
    let elsewhere = Host::start();
    elsewhere.put_back(&host.copy(), ALL);
    assert_eq!(
        elsewhere.open().err(),
        Some(Error::Tpm(tpm::Error::OtherTpm))
    );
    assert!(host.open().is_ok());
}

/// Attack: all of the host's disk, or one part of it, is put back to an older day. Each is noticed;
/// the newest day, put back after that, is the newest; and whatever was put back, its owner can
/// have it erased and go on.
#[test]
fn older_day_is_noticed() {
    for folders in [ALL, STATE, MAP] {
        let (host, place, mut vault) = Host::with_chip();
        let older = host.copy();
        vault.begin_session(&place).unwrap();
        drop((place, vault));
        let newest = host.copy();
        for _ in 0..2 {
            host.put_back(&older, folders);
            assert!(host.is_put_back(), "{folders:?}");
            host.put_back(&newest, folders);
            assert!(!host.is_put_back(), "{folders:?}");
        }
        host.put_back(&older, folders);
        let (place, mut vault) = host.open().ok().unwrap();
        vault.erase(&place).unwrap();
        vault.format(&place).unwrap();
        drop((place, vault));
        assert!(!host.is_put_back(), "{folders:?}");
        host.put_back(&newest, ALL);
        assert!(host.open().is_err(), "{folders:?}");
    }
}

/// Attack: everything that lies on disks is copied before an erase and put back after it. It opens
/// nothing, ever again; the control is the same before the erase.
#[test]
fn erase_reaches_copies() {
    let (host, place, vault) = Host::with_chip();
    let key = volume_key(&vault);
    drop((place, vault));
    let before = host.copy();
    host.put_back(&before, ALL);
    assert_eq!(volume_key(&host.open().ok().unwrap().1), key);

    let (place, mut vault) = host.open().ok().unwrap();
    vault.erase(&place).unwrap();
    drop((place, vault));
    let after = host.copy();
    for folders in [ALL, STATE] {
        host.put_back(&before, folders);
        assert!(
            matches!(host.open().err(), Some(Error::Sealed(_))),
            "{folders:?}"
        );
    }
    host.put_back(&after, ALL);
    let (place, mut vault) = host.open().ok().unwrap();
    assert_eq!(vault.status(&place).life, Life::Erased);
    vault.format(&place).unwrap();
    assert_ne!(volume_key(&vault), key);
}

/// Promise: wherever a power cut interrupts an erase, the chip opens afterwards, as it was or
/// erased, and nothing of the other state is left in the TPM.
#[test]
fn erase_cut_at_each_command() {
    let (host, place, vault) = Host::with_chip();
    drop((place, vault));
    for carried_out in [false, true] {
        let (mut commands, mut erased_seen) = (0, 0);
        loop {
            let (place, mut vault) = host.open().ok().unwrap();
            let key = volume_key(&vault);
            host.tpm.set_middleman(Some(cut_at(commands, carried_out)));
            let done = vault.erase(&place).is_ok();
            drop((place, vault));
            host.tpm.set_middleman(None);

            let (place, mut vault) = host.open().ok().unwrap();
            let status = vault.status(&place);
            assert!(!status.put_back, "command {commands}");
            let is_erased = status.life == Life::Erased;
            assert!(is_erased || volume_key(&vault) == key, "command {commands}");
            assert!(is_erased || !done, "command {commands}");
            // The map's two and the chip's one.
            let body = [0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 254];
            let indices = host.tpm.carry_out(&emulated_tpm::plain(0x17a, &body));
            assert_eq!(indices[18], 3, "command {commands}");
            if is_erased {
                vault.format(&place).unwrap();
                erased_seen += 1;
            }
            if done {
                break;
            }
            commands += 1;
        }
        assert!(
            commands > 10 && erased_seen > 1,
            "{commands}, {erased_seen}"
        );
    }
}
