//! Promise: `docs/flash-format.md` and the code say the same.

use std::collections::BTreeMap;

use flash::anchor::{ANCHOR_BYTES, Anchor, Mark};
use flash::header::{Header, MACED_BYTES};
use flash::superblock::{self, Superblock, Sure};
use flash::{Cipher, Geometry, Kind, Place, VolumeKey, body, layout, policy, record};
use zeroize::Zeroizing;

const DOCUMENT: &str = include_str!("../../../docs/flash-format.md");

/// The rows of the table in a section, cells trimmed.
fn rows(section: &str) -> Vec<Vec<String>> {
    let text = DOCUMENT.split(&format!("\n## {section}\n")).nth(1);
    let text = text.unwrap_or_else(|| panic!("there is no section {section}"));
    let text = text.split("\n## ").next().expect("a section");
    text.lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| offset"))
        .map(|line| {
            line.trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().to_owned())
                .collect()
        })
        .collect()
}

/// The fields of a byte table: where each lies. `k` and the like count as given.
fn fields(section: &str, counts: &[(&str, usize)]) -> BTreeMap<String, std::ops::Range<usize>> {
    let number = |text: &str| -> usize {
        let term = |term: &str| {
            term.split_whitespace()
                .map(|factor| {
                    let count = counts.iter().find(|(name, _)| *name == factor);
                    count.map_or_else(|| factor.parse().expect("a number"), |(_, count)| *count)
                })
                .product::<usize>()
        };
        text.split('+').map(term).sum()
    };
    let (mut fields, mut end) = (BTreeMap::new(), 0);
    for row in rows(section) {
        let (offset, size) = (number(&row[0]), number(&row[1]));
        assert_eq!(offset, end, "{section}: {} does not follow", row[2]);
        end = offset + size;
        fields.insert(row[2].clone(), offset..end);
    }
    assert!(fields.len() > 3, "{section} has no table");
    fields
}

fn check(section: &str, counts: &[(&str, usize)], bytes: &[u8], expected: &[(&str, Vec<u8>)]) {
    let fields = fields(section, counts);
    for (name, value) in expected {
        let place = fields
            .get(*name)
            .unwrap_or_else(|| panic!("{section}: no field {name}"));
        assert_eq!(&bytes[place.clone()], &value[..], "{section}: {name}");
    }
    let named = expected.len() + usize::from(fields.contains_key("zero"));
    assert_eq!(fields.len(), named, "{section}: a field is not compared");
}

fn le4(number: u32) -> Vec<u8> {
    number.to_le_bytes().into()
}

fn le8(number: u64) -> Vec<u8> {
    number.to_le_bytes().into()
}

#[test]
fn constants_are_those_of_the_code() {
    let code = [
        ("VERSION", u64::from(layout::VERSION)),
        ("BLOCK_BYTES", layout::BLOCK_BYTES as u64),
        ("SECTOR_BYTES", layout::SECTOR_BYTES as u64),
        ("MODULES", layout::MODULES as u64),
        ("TAG_BYTES", layout::TAG_BYTES as u64),
        ("ENTRY_BYTES", layout::ENTRY_BYTES as u64),
        ("FANOUT", u64::from(layout::FANOUT)),
        ("SEGMENT_SLOTS", u64::from(layout::SEGMENT_SLOTS)),
        ("SEGMENT_SLOTS_MIN", u64::from(layout::SEGMENT_SLOTS_MIN)),
        ("FIRST_SEGMENT", u64::from(layout::FIRST_SEGMENT)),
        ("SUPERBLOCKS", layout::SUPERBLOCK_SLOTS.len() as u64),
        ("GROUP_SLOTS_MAX", u64::from(layout::GROUP_SLOTS_MAX)),
        ("RECORD_BYTES", record::RECORD_BYTES as u64),
        ("TRIM_BYTES", record::TRIM_BYTES as u64),
        ("NUMBER_BITS", u64::from(record::NUMBER_BITS)),
        ("BLOCKS_MIN", layout::BLOCKS_MIN),
        ("BLOCKS_MAX", layout::BLOCKS_MAX),
        ("LOST_SLOT", u64::from(flash::LOST_SLOT)),
        ("GENERATIONS_MAX", u64::from(policy::GENERATIONS_MAX)),
        ("ANCHOR_BYTES", ANCHOR_BYTES as u64),
        ("KEY_BYTES", flash::KEY_BYTES as u64),
        ("SALT_BYTES", flash::SALT_BYTES as u64),
        (
            "IDENTITY_BYTES",
            size_of_val(&sample_anchor().pairing) as u64,
        ),
        ("SPARE_DIVISOR", u64::from(policy::SPARE_DIVISOR)),
        ("RESERVE_SEGMENTS", u64::from(policy::RESERVE_SEGMENTS)),
        ("GARBAGE_DIVISOR", u64::from(policy::GARBAGE_DIVISOR)),
        ("SLACK_SEGMENTS", u64::from(policy::SLACK_SEGMENTS)),
        ("KEPT_SEGMENTS", u64::from(policy::KEPT_SEGMENTS)),
        ("MOVING_SEGMENTS", u64::from(policy::MOVING_SEGMENTS)),
        ("CHANGES_MAX", policy::CHANGES_MAX),
        ("CHANGES_PART", policy::CHANGES_PART),
        ("CHANGES_MIN", policy::CHANGES_MIN),
        (
            "CHECKPOINT_SEGMENTS",
            u64::from(policy::CHECKPOINT_SEGMENTS),
        ),
    ];
    let document: Vec<(String, u64)> = rows("Constants")
        .iter()
        .skip(1)
        .map(|row| {
            (
                row[0].trim_matches('`').to_owned(),
                row[1].parse().expect("a number"),
            )
        })
        .collect();
    let code: Vec<_> = code.map(|(name, value)| (name.to_owned(), value)).into();
    assert_eq!(document, code);
}

