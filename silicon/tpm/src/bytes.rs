//! The TPM's way to write things down: big-endian numbers, and bytes behind their 16-bit size
//! (`TPM2B`; Part 2, "Sized Buffers").
//!
//! Invariants: a buffer is wiped when dropped and never grows, so that no copy of a secret is
//! left behind by a reallocation; reading never goes beyond the end.

use zeroize::Zeroizing;

use crate::Error;

/// The longest command or answer. TPMs for PCs take and give 4096 bytes.
pub const PACKET_SIZE_BYTES_MAX: usize = 4096;

/// Builds a command, or a part of one.
pub struct Writer {
    bytes: Zeroizing<Vec<u8>>,
}

impl Writer {
    /// Nothing yet.
    pub fn new() -> Writer {
        let bytes = Zeroizing::new(Vec::with_capacity(PACKET_SIZE_BYTES_MAX));
        Writer { bytes }
    }

    /// Bytes as they are.
    ///
    /// # Panics
    /// When the command becomes longer than any can be: commands here have sizes of their own.
    pub fn raw(mut self, bytes: &[u8]) -> Writer {
        assert!(self.bytes.len() + bytes.len() <= PACKET_SIZE_BYTES_MAX);
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// A number of 8 bits.
    pub fn u8(self, number: u8) -> Writer {
        self.raw(&[number])
    }

    /// A number of 16 bits.
    pub fn u16(self, number: u16) -> Writer {
        self.raw(&number.to_be_bytes())
    }

    /// A number of 32 bits.
    pub fn u32(self, number: u32) -> Writer {
        self.raw(&number.to_be_bytes())
    }

    /// Bytes behind their 16-bit size.
    pub fn sized(self, bytes: &[u8]) -> Writer {
        self.u16(size(bytes.len()) as u16).raw(bytes)
    }

    /// What was written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What was written, to change it in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// A size in 32 bits.
pub fn size(bytes: usize) -> u32 {
    assert!(bytes <= PACKET_SIZE_BYTES_MAX);
    bytes as u32
}

/// Reads an answer, or a part of one.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// All of `bytes` is to be read.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// The next `count` bytes.
    pub fn raw(&mut self, count: usize) -> Result<&'a [u8], Error> {
        if count > self.rest.len() {
            return Err(Error::Garbled("too short"));
        }
        let (bytes, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(bytes)
    }

    /// As many bytes as the array has.
    pub fn array<const SIZE: usize>(&mut self) -> Result<[u8; SIZE], Error> {
        let bytes = self.raw(SIZE)?;
        Ok(bytes.try_into().expect("the slice has this size"))
    }

    /// A number of 8 bits.
    pub fn u8(&mut self) -> Result<u8, Error> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    /// A number of 16 bits.
    pub fn u16(&mut self) -> Result<u16, Error> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// A number of 32 bits.
    pub fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Bytes behind their 16-bit size.
    pub fn sized(&mut self) -> Result<&'a [u8], Error> {
        let count = self.u16()?;
        self.raw(count.into())
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<(), Error> {
        let is_read = self.rest.is_empty();
        is_read.then_some(()).ok_or(Error::Garbled("too long"))
    }
}
