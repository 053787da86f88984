//! Work inside the machine: by whose leave it is done, and what is recorded of it.

use coset::{CoseSign1, TaggedCborSerializable as _};
use minicbor::Decoder;
use ticket::{Job, ORDER_SECONDS_MAX, Order, Validity};

use super::*;
use crate::record::{PROVIDERS_MAX, SPENT_ORDERS_MAX};
use crate::statement::ENTRY_SIZE_BYTES_MAX;

mod orders;

/// The host's clock, where a test moves nothing.
const NOW: u64 = 1_800_000_000;
const DAY_SECONDS: u64 = 24 * 3600;
const MEMORY: &str = "memory 64";
/// A map with one name, as the firmware sends it.
const DETAIL: &[u8] = b"\xa1\x66before\x18\x20";

fn spki(key: &EcdsaKeyPair) -> [u8; 91] {
    let der = key.public_key().as_der().unwrap();
    der.as_ref().try_into().unwrap()
}

fn fingerprint(key: &EcdsaKeyPair) -> [u8; 32] {
    ticket::key_id(&spki(key))
}

/// What an order is to say.
fn asked(ecid: u64, number: u64) -> Order {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    Order {
        ecid,
        id,
        job: Job::parse(MEMORY).unwrap(),
        issued: NOW,
        validity: Validity::new(NOW, NOW + DAY_SECONDS).unwrap(),
    }
}

fn signed(key: &EcdsaKeyPair, order: &Order) -> Vec<u8> {
    ticket::sign_order(order, key).unwrap()
}

fn work(job: &str) -> Work<'_> {
    Work {
        job,
        detail: DETAIL,
        time: NOW,
        continues: None,
    }
}

/// Has [`MEMORY`] recorded by an order, at this time.
fn by_order(
    vault: &mut Vault,
    place: &Place,
    order: &[u8],
    time: u64,
) -> Result<Vec<u8>, ChangeError> {
    let work = Work {
        time,
        ..work(MEMORY)
    };
    vault.record_service(place, &work, &Leave::Order(order))
}

fn by_owner(
    vault: &mut Vault,
    place: &Place,
    secret: Option<&str>,
) -> Result<Vec<u8>, ChangeError> {
    let secret = secret.map(password);
    let proof = secret.as_ref().map(|secret| Proof {
        budget: Budget::Password,
        secret,
    });
    vault.record_service(place, &work("ssd both"), &Leave::Owner(proof))
}

/// A chip that trusts one provider, and that one's key.
fn trusting() -> (TempDir, EcdsaKeyPair) {
    let (chip, key) = (chip(), new_key());
    let ours = place(&chip);
    let mut vault = open(&ours);
    vault
        .trust_provider(&ours, "Repairs", &spki(&key), None)
        .unwrap();
    drop(ours);
    (chip, key)
}

/// The fields of an entry, in their order, keys as text and values encoded; checked with the
/// chip's identity key by a library that knows nothing of this one.
fn fields(entry: &[u8], vault: &Vault) -> Vec<(String, Vec<u8>)> {
    let cose = CoseSign1::from_tagged_slice(entry).unwrap();
    let algorithm = &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED;
    let key = vault.identity().identity_public_key.to_vec();
    let check = |external: &[u8]| {
        cose.verify_signature(external, |signature, data| {
            aws_lc_rs::signature::UnparsedPublicKey::new(algorithm, &key).verify(data, signature)
        })
    };
    check(b"spacegray service entry 1").unwrap();
    check(b"").unwrap_err();
    assert!(cose.unprotected.is_empty());
    let payload = cose.payload.unwrap();
    let mut decoder = Decoder::new(&payload);
    let count = decoder.map().unwrap().unwrap();
    let fields = (0..count).map(|_| {
        let name = decoder.str().unwrap().to_owned();
        let begin = decoder.position();
        decoder.skip().unwrap();
        (name, payload[begin..decoder.position()].to_vec())
    });
    let fields = fields.collect();
    assert_eq!(decoder.position(), payload.len());
    fields
}

fn field(fields: &[(String, Vec<u8>)], name: &str) -> Vec<u8> {
    let found = fields.iter().find(|(field, _)| field == name);
    found.unwrap_or_else(|| panic!("no {name}")).1.clone()
}

fn uint(number: u64) -> Vec<u8> {
    minicbor::to_vec(number).unwrap()
}

fn bytes(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = minicbor::Encoder::new(Vec::new());
    encoder.bytes(bytes).unwrap();
    encoder.into_writer()
}

