//! Who may change what may start, and what the firmware password guards.

use super::starts::{LOOSEST, installed_chip, own, start, unlock_in_recovery};
use super::*;

const FIRMWARE_PASSWORD: &str = "a word for the firmware";

/// Promise: rules change in the recovery system, by its owner, in that very start; nothing else
/// opens that door.
#[test]
fn rules_change_in_recovery_alone() {
    let chip = installed_chip();
    let ours = place(&chip);
    let mut vault = open(&ours);
    let refused = |vault: &mut Vault, expected: Error| {
        let set = vault.set_policy(&ours, LOOSEST);
        assert_eq!(set.unwrap_err(), ChangeError::Unchanged(expected));
        assert!(vault.set_firmware_password(&ours, &password("x")).is_err());
        assert!(vault.remove_firmware_password(&ours).is_err());
        assert_eq!(open_rules(vault), Rules::STRICTEST);
    };
    unlock_in_recovery(&mut vault, &ours).unwrap();
    refused(&mut vault, Error::NotRecovery);
    vault.begin_start(&ours, Target::Main).ok().unwrap();
    unlock_in_recovery(&mut vault, &ours).unwrap();
    refused(&mut vault, Error::NotRecovery);
    vault.begin_start(&ours, Target::Recovery).ok().unwrap();
    refused(&mut vault, Error::Unauthorised);
    try_with(&mut vault, &ours, Budget::Password, RIGHT).unwrap();
    refused(&mut vault, Error::Unauthorised);
    own(&mut vault, &ours);
    vault.begin_start(&ours, Target::Recovery).ok().unwrap();
    refused(&mut vault, Error::Unauthorised);
    own(&mut vault, &ours);
    vault.begin_start(&ours, Target::Main).ok().unwrap();
    refused(&mut vault, Error::NotRecovery);

    own(&mut vault, &ours);
    vault.set_policy(&ours, LOOSEST).unwrap();
    assert_eq!(open_rules(&open(&ours)), LOOSEST);
    assert_eq!(vault.status(&ours).policy, "none");
    own(&mut vault, &ours);
    vault.erase(&ours).unwrap();
    let erased = vault.set_policy(&ours, Rules::STRICTEST);
    assert_eq!(erased, Err(Error::Unauthorised.into()));
    assert_eq!(open_rules(&vault), LOOSEST);
}

fn open_rules(vault: &Vault) -> Rules {
    vault.boot().rules
}

/// Promise: the firmware password is asked for before anything but the chosen system starts, each
/// time; its tries are its own, and no other secret gives them back.
#[test]
fn firmware_password() {
    let chip = installed_chip();
    let clock = Hand::new();
    let ours = place_with(&chip, &clock);
    let mut vault = open(&ours);
    let none = vault.check_firmware_password(&ours, &password("x"));
    assert_eq!(none, Err(Error::Absent.into()));
    own(&mut vault, &ours);
    vault.set_policy(&ours, LOOSEST).unwrap();
    (vault.set_firmware_password(&ours, &password(FIRMWARE_PASSWORD))).unwrap();
    let guarded = [Target::Other, Target::External, Target::Recovery];
    let needed = Some(ChangeError::Unchanged(Error::FirmwarePassword));
    for target in guarded {
        assert_eq!(vault.begin_start(&ours, target).err(), needed);
        let right = &password(FIRMWARE_PASSWORD);
        vault.check_firmware_password(&ours, right).unwrap();
        assert!(vault.boot().firmware_password_given);
        vault.begin_start(&ours, target).ok().unwrap();
        assert!(!vault.boot().firmware_password_given);
    }
    assert_eq!(start(&mut vault, &ours), (Slot::A, false));
    assert_eq!(vault.begin_start(&ours, Target::Recovery).err(), needed);

    let mut vault = open(&ours);
    for guess in ["a", "b", "c", RIGHT] {
        let wrong = vault.check_firmware_password(&ours, &password(guess));
        let is_charged = wrong == Err(Error::Wrong.into());
        assert_eq!(is_charged, guess != RIGHT);
    }
    vault.set_password(&ours, &password("x")).unwrap_err();
    try_with(&mut vault, &ours, Budget::Password, RIGHT).unwrap();
    vault.erase(&ours).unwrap();
    let tries = &vault.status(&ours).tries[crate::contents::FIRMWARE_PASSWORD];
    assert_eq!((tries.name, tries.failures), ("firmware_password", 3));
    assert_eq!(tries.wait_seconds, 60);
    clock.pass(60);
    let right = password(FIRMWARE_PASSWORD);
    vault.check_firmware_password(&ours, &right).unwrap();
    let tries = &vault.status(&ours).tries[crate::contents::FIRMWARE_PASSWORD];
    assert_eq!(tries.failures, 0);
}