#[test]
fn kinds_are_those_of_the_code() {
    let kinds = [
        Kind::Data,
        Kind::Leaf,
        Kind::Middle,
        Kind::Piece,
        Kind::Record,
        Kind::Superblock,
    ];
    for (kind, name) in
        kinds
            .into_iter()
            .zip(["data", "leaf", "middle", "piece", "record", "superblock"])
    {
        assert!(
            DOCUMENT.contains(&format!("| {} | {name}", kind as u8)),
            "{name}"
        );
    }
}

#[test]
fn headers_are_as_described() {
    let header = Header {
        module: 1,
        identity: [3; 16],
        pairing: [4; 16],
        geometry: Geometry {
            blocks: 0x0506,
            segment_slots: 512,
        },
        adoptions: 6,
    };
    let key = VolumeKey::new(Zeroizing::new([7; 32]));
    let bytes = header.encode(&key).expect("encoding");
    assert_eq!(bytes.len(), layout::BLOCK_BYTES);
    let mac = bytes[MACED_BYTES..][..32].to_vec();
    assert_ne!(mac, [0; 32]);
    let expected = [
        ("magic", b"SGFLASH\0".to_vec()),
        ("version", le4(2)),
        ("module", le4(1)),
        ("identity", vec![3; 16]),
        ("pairing", vec![4; 16]),
        ("blocks", le8(0x0506)),
        ("segment slots", le4(512)),
        ("adoptions", le4(6)),
        ("mac", mac),
    ];
    check("Bytes of a header", &[], &bytes, &expected);
    assert!(bytes[96..].iter().all(|&byte| byte == 0));
}

#[test]
fn records_are_as_described() {
    let member = |number, kind| record::Member {
        kind,
        number,
        tag: [9; 12],
    };
    let sample = record::Record {
        sequence: 1,
        previous: [2; 12],
        next_segment: 3,
        durable: 4,
        flags: record::BEGINS | record::ENDS,
        generation: 5,
        members: vec![member(6, Kind::Data), member(7, Kind::Piece)],
        trims: vec![
            record::Trim {
                block: 8,
                count: 10
            };
            3
        ],
    };
    let bytes = sample.encode();
    assert_eq!(bytes.len(), record::RECORD_BYTES);
    let slots = [le4(6), vec![9; 12], le4(7 + (3 << 30)), vec![9; 12]].concat();
    let expected = [
        ("sequence", le8(1)),
        ("previous", vec![2; 12]),
        ("next segment", le4(3)),
        ("durable", le8(4)),
        ("entries", vec![2, 0]),
        ("trims", vec![3, 0]),
        ("flags", le4(3)),
        ("generation", le4(5)),
        ("slots", slots),
        ("ranges", [le4(8), le4(10)].concat().repeat(3)),
    ];
    check(
        "Bytes of a record",
        &[("k", 2), ("t", 3)],
        &bytes,
        &expected,
    );
}

