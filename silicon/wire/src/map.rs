//! Reading one packet: a CBOR map of plain values, taken only in its exact form.
//!
//! Invariant: a map is taken only if it is one definite map with text names, each once, plain
//! values of the types below, and no byte after it; whoever reads it takes each field by its name
//! and then says that this was all ([`Map::end`]).

use minicbor::Decoder;
use minicbor::data::Type;
use minicbor::decode::Error;

/// No packet has more fields.
pub const FIELDS_MAX: u64 = 32;

/// A packet, or a field of it, is not what it has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Why a packet is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestError {
    /// Not one CBOR map with the fields of its operation.
    Malformed,
    /// Well formed, but no operation that is known here.
    UnknownOperation,
}

impl From<Error> for Malformed {
    fn from(_: Error) -> Self {
        Malformed
    }
}

impl From<Malformed> for RequestError {
    fn from(_: Malformed) -> Self {
        RequestError::Malformed
    }
}

/// The fields of one packet that nobody has taken yet.
pub struct Map<'a> {
    fields: Vec<(&'a str, Field<'a>)>,
}

enum Field<'a> {
    Uint(u64),
    Bytes(&'a [u8]),
    Text(&'a str),
    Bool(bool),
    Uints(Vec<u64>),
}

impl<'a> Map<'a> {
    /// Reads a whole packet.
    ///
    /// # Errors
    /// [`Malformed`] for everything but one map of at most [`FIELDS_MAX`] plain fields.
    pub fn parse(packet: &'a [u8]) -> Result<Map<'a>, Malformed> {
        let mut decoder = Decoder::new(packet);
        let mut map = Map { fields: Vec::new() };
        // An indefinite map (`None`) is longer than it needs to be; nobody of ours sends one.
        let count = decoder.map()?.ok_or(Malformed)?;
        if count > FIELDS_MAX {
            return Err(Malformed);
        }
        for _ in 0..count {
            let name = decoder.str()?;
            if map.fields.iter().any(|(other, _)| *other == name) {
                return Err(Malformed);
            }
            map.fields.push((name, Field::read(&mut decoder)?));
        }
        if decoder.position() != packet.len() {
            return Err(Malformed);
        }
        Ok(map)
    }

    /// Takes an unsigned number.
    ///
    /// # Errors
    /// [`Malformed`] when there is no such field or it is something else, as for all below.
    pub fn uint(&mut self, name: &str) -> Result<u64, Malformed> {
        match self.take(name) {
            Some(Field::Uint(number)) => Ok(number),
            _ => Err(Malformed),
        }
    }

    /// Takes a byte string.
    pub fn bytes(&mut self, name: &str) -> Result<&'a [u8], Malformed> {
        self.optional_bytes(name)?.ok_or(Malformed)
    }

    /// Takes a byte string that may be missing.
    pub fn optional_bytes(&mut self, name: &str) -> Result<Option<&'a [u8]>, Malformed> {
        match self.take(name) {
            Some(Field::Bytes(bytes)) => Ok(Some(bytes)),
            None => Ok(None),
            _ => Err(Malformed),
        }
    }

    /// Takes a text.
    pub fn text(&mut self, name: &str) -> Result<&'a str, Malformed> {
        match self.take(name) {
            Some(Field::Text(text)) => Ok(text),
            _ => Err(Malformed),
        }
    }

    /// Takes a truth value.
    pub fn bool(&mut self, name: &str) -> Result<bool, Malformed> {
        match self.take(name) {
            Some(Field::Bool(value)) => Ok(value),
            _ => Err(Malformed),
        }
    }

    /// Takes a truth value that may be missing.
    pub fn optional_bool(&mut self, name: &str) -> Result<Option<bool>, Malformed> {
        match self.take(name) {
            Some(Field::Bool(value)) => Ok(Some(value)),
            None => Ok(None),
            _ => Err(Malformed),
        }
    }

    /// Takes an array of unsigned numbers.
    pub fn uints(&mut self, name: &str) -> Result<Vec<u64>, Malformed> {
        match self.take(name) {
            Some(Field::Uints(numbers)) => Ok(numbers),
            _ => Err(Malformed),
        }
    }

    /// Says that nothing else may be in it.
    ///
    /// # Errors
    /// [`Malformed`] when a field was not taken.
    pub fn end(self) -> Result<(), Malformed> {
        self.fields.is_empty().then_some(()).ok_or(Malformed)
    }

    fn take(&mut self, name: &str) -> Option<Field<'a>> {
        let index = self.fields.iter().position(|(other, _)| *other == name)?;
        Some(self.fields.swap_remove(index).1)
    }
}

