//! The disk as front ends see it: shared by threads, with none of its own.
//!
//! Reads take the lock only to look up where blocks are, and read and decrypt outside of it. A
//! slot may be reused meanwhile: then its tag does not fit, and the lookup is made again.

mod reading;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::adoption;
use crate::cipher::VolumeKey;
use crate::error::{Error, OpenError};
use crate::layout::{BLOCK_BYTES, Geometry, SECTOR_BYTES};
use crate::medium::{Anchors, Medium};
use crate::record::Trim;
use crate::recovery::{self, Opened};
use crate::session::Sessions;
use crate::state::{Io, State, WRITE_BLOCKS};
use crate::status::{Extent, Status, Verified};

/// Blocks that one discard covers at most under the lock: 4 GiB.
const TRIM_BLOCKS: u64 = 1 << 20;
/// Bad blocks that one verification names.
const BAD_BLOCKS_MAX: usize = 64;
/// The guest is idle when it changed nothing for so long.
const IDLE: Duration = Duration::from_millis(400);

/// How a disk is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Anchor every flush before it is acknowledged.
    pub strict: bool,
    /// Memory for the index's leaves, bytes; 64 MiB cover 16 GiB of blocks.
    pub cache_bytes: usize,
    /// A flush is acknowledged only while the oldest flush without an anchor is younger.
    pub lease: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            strict: false,
            cache_bytes: 64 << 20,
            lease: Duration::from_secs(1),
        }
    }
}

/// One open disk. Dropping it without [`Flash::close`] is a power cut.
pub struct Flash<M, A> {
    medium: M,
    anchors: A,
    options: Options,
    geometry: Geometry,
    sessions: Sessions,
    recovered: bool,
    incomplete: bool,
    state: Mutex<State>,
    /// One flush at a time: the next would find the modules clean before they are.
    flushing: Mutex<()>,
    /// One anchor at a time, those of checkpoints aside: the vault refuses to go back.
    anchoring: Mutex<()>,
}

impl<M: Medium, A: Anchors> Flash<M, A> {
    /// Opens the disk on these modules.
    ///
    /// # Errors
    /// When it is not exactly the disk that the chip remembers, or the host or vault fails.
    pub fn open(
        medium: M,
        anchors: A,
        key: VolumeKey,
        options: Options,
    ) -> Result<Self, OpenError> {
        let io = Io {
            medium: &medium,
            anchors: &anchors,
        };
        let opened = recovery::open(&io, &key, options.cache_bytes)?;
        Ok(Flash::new(medium, anchors, options, opened))
    }

    /// Opens the disk on modules of which the vault knows nothing, or something else: in the newest
    /// state that they have themselves. From then on no anchor from before opens them.
    ///
    /// Nothing tells an old state from the newest here: that is for whoever allows it.
    ///
    /// # Errors
    /// When there is no such state under this key, or the host or vault fails.
    pub fn adopt(
        medium: M,
        anchors: A,
        key: VolumeKey,
        options: Options,
    ) -> Result<Self, OpenError> {
        let io = Io {
            medium: &medium,
            anchors: &anchors,
        };
        let opened = adoption::adopt(&io, &key, options.cache_bytes)?;
        Ok(Flash::new(medium, anchors, options, opened))
    }

    fn new(medium: M, anchors: A, options: Options, opened: Opened) -> Self {
        Flash {
            geometry: opened.state.geometry,
            sessions: opened.state.sessions.clone(),
            recovered: opened.recovered,
            incomplete: opened.incomplete,
            state: Mutex::new(opened.state),
            flushing: Mutex::new(()),
            anchoring: Mutex::new(()),
            medium,
            anchors,
            options,
        }
    }

    /// Bytes that the guest sees.
    pub fn capacity_bytes(&self) -> u64 {
        self.geometry.blocks * BLOCK_BYTES as u64
    }

    /// Whether it had not been closed in order before.
    pub fn recovered(&self) -> bool {
        self.recovered
    }

    /// Whether it was adopted in a state of which something is missing, or in an older one because
    /// the newest cannot be followed.
    pub fn incomplete(&self) -> bool {
        self.incomplete
    }

