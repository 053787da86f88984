//! The fields of a CBOR map, written and read in one fixed order.

use minicbor::decode::Error as DecodeError;
use minicbor::encode::Error as EncodeError;
use minicbor::encode::write::{Cursor, EndOfSlice};
use minicbor::{Decoder, Encoder};

use crate::Error;
use crate::secret::Secret;

/// The bytes, or none where there is nothing.
pub fn bytes<const SIZE: usize>(value: Option<&[u8; SIZE]>) -> &[u8] {
    value.map_or(&[], |value| &value[..])
}

/// Writes one map of byte strings and numbers.
pub struct Writer<'a>(Encoder<Cursor<&'a mut [u8]>>);

impl<'a> Writer<'a> {
    pub fn new(buffer: &'a mut [u8]) -> Writer<'a> {
        Writer(Encoder::new(Cursor::new(buffer)))
    }

    pub fn begin(&mut self, fields: u64) -> Result<(), EncodeError<EndOfSlice>> {
        self.0.map(fields)?;
        Ok(())
    }

    /// How many bytes were written.
    pub fn position(&self) -> usize {
        self.0.writer().position()
    }

    pub fn bytes(&mut self, name: &str, value: &[u8]) -> Result<(), EncodeError<EndOfSlice>> {
        self.0.str(name)?.bytes(value)?;
        Ok(())
    }

    pub fn uint(&mut self, name: &str, value: u64) -> Result<(), EncodeError<EndOfSlice>> {
        self.0.str(name)?.u64(value)?;
        Ok(())
    }
}

/// Reads what a [`Writer`] wrote.
pub struct Reader<'a>(Decoder<'a>);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8], fields: u64) -> Result<Reader<'a>, Error> {
        let mut decoder = Decoder::new(bytes);
        if decoder.map().map_err(unreadable)? != Some(fields) {
            return Err(Error::Corrupt("contents"));
        }
        Ok(Reader(decoder))
    }

    fn name(&mut self, name: &str) -> Result<(), Error> {
        let is_next = self.0.str().map_err(unreadable)? == name;
        is_next.then_some(()).ok_or(Error::Corrupt("contents"))
    }

    pub fn bytes(&mut self, name: &str) -> Result<&'a [u8], Error> {
        self.name(name)?;
        self.0.bytes().map_err(unreadable)
    }

    pub fn uint(&mut self, name: &str) -> Result<u64, Error> {
        self.name(name)?;
        self.0.u64().map_err(unreadable)
    }

    pub fn flag(&mut self, name: &str) -> Result<bool, Error> {
        match self.uint(name)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Error::Corrupt("contents")),
        }
    }

    /// `None` where it is empty.
    pub fn array<const SIZE: usize>(&mut self, name: &str) -> Result<Option<[u8; SIZE]>, Error> {
        let bytes = self.bytes(name)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let array = bytes.try_into().map_err(|_| Error::Corrupt("contents"))?;
        Ok(Some(array))
    }

    /// `None` where it is empty.
    pub fn secret(&mut self, name: &str) -> Result<Option<Secret>, Error> {
        let bytes = self.bytes(name)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let secret = Secret::from_slice(bytes).ok_or(Error::Corrupt("contents"))?;
        Ok(Some(secret))
    }
}

fn unreadable(_: DecodeError) -> Error {
    Error::Corrupt("contents")
}
