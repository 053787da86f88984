use std::collections::BTreeSet;
use std::sync::LazyLock;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use coset::cwt::ClaimsSet;
use coset::{Algorithm, CborSerializable as _, CoseSign1, TaggedCborSerializable as _, iana};
use minicbor::Decoder;
use minicbor::data::Type;

use super::*;
use crate::keys::Certificates;
use crate::policy::{Policy, Rules};
use crate::secret::tests::hex;
use crate::slots::Slots;
use crate::tickets::Authority;

const DOCUMENT: &str = include_str!("../../../../docs/attestation.md");

/// A map with one name, as the firmware sends it.
const SOFTWARE: &[u8] = b"\xa1\x66policy\x64full";

fn identity_key() -> Vec<u8> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    pair.to_pkcs8v1().unwrap().as_ref().to_vec()
}

/// What decides what starts on every chip here.
static BOOT: LazyLock<Boot> = LazyLock::new(|| Boot {
    certificates: Certificates {
        pk: Vec::new(),
        kek: Vec::new(),
    },
    authority: Authority {
        key: [4; ticket::PUBLIC_KEY_SIZE_BYTES],
        vendor: b"a certificate".to_vec(),
    },
    rules: Rules {
        policy: Policy::Medium,
        external_boot: true,
        other_systems: false,
    },
    firmware_password: None,
    minimum_epoch: 6,
    slots: Slots::default(),
    variables: None,
});

fn chip() -> Attestation<'static> {
    Attestation {
        nonce: b"12345678",
        ecid: 0x0123_4567_89ab_cdef,
        life: "in use",
        lives: 1,
        seal: "keyfile",
        root: "software",
        password_required: true,
        recovery_key: false,
        rollbacks: 2,
        boundaries: 300,
        boot: &BOOT,
        software: SOFTWARE,
    }
}

fn items() -> Vec<Destroyed> {
    vec![
        Destroyed {
            what: "media key",
            place: "vault.sealed".to_owned(),
            how: "overwritten",
        },
        Destroyed {
            what: "secret",
            place: "NV index 0x01800000".to_owned(),
            how: "deleted",
        },
    ]
}

fn erased(items: &[Destroyed]) -> Receipt<'_> {
    Receipt {
        ecid: 5,
        lives: 1,
        boundaries: 7,
        items,
    }
}

/// Header, payload and signature of a statement.
fn parts(statement: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let mut decoder = Decoder::new(statement);
    assert_eq!(decoder.tag().unwrap().as_u64(), TAG_COSE_SIGN1);
    assert_eq!(decoder.array().unwrap(), Some(4));
    let header = decoder.bytes().unwrap().to_vec();
    assert_eq!(decoder.map().unwrap(), Some(0));
    let payload = decoder.bytes().unwrap().to_vec();
    let signature = decoder.bytes().unwrap().to_vec();
    assert_eq!(decoder.position(), statement.len());
    (header, payload, signature)
}

/// The members of a map, in their order; keys as people write them, values encoded.
fn members(map: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut decoder = Decoder::new(map);
    let count = decoder.map().unwrap().unwrap();
    let members = (0..count).map(|_| {
        let key = match decoder.datatype().unwrap() {
            Type::String => decoder.str().unwrap().to_owned(),
            _ => decoder.i64().unwrap().to_string(),
        };
        let begin = decoder.position();
        decoder.skip().unwrap();
        (key, map[begin..decoder.position()].to_vec())
    });
    let members = members.collect();
    assert_eq!(decoder.position(), map.len());
    members
}

fn member(map: &[u8], key: &str) -> Vec<u8> {
    let found = members(map).into_iter().find(|(name, _)| name == key);
    found.unwrap_or_else(|| panic!("no {key}")).1
}

