//! Promise: `docs/vault-store.md` and the constants of the store say the same.

use vault::{anchor, store::*};

/// The rows of a section's byte table: offset, size, name, as they stand there.
fn rows(section: &str) -> Vec<[String; 3]> {
    include_str!("../../../docs/vault-store.md")
        .split(&format!("\n## {section}\n"))
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .expect("the section is there")
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| offset"))
        .map(|line| {
            let mut cells = line
                .trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().to_owned());
            std::array::from_fn(|_| cells.next().expect("a row has four cells"))
        })
        .collect()
}

#[test]
fn byte_table_has_the_constants() {
    let n = "n";
    let expected = [
        (MAGIC_OFFSET.to_string(), MAGIC.len().to_string(), "magic"),
        (
            VERSION_OFFSET.to_string(),
            size_of_val(&VERSION).to_string(),
            "version",
        ),
        (SEAL_KIND_OFFSET.to_string(), "2".into(), "seal kind"),
        (
            CONTENTS_SIZE_OFFSET.to_string(),
            "4".into(),
            "contents size n",
        ),
        (ECID_OFFSET.to_string(), "8".into(), "ECID"),
        (SALT_OFFSET.to_string(), SALT_SIZE_BYTES.to_string(), "salt"),
        (
            PARAMETERS_OFFSET.to_string(),
            (CONTENTS_OFFSET - PARAMETERS_OFFSET).to_string(),
            "seal parameters",
        ),
        (CONTENTS_OFFSET.to_string(), n.into(), "sealed contents"),
        (
            format!("{CONTENTS_OFFSET} + n"),
            TAG_SIZE_BYTES.to_string(),
            "tag",
        ),
        (
            format!("{} + n", CONTENTS_OFFSET + TAG_SIZE_BYTES),
            format!(
                "{} - n",
                CHECK_SUM_OFFSET - CONTENTS_OFFSET - TAG_SIZE_BYTES
            ),
            "zero",
        ),
        (
            CHECK_SUM_OFFSET.to_string(),
            CHECK_SUM_SIZE_BYTES.to_string(),
            "check sum",
        ),
    ];
    let expected: Vec<_> = expected.map(|(a, b, c)| [a, b, c.to_owned()]).into();
    assert_eq!(rows("The bytes"), expected);
}

#[test]
fn anchor_table_has_the_constants() {
    let number = |number: usize| number.to_string();
    let expected = [
        (anchor::MAGIC_OFFSET, anchor::MAGIC.len(), "magic"),
        (
            anchor::VERSION_OFFSET,
            size_of_val(&anchor::VERSION),
            "version",
        ),
        (anchor::SIZE_OFFSET, 2, "anchor size n"),
        (anchor::SLOT_OFFSET, 4, "slot"),
        (anchor::COUNTER_OFFSET, 8, "counter"),
        (anchor::SEQUENCE_OFFSET, 8, "sequence"),
    ]
    .map(|(offset, size, name)| [number(offset), number(size), name.to_owned()]);
    let rest = [
        [number(anchor::ANCHOR_OFFSET), "n".into(), "anchor".into()],
        [
            format!("{} + n", anchor::ANCHOR_OFFSET),
            format!("{} - n", anchor::MAC_OFFSET - anchor::ANCHOR_OFFSET),
            "zero".into(),
        ],
        [
            number(anchor::MAC_OFFSET),
            number(anchor::MAC_SIZE_BYTES),
            "MAC".into(),
        ],
    ];
    assert_eq!(rows("The anchor file"), [&expected[..], &rest[..]].concat());
    assert_eq!(
        anchor::MAC_OFFSET + anchor::MAC_SIZE_BYTES,
        anchor::SLOT_SIZE_BYTES
    );
}

#[test]
fn text_has_the_constants() {
    let document = include_str!("../../../docs/vault-store.md");
    for text in [
        STORE_FILE_NAME.to_owned(),
        String::from_utf8(DERIVATION_LABEL.to_vec()).unwrap(),
        format!("always {STORE_SIZE_BYTES} bytes"),
        format!("format version {VERSION}"),
        format!("`{}`, the anchor file", anchor::ANCHOR_FILE_NAME),
        String::from_utf8(anchor::DERIVATION_LABEL.to_vec()).unwrap(),
        format!("`{}`", anchor::MAGIC[..7].escape_ascii()),
        format!("1 to {} bytes", anchor::ANCHOR_SIZE_BYTES_MAX),
        format!(
            "{} slots of {} bytes",
            anchor::SLOT_COUNT,
            anchor::SLOT_SIZE_BYTES
        ),
    ] {
        assert!(document.contains(&text), "{text}");
    }
}
