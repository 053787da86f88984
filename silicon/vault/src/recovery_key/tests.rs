use super::*;

/// What a document has to name.
pub fn documented() -> [&'static str; 3] {
    [ALPHABET, WRAPPING_INFO, BUNDLE_INFO].map(|text| std::str::from_utf8(text).unwrap())
}

fn symbols(key: &RecoveryKey) -> &[u8; KEY_SIZE_BYTES] {
    key.symbols.expose()
}

fn parsed(text: &str) -> Option<RecoveryKey> {
    RecoveryKey::parse(&Password::of(text))
}

/// The alphabet's first 26 characters, and the check that another program found for them.
const TEXT: &str = "0123-4567-89AB-CDEF-GHJK-MNPQ-RSCT";

/// Promise: what is written down is the key: seven groups of four, no character twice in two
/// shapes; and no two keys are the same.
#[test]
fn the_text_is_the_key() {
    let key = RecoveryKey::generate().unwrap();
    let text = key.text();
    assert_eq!(text.len(), TEXT_SIZE_BYTES);
    assert!(text.split('-').all(|group| group.len() == 4) && text.split('-').count() == 7);
    assert!(!text.contains(['I', 'L', 'O', 'U']) && text.capacity() == text.len());
    let again = parsed(&text).unwrap();
    assert!(again.symbols.is(symbols(&key)));
    assert_eq!(symbols(&key)[DATA_SYMBOLS..], [0; 6]);
    assert!(!RecoveryKey::generate().unwrap().symbols.is(symbols(&key)));
    assert_eq!(*parsed(TEXT).unwrap().text(), TEXT);
}

/// Promise: however it was typed or pasted, it is the same key.
#[test]
fn typing_is_forgiven() {
    for typed in [
        "0123456789ABCDEFGHJKMNPQRSCT",
        "0123-4567-89ab-cdef-ghjk-mnpq-rsct",
        "o1z3 4567 89ab cdef ghjk mnpq rsct"
            .replace('z', "2")
            .as_str(),
        "O123-4567-89AB-CDEF-GHJK-MNPQ-RSCT",
        "0I23-4567-89AB-CDEF-GHJK-MNPQ-RSCT",
        "0l23-4567-89AB-CDEF-GHJK-MNPQ-RSCT",
        "  0123\u{2013}4567\u{2014}89AB - CDEF\u{a0}GHJK__MNPQ\tRSCT ",
    ] {
        assert_eq!(*parsed(typed).expect(typed).text(), TEXT);
    }
}

/// Promise: any one or two wrong characters, and any two exchanged, are seen before the key is
/// tried; so are characters too many or too few, and those of no recovery key.
#[test]
fn typing_errors_are_seen() {
    let data = symbols(&parsed(TEXT).unwrap())[..DATA_SYMBOLS].to_vec();
    let whole = [&data[..], &check_symbols(&data)].concat();
    let fits = |word: &[u8]| check_symbols(&word[..DATA_SYMBOLS]) == word[DATA_SYMBOLS..];
    assert!(fits(&whole));
    for first in 0..SYMBOLS {
        for second in 0..SYMBOLS {
            for (change, other) in (1..32u8).flat_map(|one| [(one, 0), (one, 1), (one, 31)]) {
                let mut word = whole.clone();
                word[first] ^= change;
                word[second] ^= other * u8::from(second != first);
                assert!(!fits(&word));
            }
            let mut word = whole.clone();
            word.swap(first, second);
            assert_eq!(fits(&word), word == whole);
        }
    }
    for wrong in [
        "0123-4567-89AB-CDEF-GHJK-MNPQ-RSC",
        "0123-4567-89AB-CDEF-GHJK-MNPQ-RSCT0",
        "0123-4567-89AB-CDEF-GHJK-MNPQ-RSCU",
        "0123-4567-89AB-CDEF-GHJK-MNPQ-RSC\u{17f}",
        "1123-4567-89AB-CDEF-GHJK-MNPQ-RSCT",
        "-",
        "password",
    ] {
        assert!(parsed(wrong).is_none(), "{wrong}");
    }
}

/// Promise: the multiplication is that of a field: everything but zero has one inverse.
#[test]
fn the_field_is_one() {
    for left in 1..32 {
        assert_eq!((1..32).filter(|right| times(left, *right) == 1).count(), 1);
        assert!(
            (0..32)
                .all(|right| times(left, right) < 32 && times(left, right) == times(right, left))
        );
    }
}

/// Promise: a wrapping is good on one chip alone, and has nothing to do with bundles.
#[test]
fn wrappings_hang_on_the_chip() {
    let key = parsed(TEXT).unwrap();
    let tangles = [Secret::random().unwrap(), Secret::random().unwrap()];
    let [one, other] = tangles
        .each_ref()
        .map(|tangle| key.wrapping_key(tangle).unwrap());
    assert!(one.is(key.wrapping_key(&tangles[0]).unwrap().expose()));
    assert!(!one.is(other.expose()));
    assert_eq!(
        key.public_key().unwrap(),
        parsed(TEXT).unwrap().public_key().unwrap()
    );
    assert_ne!(
        key.public_key().unwrap(),
        RecoveryKey::generate().unwrap().public_key().unwrap()
    );
}