/// Promise: a statement is a COSE_Sign1 with ES256, and its claims are CWT's, as a library that
/// knows nothing of this one reads them; and nothing of it can be changed.
#[test]
fn any_cose_library_can_check_a_statement() {
    let key = identity_key();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key).unwrap();
    let public_key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref());
    let items = items();
    for statement in [attestation(&key, &chip()), receipt(&key, &erased(&items))] {
        let mut sign1 = CoseSign1::from_tagged_slice(&statement.unwrap()).unwrap();
        let check = |sign1: &CoseSign1| {
            sign1.verify_signature(b"", |signature, signed| {
                public_key.verify(signed, signature)
            })
        };
        check(&sign1).unwrap();
        let header = &sign1.protected.header;
        assert_eq!(
            header.alg,
            Some(Algorithm::Assigned(iana::Algorithm::ES256))
        );
        assert!(sign1.unprotected.is_empty());
        let payload = sign1.payload.as_mut().unwrap();
        ClaimsSet::from_slice(payload).unwrap();
        assert_eq!(member(payload, "256")[3..], header.key_id);
        payload.push(0);
        check(&sign1).unwrap_err();
    }
}

/// Promise: what is said once is said in the same bytes always: keys in the order of RFC 8949,
/// 4.2.1, each once.
#[test]
fn claims_are_deterministic() {
    let key = identity_key();
    let (header, payload, signature) = parts(&attestation(&key, &chip()).unwrap());
    let again = parts(&attestation(&key, &chip()).unwrap());
    assert_eq!((&header, &payload), (&again.0, &again.1));
    assert_ne!(signature, again.2, "each signature has a random part");
    for map in [&header, &payload, &member(&payload, "8")] {
        let keys: Vec<Vec<u8>> = members(map)
            .iter()
            .map(|(key, _)| {
                let mut encoder = minicbor::Encoder::new(Vec::new());
                match key.parse::<i64>() {
                    Ok(number) => encoder.i64(number).unwrap(),
                    Err(_) => encoder.str(key).unwrap(),
                };
                encoder.into_writer()
            })
            .collect();
        assert!(keys.is_sorted());
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
    }
}

/// Promise: neither kind of statement can be taken for the other.
#[test]
fn kinds_differ_in_header_and_profile() {
    let key = identity_key();
    let one = parts(&attestation(&key, &chip()).unwrap());
    let other = parts(&receipt(&key, &erased(&[])).unwrap());
    assert_ne!(member(&one.0, "16"), member(&other.0, "16"));
    assert_ne!(member(&one.1, "265"), member(&other.1, "265"));
    assert_eq!(member(&other.1, "destroyed"), [0x80]);
}

/// Promise: the firmware's words are the firmware's: a string of bytes under their own name, in
/// which no claim of the chip's can be hidden; and they are one plain map.
#[test]
fn the_firmware_speaks_for_itself() {
    let key = identity_key();
    let (_, payload, _) = parts(&attestation(&key, &chip()).unwrap());
    let said = member(&payload, "authorised_by_firmware");
    assert_eq!(said[..2], [0xd8, 24]);
    assert_eq!(
        said[2..],
        [&[0x40 + SOFTWARE.len() as u8], SOFTWARE].concat()
    );

    let nested = |levels: usize| [&b"\xa1\x61a"[..], &b"\x81".repeat(levels), b"\xf6"].concat();
    let fill = |size: usize| {
        let mut encoder = minicbor::Encoder::new(Vec::new());
        (encoder.map(1).unwrap().str("a").unwrap())
            .bytes(&vec![0; size])
            .unwrap();
        encoder.into_writer()
    };
    let plain: [&[u8]; 6] = [
        b"\xa0",
        b"\xa2\x61a\x01\x61b\x20",
        b"\xa1\x61a\x84\xf6\xf5\xf4\x41z",
        b"\xa1\x61a\xa1\x61b\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
        &nested(3),
        &fill(SOFTWARE_SIZE_BYTES_MAX - 6),
    ];
    for software in plain {
        attestation(&key, &Attestation { software, ..chip() }).unwrap();
    }
    let wrong: [&[u8]; 14] = [
        b"",
        b"\x01",
        b"\x80",
        b"\xa0\xa0",
        b"\xbf\xff",
        b"\xa1\x61a",
        b"\xa1\x01\x01",
        b"\xa1\x61a\xf9\x00\x00",
        b"\xa1\x61a\xc1\x00",
        b"\xa1\x61a\xf7",
        b"\xa1\x61a\x5f\xff",
        b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
        &nested(4),
        &fill(SOFTWARE_SIZE_BYTES_MAX - 5),
    ];
    for software in wrong {
        let refused = attestation(&key, &Attestation { software, ..chip() });
        assert!(matches!(refused, Err(Error::Malformed(_))), "{software:?}");
    }
}

