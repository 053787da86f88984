//! How often a secret may be guessed, whatever is cut, restarted or waited for.

use super::*;
use crate::attempts::TRIES;

/// Promise: ten tries, no matter what is cut, restarted or waited; never one more answer.
#[test]
fn tries_are_counted() {
    let chip = locked_chip();
    let clock = Hand::new();
    let (mut answers, mut waited) = (0, 0);
    for guess in 0..40 {
        let ours = place_with(&chip, &clock);
        let mut vault = open(&ours);
        match try_with(
            &mut vault,
            &ours,
            Budget::Password,
            &format!("guess {guess}"),
        ) {
            Err(ChangeError::Unchanged(Error::Wrong)) => answers += 1,
            Err(ChangeError::Unchanged(Error::Wait)) => {
                let wait = vault.status(&ours).tries[0].wait_seconds;
                clock.pass(wait);
                waited += wait;
            }
            Err(ChangeError::Unchanged(Error::Disabled)) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        (answers, waited),
        (TRIES, 60 + 300 + 900 + 3600 + 10800 + 2 * 28800)
    );
    let ours = place_with(&chip, &clock);
    let mut vault = open(&ours);
    let disabled = Err(Error::Disabled.into());
    assert_eq!(
        try_with(&mut vault, &ours, Budget::Password, RIGHT),
        disabled
    );
    assert_eq!(vault.status(&ours).life, Life::InUse);
    let recovered = try_with(&mut vault, &ours, Budget::PasswordInRecovery, RIGHT);
    assert_eq!(recovered, Ok(()));
    assert_eq!(vault.begin_session(&ours), Ok(()));
}

/// Promise: where every try is spent there is only the erase.
#[test]
fn locked_out() {
    let chip = locked_chip();
    let clock = Hand::new();
    let ours = place_with(&chip, &clock);
    let mut vault = open(&ours);
    for budget in [Budget::Password, Budget::PasswordInRecovery] {
        for guess in 0..TRIES {
            clock.pass(8 * 3600);
            let wrong = try_with(&mut vault, &ours, budget, &format!("guess {guess}"));
            assert_eq!(wrong, Err(Error::Wrong.into()));
        }
    }
    assert_eq!(vault.status(&ours).life, Life::LockedOut);
    assert_eq!(vault.begin_session(&ours), Err(Error::Locked.into()));
    assert_eq!(vault.format(&ours), Err(Error::Locked.into()));
    vault.erase(&ours).unwrap();
    assert_eq!(vault.status(&ours).life, Life::Erased);
    vault.format(&ours).unwrap();
    assert_eq!(vault.status(&ours).life, Life::InUse);
}

/// Promise: a right secret gives all tries back, the same wrong one as just before its own, and
/// another wrong one none.
#[test]
fn tries_given_back() {
    let chip = locked_chip();
    let ours = place(&chip);
    let mut vault = open(&ours);
    let mut failures = Vec::new();
    for text in ["a", "a", "a", "b", RIGHT, "b", "a"] {
        let _ = try_with(&mut vault, &ours, Budget::Password, text);
        failures.push(vault.status(&ours).tries[0].failures);
    }
    assert_eq!(failures, [1, 1, 1, 2, 0, 1, 2]);
}

/// Promise: a restart of the host begins the wait again, and durably so.
#[test]
fn waits_begin_again() {
    let chip = locked_chip();
    let clock = Hand::new();
    let ours = place_with(&chip, &clock);
    let mut vault = open(&ours);
    for text in ["a", "b", "c", "d"] {
        let _ = try_with(&mut vault, &ours, Budget::Password, text);
    }
    let wait = |vault: &Vault| vault.status(&ours).tries[0].wait_seconds;
    assert_eq!(wait(&vault), 60);
    clock.pass(50);
    assert_eq!(wait(&open(&ours)), 10);
    clock.boot();
    assert_eq!(wait(&open(&ours)), 60);
    clock.pass(20);
    assert_eq!(wait(&open(&ours)), 40);
}

/// Promise: whenever the power is cut during a try, wrong or right, at least what was answered is
/// charged, and the chip opens.
#[test]
fn tries_cut_at_each_change() {
    let chip = locked_chip();
    for (text, right) in [("a guess", false), (RIGHT, true)] {
        let (mut steps, mut charged) = (0, [0; 2]);
        loop {
            let folder = copy(chip.path());
            let cut = place(&folder);
            let mut vault = open(&cut);
            cut.folder.leave_power(Some(steps));
            let result = try_with(&mut vault, &cut, Budget::Password, text);
            drop(cut);
            let ours = place(&folder);
            let failures = open(&ours).status(&ours).tries[0].failures;
            let answered = result == Ok(()) || result == Err(Error::Wrong.into());
            assert!(failures <= 1);
            if answered {
                assert_eq!(failures, u64::from(!right), "{steps}");
                charged[0] += 1;
            } else {
                charged[1] += failures;
            }
            if charged[0] > 6 {
                break;
            }
            steps += 1;
        }
        assert!(charged[1] > 0, "a cut between charge and answer was seen");
    }
}
