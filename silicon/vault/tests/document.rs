//! Promise: `docs/vault-store.md` and the constants of the store say the same.

use vault::store::*;

/// The rows of the byte table: offset, size, name, as they stand there.
fn rows() -> Vec<[String; 3]> {
    include_str!("../../../docs/vault-store.md")
        .split("## The bytes")
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
        (CONTENTS_OFFSET.to_string(), n.into(), "sealed contents"),
        (
            format!("{CONTENTS_OFFSET} + n"),
            TAG_SIZE_BYTES.to_string(),
            "tag",
        ),
        (
            format!("{} + n", CONTENTS_OFFSET + TAG_SIZE_BYTES),
            CHECK_SUM_SIZE_BYTES.to_string(),
            "check sum",
        ),
    ];
    let expected: Vec<_> = expected.map(|(a, b, c)| [a, b, c.to_owned()]).into();
    assert_eq!(rows(), expected);
}

#[test]
fn text_has_the_constants() {
    let document = include_str!("../../../docs/vault-store.md");
    for text in [
        STORE_FILE_NAME.to_owned(),
        String::from_utf8(DERIVATION_LABEL.to_vec()).unwrap(),
        format!("at most {STORE_SIZE_BYTES_MAX} bytes"),
        format!("version {VERSION}"),
    ] {
        assert!(document.contains(&text), "{text}");
    }
}
