//! What a request of virtio-blk asks for, done.
//!
//! Invariants: a request that makes no sense ends with a status, never with a panic; data pass
//! through a buffer of this process, a piece at a time, so that neither a half-checked block nor
//! one that changes while it is sealed ever exists; without a negotiated flush every write is
//! lasting when it is acknowledged.

use rustix::io::Errno;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD,
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};
use vm_memory::{Bytes, GuestMemory};

use super::chain::{Broken, Part, Parts};
use super::config::{RANGE_SECTORS_MAX, RANGES_MAX};
use crate::device::{BlockDevice, SECTOR_BYTES};

/// Data are moved in pieces of at most so many bytes.
pub const PIECE_BYTES: usize = 256 * 1024;
/// What `GET_ID` answers, padded to the 20 bytes of the specification.
pub const ID: &[u8; ID_BYTES] = b"Spacegray SSD\0\0\0\0\0\0\0";

const ID_BYTES: usize = 20;
const HEADER_BYTES: usize = 16;
const RANGE_BYTES: usize = 16;
const SECTOR: u64 = SECTOR_BYTES as u64;

/// The status byte of a request that was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Io,
    Unsupported,
}

impl From<Broken> for Failure {
    fn from(_: Broken) -> Failure {
        Failure::Io
    }
}

impl From<Errno> for Failure {
    fn from(_: Errno) -> Failure {
        Failure::Io
    }
}

/// Carries out the requests of one queue.
pub struct Disk<'a> {
    /// The disk itself.
    pub device: &'a dyn BlockDevice,
    /// Whether the guest flushes by itself.
    pub guest_flushes: bool,
    /// For data on their way; at least [`PIECE_BYTES`].
    pub buffer: &'a mut [u8],
}

impl Disk<'_> {
    /// Carries out one request. Returns how many bytes of the guest's memory were written.
    pub fn answer(
        &mut self,
        memory: &impl GuestMemory,
        parts: &mut Parts,
        taken: Result<(), Broken>,
    ) -> u32 {
        let Some(status_at) = parts.writable.take_last() else {
            // Nowhere to say anything.
            return 0;
        };
        let before = parts.writable.left();
        let done = taken
            .map_err(Failure::from)
            .and_then(|()| self.carry_out(memory, parts));
        let status = match done {
            Ok(()) => VIRTIO_BLK_S_OK,
            Err(Failure::Io) => VIRTIO_BLK_S_IOERR,
            Err(Failure::Unsupported) => VIRTIO_BLK_S_UNSUPP,
        };
        let data = (before - parts.writable.left()) as u32;
        match memory.write_obj(status as u8, status_at) {
            Ok(()) => data + 1,
            Err(_) => data,
        }
    }

    fn carry_out(&mut self, memory: &impl GuestMemory, parts: &mut Parts) -> Result<(), Failure> {
        let mut header = [0; HEADER_BYTES];
        parts.readable.fetch(memory, &mut header)?;
        let (kind, _, sector) = numbers(&header);
        match kind {
            VIRTIO_BLK_T_IN => self.read(memory, sector, &mut parts.writable),
            VIRTIO_BLK_T_OUT => {
                self.write(memory, sector, &mut parts.readable)?;
                self.write_through()
            }
            VIRTIO_BLK_T_FLUSH => Ok(self.device.flush()?),
            VIRTIO_BLK_T_GET_ID => {
                let length = parts.writable.left().min(ID_BYTES as u64) as usize;
                Ok(parts.writable.store(memory, &ID[..length])?)
            }
            VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES => {
                self.clear(memory, kind, &mut parts.readable)?;
                self.write_through()
            }
            _ => Err(Failure::Unsupported),
        }
    }

    fn read(
        &mut self,
        memory: &impl GuestMemory,
        sector: u64,
        into: &mut Part,
    ) -> Result<(), Failure> {
        let mut offset = self.range(sector, into.left())?;
        while into.left() > 0 {
            let piece = into.left().min(PIECE_BYTES as u64) as usize;
            let data = &mut self.buffer[..piece];
            self.device.read(offset, data)?;
            into.store(memory, data)?;
            offset += piece as u64;
        }
        Ok(())
    }

    fn write(
        &mut self,
        memory: &impl GuestMemory,
        sector: u64,
        from: &mut Part,
    ) -> Result<(), Failure> {
        let mut offset = self.range(sector, from.left())?;
        while from.left() > 0 {
            // The seam between two pieces is one between two blocks.
            let to_seam = PIECE_BYTES as u64 - offset % crate::device::BLOCK_BYTES as u64;
            let piece = from.left().min(to_seam) as usize;
            let data = &mut self.buffer[..piece];
            from.fetch(memory, data)?;
            self.device.write(offset, data)?;
            offset += piece as u64;
        }
        Ok(())
    }

    fn clear(
        &mut self,
        memory: &impl GuestMemory,
        kind: u32,
        from: &mut Part,
    ) -> Result<(), Failure> {
        let length = from.left();
        if length == 0
            || length % RANGE_BYTES as u64 != 0
            || length > u64::from(RANGES_MAX) * RANGE_BYTES as u64
        {
            return Err(Failure::Io);
        }
        let mut bytes = [[0; RANGE_BYTES]; RANGES_MAX as usize];
        let ranges = &mut bytes[..length as usize / RANGE_BYTES];
        from.fetch(memory, ranges.as_flattened_mut())?;
        let unmap = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
        let flags_known = if kind == VIRTIO_BLK_T_DISCARD {
            0
        } else {
            unmap
        };
        // All of them are looked at before anything is done.
        for range in &*ranges {
            let (sector, sectors, flags) = range_numbers(range);
            if flags & !flags_known != 0 {
                return Err(Failure::Unsupported);
            }
            if sectors > RANGE_SECTORS_MAX {
                return Err(Failure::Io);
            }
            self.range(sector, u64::from(sectors) * SECTOR)?;
        }
        for range in &*ranges {
            let (sector, sectors, _) = range_numbers(range);
            let length = u64::from(sectors) * SECTOR;
            let offset = self.range(sector, length)?;
            if kind == VIRTIO_BLK_T_DISCARD {
                self.device.discard(offset, length)?;
            } else {
                self.device.write_zeroes(offset, length)?;
            }
        }
        Ok(())
    }

    fn write_through(&self) -> Result<(), Failure> {
        if !self.guest_flushes {
            self.device.flush()?;
        }
        Ok(())
    }

    /// Where a range begins, in bytes, once it is known to lie on the disk.
    fn range(&self, sector: u64, length: u64) -> Result<u64, Failure> {
        let offset = sector.checked_mul(SECTOR).ok_or(Failure::Io)?;
        let end = offset.checked_add(length).ok_or(Failure::Io)?;
        if length % SECTOR != 0 || end > self.device.capacity_bytes() {
            return Err(Failure::Io);
        }
        Ok(offset)
    }
}

/// Two numbers of 32 bits and one of 64, little-endian: a request's header.
fn numbers(bytes: &[u8; HEADER_BYTES]) -> (u32, u32, u64) {
    let [a, b, c, d, e, f, g, h, rest @ ..] = *bytes;
    (
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
        u64::from_le_bytes(rest),
    )
}

/// One number of 64 bits and two of 32: a range to clear.
fn range_numbers(bytes: &[u8; RANGE_BYTES]) -> (u64, u32, u32) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, rest @ ..] = *bytes;
    (
        u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        u32::from_le_bytes([i, j, k, l]),
        u32::from_le_bytes(rest),
    )
}