impl<'a> Field<'a> {
    fn read(decoder: &mut Decoder<'a>) -> Result<Field<'a>, Malformed> {
        Ok(match decoder.datatype()? {
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => Field::Uint(decoder.u64()?),
            Type::Bytes => Field::Bytes(decoder.bytes()?),
            Type::String => Field::Text(decoder.str()?),
            Type::Bool => Field::Bool(decoder.bool()?),
            Type::Array => {
                // Grown as the numbers come: what the array claims to hold is only a claim.
                let count = decoder.array()?.ok_or(Malformed)?;
                let mut numbers = Vec::new();
                for _ in 0..count {
                    numbers.push(decoder.u64()?);
                }
                Field::Uints(numbers)
            }
            _ => return Err(Malformed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Value, request};

    fn sample() -> Vec<u8> {
        request(
            "try",
            &[
                ("number", Value::Uint(u64::MAX)),
                ("bytes", Value::Bytes(&[1, 2, 3])),
                ("text", Value::Text("words")),
                ("truth", Value::Bool(true)),
                ("numbers", Value::Uints(&[1, 1 << 40])),
            ],
        )
        .to_vec()
    }

    /// Promise: what one side writes, the other reads, each field once.
    #[test]
    fn every_type_is_read_back() {
        let packet = sample();
        let mut map = Map::parse(&packet).unwrap();
        assert_eq!(map.text("op"), Ok("try"));
        assert_eq!(map.uint("number"), Ok(u64::MAX));
        assert_eq!(map.bytes("bytes"), Ok(&[1, 2, 3][..]));
        assert_eq!(map.text("text"), Ok("words"));
        assert_eq!(map.bool("truth"), Ok(true));
        assert_eq!(map.uints("numbers"), Ok(vec![1, 1 << 40]));
        assert_eq!(map.uint("number"), Err(Malformed));
        assert_eq!(map.optional_bytes("bytes"), Ok(None));
        assert_eq!(map.end(), Ok(()));
    }

    /// Promise: a field of another type, and a field that nobody asked for, are refused.
    #[test]
    fn wrong_types_and_stray_fields_are_refused() {
        let packet = sample();
        let mut map = Map::parse(&packet).unwrap();
        assert_eq!(map.bytes("text"), Err(Malformed));
        assert_eq!(map.text("bytes"), Err(Malformed));
        assert_eq!(map.uint("truth"), Err(Malformed));
        assert_eq!(map.bool("number"), Err(Malformed));
        assert_eq!(map.uints("op"), Err(Malformed));
        let mut map = Map::parse(&packet).unwrap();
        assert_eq!(map.optional_bytes("text"), Err(Malformed));
        assert_eq!(map.end(), Err(Malformed));
    }

    /// Promise: no other form of a map is taken.
    #[test]
    fn other_forms_are_malformed() {
        let mut trailing = sample();
        trailing.push(0);
        let mut many = vec![0xb8, 33];
        for number in 0..33 {
            many.extend([0x62, b'a', b'0' + number, 0]);
        }
        for bytes in [
            &trailing[..],
            &many,
            b"",
            b"hello",
            b"\x80",                                          // an array
            b"\xbf\xff",                                      // an indefinite map
            b"\xa2\x61a\x00\x61a\x01",                        // one name twice
            b"\xa1\x41a\x00",                                 // a name of bytes
            b"\xa1\x61a\x20",                                 // a negative number
            b"\xa1\x61a\xa0",                                 // a map inside
            b"\xa1\x61a\x81\x80",                             // an array of arrays
            b"\xa1\x61a\x9f\xff",                             // an indefinite array
            b"\xa1\x61a\x5f\xff",                             // indefinite bytes
            b"\xa1\x61a\xf6",                                 // null
            b"\xa1\x61a\xf9\x00\x00",                         // a float
            b"\xa1\x61a\xc1\x00",                             // a tag
            b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff",          // 2^64 - 1 fields
            b"\xa1\x61a\x9b\xff\xff\xff\xff\xff\xff\xff\xff", // as many numbers
            b"\xa1\x61a\x5b\xff\xff\xff\xff\xff\xff\xff\xff", // as many bytes
        ] {
            assert!(Map::parse(bytes).is_err(), "{bytes:02x?}");
        }
    }

    /// Promise: no packet makes the reader panic, however it is broken or cut.
    #[test]
    fn broken_packets_never_panic() {
        let whole = sample();
        for length in 0..whole.len() {
            assert!(Map::parse(&whole[..length]).is_err());
        }
        for position in 0..whole.len() {
            for value in 0..=255 {
                let mut bytes = whole.clone();
                bytes[position] = value;
                let _ = Map::parse(&bytes);
            }
        }
    }
}
