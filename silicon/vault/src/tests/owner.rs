//! What the owner changes: passwords, the recovery key, older states of the disk, lives.

use super::*;

/// Promise: passwords come, change and go without the disk's key changing; an old one is dead.
#[test]
fn passwords_change() {
    let chip = chip();
    let (key, _) = disk(&chip);
    let ours = place(&chip);
    let proof = |secret| Proof {
        budget: Budget::Password,
        secret,
    };
    let (one, two) = (&password("one"), &password("two"));
    open(&ours).set_password(&ours, one).unwrap();
    let mut vault = open(&ours);
    assert_eq!(vault.volume_key().err(), Some(Error::Locked));
    assert_eq!(vault.begin_session(&ours), Err(Error::Locked.into()));
    assert_eq!(vault.set_password(&ours, two), Err(Error::Present.into()));
    let wrong = vault.change_password(&ours, &proof(two), two);
    assert_eq!(wrong, Err(Error::Wrong.into()));
    vault.change_password(&ours, &proof(one), two).unwrap();
    let mut vault = open(&ours);
    assert_eq!(vault.unlock(&ours, &proof(one)), Err(Error::Wrong.into()));
    vault.unlock(&ours, &proof(two)).unwrap();
    assert_eq!(*vault.volume_key().ok().unwrap().expose(), key);
    vault.remove_password(&ours, &proof(two)).unwrap();
    assert_eq!(disk_at(&ours), (key, Some(OLD.to_vec())));
    let absent = Err(Error::Absent.into());
    assert_eq!(open(&ours).unlock(&ours, &proof(two)), absent);
}

/// Promise: the recovery key opens a disk whose password was forgotten, a later one replaces it,
/// a mistyped one costs nothing, and a bundle carries the disk to another chip.
#[test]
fn recovery() {
    let chip = locked_chip();
    let ours = place(&chip);
    let mut vault = open(&ours);
    assert_eq!(
        vault.make_recovery_key(&ours, None).err(),
        Some(Error::Unauthorised.into())
    );
    let right = &password(RIGHT);
    let proof = Proof {
        budget: Budget::Password,
        secret: right,
    };
    let first = vault.make_recovery_key(&ours, Some(&proof)).unwrap();
    let second = vault.make_recovery_key(&ours, Some(&proof)).unwrap();
    let (key, bundle) = (
        *vault.volume_key().ok().unwrap().expose(),
        vault.export_recovery().unwrap(),
    );
    let mut vault = open(&ours);
    assert_eq!(vault.export_recovery().err(), Some(Error::Locked));
    let mistyped = try_with(&mut vault, &ours, Budget::RecoveryKey, "AAAA-BBBB");
    assert!(matches!(
        mistyped,
        Err(ChangeError::Unchanged(Error::Secret(_)))
    ));
    let old = try_with(&mut vault, &ours, Budget::RecoveryKey, &first);
    assert_eq!(old, Err(Error::Wrong.into()));
    assert_eq!(vault.status(&ours).tries[2].failures, 1);
    try_with(
        &mut vault,
        &ours,
        Budget::RecoveryKey,
        &second.to_lowercase(),
    )
    .unwrap();
    assert_eq!(*vault.volume_key().ok().unwrap().expose(), key);
    drop(ours);

    let folder = tempfile::tempdir().unwrap();
    let new_place = place(&folder);
    let adopt = |text: &str| {
        let key = RecoveryKey::parse(&password(text)).unwrap();
        Vault::adopt_bundle(&new_place, Box::new(KeyFile), &bundle, &key, authority())
    };
    assert_eq!(adopt(&first).err(), Some(Error::Wrong.into()));
    let mut new = adopt(&second).ok().unwrap();
    assert_ne!(new.ecid(), vault.ecid());
    assert_ne!(new.identity().kek, vault.identity().kek);
    assert_ne!(
        new.identity().identity_public_key,
        vault.identity().identity_public_key
    );
    assert_eq!(*new.volume_key().ok().unwrap().expose(), key);
    assert!(new.begin_session(&new_place).is_err());
    new.begin_adoption().unwrap();
    assert!(matches!(new.newest_anchor(), Ok(Remembered::Adopt)));
    new.write_anchor(&new_place, 3, NEW).unwrap();
    assert_eq!(disk_at(&new_place), (key, Some(NEW.to_vec())));
    let status = open(&new_place).status(&new_place);
    assert_eq!((status.rollbacks, status.recovery_key), (1, true));
}

