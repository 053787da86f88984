//! One request's descriptors, and the guest's bytes behind them.
//!
//! Invariants: each descriptor and each byte of the guest's memory is fetched once, into memory
//! of this process, before it is looked at; the guest may change its own at any time. Loops,
//! chains that end in the middle, readable after writable parts and absurd lengths are no
//! requests. Addresses outside the guest's memory give an error when they are used.

use std::ops::Deref;

use virtio_queue::DescriptorChain;
use vm_memory::{Bytes, GuestAddress, GuestMemory};

/// Descriptors of one chain that are looked at; more are no request.
pub const DESCRIPTORS_MAX: usize = 1024;
/// The longest request, in bytes: firmware reads a file in one go.
pub const REQUEST_BYTES_MAX: u64 = 1 << 30;

/// Why a request cannot be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// A part of the guest's memory that is used from its beginning on, once.
#[derive(Debug, Default)]
pub struct Part {
    segments: Vec<(GuestAddress, u32)>,
    next: usize,
    used_of_next: u32,
    left: u64,
}

/// What a chain consists of; kept from one request to the next for its memory.
#[derive(Debug, Default)]
pub struct Parts {
    /// What the guest has written.
    pub readable: Part,
    /// What the guest wants written.
    pub writable: Part,
}

impl Parts {
    /// Takes the descriptors of a chain.
    ///
    /// # Errors
    /// [`Broken`]; what was found of the writable part stays usable, so that its last byte can
    /// be told what happened.
    pub fn take<M>(&mut self, chain: DescriptorChain<M>) -> Result<(), Broken>
    where
        M: Deref,
        M::Target: GuestMemory,
    {
        self.readable.clear();
        self.writable.clear();
        let mut unfinished = true;
        for (number, descriptor) in chain.enumerate() {
            if number >= DESCRIPTORS_MAX {
                return Err(Broken);
            }
            unfinished = descriptor.has_next();
            let segment = (descriptor.addr(), descriptor.len());
            if descriptor.is_write_only() {
                self.writable.push(segment);
            } else if self.writable.segments.is_empty() {
                self.readable.push(segment);
            } else {
                return Err(Broken);
            }
        }
        // The iterator also ends where it went astray: then the last descriptor promised another.
        if unfinished || self.readable.left + self.writable.left > REQUEST_BYTES_MAX {
            return Err(Broken);
        }
        Ok(())
    }
}

impl Part {
    /// Bytes that were not used yet.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Copies the next bytes out of the guest's memory.
    ///
    /// # Errors
    /// [`Broken`] where they are not there.
    pub fn fetch(&mut self, memory: &impl GuestMemory, buffer: &mut [u8]) -> Result<(), Broken> {
        self.advance(buffer.len(), |address, range| {
            memory.read_slice(&mut buffer[range], address).ok()
        })
    }

    /// Copies bytes into the guest's memory.
    ///
    /// # Errors
    /// [`Broken`] where there is no place for them.
    pub fn store(&mut self, memory: &impl GuestMemory, data: &[u8]) -> Result<(), Broken> {
        self.advance(data.len(), |address, range| {
            memory.write_slice(&data[range], address).ok()
        })
    }

    /// Cuts the very last byte off; where it lies.
    pub fn take_last(&mut self) -> Option<GuestAddress> {
        let (address, length) = loop {
            match self.segments.pop()? {
                (_, 0) => {}
                segment => break segment,
            }
        };
        self.left -= 1;
        if length > 1 {
            self.segments.push((address, length - 1));
        }
        address
            .0
            .checked_add(u64::from(length) - 1)
            .map(GuestAddress)
    }

    fn clear(&mut self) {
        self.segments.clear();
        (self.next, self.used_of_next, self.left) = (0, 0, 0);
    }

    fn push(&mut self, segment: (GuestAddress, u32)) {
        self.left += u64::from(segment.1);
        self.segments.push(segment);
    }

    /// Goes through the next `length` bytes, segment by segment.
    fn advance(
        &mut self,
        length: usize,
        mut step: impl FnMut(GuestAddress, std::ops::Range<usize>) -> Option<()>,
    ) -> Result<(), Broken> {
        let mut done = 0;
        while done < length {
            let (address, size) = *self.segments.get(self.next).ok_or(Broken)?;
            let here = ((size - self.used_of_next) as usize).min(length - done);
            if here > 0 {
                let at = address
                    .0
                    .checked_add(self.used_of_next.into())
                    .ok_or(Broken)?;
                step(GuestAddress(at), done..done + here).ok_or(Broken)?;
            }
            done += here;
            self.left -= here as u64;
            self.used_of_next += here as u32;
            if self.used_of_next == size {
                (self.next, self.used_of_next) = (self.next + 1, 0);
            }
        }
        Ok(())
    }
}