fn text(text: &str) -> Vec<u8> {
    minicbor::to_vec(text).unwrap()
}

fn head_of(entry: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, entry);
    digest.as_ref().try_into().unwrap()
}

/// What the store keeps of it all; two chips with the same have the same record.
fn record(vault: &Vault) -> Record {
    vault.service().clone()
}

/// Promise: an entry says what was done, by whose leave and after which entry, under the identity
/// key; the chip knows the end of the record, also when it is opened again.
#[test]
fn entries_follow_each_other() {
    let (chip, key) = trusting();
    let ours = place(&chip);
    let mut vault = open(&ours);
    assert_eq!(
        (vault.service().entries(), vault.service().head()),
        (0, &[0; 32])
    );
    let order = asked(vault.ecid(), 1);
    let first = by_order(&mut vault, &ours, &signed(&key, &order), NOW).unwrap();
    let second = by_owner(&mut vault, &ours, None).unwrap();
    vault.set_password(&ours, &password(RIGHT)).unwrap();
    let third = by_owner(&mut vault, &ours, Some(RIGHT)).unwrap();

    let mut previous = [0; 32];
    let expected: [(&str, &str, &[u8], &[u8]); 3] = [
        (MEMORY, "provider", &fingerprint(&key), &order.id),
        ("ssd both", "owner", &[], &[]),
        ("ssd both", "owner with password", &[], &[]),
    ];
    for (number, entry) in [&first, &second, &third].into_iter().enumerate() {
        let (job, by, provider, id) = expected[number];
        let fields = fields(entry, &vault);
        let named: Vec<(&str, Vec<u8>)> = vec![
            ("by", text(by)),
            ("job", text(job)),
            ("ecid", uint(vault.ecid())),
            ("time", uint(NOW)),
            ("type", text("service entry")),
            ("order", bytes(id)),
            ("detail", bytes(DETAIL)),
            ("number", uint(number as u64)),
            ("version", uint(1)),
            ("previous", bytes(&previous)),
            ("provider", bytes(provider)),
        ];
        let named: Vec<_> = (named.into_iter())
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        assert_eq!(fields, named);
        previous = head_of(entry);
    }
    let again = open(&ours);
    for vault in [&vault, &again] {
        let record = vault.service();
        assert_eq!((record.entries(), record.head()), (3, &previous));
        assert_eq!(record.last(), third);
    }
}

/// Promise: where there is a password, who is trusted changes and the owner's work is recorded for
/// the owner alone; each wrong try is charged, and the disk stays as locked as it was.
#[test]
fn the_owner_proves_to_be_one() {
    let (folder, other) = (locked_chip(), new_key());
    let ours = place(&folder);
    let mut vault = open(&ours);
    let (name, key) = ("Repairs", spki(&other));
    let nobody = Err(Error::Unauthorised.into());
    assert_eq!(vault.trust_provider(&ours, name, &key, None), nobody);
    assert_eq!(by_owner(&mut vault, &ours, None).err(), nobody.err());
    let before = record(&vault);
    let (right, wrong) = (&password(RIGHT), &password("guess"));
    let proof = |secret| Proof {
        budget: Budget::Password,
        secret,
    };
    let refused = vault.trust_provider(&ours, name, &key, Some(&proof(wrong)));
    assert_eq!(refused, Err(Error::Wrong.into()));
    for guess in ["second", "third"] {
        let refused = by_owner(&mut vault, &ours, Some(guess));
        assert_eq!(refused, Err(Error::Wrong.into()));
    }
    assert_eq!(vault.status(&ours).tries[0].failures, 3);
    // What can be refused without a proof costs no try.
    let unknown = vault.distrust_provider(&ours, &[0; 32], Some(&proof(wrong)));
    assert_eq!(unknown, Err(Error::Absent.into()));
    let refused = vault.trust_provider(&ours, "", &key, Some(&proof(wrong)));
    assert!(matches!(
        refused,
        Err(ChangeError::Unchanged(Error::Malformed(_)))
    ));
    let early = by_owner(&mut vault, &ours, Some(RIGHT));
    assert_eq!(early, Err(Error::Wait.into()));
    assert_eq!(record(&vault), before);
    assert_eq!(vault.status(&ours).tries[0].failures, 3);

    let clock = Hand::new();
    clock.boot();
    drop(ours);
    let ours = place_with(&folder, &clock);
    let mut vault = open(&ours);
    clock.pass(60);
    vault
        .trust_provider(&ours, name, &key, Some(&proof(right)))
        .unwrap();
    assert_eq!(vault.status(&ours).tries[0].failures, 0);
    by_owner(&mut vault, &ours, Some(RIGHT)).unwrap();
    assert_eq!(vault.volume_key().err(), Some(Error::Locked));
    assert!(!vault.status(&ours).unlocked);
    // An order needs no owner, and a locked disk is no hindrance.
    let order = signed(&other, &asked(vault.ecid(), 1));
    by_order(&mut vault, &ours, &order, NOW).unwrap();
    let gone = vault.distrust_provider(&ours, &fingerprint(&other), None);
    assert_eq!(gone, Err(Error::Unauthorised.into()));
    vault
        .distrust_provider(&ours, &fingerprint(&other), Some(&proof(right)))
        .unwrap();
    assert!(vault.service().providers().is_empty());
}

