//! Work orders: each counts once, whatever is cut, put back or forged.

use super::*;

/// Promise: an order counts for one chip, one job and its own time, once, and only where somebody
/// who is trusted signed it; a refusal changes nothing.
#[test]
fn orders_are_refused() {
    let (chip, key) = trusting();
    let ours = place(&chip);
    let mut vault = open(&ours);
    let ecid = vault.ecid();
    let order = asked(ecid, 1);
    let good = signed(&key, &order);
    let none = Error::Order("it is none");
    let stranger = Error::Order("no trusted provider signed it");
    let other_job = Order {
        job: Job::parse("memory 128").unwrap(),
        ..order.clone()
    };
    let last = order.validity.not_after();
    let before = (record(&vault), vault.status(&ours).boundaries);
    for (bytes, time, error) in [
        (signed(&new_key(), &order), NOW, stranger),
        (good[1..].to_vec(), NOW, Error::Order("it is none")),
        ([&good[..], &[0]].concat(), NOW, none),
        (b"an order".to_vec(), NOW, Error::Order("it is none")),
        (signed(&key, &asked(ecid ^ 1, 1)), NOW, Error::OtherChip),
        (signed(&key, &other_job), NOW, Error::Job),
        (good.clone(), NOW - 1, Error::Validity),
        (good.clone(), last + 1, Error::Validity),
        (good.clone(), 0, Error::Validity),
        (good.clone(), u64::MAX, Error::Validity),
    ] {
        let refused = by_order(&mut vault, &ours, &bytes, time);
        assert_eq!(refused, Err(error.into()));
    }
    for bit in 0..good.len() * 8 {
        let mut changed = good.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let refused = by_order(&mut vault, &ours, &changed, NOW);
        let is_order = matches!(refused, Err(ChangeError::Unchanged(Error::Order(_))));
        assert!(is_order, "bit {bit}: {refused:?}");
    }
    for end in 0..good.len() {
        let refused = by_order(&mut vault, &ours, &good[..end], NOW);
        let is_order = matches!(refused, Err(ChangeError::Unchanged(Error::Order(_))));
        assert!(is_order, "{end}: {refused:?}");
    }
    assert_eq!((record(&vault), vault.status(&ours).boundaries), before);
    // Its last second is one of its own; and then it is over.
    by_order(&mut vault, &ours, &good, last).unwrap();
    let replayed = by_order(&mut vault, &ours, &good, NOW);
    assert_eq!(replayed, Err(Error::Replayed.into()));
    let distrusted = vault.distrust_provider(&ours, &fingerprint(&key), None);
    assert_eq!(distrusted, Ok(()));
    let next = signed(&key, &asked(ecid, 2));
    let refused = by_order(&mut vault, &ours, &next, NOW);
    let stranger = Error::Order("no trusted provider signed it");
    assert_eq!(refused, Err(stranger.into()));
}

/// Promise: a spent order stays spent and the record goes on, over an erase, a new life, another
/// power-on, and where the provider was distrusted in between; the other signature that ECDSA
/// leaves is the same order.
#[test]
fn spent_orders_stay_spent() {
    let (chip, key) = trusting();
    let ours = place(&chip);
    let mut vault = open(&ours);
    let good = signed(&key, &asked(vault.ecid(), 1));
    let again = signed(&key, &asked(vault.ecid(), 1));
    assert_ne!(good, again, "each signature has a random part");
    by_order(&mut vault, &ours, &good, NOW).unwrap();
    let kept = record(&vault);
    let must_stay = |vault: &mut Vault| {
        assert_eq!(record(vault), kept);
        for order in [&good, &again] {
            let replayed = by_order(vault, &ours, order, NOW);
            assert_eq!(replayed, Err(Error::Replayed.into()));
        }
    };
    must_stay(&mut vault);
    must_stay(&mut open(&ours));
    let mut vault = open(&ours);
    vault.erase(&ours).unwrap();
    must_stay(&mut vault);
    must_stay(&mut open(&ours));
    let mut vault = open(&ours);
    vault.restore(&ours, authority()).unwrap();
    must_stay(&mut vault);
    must_stay(&mut open(&ours));
    let mut vault = open(&ours);
    vault
        .distrust_provider(&ours, &fingerprint(&key), None)
        .unwrap();
    vault
        .trust_provider(&ours, "Repairs", &spki(&key), None)
        .unwrap();
    must_stay(&mut vault);
    let entry = by_owner(&mut vault, &ours, None).unwrap();
    assert_eq!(field(&fields(&entry, &vault), "number"), uint(1));
}

