//! The seal against an emulated TPM.

use std::fs::{self, File};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::*;
use crate::seal::KEY_FILE_NAME;
use emulated_tpm::{EmulatedTpm, code, cut_at, plain};

const CC_GET_CAPABILITY: u32 = 0x17a;
const CC_NV_DEFINE_SPACE: u32 = 0x12a;

fn connect(tpm: &EmulatedTpm) -> Tpm {
    Tpm::new(tpm.connect()).unwrap()
}

/// A chip's folder on the host of a TPM.
struct Chip {
    tpm: EmulatedTpm,
    place: TempDir,
}

impl Chip {
    fn start() -> Chip {
        Chip {
            tpm: EmulatedTpm::start(),
            place: tempfile::tempdir().unwrap(),
        }
    }

    fn seal(&self) -> TpmSeal {
        TpmSeal::new(connect(&self.tpm))
    }

    fn folder(&self) -> StateFolder {
        // Not locked: a program that another test is just starting could hold the lock a little
        // longer.
        StateFolder::share(File::open(self.place.path()).unwrap()).unwrap()
    }

    fn create(&self, previous: Option<&Parameters>) -> Result<([u8; 32], Parameters), Error> {
        let created = self.seal().create(&self.folder(), previous);
        created.map(|(key, parameters)| (*key.expose(), parameters))
    }

    fn recall(&self, parameters: &Parameters) -> Result<[u8; 32], Error> {
        let key = self.seal().recall(&self.folder(), parameters);
        key.map(|key| *key.expose())
    }

    fn destroy(&self, parameters: &Parameters) -> Result<Option<Destroyed>, Error> {
        self.seal().destroy(&self.folder(), parameters)
    }

    /// The handles of the TPM's indices.
    fn indices(&self) -> Vec<u32> {
        let body = [0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 254];
        let answer = self.tpm.carry_out(&plain(CC_GET_CAPABILITY, &body));
        let handles = answer[19..].chunks_exact(4);
        handles
            .map(|handle| u32::from_be_bytes(handle.try_into().unwrap()))
            .collect()
    }

    /// Makes an index of somebody else's.
    fn occupy(&self, handle: u32) {
        let tpm = connect(&self.tpm);
        let mut session = tpm.session(None).unwrap();
        let mut index = session
            .define(definition(handle), &Zeroizing::new([7; 32]))
            .unwrap();
        session.write(&mut index, &[7; 32]).unwrap();
    }
}

fn handle(parameters: &Parameters) -> u32 {
    Spot::decode(parameters).unwrap().handle
}

const DELETED: Error = Error::Sealed("its secret was deleted from the TPM");
const NOT_OURS: Error = Error::Sealed("the TPM's index is not this chip's");

/// Promise: the same key comes back, for another vault, after a power cut; each chip has its own.
#[test]
fn key_comes_back() {
    let mut chip = Chip::start();
    let (key, parameters) = chip.create(None).unwrap();
    assert_eq!(chip.recall(&parameters), Ok(key));
    chip.tpm.cut_power();
    assert_eq!(chip.recall(&parameters), Ok(key));
    assert_eq!(chip.indices(), [handle(&parameters)]);

    let place = std::mem::replace(&mut chip.place, tempfile::tempdir().unwrap());
    let (other_key, other_parameters) = chip.create(None).unwrap();
    assert_ne!(key, other_key);
    // With another chip's key file the index stays closed.
    assert_eq!(chip.recall(&parameters), Err(NOT_OURS));
    chip.place = place;
    assert_eq!(chip.recall(&other_parameters), Err(NOT_OURS));
    assert_eq!(chip.recall(&parameters), Ok(key));
}