/// Promise: an older state of the disk is let in only once its owner proved to be one, and once.
#[test]
fn rollbacks_are_authorised() {
    let chip = locked_chip();
    let ours = place(&chip);
    let mut vault = open(&ours);
    try_with(&mut vault, &ours, Budget::Password, RIGHT).unwrap();
    assert_eq!(vault.begin_adoption(), Err(Error::Unauthorised));
    let no_proof = vault.authorise_rollback(&ours, None);
    assert_eq!(no_proof, Err(Error::Unauthorised.into()));
    let secret = &password(RIGHT);
    let proof = Proof {
        budget: Budget::Password,
        secret,
    };
    vault.authorise_rollback(&ours, Some(&proof)).unwrap();
    vault.begin_adoption().unwrap();
    assert_eq!(vault.begin_adoption(), Err(Error::Unauthorised));
    vault.write_anchor(&ours, 2, b"an older one").unwrap();
    assert_eq!(
        vault.write_anchor(&ours, 1, b"older yet"),
        Err(Error::Backwards.into())
    );
    assert_eq!(vault.status(&ours).rollbacks, 1);
    assert_eq!(anchor(&mut open(&ours)).unwrap(), b"an older one");
}

/// Promise: an erase leaves no key and no bytes of the old store, on any path; a new life has
/// other keys to start with and the same identity.
#[test]
fn erased_and_restored() {
    let chip = locked_chip();
    let before = copy(chip.path());
    let ours = place(&chip);
    let mut vault = open(&ours);
    let (identity, kek) = (
        vault.identity().identity_public_key.to_vec(),
        vault.identity().kek.to_vec(),
    );
    let receipt = vault.erase(&ours).unwrap();
    assert!(receipt.windows(9).any(|part| part == b"media key"));
    for entry in fs::read_dir(chip.path()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        let old = fs::read(before.path().join("vault.sealed")).unwrap();
        assert!(!bytes.windows(64).any(|part| part == &old[200..264]));
    }
    let mut vault = open(&ours);
    assert_eq!(vault.status(&ours).life, Life::Erased);
    assert_eq!(vault.volume_key().err(), Some(Error::Absent));
    assert_eq!(anchor(&mut vault), None);
    assert_eq!(vault.identity().kek, kek);
    vault.restore(&ours, authority()).unwrap();
    assert_eq!(vault.identity().identity_public_key, identity);
    assert_ne!(vault.identity().kek, kek);
    assert_eq!(vault.status(&ours).lives, 2);
    vault.format(&ours).unwrap();
    assert!(open(&ours).volume_key().is_ok());
}

/// Promise: whenever the power is cut during a change of the password, the old one or the new one
/// opens the disk, and never neither.
#[test]
fn password_change_cut_at_each_change() {
    let chip = locked_chip();
    let (old, new) = (&password(RIGHT), &password("new"));
    let opens = |folder: &TempDir, secret: &Password| {
        let ours = place(folder);
        let budget = Budget::Password;
        let unlocked = open(&ours).unlock(&ours, &Proof { budget, secret });
        unlocked.is_ok()
    };
    let (mut steps, mut seen) = (0, [0; 2]);
    while seen[1] < 4 {
        let folder = copy(chip.path());
        let cut = place(&folder);
        let mut vault = open(&cut);
        cut.folder.leave_power(Some(steps));
        let proof = Proof {
            budget: Budget::Password,
            secret: old,
        };
        let result = vault.change_password(&cut, &proof, new);
        drop(cut);
        let by_old = opens(&folder, old);
        assert_eq!(opens(&folder, new), !by_old, "{steps}");
        if result.is_ok() {
            assert!(!by_old);
        }
        seen[usize::from(!by_old)] += 1;
        // The try before the change has its own test.
        steps += 3;
    }
    assert!(seen[0] > 0);
}
