//! The flash as a disk to be served.

use flash::{Anchors, Flash, Medium};
use rustix::io::Errno;

use crate::device::{BLOCK_BYTES, BlockDevice, Extent, SECTOR_BYTES};

const _: () = assert!(BLOCK_BYTES == flash::BLOCK_BYTES && SECTOR_BYTES == flash::SECTOR_BYTES);

impl<M: Medium, A: Anchors> BlockDevice for Flash<M, A> {
    fn capacity_bytes(&self) -> u64 {
        Flash::capacity_bytes(self)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        Flash::read(self, offset, buffer).map_err(errno)
    }

    fn read_cached(&self, offset: u64, buffer: &mut [u8]) -> Result<bool, Errno> {
        Flash::read_cached(self, offset, buffer).map_err(errno)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        Flash::write(self, offset, data).map_err(errno)
    }

    fn discard(&self, offset: u64, length: u64) -> Result<(), Errno> {
        Flash::discard(self, offset, length).map_err(errno)
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), Errno> {
        Flash::write_zeroes(self, offset, length).map_err(errno)
    }

    fn flush(&self) -> Result<(), Errno> {
        Flash::flush(self).map_err(errno)
    }

    fn extents(&self, offset: u64, length: u64, limit: usize) -> Result<Vec<Extent>, Errno> {
        let extents = Flash::extents(self, offset, length, limit).map_err(errno)?;
        let extents = extents.into_iter().map(|extent| Extent {
            length: extent.length,
            mapped: extent.mapped,
        });
        Ok(extents.collect())
    }
}

fn errno(error: flash::Error) -> Errno {
    Errno::from_raw_os_error(error.errno())
}