/// Attack: the state folder on another host, and the TPM without the folder's key file.
#[test]
fn neither_half_opens() {
    let mut chip = Chip::start();
    let (key, parameters) = chip.create(None).unwrap();
    let here = std::mem::replace(&mut chip.tpm, EmulatedTpm::start());
    assert_eq!(
        chip.recall(&parameters),
        Err(Error::Tpm(TpmError::OtherTpm))
    );
    // An index of the same number, made by who does not know the secret.
    chip.occupy(handle(&parameters));
    assert_eq!(
        chip.recall(&parameters),
        Err(Error::Tpm(TpmError::OtherTpm))
    );
    let session = connect(&chip.tpm).session(None).unwrap();
    let mut forged = parameters;
    forged[KEY_NAME_OFFSET..][..KEY_NAME_SIZE_BYTES].copy_from_slice(session.key_name());
    drop(session);
    assert_eq!(chip.recall(&forged), Err(NOT_OURS));
    chip.tpm = here;

    let key_file = chip.place.path().join(KEY_FILE_NAME);
    let right = fs::read(&key_file).unwrap();
    fs::remove_file(&key_file).unwrap();
    assert_eq!(
        chip.recall(&parameters),
        Err(Error::Sealed("the key file is missing"))
    );
    let mut wrong = right.clone();
    wrong[31] ^= 1;
    fs::write(&key_file, wrong).unwrap();
    assert_eq!(chip.recall(&parameters), Err(NOT_OURS));
    fs::write(&key_file, right).unwrap();
    assert_eq!(chip.recall(&parameters), Ok(key));
}

/// Attack: everything of the chip is copied before an erase and put back after it. The secret is
/// gone from the TPM, so that the copy opens nothing; what was made since opens.
#[test]
fn erased_key_is_gone() {
    let chip = Chip::start();
    let (mut key, mut parameters) = chip.create(None).unwrap();
    for _ in 0..3 {
        let (new_key, new_parameters) = chip.create(Some(&parameters)).unwrap();
        assert_ne!(key, new_key);
        assert_eq!(handle(&new_parameters), other(handle(&parameters)));
        // Until the new store counts, both are there.
        assert_eq!(chip.recall(&parameters), Ok(key));
        let destroyed = chip.destroy(&parameters).unwrap().unwrap();
        let name = format!("NV index {:#010x} of the host's TPM", handle(&parameters));
        assert_eq!(destroyed.place, name);
        assert_eq!(chip.recall(&parameters), Err(DELETED));
        assert_eq!(chip.destroy(&parameters), Ok(None));
        assert_eq!(chip.recall(&new_parameters), Ok(new_key));
        (key, parameters) = (new_key, new_parameters);
    }
    assert_eq!(chip.indices(), [handle(&parameters)]);
}

/// Promise: wherever a power cut stops the making or the deleting of an index, the store that
/// counts opens, and what is left of the other is put away.
#[test]
fn cut_at_each_command() {
    for carried_out in [false, true] {
        for deleting in [false, true] {
            let chip = Chip::start();
            let (key, parameters) = chip.create(None).unwrap();
            let mut commands = 0;
            loop {
                let second = deleting.then(|| chip.create(Some(&parameters)).unwrap());
                chip.tpm.set_middleman(Some(cut_at(commands, carried_out)));
                let done = match &second {
                    Some((_, second)) => chip.destroy(second).is_ok(),
                    None => chip.create(Some(&parameters)).is_ok(),
                };
                chip.tpm.set_middleman(None);
                chip.seal().tidy(&chip.folder(), &parameters);
                assert_eq!(chip.indices(), [handle(&parameters)], "{commands}");
                assert_eq!(chip.recall(&parameters), Ok(key), "{commands}");
                if done {
                    break;
                }
                commands += 1;
            }
            assert!(commands > 4, "{commands}");
        }
    }
}

/// Promise: a birth that was cut short and is repeated leaves one index.
#[test]
fn birth_is_repeated() {
    let chip = Chip::start();
    for _ in 0..3 {
        let (key, parameters) = chip.create(None).unwrap();
        assert_eq!(chip.recall(&parameters), Ok(key));
        assert_eq!(chip.indices(), [handle(&parameters)]);
    }
}

