//! The same for work orders, which no key can make pass for tickets.

use super::*;

const DAY_SECONDS: u64 = 24 * 3600;

fn example_order() -> Order {
    Order {
        ecid: 0x1122_3344_5566_7788,
        id: [9; ORDER_ID_SIZE_BYTES],
        job: Job::parse("memory 64").unwrap(),
        issued: 1_700_000_001,
        validity: Validity::new(1_700_000_000, 1_700_000_000 + DAY_SECONDS).unwrap(),
    }
}

/// An order with the largest of everything.
fn largest_order() -> Order {
    Order {
        ecid: u64::MAX,
        id: [0xff; ORDER_ID_SIZE_BYTES],
        job: Job::parse(&"x".repeat(JOB_SIZE_BYTES_MAX)).unwrap(),
        issued: u64::MAX,
        validity: Validity::new(u64::MAX - ORDER_SECONDS_MAX, u64::MAX).unwrap(),
    }
}

fn payload_of(bytes: &[u8]) -> Vec<u8> {
    let cose = coset::CoseSign1::from_tagged_slice(bytes).unwrap();
    cose.payload.unwrap()
}

/// An order as it would be if its payload and header were others, signed with the right key.
fn resigned(
    key: &EcdsaKeyPair,
    change: &dyn Fn(&mut coset::CoseSign1),
    external: &[u8],
) -> Vec<u8> {
    let good = sign_order(&example_order(), key).unwrap();
    let mut cose = coset::CoseSign1::from_tagged_slice(&good).unwrap();
    change(&mut cose);
    cose.protected.original_data = None;
    let signed = cose.tbs_data(external);
    let signature = key.sign(&SystemRandom::new(), &signed).unwrap();
    cose.signature = signature.as_ref().to_vec();
    cose.to_tagged_vec().unwrap()
}

/// Promise: an order is read as it was signed, by this library and as COSE by another, and its
/// fields are in the order of RFC 8949, 4.2.1.
#[test]
fn orders_are_read_again() {
    let (key, spki) = key();
    for order in [example_order(), largest_order()] {
        let bytes = sign_order(&order, &key).unwrap();
        assert!(bytes.len() <= ORDER_SIZE_BYTES_MAX);
        assert_eq!(verify_order(&bytes, &spki), Ok(order));
        let cose = coset::CoseSign1::from_tagged_slice(&bytes).unwrap();
        assert_eq!(cose.protected.header.key_id, key_id(&spki));
        let checked = cose.verify_signature(b"spacegray work order 1", |signature, data| {
            let algorithm = &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED;
            aws_lc_rs::signature::UnparsedPublicKey::new(algorithm, &spki).verify(data, signature)
        });
        assert_eq!(checked, Ok(()));
        let payload = payload_of(&bytes);
        let value = coset::cbor::Value::from_slice(&payload).unwrap();
        assert_sorted(&value);
        assert_eq!(value.to_vec().unwrap(), payload);
    }
}

/// Promise: not one bit of an order can be another one, and nothing shorter or longer is taken.
#[test]
fn changed_orders_are_refused() {
    let (key, spki) = key();
    let bytes = sign_order(&example_order(), &key).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(verify_order(&changed, &spki).is_err(), "bit {bit}");
    }
    for end in 0..bytes.len() {
        let cut = verify_order(&bytes[..end], &spki);
        assert_eq!(cut, Err(Refused::Malformed), "{end}");
    }
    for more in [1, ORDER_SIZE_BYTES_MAX, 1 << 20] {
        let longer = [&bytes[..], &vec![0; more]].concat();
        assert_eq!(verify_order(&longer, &spki), Err(Refused::Malformed));
    }
}

/// Promise: another's order is refused as such, and something that is no key verifies nothing.
#[test]
fn orders_of_others_are_refused() {
    let (key, spki) = key();
    let (_, other) = self::key();
    let bytes = sign_order(&example_order(), &key).unwrap();
    for not_this in [&other[..], &[], &spki[1..], &[0; PUBLIC_KEY_SIZE_BYTES]] {
        assert_eq!(verify_order(&bytes, not_this), Err(Refused::Signature));
    }
}

