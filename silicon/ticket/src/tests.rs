//! Each promise of the format, and what strangers could send instead of a ticket.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use coset::{CborSerializable as _, TaggedCborSerializable as _};

use super::*;

mod orders;

/// Cases of the two fuzzers: about a second in a debug build.
const CASES: u64 = 20_000;

fn key() -> (EcdsaKeyPair, Vec<u8>) {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let spki = key.public_key().as_der().unwrap().as_ref().to_vec();
    (key, spki)
}

fn example() -> Ticket {
    Ticket {
        request: Request {
            ecid: 0x1122_3344_5566_7788,
            nonce: [7; 32],
            epoch: 1_700_000_000,
            product: Product::parse("tiny").unwrap(),
            components: Components {
                firmware: [1; 32],
                variables: [2; 32],
                kernel: [3; 32],
                system: [4; 32],
                recovery: [5; 32],
                recovery_kernel: [6; 32],
            },
        },
        issued: 1_700_000_001,
    }
}

/// A ticket with the largest of everything.
fn largest() -> Ticket {
    let mut ticket = example();
    ticket.request.ecid = u64::MAX;
    ticket.request.epoch = u64::MAX;
    ticket.request.product = Product::parse(&"x".repeat(PRODUCT_SIZE_BYTES_MAX)).unwrap();
    ticket.issued = u64::MAX;
    ticket
}

/// Numbers that look random and are the same in every run (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }
}

/// Promise: what is signed is read as it was, by this library and as COSE by another; the limits
/// are wide enough for the largest values.
#[test]
fn signed_is_read_again() {
    let (key, spki) = key();
    for ticket in [example(), largest()] {
        let bytes = sign(&ticket, &key).unwrap();
        assert!(bytes.len() <= TICKET_SIZE_BYTES_MAX);
        assert_eq!(verify(&bytes, &spki), Ok(ticket.clone()));

        let cose = coset::CoseSign1::from_tagged_slice(&bytes).unwrap();
        assert!(cose.protected.header.crit.is_empty() && cose.unprotected.is_empty());
        let header = cose.protected.header.clone();
        assert_eq!(
            header.key_id,
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &spki).as_ref()
        );
        let algorithm = coset::iana::Algorithm::ES256;
        assert_eq!(header.alg, Some(coset::Algorithm::Assigned(algorithm)));
        let signed = cose.tbs_data(b"spacegray ticket 1");
        let check = |signature: &[u8], data: &[u8]| {
            aws_lc_rs::signature::UnparsedPublicKey::new(
                &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED,
                &spki,
            )
            .verify(data, signature)
        };
        check(&cose.signature, &signed).unwrap();

        let request = ticket.request.encode();
        assert!(request.len() <= REQUEST_SIZE_BYTES_MAX);
        assert_eq!(Request::parse(&request), Ok(ticket.request.clone()));
        let entry = encode_entry(&ticket);
        assert!(entry.len() <= ENTRY_SIZE_BYTES_MAX);
        let read = parse_entry(&entry).unwrap();
        assert_eq!(
            (read.epoch, read.issued),
            (ticket.request.epoch, ticket.issued)
        );
        assert_eq!(read.components, ticket.request.components);
        assert_eq!(read.product, ticket.request.product);
    }
}

/// Promise: the fields' order is the one of RFC 8949, 4.2.1, which the writers state by hand.
#[test]
fn maps_are_deterministic() {
    let payload = {
        let (key, _) = key();
        let bytes = sign(&example(), &key).unwrap();
        coset::CoseSign1::from_tagged_slice(&bytes)
            .unwrap()
            .payload
            .unwrap()
    };
    for bytes in [
        payload,
        example().request.encode(),
        encode_entry(&example()),
    ] {
        let value = coset::cbor::Value::from_slice(&bytes).unwrap();
        assert_sorted(&value);
        assert_eq!(value.to_vec().unwrap(), bytes);
    }
}

fn assert_sorted(value: &coset::cbor::Value) {
    let Some(members) = value.as_map() else {
        return;
    };
    let names: Vec<Vec<u8>> = (members
        .iter()
        .map(|(name, _)| name.clone().to_vec().unwrap()))
    .collect();
    assert!(names.is_sorted(), "{value:?}");
    members.iter().for_each(|(_, member)| assert_sorted(member));
}

/// Promise: not one bit of a ticket can be another one.
#[test]
fn every_flipped_bit_is_refused() {
    let (key, spki) = key();
    let bytes = sign(&example(), &key).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(verify(&changed, &spki).is_err(), "bit {bit}");
    }
}

/// Promise: nothing shorter and nothing longer is taken.
#[test]
fn other_lengths_are_refused() {
    let (key, spki) = key();
    let bytes = sign(&example(), &key).unwrap();
    for end in 0..bytes.len() {
        assert_eq!(
            verify(&bytes[..end], &spki),
            Err(Refused::Malformed),
            "{end}"
        );
    }
    for more in [1, TICKET_SIZE_BYTES_MAX, 1 << 20] {
        let longer = [&bytes[..], &vec![0; more]].concat();
        assert_eq!(verify(&longer, &spki), Err(Refused::Malformed), "{more}");
    }
    let request = example().request.encode();
    for end in 0..request.len() {
        assert!(Request::parse(&request[..end]).is_err(), "{end}");
    }
    assert!(Request::parse(&[&request[..], &[0]].concat()).is_err());
}

