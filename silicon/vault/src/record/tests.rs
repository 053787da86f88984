use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use ticket::{Job, Validity};

use super::*;

fn provider(name: &str) -> Provider {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let key = key.public_key().as_der().unwrap();
    Provider::new(name, key.as_ref().try_into().unwrap()).unwrap()
}

fn order(number: u8, not_after: u64) -> Order {
    Order {
        ecid: 7,
        id: [number; ORDER_ID_SIZE_BYTES],
        job: Job::parse("stand").unwrap(),
        issued: 0,
        validity: Validity::new(not_after, not_after).unwrap(),
    }
}

fn example() -> Record {
    let mut record = Record::default();
    record.trust(provider("one")).unwrap();
    record.trust(provider("two")).unwrap();
    record.spend(&order(1, 10));
    record.spend(&order(2, u64::MAX));
    record.append(vec![1]);
    record.append(vec![2, 3]);
    record.floor = 5;
    record
}

fn written(record: &Record) -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    let mut writer = Writer::new(&mut bytes);
    writer.begin(FIELDS).unwrap();
    record.write(&mut writer).unwrap();
    let size = writer.position();
    bytes.truncate(size);
    bytes
}

fn read(bytes: &[u8]) -> Result<Record, Error> {
    Record::read(&mut Reader::new(bytes, FIELDS)?)
}

/// Promise: what the store keeps is what was there, with or without anything in it.
#[test]
fn records_are_read_again() {
    for record in [Record::default(), example()] {
        assert_eq!(read(&written(&record)), Ok(record));
    }
}

/// Promise: a record that does not hang together is corrupt: a head of another entry, entries
/// without a last one, a provider twice, too many of anything.
#[test]
fn broken_records_are_corrupt() {
    type Change = fn(&mut Record);
    let changes: [Change; 9] = [
        |record| record.head[0] ^= 1,
        |record| record.last.push(0),
        |record| record.last.clear(),
        |record| record.entries = 0,
        |record| record.append(vec![0; ENTRY_SIZE_BYTES_MAX + 1]),
        |record| record.providers.push(record.providers[0].clone()),
        |record| record.providers[0].name = "a\nb".to_owned(),
        |record| record.providers[0].key[90] ^= 1,
        |record| {
            let spent = record.spent[0].clone();
            record.spent = vec![spent; SPENT_ORDERS_MAX + 1];
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut record = example();
        change(&mut record);
        assert_eq!(read(&written(&record)), Err(DAMAGED), "{number}");
    }
    let mut many = example();
    many.providers = (0..=PROVIDERS_MAX).map(|_| provider("x")).collect();
    assert_eq!(read(&written(&many)), Err(DAMAGED));
}

/// Promise: no bytes make the reader panic, and what it takes is read the same again.
#[test]
fn changed_bytes_are_read_strictly() {
    let whole = written(&example());
    for end in 0..whole.len() {
        assert!(read(&whole[..end]).is_err(), "{end}");
    }
    for at in 0..whole.len() {
        for value in [0x00, 0x17, 0x1b, 0x5b, 0x7f, 0x80, 0x9b, 0x9f, 0xbf, 0xff] {
            let mut changed = whole.clone();
            changed[at] = value;
            if let Ok(record) = read(&changed) {
                assert_eq!(read(&written(&record)), Ok(record));
            }
        }
    }
}

/// Promise: the floor never goes down, and of many orders those that expire last are remembered.
#[test]
fn the_floor_only_rises() {
    let mut record = Record::default();
    let mut floor = 0;
    for number in 0..=u8::MAX {
        // Up and down, each twice.
        let not_after = 1000 + u64::from(number.reverse_bits() / 2);
        record.spend(&order(number, not_after));
        assert!(record.floor >= floor);
        floor = record.floor;
        assert!(record.spent.len() <= SPENT_ORDERS_MAX);
        assert!(record.spent.iter().all(|spent| spent.not_after >= floor));
        for earlier in 0..=number {
            let not_after = 1000 + u64::from(earlier.reverse_bits() / 2);
            let order = order(earlier, not_after);
            assert!(record.check_order(&order, not_after).is_err(), "{earlier}");
        }
    }
    assert_eq!(record.spent.len(), SPENT_ORDERS_MAX);
    let known = record.spent[0].id;
    let mut later = order(0, floor + 1);
    assert_eq!(record.check_order(&later, floor + 1), Ok(()));
    later.id = known;
    assert_eq!(record.check_order(&later, floor + 1), Err(Error::Replayed));
}