/// Promise: what belongs to others is never touched, whichever numbers they took.
#[test]
fn others_are_left_alone() {
    let chip = Chip::start();
    let (key, parameters) = chip.create(None).unwrap();
    let taken = other(handle(&parameters));
    chip.occupy(taken);
    chip.seal().tidy(&chip.folder(), &parameters);
    let mut forged = parameters;
    forged[..KEY_NAME_OFFSET].copy_from_slice(&taken.to_be_bytes());
    assert_eq!(chip.destroy(&forged), Ok(None));
    assert!(chip.indices().contains(&taken));
    assert_eq!(chip.recall(&parameters), Ok(key));

    // The next index lies elsewhere, in a pair that is free.
    let (new_key, new_parameters) = chip.create(Some(&parameters)).unwrap();
    assert_ne!(handle(&new_parameters) & !1, handle(&parameters) & !1);
    assert_eq!(
        (chip.recall(&parameters), chip.recall(&new_parameters)),
        (Ok(key), Ok(new_key))
    );
    chip.destroy(&parameters).unwrap().unwrap();
    assert_eq!(chip.indices().len(), 2);

    // A handle out of our range is no parameter of ours.
    forged[..KEY_NAME_OFFSET].copy_from_slice(&0x01c0_0002_u32.to_be_bytes());
    assert!(matches!(chip.destroy(&forged), Err(Error::Corrupt(_))));
}

/// Promise: a chip whose key file is lost can still be destroyed: its secret does not stay behind
/// for who has a copy of the file.
#[test]
fn destroyed_without_the_key_file() {
    let chip = Chip::start();
    let (_, parameters) = chip.create(None).unwrap();
    fs::remove_file(chip.place.path().join(KEY_FILE_NAME)).unwrap();
    assert!(chip.destroy(&parameters).unwrap().is_some());
    assert!(chip.indices().is_empty());
}

/// Promise: a TPM without room, or whose owner set an authorisation, says so; no index is left.
#[test]
fn refusals_leave_nothing() {
    let chip = Chip::start();
    let refusal = Arc::new(Mutex::new(0));
    let asked = refusal.clone();
    chip.tpm
        .set_middleman(Some(Box::new(move |command, carry_out| {
            let refused = code(command) == CC_NV_DEFINE_SPACE;
            let code: u32 = *asked.lock().unwrap();
            Some(if refused {
                plain(code, &[])
            } else {
                carry_out(command)
            })
        })));
    for (code, error) in [
        (0x14b, TpmError::Full),
        (0x9a2, TpmError::OwnerAuthorisation),
        (0x921, TpmError::LockedOut),
    ] {
        *refusal.lock().unwrap() = code;
        assert_eq!(chip.create(None), Err(Error::Tpm(error)));
    }
    assert!(chip.indices().is_empty());
}

/// Promise: `docs/vault-store.md` and the constants of the seal say the same.
#[test]
fn document_has_the_constants() {
    let document = include_str!("../../../../../docs/vault-store.md");
    let section = document.split("\n## The seal with a TPM\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let end = KEY_NAME_OFFSET + KEY_NAME_SIZE_BYTES;
    for text in [
        format!("| {HANDLE_OFFSET} | {} | handle |", KEY_NAME_OFFSET),
        format!("| {KEY_NAME_OFFSET} | {KEY_NAME_SIZE_BYTES} | TPM's name |"),
        format!("| {end} | {} | zero |", PARAMETERS_SIZE_BYTES - end),
        format!("{HANDLE_FIRST:#010x} to {HANDLE_LAST:#010x}"),
        format!("`{}`", SEALING_LABEL.escape_ascii()),
        format!("`{}`", AUTH_LABEL.escape_ascii()),
        format!("`{}`", HANDLE_LABEL.escape_ascii()),
        format!("{} random bytes as input", tpm::DATA_SIZE_BYTES),
    ] {
        assert!(section.contains(&text), "{text}");
    }
}