#[test]
fn bodies_are_as_described() {
    let sample = body::Body {
        blocks: 1,
        next_generation: 2,
        mapped: 3,
        counters: body::Counters {
            host_written_blocks: 4,
            slots_written: 5,
            blocks_cleaned: 6,
            segments_cleaned: 7,
            trimmed_blocks: 8,
            read_errors: 9,
            opens: 10,
            power_cuts: 11,
        },
        sessions: vec![
            body::SessionRow {
                first_generation: 12,
                salt: [13; 32]
            };
            2
        ],
        segments: vec![
            body::SegmentRow {
                generation: 14,
                live: 15,
                retired: true
            };
            3
        ],
        middles: vec![
            record::Entry {
                slot: 16,
                tag: [17; 12]
            };
            4
        ],
        changes: vec![
            body::ChangeRow {
                block: 18,
                entry: record::Entry {
                    slot: 19,
                    tag: [20; 12],
                },
                settled: true,
            };
            5
        ],
    };
    let bytes = sample.encode();
    assert_eq!(bytes.len() % layout::BLOCK_BYTES, 0);
    let expected = [
        ("blocks", le8(1)),
        ("next generation", le4(2)),
        ("sessions", le4(2)),
        ("segments", le4(3)),
        ("middles", le4(4)),
        ("mapped", le8(3)),
        ("counters", (4..12).flat_map(le8).collect()),
        ("changes", le4(5)),
        (
            "session rows",
            [le4(12), le4(0), vec![13; 32]].concat().repeat(2),
        ),
        (
            "segment rows",
            [le4(14), vec![15, 0], vec![1, 0]].concat().repeat(3),
        ),
        ("roots", [le4(16), vec![17; 12]].concat().repeat(4)),
        (
            "change rows",
            [le4(18 + (1 << 31)), le4(19), vec![20; 12]]
                .concat()
                .repeat(5),
        ),
    ];
    let counts = [("c", 2), ("g", 3), ("m", 4), ("d", 5)];
    check("Bytes of a checkpoint's body", &counts, &bytes, &expected);
}

fn sample_anchor() -> Anchor {
    let mark = |first: u8| Mark {
        slot: first.into(),
        generation: u32::from(first) + 1,
        tag: [first + 2; 12],
    };
    Anchor {
        clean: true,
        pairing: [1; 16],
        identities: [[2; 16], [3; 16]],
        sequence: 4,
        tag: [5; 12],
        adoptions: 8,
        checkpoint_sequence: 6,
        checkpoint: mark(10),
        superblock: layout::SUPERBLOCK_SLOTS[1],
        salt: [7; 32],
        tails: [mark(20), mark(30)],
    }
}

#[test]
fn anchors_are_as_described() {
    let bytes = sample_anchor().encode();
    let expected = [
        ("version", le4(2)),
        ("flags", le4(1)),
        ("pairing", vec![1; 16]),
        ("identity 0", vec![2; 16]),
        ("identity 1", vec![3; 16]),
        ("sequence", le8(4)),
        ("tag", vec![5; 12]),
        ("adoptions", le4(8)),
        ("checkpoint sequence", le8(6)),
        ("checkpoint slot", le4(10)),
        ("checkpoint generation", le4(11)),
        ("checkpoint tag", vec![12; 12]),
        ("superblock", le4(2)),
        ("salt", vec![7; 32]),
        ("tail 0 slot", le4(20)),
        ("tail 0 generation", le4(21)),
        ("tail 0 tag", vec![22; 12]),
        ("tail 1 slot", le4(30)),
        ("tail 1 generation", le4(31)),
        ("tail 1 tag", vec![32; 12]),
    ];
    check("Bytes of an anchor", &[], &bytes, &expected);
}

#[test]
fn superblocks_are_as_described() {
    let superblock = Superblock {
        anchor: sample_anchor(),
        sure: Sure {
            sequence: 9,
            before: 10,
        },
    };
    let cipher = Cipher::new(&[40; 32]).expect("a cipher");
    let bytes = superblock.seal(&cipher, 50);
    assert_eq!(bytes.len(), layout::BLOCK_BYTES);
    let (clear, rest) = bytes.split_at(superblock::CLEAR_BYTES);
    let (sealed, tag) = rest.split_at(superblock::SEALED_BYTES);
    let expected = [
        ("salt", vec![7; 32]),
        ("count", le4(50)),
        ("sealed", sealed.to_vec()),
        ("tag", tag.to_vec()),
    ];
    check("Bytes of a superblock", &[], &bytes, &expected);
    assert_eq!(clear.len(), 36);
    let at = Place {
        generation: 50,
        slot: 2,
    };
    let mut plain = vec![0; superblock::SEALED_BYTES];
    let tag = tag.try_into().expect("twelve bytes");
    assert!(cipher.open(at, Kind::Superblock, 0, sealed, &tag, &mut plain));
    let expected = [sample_anchor().encode(), le8(9), le4(10)].concat();
    assert_eq!(plain[..expected.len()], expected);
    assert!(plain[expected.len()..].iter().all(|&byte| byte == 0));
}
