//! The fields of requests, tickets, entries and work orders: read in their one order, written in
//! it.

use std::convert::Infallible;

use minicbor::decode::Decoder;
use minicbor::encode::{Encoder, Error};

use crate::Refused;

/// Every component is a SHA-256.
pub const DIGEST_SIZE_BYTES: usize = 32;
/// No product's name is longer.
pub const PRODUCT_SIZE_BYTES_MAX: usize = 32;
/// The form of request, ticket and work order.
pub const VERSION: u64 = 1;

pub type Writer = Encoder<Vec<u8>>;
pub type Written<'a> = Result<&'a mut Writer, Error<Infallible>>;

/// The digests of everything that starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Components {
    /// The machine firmware's file.
    pub firmware: [u8; DIGEST_SIZE_BYTES],
    /// The template of the firmware's variables, a file.
    pub variables: [u8; DIGEST_SIZE_BYTES],
    /// The unified kernel image: its Authenticode digest.
    pub kernel: [u8; DIGEST_SIZE_BYTES],
    /// The system volume: the root hash of its dm-verity tree.
    pub system: [u8; DIGEST_SIZE_BYTES],
    /// The recovery medium, a file.
    pub recovery: [u8; DIGEST_SIZE_BYTES],
    /// The unified kernel image on it: its Authenticode digest.
    pub recovery_kernel: [u8; DIGEST_SIZE_BYTES],
}

/// What a system is an edition of: 1 to 32 bytes of `a-z`, `0-9` and `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product(String);

impl Product {
    /// Takes the text, if it can be a product's name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Product> {
        let is_plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        ((1..=PRODUCT_SIZE_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain))
            .then(|| Product(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<minicbor::decode::Error> for Refused {
    fn from(_: minicbor::decode::Error) -> Refused {
        Refused::Malformed
    }
}

impl Components {
    /// In the order of the encoded names.
    fn named(&self) -> [(&'static str, &[u8; DIGEST_SIZE_BYTES]); 6] {
        [
            ("kernel", &self.kernel),
            ("system", &self.system),
            ("firmware", &self.firmware),
            ("recovery", &self.recovery),
            ("variables", &self.variables),
            ("recovery_kernel", &self.recovery_kernel),
        ]
    }

    /// Name and value.
    pub(crate) fn write<'a>(&self, writer: &'a mut Writer) -> Written<'a> {
        writer.str("components")?.map(self.named().len() as u64)?;
        for (name, digest) in self.named() {
            writer.str(name)?.bytes(digest)?;
        }
        Ok(writer)
    }
}

/// What `write` writes.
pub fn encoded(write: impl FnOnce(&mut Writer) -> Written<'_>) -> Vec<u8> {
    let mut writer = Encoder::new(Vec::new());
    write(&mut writer).expect("a vector takes all bytes");
    writer.into_writer()
}

/// Takes the fields of one map, each by its name and at its place.
pub struct Reader<'a> {
    decoder: Decoder<'a>,
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Begins a map of exactly `count` fields.
    pub fn new(bytes: &'a [u8], count: u64) -> Result<Reader<'a>, Refused> {
        let mut reader = Reader {
            decoder: Decoder::new(bytes),
            bytes,
        };
        reader.map(count)?;
        Ok(reader)
    }

    fn map(&mut self, count: u64) -> Result<(), Refused> {
        (self.decoder.map()? == Some(count))
            .then_some(())
            .ok_or(Refused::Malformed)
    }

    fn name(&mut self, name: &str) -> Result<(), Refused> {
        (self.decoder.str()? == name)
            .then_some(())
            .ok_or(Refused::Malformed)
    }

    pub fn uint(&mut self, name: &str) -> Result<u64, Refused> {
        self.name(name)?;
        Ok(self.decoder.u64()?)
    }

    /// A number that has to be this one.
    pub fn constant(&mut self, name: &str, value: u64) -> Result<(), Refused> {
        (self.uint(name)? == value)
            .then_some(())
            .ok_or(Refused::Malformed)
    }

    /// A text that has to be this one.
    pub fn word(&mut self, name: &str, text: &str) -> Result<(), Refused> {
        self.name(name)?;
        self.name(text)
    }

    pub fn array<const SIZE: usize>(&mut self, name: &str) -> Result<[u8; SIZE], Refused> {
        self.name(name)?;
        self.decoder
            .bytes()?
            .try_into()
            .map_err(|_| Refused::Malformed)
    }

    pub fn text(&mut self, name: &str) -> Result<&'a str, Refused> {
        self.name(name)?;
        Ok(self.decoder.str()?)
    }

    pub fn product(&mut self) -> Result<Product, Refused> {
        Product::parse(self.text("product")?).ok_or(Refused::Malformed)
    }

    pub fn components(&mut self) -> Result<Components, Refused> {
        self.name("components")?;
        self.map(6)?;
        Ok(Components {
            kernel: self.array("kernel")?,
            system: self.array("system")?,
            firmware: self.array("firmware")?,
            recovery: self.array("recovery")?,
            variables: self.array("variables")?,
            recovery_kernel: self.array("recovery_kernel")?,
        })
    }

    /// `value` if these bytes are its one form: nothing is after it, and every size and number was
    /// written in the shortest way.
    pub fn end<T>(self, value: T, encoded: &[u8]) -> Result<T, Refused> {
        (encoded == self.bytes)
            .then_some(value)
            .ok_or(Refused::Malformed)
    }
}