/// Promise: the rules and whose word counts are stated as they are.
#[test]
fn the_rules_are_stated() {
    let (_, payload, _) = parts(&attestation(&identity_key(), &chip()).unwrap());
    assert_eq!(member(&payload, "policy"), b"\x66medium");
    assert_eq!(member(&payload, "external_boot"), [0xf5]);
    assert_eq!(member(&payload, "other_systems"), [0xf4]);
    assert_eq!(member(&payload, "firmware_password"), [0xf4]);
    assert_eq!(member(&payload, "minimum_epoch"), [6]);
    for (name, bytes) in [
        ("authority_key_sha256", &BOOT.authority.key[..]),
        ("vendor_certificate_sha256", &BOOT.authority.vendor),
    ] {
        assert_eq!(
            member(&payload, name)[2..],
            *digest(&SHA256, bytes).as_ref()
        );
    }
}

/// Promise: only a nonce that an EAT may have is signed.
#[test]
fn nonces_have_limits() {
    let key = identity_key();
    let long = [7; 65];
    for (size, allowed) in [(0, false), (7, false), (8, true), (64, true), (65, false)] {
        let nonce = &long[..size];
        let stated = attestation(&key, &Attestation { nonce, ..chip() });
        assert_eq!(stated.is_ok(), allowed, "{size}");
    }
}

/// Promise: the key is named as RFC 9679 says: its example has this thumbprint.
#[test]
fn the_thumbprint_of_rfc_9679() {
    let key = cose_key(
        &hex("65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d"),
        &hex("1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c"),
    );
    let expected = "496bd8afadf307e5b08c64b0421bf9dc01528a344a43bda88fadd1669da253ec";
    assert_eq!(digest(&SHA256, &key).as_ref(), hex(expected));
}

/// The first column of the tables under a heading of the document.
fn documented(heading: &str) -> BTreeSet<String> {
    let section = DOCUMENT
        .split(&format!("## {heading}\n"))
        .nth(1)
        .expect(heading);
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap().to_owned())
        .collect()
}

/// Promise: the document lists what is in a statement: all of it and nothing else.
#[test]
fn the_document_is_true() {
    let key = identity_key();
    let keys = |map: &[u8]| {
        members(map)
            .into_iter()
            .map(|(key, _)| key)
            .collect::<BTreeSet<_>>()
    };
    let (header, payload, _) = parts(&attestation(&key, &chip()).unwrap());
    assert_eq!(documented("The header"), keys(&header));
    let common = documented("Claims of both");
    assert_eq!(
        &common | &documented("Claims of an attestation"),
        keys(&payload)
    );
    let (header, payload, _) = parts(&receipt(&key, &erased(&items())).unwrap());
    assert_eq!(documented("The header"), keys(&header));
    assert_eq!(&common | &documented("Claims of a receipt"), keys(&payload));
    for text in [
        ATTESTATION.media_type,
        ATTESTATION.profile,
        RECEIPT.media_type,
        RECEIPT.profile,
        VAULT_NAME,
    ] {
        assert!(DOCUMENT.contains(&format!("`{text}`")), "{text}");
    }
    for size in [
        NONCE_SIZE_BYTES_MIN,
        NONCE_SIZE_BYTES_MAX,
        SOFTWARE_SIZE_BYTES_MAX,
    ] {
        assert!(DOCUMENT.contains(&size.to_string()), "{size}");
    }
}
