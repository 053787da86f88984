use super::*;

const INFO: &[u8] = b"a bundle in a test";
const ECID_OF_TEST: u64 = 0x0123_4567_89ab_cdef;

fn sealed(contents: &[u8]) -> (RecoveryKey, Vec<u8>) {
    let key = RecoveryKey::generate().unwrap();
    let bundle = seal(&key.public_key().unwrap(), ECID_OF_TEST, INFO, contents).unwrap();
    (key, bundle)
}

/// A bundle whose check sum somebody made anew.
fn summed(mut bundle: Vec<u8>) -> Vec<u8> {
    bundle.truncate(bundle.len() - SHA256_OUTPUT_LEN);
    bundle.extend_from_slice(digest(&SHA256, &bundle).as_ref());
    bundle
}

/// Promise: what was sealed for a recovery key is what it opens, and says where it is from.
#[test]
fn the_recovery_key_opens_its_bundle() {
    for contents in [&b""[..], b"keys", &[7; CONTENTS_SIZE_BYTES_MAX]] {
        let (key, bundle) = sealed(contents);
        assert_eq!(open(&key, INFO, &bundle).unwrap()[..], *contents);
        assert_eq!(ecid(&bundle), Ok(ECID_OF_TEST));
        assert!(bundle.len() <= BUNDLE_SIZE_BYTES_MAX);
        assert!(
            contents.is_empty() || !bundle.windows(contents.len()).any(|part| part == contents)
        );
    }
    let key = RecoveryKey::generate().unwrap().public_key().unwrap();
    assert!(seal(&key, 1, INFO, &[7; CONTENTS_SIZE_BYTES_MAX + 1]).is_err());
}

/// Promise: no other recovery key opens it, nor the right one for another purpose; and that is
/// told from damage.
#[test]
fn another_key_is_wrong() {
    let (key, bundle) = sealed(b"keys");
    let other = RecoveryKey::generate().unwrap();
    assert_eq!(open(&other, INFO, &bundle).err(), Some(Error::Wrong));
    assert_eq!(open(&key, b"another", &bundle).err(), Some(Error::Wrong));
    let (_, again) = sealed(b"keys");
    assert_ne!(bundle[HEADER_SIZE_BYTES..], again[HEADER_SIZE_BYTES..]);
}

/// Promise: damage is seen wherever it is; and who makes the check sum fit again is found out by
/// the recovery key.
#[test]
fn no_changed_bundle_opens() {
    let (key, bundle) = sealed(b"keys");
    for place in 0..bundle.len() {
        let mut changed = bundle.clone();
        changed[place] ^= 1;
        assert!(
            matches!(open(&key, INFO, &changed), Err(Error::Corrupt(_))),
            "{place}"
        );
        assert!(ecid(&changed).is_err());
        assert!(
            place >= bundle.len() - SHA256_OUTPUT_LEN
                || open(&key, INFO, &summed(changed)).is_err()
        );
    }
    for size in 0..bundle.len() {
        assert!(open(&key, INFO, &bundle[..size]).is_err());
        assert!(open(&key, INFO, &[&bundle[..], &bundle[..=size]].concat()).is_err());
    }
}

/// Promise: the document has the bundle's bytes, and the recovery key's letters and labels.
#[test]
fn the_document_is_true() {
    const DOCUMENT: &str = include_str!("../../../../docs/vault-store.md");
    let section = DOCUMENT.split("\n## The recovery bundle\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" | ").collect()).collect();
    let sealed = HEADER_SIZE_BYTES + ENCAPSULATED_SIZE_BYTES;
    let expected: [(String, String, &str); 9] = [
        ("0".into(), MAGIC.len().to_string(), "magic"),
        (MAGIC.len().to_string(), "2".into(), "version"),
        ("10".into(), "2".into(), "zero"),
        (SIZE_OFFSET.to_string(), "4".into(), "contents size n"),
        (ECID_OFFSET.to_string(), "8".into(), "ECID"),
        (
            HEADER_SIZE_BYTES.to_string(),
            ENCAPSULATED_SIZE_BYTES.to_string(),
            "encapsulated key",
        ),
        (sealed.to_string(), "n".into(), "sealed contents"),
        (format!("{sealed} + n"), TAG_SIZE_BYTES.to_string(), "tag"),
        (
            format!("{} + n", sealed + TAG_SIZE_BYTES),
            SHA256_OUTPUT_LEN.to_string(),
            "check sum",
        ),
    ];
    assert_eq!(rows.len(), expected.len() + 1);
    for (row, (offset, size, field)) in rows[1..].iter().zip(&expected) {
        assert_eq!(row[..3], [offset.as_str(), size, field]);
    }
    assert!(rows[2][3].starts_with(&VERSION.to_string()));
    assert!(section.contains(&format!("at most {CONTENTS_SIZE_BYTES_MAX}")));
    for text in crate::recovery_key::tests::documented() {
        assert!(DOCUMENT.contains(&format!("`{text}`")), "{text}");
    }
}