/// Promise: where there is no room to remember an order, the floor does it: none is ever taken
/// twice, and whoever expires later is taken still.
#[test]
fn the_floor_remembers_what_was_dropped() {
    let (chip, key) = trusting();
    let ours = place(&chip);
    let mut vault = open(&ours);
    let ecid = vault.ecid();
    let until = |number: u64, days: u64| {
        let validity = Validity::new(NOW, NOW + days * DAY_SECONDS).unwrap();
        let order = Order {
            validity,
            ..asked(ecid, number)
        };
        signed(&key, &order)
    };
    // The third expires first, the fourth right after it.
    let days = |number| match number {
        3 => 1,
        4 => 2,
        _ => 5,
    };
    let count = SPENT_ORDERS_MAX as u64;
    for number in 0..count {
        by_order(&mut vault, &ours, &until(number, days(number)), NOW).unwrap();
    }
    // Until now every one is known by its number, and one that expires first is taken.
    for number in 0..count {
        let replayed = by_order(&mut vault, &ours, &until(number, days(number)), NOW);
        assert_eq!(replayed, Err(Error::Replayed.into()), "{number}");
    }
    let is_refused = |vault: &mut Vault, number, days, error: Error| {
        let refused = by_order(vault, &ours, &until(number, days), NOW);
        assert_eq!(refused, Err(error.into()), "{number}");
    };
    by_order(&mut vault, &ours, &until(count, 5), NOW).unwrap();
    for vault in [&mut vault, &mut open(&ours)] {
        is_refused(vault, 3, 1, Error::Validity);
        is_refused(vault, 4, 2, Error::Replayed);
        is_refused(vault, count, 5, Error::Replayed);
        // Never seen, but it expires no later than what was forgotten.
        is_refused(vault, count + 1, 1, Error::Validity);
    }
    // What expires first of all is the new one itself: it is dropped at once, and known by the floor.
    let half = Validity::new(NOW, NOW + DAY_SECONDS + 1).unwrap();
    let soonest = Order {
        validity: half,
        ..asked(ecid, count + 2)
    };
    by_order(&mut vault, &ours, &signed(&key, &soonest), NOW).unwrap();
    let refused = by_order(&mut vault, &ours, &signed(&key, &soonest), NOW);
    assert_eq!(refused, Err(Error::Validity.into()));
    is_refused(&mut vault, 4, 2, Error::Replayed);
    by_order(&mut vault, &ours, &until(count + 3, 5), NOW).unwrap();
    is_refused(&mut vault, 4, 2, Error::Validity);
    by_order(&mut vault, &ours, &until(count + 4, 3), NOW).unwrap();
    assert_eq!(open(&ours).service().entries(), count + 4);
}

/// Promise: what was put back records nothing and trusts nobody, though it says what it knows.
#[test]
fn put_back_records_nothing() {
    let (chip, key) = trusting();
    let old = copy(chip.path());
    let ours = place(&chip);
    let mut vault = open(&ours);
    by_owner(&mut vault, &ours, None).unwrap();
    drop(vault);
    fs::copy(
        old.path().join(ANCHOR_FILE_NAME),
        chip.path().join(ANCHOR_FILE_NAME),
    )
    .unwrap();
    let mut vault = open(&ours);
    assert!(vault.status(&ours).put_back);
    let order = signed(&key, &asked(vault.ecid(), 1));
    let before = record(&vault);
    for refused in [
        by_owner(&mut vault, &ours, None).err(),
        by_order(&mut vault, &ours, &order, NOW).err(),
        (vault.trust_provider(&ours, "Other", &spki(&new_key()), None)).err(),
        vault
            .distrust_provider(&ours, &fingerprint(&key), None)
            .err(),
    ] {
        let is_put_back = matches!(refused, Some(ChangeError::Unchanged(Error::PutBack(_))));
        assert!(is_put_back, "{refused:?}");
    }
    assert_eq!((record(&vault), vault.service().entries()), (before, 1));
    // A way back that its owner has.
    vault.erase(&ours).unwrap();
    by_order(&mut vault, &ours, &order, NOW).unwrap();
}

/// Promise: whenever the power is cut while an entry is made, the entry is there and its order is
/// spent, or neither; what was handed out is there.
#[test]
fn entries_cut_at_each_change() {
    let (chip, key) = trusting();
    let ours = place(&chip);
    let order = signed(&key, &asked(open(&ours).ecid(), 1));
    drop(ours);
    let (mut steps, mut seen) = (0, [0; 2]);
    loop {
        let folder = copy(chip.path());
        let cut = place(&folder);
        let mut vault = open(&cut);
        cut.folder.leave_power(Some(steps));
        let result = by_order(&mut vault, &cut, &order, NOW);
        drop(cut);
        let ours = place(&folder);
        let mut vault = open(&ours);
        let entries = vault.service().entries();
        match &result {
            Ok(entry) => assert_eq!((entries, vault.service().last()), (1, &entry[..])),
            Err(ChangeError::Unchanged(_)) => assert_eq!(entries, 0, "{steps}"),
            Err(ChangeError::Uncertain(_)) => {}
        }
        let again = by_order(&mut vault, &ours, &order, NOW);
        match entries {
            0 => assert!(again.is_ok(), "{steps}"),
            _ => assert_eq!(again, Err(Error::Replayed.into()), "{steps}"),
        }
        seen[usize::from(entries > 0)] += 1;
        if seen[1] > 6 {
            break;
        }
        steps += 1;
    }
    assert!(seen[0] > 4, "{seen:?}");
}
