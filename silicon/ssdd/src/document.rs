//! The protocol's document, compared with what is done.

use crate::nbd;
use crate::refusal::Code;
use crate::request::{CAPACITY_BYTES_MAX, CAPACITY_BYTES_MIN, CAPACITY_STEP_BYTES, Request};
use crate::service::{self, BAD_BLOCKS_MAX, VERIFY_BLOCKS_MAX};
use crate::virtio;

const DOCUMENT: &str = include_str!("../../../docs/ssd-protocol.md");

fn section(title: &str) -> &'static str {
    let (_, rest) = DOCUMENT
        .split_once(&format!("\n## {title}\n"))
        .expect("the section is there");
    rest.split_once("\n## ")
        .map_or(rest, |(section, _)| section)
}

/// The first column of a table whose cells are code.
fn listed(title: &str) -> Vec<&'static str> {
    let rows = section(title).lines();
    rows.filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect()
}

/// The value behind a limit's name.
fn limit(title: &str, name: &str) -> u64 {
    let row = section(title)
        .lines()
        .find_map(|line| line.strip_prefix(&format!("| {name} | ")))
        .unwrap_or_else(|| panic!("no limit {name}"));
    row.split(' ').next().unwrap().parse().unwrap()
}

/// Promise: the document lists exactly the operations, the refusals and the status that exist.
#[test]
fn lists_are_complete() {
    assert_eq!(listed("Operations"), Request::OPERATIONS);
    assert_eq!(listed("Refusals"), Code::ALL.map(Code::as_str));
    let status = service::numbers(&flash::Status::default());
    assert_eq!(listed("Status"), status.map(|(name, _)| name));
}

/// Promise: the document's numbers are the program's.
#[test]
fn numbers_are_the_same() {
    let operations = section("Operations");
    for sentence in [
        format!(
            "a multiple of {CAPACITY_STEP_BYTES} from {CAPACITY_BYTES_MIN} to {CAPACITY_BYTES_MAX}"
        ),
        format!("at most {VERIFY_BLOCKS_MAX} of them"),
        format!("(at most {BAD_BLOCKS_MAX})"),
    ] {
        assert!(operations.contains(&sentence), "{sentence}");
    }
    for (name, number) in nbd::LIMITS {
        assert_eq!(limit("Front end: NBD", name), number, "{name}");
    }
    for (name, number) in virtio::LIMITS {
        assert_eq!(limit("Front end: vhost-user-blk", name), number, "{name}");
    }
}
