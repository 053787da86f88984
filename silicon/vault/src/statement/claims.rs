//! CBOR maps whose members are in the one order that RFC 8949, 4.2.1, gives them.

use std::collections::BTreeMap;
use std::convert::Infallible;

use minicbor::Encoder;
use minicbor::encode::Error;

type Writer = Encoder<Vec<u8>>;
type Written<'a> = Result<&'a mut Writer, Error<Infallible>>;

/// The members of a map, key and value encoded.
#[derive(Default)]
pub struct Claims {
    /// The encoded keys' own order is the one wanted.
    members: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A member's key.
pub trait Label {
    /// Writes it.
    fn write(self, writer: &mut Writer) -> Written<'_>;
}

impl Label for i64 {
    fn write(self, writer: &mut Writer) -> Written<'_> {
        writer.i64(self)
    }
}

impl Label for &str {
    fn write(self, writer: &mut Writer) -> Written<'_> {
        writer.str(self)
    }
}

impl Claims {
    /// One more member.
    pub fn add(&mut self, label: impl Label, value: impl FnOnce(&mut Writer) -> Written<'_>) {
        self.add_encoded(label, &encoded(value));
    }

    /// One more member, whose value is there as CBOR.
    pub fn add_encoded(&mut self, label: impl Label, value: &[u8]) {
        let key = encoded(|writer| label.write(writer));
        let before = self.members.insert(key, value.to_vec());
        assert!(before.is_none(), "a member twice");
    }

    /// The map.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = encoded(|writer| writer.map(self.members.len() as u64));
        for (key, value) in &self.members {
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(value);
        }
        bytes
    }

    /// The map as a part of something larger.
    pub fn write(&self, writer: &mut Writer) {
        writer.writer_mut().extend_from_slice(&self.encode());
    }
}

/// What `write` writes.
pub fn encoded(write: impl FnOnce(&mut Writer) -> Written<'_>) -> Vec<u8> {
    let mut writer = Encoder::new(Vec::new());
    // Writing to a vector cannot fail.
    write(&mut writer).expect("a vector takes all bytes");
    writer.into_writer()
}