/// Promise: the recovery key proves the owner too, with tries of its own; and without a password
/// there is nothing to prove, on an erased chip neither.
#[test]
fn other_proofs() {
    let folder = locked_chip();
    let ours = place(&folder);
    let mut vault = open(&ours);
    let secret = &password(RIGHT);
    let proof = Proof {
        budget: Budget::Password,
        secret,
    };
    let key = vault.make_recovery_key(&ours, Some(&proof)).unwrap();
    let with = |vault: &mut Vault, budget, secret: &str| {
        let secret = &password(secret);
        let proof = Proof { budget, secret };
        vault.record_service(&ours, &work(MEMORY), &Leave::Owner(Some(proof)))
    };
    let entry = with(&mut vault, Budget::RecoveryKey, &key).unwrap();
    let by = field(&fields(&entry, &vault), "by");
    assert_eq!(by, text("owner with password"));
    let wrong = with(&mut vault, Budget::PasswordInRecovery, "guess");
    assert_eq!(wrong, Err(Error::Wrong.into()));
    assert_eq!(
        vault.status(&ours).tries.map(|tries| tries.failures),
        [0, 1, 0, 0]
    );
    vault.erase(&ours).unwrap();
    let absent = with(&mut vault, Budget::Password, RIGHT);
    assert_eq!(absent, Err(Error::Absent.into()));
    let entry = by_owner(&mut vault, &ours, None).unwrap();
    assert_eq!(field(&fields(&entry, &vault), "by"), text("owner"));
}

/// Promise: a first entry, and no other, goes on from the record of the chip before; a chip that
/// takes over a disk begins with nothing of that one's.
#[test]
fn a_new_chip_goes_on() {
    let (old, key) = trusting();
    let ours = place(&old);
    let mut vault = open(&ours);
    let recovery = vault.make_recovery_key(&ours, None).unwrap();
    let bundle = vault.export_recovery().unwrap();
    let last = by_owner(&mut vault, &ours, None).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let place = place(&folder);
    let recovery = RecoveryKey::parse(&password(&recovery)).unwrap();
    let adopted = Vault::adopt_bundle(&place, Box::new(KeyFile), &bundle, &recovery, authority());
    let mut new = adopted.ok().unwrap();
    assert_eq!(record(&new), Record::default());
    let order = signed(&key, &asked(new.ecid(), 1));
    let refused = by_order(&mut new, &place, &order, NOW);
    assert!(matches!(
        refused,
        Err(ChangeError::Unchanged(Error::Order(_)))
    ));
    let head = head_of(&last);
    let going_on = Work {
        continues: Some(&head),
        ..work("logic-board")
    };
    let first = new.record_service(&place, &going_on, &Leave::Owner(None));
    let first = first.unwrap();
    let read = fields(&first, &new);
    assert_eq!(field(&read, "previous"), bytes(&head));
    assert_eq!(field(&read, "number"), uint(0));
    let refused = new.record_service(&place, &going_on, &Leave::Owner(None));
    assert!(matches!(
        refused,
        Err(ChangeError::Unchanged(Error::Malformed(_)))
    ));
    let next = by_owner(&mut new, &place, None).unwrap();
    let previous = field(&fields(&next, &new), "previous");
    assert_eq!(previous, bytes(&head_of(&first)));
}