/// Promise: one key's tickets are no orders, and its orders no tickets, whatever is exchanged
/// between them.
#[test]
fn tickets_are_no_orders() {
    let (key, spki) = key();
    let (ticket, order) = (
        sign(&example(), &key).unwrap(),
        sign_order(&example_order(), &key).unwrap(),
    );
    assert_eq!(verify_order(&ticket, &spki), Err(Refused::Malformed));
    assert_eq!(verify(&order, &spki), Err(Refused::Malformed));
    let ticket_in_it = |cose: &mut coset::CoseSign1| cose.payload = Some(payload_of(&ticket));
    let external = b"spacegray work order 1";
    let dressed = resigned(&key, &ticket_in_it, external);
    assert_eq!(verify_order(&dressed, &spki), Err(Refused::Malformed));
    let as_ticket = resigned(&key, &|_| {}, b"spacegray ticket 1");
    assert_eq!(verify_order(&as_ticket, &spki), Err(Refused::Signature));
    assert_eq!(verify(&as_ticket, &spki), Err(Refused::Malformed));
    // The control: made this way and unchanged, it is taken.
    assert!(verify_order(&resigned(&key, &|_| {}, external), &spki).is_ok());
}

/// Promise: the signature alone is not enough: a payload in another form is no order, nor is one
/// for no job, or without an end that is near enough.
#[test]
fn other_payloads_are_refused_though_signed() {
    let (key, spki) = key();
    let payload = payload_of(&sign_order(&example_order(), &key).unwrap());
    let replaced = |what: &[u8], with: &[u8]| {
        let at = (payload.windows(what.len()))
            .position(|part| part == what)
            .unwrap();
        let mut changed = payload.clone();
        changed.splice(at..at + what.len(), with.iter().copied());
        changed
    };
    let at_last = 1_700_000_000 + DAY_SECONDS;
    let last = [&[0x1a][..], &(at_last as u32).to_be_bytes()].concat();
    let too_late = [
        &[0x1a][..],
        &(1_700_000_001 + ORDER_SECONDS_MAX as u32).to_be_bytes(),
    ];
    let too_early = [&[0x1a][..], &1_699_999_999_u32.to_be_bytes()];
    for changed in [
        replaced(b"imemory 64", b"imemory_64"),
        replaced(b"imemory 64", b"iMemory 64"),
        replaced(b"imemory 64", b"`"),
        replaced(b"work order", b"work-order"),
        replaced(b"gversion\x01", b"gversion\x02"),
        replaced(b"gversion\x01", b"gversion\x18\x01"),
        replaced(&last, &too_late.concat()),
        replaced(&last, &too_early.concat()),
        [&payload[..], &[0]].concat(),
        [&[0xbf], &payload[1..], &[0xff]].concat(),
        vec![0xa0],
        vec![],
    ] {
        let with = |cose: &mut coset::CoseSign1| cose.payload = Some(changed.clone());
        let bytes = resigned(&key, &with, b"spacegray work order 1");
        assert_eq!(verify_order(&bytes, &spki), Err(Refused::Malformed));
    }
}

/// Promise: a job's name and the time that an order is good for are what the document says.
#[test]
fn jobs_and_times_have_limits() {
    let longest = "z".repeat(JOB_SIZE_BYTES_MAX);
    for good in ["a", "ssd both", "logic-board", "processor 18", &longest] {
        assert_eq!(Job::parse(good).unwrap().as_str(), good);
    }
    let too_long = "z".repeat(JOB_SIZE_BYTES_MAX + 1);
    for bad in ["", "SSD", "a_b", "a\n", "ä", "a\0", &too_long] {
        assert!(Job::parse(bad).is_none(), "{bad}");
    }
    for (from, to) in [(0, 0), (5, 5 + ORDER_SECONDS_MAX), (u64::MAX, u64::MAX)] {
        let validity = Validity::new(from, to).unwrap();
        assert!(validity.covers(from) && validity.covers(to));
        assert!(from == 0 || !validity.covers(from - 1));
        assert!(to == u64::MAX || !validity.covers(to + 1));
    }
    for (from, to) in [(1, 0), (5, 6 + ORDER_SECONDS_MAX), (0, u64::MAX)] {
        assert!(Validity::new(from, to).is_none());
    }
}

/// Promise: no bytes make the reader panic, signed or not, and what it takes is what was signed.
#[test]
fn mutated_orders_are_refused() {
    let (key, spki) = key();
    let order = sign_order(&example_order(), &key).unwrap();
    let payload = payload_of(&order);
    let mut random = Random(0x5eed);
    for case in 0..CASES {
        let mutated = mutate(&order, &mut random);
        assert_eq!(verify_order(&mutated, &spki).is_ok(), mutated == order);
        // The reader of payloads too, which a trusted key may feed anything.
        if case % 20 == 0 {
            let inner = mutate(&payload, &mut random);
            let with = |cose: &mut coset::CoseSign1| cose.payload = Some(inner.clone());
            let bytes = resigned(&key, &with, b"spacegray work order 1");
            if let Ok(taken) = verify_order(&bytes, &spki) {
                let again = payload_of(&sign_order(&taken, &key).unwrap());
                assert_eq!(again, inner);
            }
        }
    }
}