    /// Reads whole sectors.
    ///
    /// # Errors
    /// [`Error::Range`]; [`Error::Corrupt`] when something is not what was written, the buffer
    /// then holds nothing of it; [`Error::Storage`].
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.read_with(offset, buffer, &|module, offset, buffer| {
            self.medium.read(module, offset, buffer).map(|()| true)
        })
        .map(|_| ())
    }

    /// Like [`Flash::read`] where the host need not wait for its disk; else `false`.
    pub fn read_cached(&self, offset: u64, buffer: &mut [u8]) -> Result<bool, Error> {
        self.read_with(offset, buffer, &|module, offset, buffer| {
            self.medium.read_cached(module, offset, buffer)
        })
    }

    /// Writes whole sectors; durable after the next [`Flash::flush`].
    ///
    /// # Errors
    /// [`Error::Range`], [`Error::NoSpace`], [`Error::Stopped`], [`Error::Storage`]. Blocks before
    /// the failing one may have been written.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.check_range(offset, data.len() as u64)?;
        let (mut offset, mut data) = (offset, data);
        while !data.is_empty() {
            let within = (offset % BLOCK_BYTES as u64) as usize;
            let block = (offset / BLOCK_BYTES as u64) as u32;
            let mut state = self.lock();
            let count = if within == 0 && data.len() >= BLOCK_BYTES {
                let blocks = (data.len() / BLOCK_BYTES).min(WRITE_BLOCKS);
                let bytes = blocks * BLOCK_BYTES;
                state.write_blocks(&self.io(), block, &data[..bytes])?;
                bytes
            } else {
                // A part of a block: the rest of it is what it was.
                let bytes = data.len().min(BLOCK_BYTES - within);
                let mut plain = [0; BLOCK_BYTES];
                state.read_block(&self.medium, block, &mut plain)?;
                plain[within..within + bytes].copy_from_slice(&data[..bytes]);
                state.write_blocks(&self.io(), block, &plain)?;
                bytes
            };
            offset += count as u64;
            data = &data[count..];
        }
        Ok(())
    }

    /// Has sectors read as zeros; whole blocks give their room back in time.
    ///
    /// # Errors
    /// As [`Flash::write`].
    pub fn discard(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.check_range(offset, length)?;
        const BLOCK: u64 = BLOCK_BYTES as u64;
        const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
        let end = offset + length;
        let (first, last) = (offset.next_multiple_of(BLOCK), end - end % BLOCK);
        if first >= last {
            // No whole block in it: at most the end of one and the beginning of the next.
            let head = first.min(end) - offset;
            self.write(offset, &ZEROS[..head as usize])?;
            return self.write(offset + head, &ZEROS[..(length - head) as usize]);
        }
        self.write(offset, &ZEROS[..(first - offset) as usize])?;
        let mut block = first / BLOCK;
        while block < last / BLOCK {
            let count = (last / BLOCK - block).min(TRIM_BLOCKS);
            let trim = Trim {
                block: block as u32,
                count: count as u32,
            };
            self.lock().trim(&self.io(), trim)?;
            block += count;
        }
        self.write(last, &ZEROS[..(end - last) as usize])
    }

    /// The same as [`Flash::discard`]: what was trimmed reads as zeros.
    ///
    /// # Errors
    /// As [`Flash::write`].
    pub fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.discard(offset, length)
    }

    /// Makes everything written before durable.
    ///
    /// # Errors
    /// [`Error::NoSpace`] passes; [`Error::Storage`] is final: from then on everything that
    /// changes something is refused with [`Error::Stopped`]. [`Error::Vault`] when the lease is
    /// over and the vault takes no anchor; what was written is then durable all the same.
    pub fn flush(&self) -> Result<(), Error> {
        let one = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = self.lock().begin_flush(&self.medium)?;
        if let Some((point, dirty)) = begun {
            for module in (0..dirty.len()).filter(|&module| dirty[module]) {
                if let Err(error) = self.medium.sync(module) {
                    self.lock().stopped = true;
                    return Err(Error::Storage(error));
                }
            }
            self.lock().end_flush(point);
        }
        drop(one);
        let over = self
            .lock()
            .unanchored_since
            .is_some_and(|since| self.options.strict || since.elapsed() >= self.options.lease);
        if over {
            return self.anchor();
        }
        Ok(())
    }

    /// What is mapped and what is not, from `offset` on, at most `limit` stretches; together they
    /// may be shorter than `length`.
    ///
    /// # Errors
    /// As [`Flash::read`].
    pub fn extents(&self, offset: u64, length: u64, limit: usize) -> Result<Vec<Extent>, Error> {
        self.check_range(offset, length)?;
        let mut extents: Vec<Extent> = Vec::new();
        let (mut at, end) = (offset, offset + length);
        while at < end {
            let block = (at / BLOCK_BYTES as u64) as u32;
            let (mapped, until) = self.extent_at(block)?;
            let stop = end.min(until * BLOCK_BYTES as u64);
            let count = extents.len();
            match extents.last_mut() {
                Some(last) if last.mapped == mapped => last.length += stop - at,
                _ if count >= limit => break,
                _ => extents.push(Extent {
                    length: stop - at,
                    mapped,
                }),
            }
            at = stop;
        }
        Ok(extents)
    }

    /// Reads and authenticates everything that the index points to in these blocks.
    ///
    /// # Errors
    /// [`Error::Range`], [`Error::Storage`]; what is not what was written is no error, but named.
    pub fn verify(&self, block: u64, count: u64) -> Result<Verified, Error> {
        let end = block.saturating_add(count).min(self.geometry.blocks);
        let mut verified = Verified {
            next: block,
            ..Verified::default()
        };
        let mut plain = [0; BLOCK_BYTES];
        while verified.next < end && verified.bad.len() < BAD_BLOCKS_MAX {
            let one = verified.next;
            let mapped = match self.extent_at(one as u32) {
                Ok((true, _)) => true,
                Ok((false, until)) => {
                    verified.next = until.min(end);
                    continue;
                }
                Err(Error::Corrupt { .. }) => true,
                Err(error) => return Err(error),
            };
            verified.checked += u64::from(mapped);
            match self.read(one * BLOCK_BYTES as u64, &mut plain) {
                Ok(()) => {}
                Err(Error::Corrupt { .. }) => verified.bad.push(one),
                Err(error) => return Err(error),
            }
            verified.next += 1;
        }
        Ok(verified)
    }

    /// The figures of the disk.
    pub fn status(&self) -> Status {
        self.lock().status()
    }

    /// Housekeeping, to be called about ten times a second: anchors before the lease is over and
    /// when the guest is idle, flushes and cleans then, gives room back to the host.
    pub fn tick(&self) {
        let state = self.lock();
        if state.stopped {
            return;
        }
        let idle = state.last_change.elapsed() >= IDLE;
        let pending = state.log.is_pending() || state.log.last().sequence > state.durable.sequence;
        let due = state
            .unanchored_since
            .is_some_and(|since| idle || since.elapsed() >= self.options.lease / 2);
        drop(state);
        // A failure is not lost: it is told to the next flush.
        if idle && pending {
            let _ = self.flush();
        }
        if due || (idle && pending) {
            let _ = self.anchor();
        }
        if idle {
            self.lock().tidy(&self.io());
        }
    }

    /// Flushes, writes a checkpoint and anchors it as the last word; nothing is taken afterwards.
    ///
    /// # Errors
    /// As [`Flash::flush`]; the disk is then as after a power cut.
    pub fn stop(&self) -> Result<(), Error> {
        let mut state = self.lock();
        let result = state.checkpoint(&self.io(), true);
        if result.is_ok() {
            // Nobody would know next time that they still have room set aside.
            while state.segments.give_back(0, &self.medium) {}
        }
        state.stopped = true;
        result
    }

    /// [`Flash::stop`] for the last owner.
    ///
    /// # Errors
    /// As [`Flash::stop`].
    pub fn close(self) -> Result<(), Error> {
        self.stop()
    }

    fn io(&self) -> Io<'_, M, A> {
        Io {
            medium: &self.medium,
            anchors: &self.anchors,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the vault remember what is durable now. Who waits here mostly finds it done: one anchor
    /// serves all flushes before it.
    fn anchor(&self) -> Result<(), Error> {
        let durable = self.lock().durable.sequence;
        let _one = self
            .anchoring
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let state = self.lock();
        if state.anchored >= durable {
            return Ok(());
        }
        let (anchor, taken) = (state.newest_anchor(), Instant::now());
        drop(state);
        let stored = self.anchors.store(anchor.sequence, &anchor.encode());
        let mut state = self.lock();
        match stored {
            Ok(()) => state.anchor_stored(&anchor, taken),
            // A checkpoint overtook this anchor: the vault remembers a newer one already.
            Err(_) if state.anchored >= anchor.sequence => {}
            Err(error) => return Err(crate::checkpoint::from_vault(error)),
        }
        Ok(())
    }

    fn check_range(&self, offset: u64, length: u64) -> Result<(), Error> {
        let sector = SECTOR_BYTES as u64;
        let end = offset.checked_add(length).ok_or(Error::Range)?;
        if offset % sector != 0 || length % sector != 0 || end > self.capacity_bytes() {
            return Err(Error::Range);
        }
        Ok(())
    }

    /// Whether a block is mapped, and up to which block the same is known to be true.
    fn extent_at(&self, block: u32) -> Result<(bool, u64), Error> {
        let mut state = self.lock();
        let mapped = !state.entry(&self.medium, block)?.is_none();
        let until = state.index.same_until(block, mapped);
        Ok((mapped, u64::from(until).min(self.geometry.blocks)))
    }
}