/// Promise: only what an entry can hold is recorded: a job's name, and nothing or one plain map.
#[test]
fn other_work_is_malformed() {
    let folder = chip();
    let ours = place(&folder);
    let mut vault = open(&ours);
    let nested = |levels: usize| [&b"\xa1\x61a"[..], &b"\x81".repeat(levels), b"\xf6"].concat();
    let fill = |size: usize| {
        let size = u16::try_from(size - 6).unwrap();
        let zeros = vec![0; size.into()];
        [&b"\xa1\x61a\x59"[..], &size.to_be_bytes(), &zeros].concat()
    };
    let mut record = |job: &str, detail: &[u8]| {
        let work = Work {
            detail,
            ..work(job)
        };
        vault.record_service(&ours, &work, &Leave::Owner(None))
    };
    let longest = "x".repeat(ticket::JOB_SIZE_BYTES_MAX);
    for (job, detail) in [
        ("stand", Vec::new()),
        (&longest, fill(512)),
        ("stand", vec![0xa0]),
        ("stand", nested(3)),
    ] {
        let entry = record(job, &detail).unwrap();
        assert!(entry.len() <= ENTRY_SIZE_BYTES_MAX);
    }
    let too_long = format!("{longest}x");
    for (job, detail) in [
        ("", vec![0xa0]),
        ("Stand", vec![0xa0]),
        ("stand\n", vec![0xa0]),
        (&too_long, vec![0xa0]),
        ("stand", fill(513)),
        ("stand", nested(4)),
        ("stand", vec![0x80]),
        ("stand", vec![0xa0, 0]),
        ("stand", vec![0xa1, 0, 0]),
        ("stand", vec![0xbf, 0xff]),
    ] {
        let refused = record(job, &detail);
        let is_malformed = matches!(refused, Err(ChangeError::Unchanged(Error::Malformed(_))));
        assert!(is_malformed, "{job}, {detail:02x?}: {refused:?}");
    }
}

/// Promise: no more providers are trusted than there is room for, and each by a plain name and one
/// key of P-256; a key that is trusted gets a new name; a full record fits into the store.
#[test]
fn providers_have_limits() {
    let folder = chip();
    let ours = place(&folder);
    let mut vault = open(&ours);
    let longest = "~".repeat(64);
    let keys: Vec<EcdsaKeyPair> = (0..PROVIDERS_MAX).map(|_| new_key()).collect();
    for key in &keys {
        vault
            .trust_provider(&ours, &longest, &spki(key), None)
            .unwrap();
    }
    let one_more = vault.trust_provider(&ours, "One more", &spki(&new_key()), None);
    assert_eq!(one_more, Err(Error::Full.into()));
    vault
        .trust_provider(&ours, "Named anew", &spki(&keys[3]), None)
        .unwrap();
    vault
        .trust_provider(&ours, &longest, &spki(&keys[3]), None)
        .unwrap();
    let off_curve = {
        let mut key = spki(&keys[0]);
        key[90] ^= 1;
        key
    };
    let too_long = format!("{longest}~");
    let good = spki(&keys[0]);
    for (name, key) in [
        ("", &good),
        (&too_long, &good),
        ("Répairs", &good),
        ("Repairs\n", &good),
        ("Repairs\u{7f}", &good),
        ("Repairs", &[0; 91]),
        ("Repairs", &off_curve),
    ] {
        let refused = vault.trust_provider(&ours, name, key, None);
        let is_malformed = matches!(refused, Err(ChangeError::Unchanged(Error::Malformed(_))));
        assert!(is_malformed, "{name}: {refused:?}");
    }
    let job = "z".repeat(64);
    for number in 0..=SPENT_ORDERS_MAX as u64 {
        let order = Order {
            job: Job::parse(&job).unwrap(),
            validity: Validity::new(u64::MAX - ORDER_SECONDS_MAX, u64::MAX - number).unwrap(),
            ..asked(vault.ecid(), number)
        };
        let key = &keys[number as usize % PROVIDERS_MAX];
        let work = Work {
            job: &job,
            detail: &[&b"\xa1\x61a\x59\x01\xfa"[..], &[7; 506]].concat(),
            time: u64::MAX - ORDER_SECONDS_MAX,
            continues: None,
        };
        let leave = signed(key, &order);
        let entry = vault.record_service(&ours, &work, &Leave::Order(&leave));
        assert!(entry.unwrap().len() > ENTRY_SIZE_BYTES_MAX - 100);
    }
    let again = open(&ours);
    assert_eq!(record(&again), record(&vault));
    assert_eq!(again.service().providers().len(), PROVIDERS_MAX);
    let encoded = again.contents.encode().unwrap();
    // What is not there here, a password and systems, needs less than 3 KiB.
    assert!(
        encoded.len() < contents::CONTENTS_SIZE_BYTES_MAX - 3 * 1024,
        "{}",
        encoded.len()
    );
}