/// Promise: another authority's ticket is nobody's here, and something that is no key verifies
/// nothing.
#[test]
fn other_signers_are_refused() {
    let (key, spki) = key();
    let (_, other) = self::key();
    let bytes = sign(&example(), &key).unwrap();
    assert_eq!(verify(&bytes, &other), Err(Refused::Signature));
    let off_curve = [&spki[..PUBLIC_KEY_SIZE_BYTES - 1], &[spki[90] ^ 1]].concat();
    for none in [
        &[][..],
        &spki[26..],
        &off_curve,
        &[0; PUBLIC_KEY_SIZE_BYTES],
    ] {
        assert!(!is_key(none));
        assert_eq!(verify(&bytes, none), Err(Refused::Signature));
    }
    assert!(is_key(&spki));
}

/// Promise: the signature alone is not enough: what the authority's key signed in another form, or
/// as something else, is no ticket.
#[test]
fn other_forms_are_refused_though_signed() {
    let (key, spki) = key();
    let good = sign(&example(), &key).unwrap();
    let cose = coset::CoseSign1::from_tagged_slice(&good).unwrap();
    let payload = cose.payload.clone().unwrap();
    let resigned = |change: &dyn Fn(&mut coset::CoseSign1), external: &[u8]| {
        let mut cose = cose.clone();
        change(&mut cose);
        cose.protected.original_data = None;
        let signed = cose.tbs_data(external);
        let signature = key.sign(&SystemRandom::new(), &signed).unwrap();
        cose.signature = signature.as_ref().to_vec();
        cose.to_tagged_vec().unwrap()
    };
    let external = b"spacegray ticket 1";
    // The control: made this way and unchanged, it is taken.
    assert!(verify(&resigned(&|_| {}, external), &spki).is_ok());
    assert_eq!(
        verify(&resigned(&|_| {}, b""), &spki),
        Err(Refused::Signature)
    );

    let with_payload =
        |bytes: Vec<u8>| resigned(&move |cose| cose.payload = Some(bytes.clone()), external);
    let indefinite = [&[0xbf], &payload[1..], &[0xff]].concat();
    let mut long_number = payload.clone();
    let version = payload
        .windows(8)
        .position(|part| part == b"gversion")
        .unwrap()
        + 8;
    long_number.splice(version..=version, [0x18, 0x01]);
    let mut second_version = payload.clone();
    second_version[version] = 2;
    let request = example().request.encode();
    let twice = [&payload[..], &payload].concat();
    for bytes in [
        indefinite,
        long_number,
        second_version,
        request,
        twice,
        vec![],
        vec![0xa0],
    ] {
        assert_eq!(verify(&with_payload(bytes), &spki), Err(Refused::Malformed));
    }

    type Change = fn(&mut coset::CoseSign1);
    let changes: [Change; 4] = [
        |cose| cose.unprotected.key_id = vec![1],
        |cose| cose.protected.header.rest.clear(),
        |cose| cose.protected.header.key_id = vec![1; 31],
        |cose| {
            let other = coset::iana::Algorithm::ES384;
            cose.protected.header.alg = Some(coset::Algorithm::Assigned(other));
        },
    ];
    for change in changes {
        let bytes = resigned(&change, external);
        assert_eq!(verify(&bytes, &spki), Err(Refused::Malformed));
    }
}

/// Promise: a product's name is what the document says.
#[test]
fn products_are_plain_words() {
    for good in ["a", "0", "tiny", "pro-2026", &"z".repeat(32)] {
        assert_eq!(Product::parse(good).unwrap().as_str(), good);
    }
    for bad in ["", "Tiny", "a b", "a/b", "ä", "a\0", &"z".repeat(33)] {
        assert!(Product::parse(bad).is_none(), "{bad}");
    }
}

/// Promise: no bytes make a reader panic, and what a reader takes is written the same again.
#[test]
fn mutations_are_refused_or_the_same() {
    let (key, spki) = key();
    let ticket = sign(&example(), &key).unwrap();
    let request = example().request.encode();
    let entry = encode_entry(&example());
    let mut random = Random(0x5eed);
    for _ in 0..CASES {
        let mutated = mutate(&ticket, &mut random);
        assert_eq!(verify(&mutated, &spki).is_ok(), mutated == ticket);
        let mutated = mutate(&request, &mut random);
        if let Ok(taken) = Request::parse(&mutated) {
            assert_eq!(taken.encode(), mutated);
        }
        let mutated = mutate(&entry, &mut random);
        if let Ok(taken) = parse_entry(&mutated) {
            assert_eq!(taken.encode(), mutated);
        }
    }
}

/// One to four changes: a byte, a cut, a piece moved, a piece doubled, a CBOR head put in.
fn mutate(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    const HEADS: &[&[u8]] = &[
        &[0xff],
        &[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x9f],
        &[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0xd2, 0xd2, 0xd2],
        &[0xf6],
    ];
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let (one, other) = (random.below(bytes.len() + 1), random.below(bytes.len() + 1));
        let (start, end) = (one.min(other), one.max(other));
        match random.below(6) {
            0 if start < bytes.len() => bytes[start] = random.below(256) as u8,
            1 => bytes.truncate(start),
            2 => drop(bytes.drain(start..end.min(start + 8))),
            3 => {
                let piece = bytes[start..end].to_vec();
                bytes.splice(start..start, piece);
                bytes.truncate(2 * TICKET_SIZE_BYTES_MAX);
            }
            4 => drop(bytes.splice(start..start, HEADS[random.below(HEADS.len())].to_vec())),
            _ => {
                let by = random.below(bytes.len());
                bytes.rotate_left(by);
            }
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
    bytes
}
