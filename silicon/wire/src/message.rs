//! Writing one packet: a request, or the reply to one.
//!
//! Invariants: what is written always fits into one packet; it lies in a buffer that never
//! moves and is wiped when dropped, because a reply may carry a key.

use std::convert::Infallible;

use minicbor::Encoder;
use minicbor::encode::Error;
use zeroize::Zeroizing;

use crate::PACKET_SIZE_BYTES_MAX;

/// A longer text of a refusal is cut.
pub const DETAIL_SIZE_BYTES_MAX: usize = 512;

/// A field of a request or a reply.
pub enum Value<'a> {
    /// An unsigned number.
    Uint(u64),
    /// A byte string.
    Bytes(&'a [u8]),
    /// A text.
    Text(&'a str),
    /// A truth value.
    Bool(bool),
    /// An array of unsigned numbers.
    Uints(&'a [u64]),
}

/// `{"op": op, ...fields}`
///
/// # Panics
/// When it does not fit into one packet, as all below: what is sent has a known size.
pub fn request(op: &str, fields: &[(&str, Value<'_>)]) -> Zeroizing<Vec<u8>> {
    packet(&[("op", Value::Text(op))], fields)
}

/// `{"ok": true, ...fields}`
pub fn success(fields: &[(&str, Value<'_>)]) -> Zeroizing<Vec<u8>> {
    packet(&[("ok", Value::Bool(true))], fields)
}

/// `{"ok": false, "error": code, "detail": text, ...fields}`
pub fn refused(code: &str, detail: &str, fields: &[(&str, Value<'_>)]) -> Zeroizing<Vec<u8>> {
    let mut size = detail.len().min(DETAIL_SIZE_BYTES_MAX);
    while !detail.is_char_boundary(size) {
        size -= 1;
    }
    let head = [
        ("ok", Value::Bool(false)),
        ("error", Value::Text(code)),
        ("detail", Value::Text(&detail[..size])),
    ];
    packet(&head, fields)
}

fn packet(head: &[(&str, Value<'_>)], fields: &[(&str, Value<'_>)]) -> Zeroizing<Vec<u8>> {
    let size_bytes_max = HEAD_SIZE_BYTES_MAX
        + (head.iter().chain(fields))
            .map(|(name, value)| HEAD_SIZE_BYTES_MAX + name.len() + value.size_bytes_max())
            .sum::<usize>();
    let mut bytes = Zeroizing::new(Vec::with_capacity(size_bytes_max));
    let written = write(&mut Encoder::new(&mut *bytes), head, fields);
    written.expect("a vector takes every byte");
    // A vector that had to grow has left a copy of a key behind.
    assert!(bytes.len() <= size_bytes_max.min(PACKET_SIZE_BYTES_MAX));
    bytes
}

/// The longest that CBOR says before a value: its type and a 64-bit size.
const HEAD_SIZE_BYTES_MAX: usize = 9;

fn write(
    encoder: &mut Encoder<&mut Vec<u8>>,
    head: &[(&str, Value<'_>)],
    fields: &[(&str, Value<'_>)],
) -> Result<(), Error<Infallible>> {
    encoder.map((head.len() + fields.len()) as u64)?;
    for (name, value) in head.iter().chain(fields) {
        encoder.str(name)?;
        match value {
            Value::Uint(number) => drop(encoder.u64(*number)?),
            Value::Bytes(bytes) => drop(encoder.bytes(bytes)?),
            Value::Text(text) => drop(encoder.str(text)?),
            Value::Bool(value) => drop(encoder.bool(*value)?),
            Value::Uints(numbers) => {
                encoder.array(numbers.len() as u64)?;
                for number in *numbers {
                    encoder.u64(*number)?;
                }
            }
        }
    }
    Ok(())
}

impl Value<'_> {
    /// At least what it takes when written.
    fn size_bytes_max(&self) -> usize {
        match self {
            Value::Uint(_) | Value::Bool(_) => HEAD_SIZE_BYTES_MAX,
            Value::Bytes(bytes) => bytes.len() + HEAD_SIZE_BYTES_MAX,
            Value::Text(text) => text.len() + HEAD_SIZE_BYTES_MAX,
            Value::Uints(numbers) => (numbers.len() + 1) * HEAD_SIZE_BYTES_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Map;

    /// Promise: the room set aside is enough for the longest form of each value, so that a reply
    /// with a key never leaves its first buffer. (Writing panics where it is not.)
    #[test]
    fn every_value_fits_into_its_room() {
        for size in [0, 1, 23, 24, 255, 256, 2000] {
            let bytes = vec![0xff; size];
            let text = "x".repeat(size);
            let numbers = vec![u64::MAX; size / 8];
            for value in [
                Value::Uint(u64::MAX),
                Value::Bytes(&bytes),
                Value::Text(&text),
                Value::Bool(true),
                Value::Uints(&numbers),
            ] {
                assert!(success(&[("name", value)]).len() >= 10);
            }
        }
    }

    /// Promise: a refusal has its code, and its text is cut between two characters.
    #[test]
    fn long_details_are_cut() {
        let packet = refused("storage", &"é".repeat(4000), &[("module", Value::Uint(2))]);
        let mut map = Map::parse(&packet).unwrap();
        assert_eq!(map.bool("ok"), Ok(false));
        assert_eq!(map.text("error"), Ok("storage"));
        let detail = map.text("detail").unwrap();
        assert_eq!(detail.chars().count(), DETAIL_SIZE_BYTES_MAX / 2);
        assert_eq!(map.uint("module"), Ok(2));
        assert_eq!(map.end(), Ok(()));
    }
}
