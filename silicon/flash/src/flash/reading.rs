//! Reading: looked up under the lock, read and decrypted outside of it.

use std::cell::RefCell;

use super::Flash;
use crate::cipher::Kind;
use crate::error::Error;
use crate::index::{LOST_SLOT, Needed, Node};
use crate::layout::{BLOCK_BYTES, Geometry};
use crate::medium::{Anchors, Medium};
use crate::record::Entry;
use crate::state::Fetch;

/// Blocks looked up, read and decrypted in one go.
const READ_BLOCKS: usize = 64;
/// Times a lookup is made again before a block counts as unreadable.
const RETRIES: usize = 8;

impl<M: Medium, A: Anchors> Flash<M, A> {
    pub(super) fn read_with(
        &self,
        offset: u64,
        buffer: &mut [u8],
        read: &Read<'_>,
    ) -> Result<bool, Error> {
        self.check_range(offset, buffer.len() as u64)?;
        let (mut offset, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let within = (offset % BLOCK_BYTES as u64) as usize;
            let block = (offset / BLOCK_BYTES as u64) as u32;
            let bytes = if within == 0 && rest.len() >= BLOCK_BYTES {
                let bytes = (rest.len() / BLOCK_BYTES).min(READ_BLOCKS) * BLOCK_BYTES;
                if !self.read_blocks(block, &mut rest[..bytes], read)? {
                    return Ok(false);
                }
                bytes
            } else {
                let bytes = rest.len().min(BLOCK_BYTES - within);
                let mut plain = [0; BLOCK_BYTES];
                if !self.read_blocks(block, &mut plain, read)? {
                    return Ok(false);
                }
                rest[..bytes].copy_from_slice(&plain[within..within + bytes]);
                bytes
            };
            offset += bytes as u64;
            rest = &mut rest[bytes..];
        }
        Ok(true)
    }

    fn read_blocks(&self, first: u32, plain: &mut [u8], read: &Read<'_>) -> Result<bool, Error> {
        SCRATCH.with_borrow_mut(|scratch| {
            let count = plain.len() / BLOCK_BYTES;
            let Scratch { sealed, plans } = scratch;
            sealed.resize(READ_BLOCKS * BLOCK_BYTES, 0);
            plans.clear();
            while plans.len() < count {
                match self.look_up(first, count, plans, sealed)? {
                    Some((needed, fetch)) if !self.read_node(needed, &fetch, read)? => {
                        return Ok(false);
                    }
                    _ => {}
                }
            }
            let mut place = 0;
            while place < count {
                let run = run_length(&plans[place..], self.geometry);
                if let Plan::Medium(fetch) = plans[place] {
                    let (module, offset) = self.geometry.place_of(fetch.entry.slot);
                    let bytes = place * BLOCK_BYTES..(place + run) * BLOCK_BYTES;
                    if !read(module, offset, &mut sealed[bytes]).map_err(Error::Storage)? {
                        return Ok(false);
                    }
                }
                for (one, plan) in plans.iter().enumerate().skip(place).take(run) {
                    let bytes = one * BLOCK_BYTES..(one + 1) * BLOCK_BYTES;
                    let out = &mut plain[bytes.clone()];
                    match plan {
                        Plan::Zeros => out.fill(0),
                        Plan::Buffer(fetch) | Plan::Medium(fetch) => {
                            if !fetch.open(&self.sessions, &sealed[bytes], out) {
                                self.read_again(first + one as u32, fetch, out)?;
                            }
                        }
                    }
                }
                place += run;
            }
            Ok(true)
        })
    }

    /// Plans for blocks up to the first whose place is not in memory; says what is needed then.
    fn look_up(
        &self,
        first: u32,
        count: usize,
        plans: &mut Vec<Plan>,
        sealed: &mut [u8],
    ) -> Result<Option<(Needed, Fetch)>, Error> {
        let mut state = self.lock();
        while plans.len() < count {
            let block = first + plans.len() as u32;
            let entry = match state.index.get(block) {
                Ok(entry) => entry,
                Err(needed) => return Ok(Some((needed, state.fetch_node(needed)))),
            };
            let plan = if entry.is_none() {
                Plan::Zeros
            } else if entry.slot == LOST_SLOT {
                state.counters.read_errors += 1;
                return Err(Error::Corrupt {
                    block: u64::from(block),
                });
            } else {
                let fetch = state.fetch(entry, Kind::Data, block);
                match state.log.buffered(entry.slot) {
                    Some(cipher_text) => {
                        let start = plans.len() * BLOCK_BYTES;
                        sealed[start..start + BLOCK_BYTES].copy_from_slice(cipher_text);
                        Plan::Buffer(fetch)
                    }
                    None => Plan::Medium(fetch),
                }
            };
            plans.push(plan);
        }
        Ok(None)
    }

    /// Reads a node outside the lock; false when that would wait.
    fn read_node(&self, needed: Needed, fetch: &Fetch, read: &Read<'_>) -> Result<bool, Error> {
        let buffered = self
            .lock()
            .log
            .buffered(fetch.entry.slot)
            .map(<[u8]>::to_vec);
        let sealed = match buffered {
            Some(sealed) => sealed,
            None if fetch.generation == 0 => vec![0; BLOCK_BYTES],
            None => {
                let mut sealed = vec![0; BLOCK_BYTES];
                let (module, offset) = self.geometry.place_of(fetch.entry.slot);
                if !read(module, offset, &mut sealed).map_err(Error::Storage)? {
                    return Ok(false);
                }
                sealed
            }
        };
        let mut node = Node::empty();
        let whole = fetch.open(&self.sessions, &sealed, node.bytes_mut());
        let mut state = self.lock();
        if whole {
            state.index.supply(needed, node);
        } else {
            // Damaged, or overtaken by a checkpoint: under the lock it is one or the other.
            state.load_if_current(&self.medium, needed)?;
        }
        Ok(true)
    }

    /// A slot was not what the index said a moment ago: look again, now and then for good.
    fn read_again(&self, block: u32, fetch: &Fetch, plain: &mut [u8]) -> Result<(), Error> {
        let mut state = self.lock();
        let mut seen: Entry = fetch.entry;
        for _ in 0..RETRIES {
            let now = state.entry(&self.medium, block)?;
            if now == seen && seen != fetch.entry {
                break;
            }
            seen = now;
            match state.read_block(&self.medium, block, plain) {
                Err(Error::Corrupt { .. }) if now != fetch.entry => {}
                result => return result,
            }
        }
        Err(Error::Corrupt {
            block: u64::from(block),
        })
    }
}

/// Reads from a module; `false` when it would have to wait.
pub(super) type Read<'a> = dyn Fn(usize, u64, &mut [u8]) -> std::io::Result<bool> + 'a;

#[derive(Clone, Copy)]
enum Plan {
    Zeros,
    Buffer(Fetch),
    Medium(Fetch),
}

#[derive(Default)]
struct Scratch {
    sealed: Vec<u8>,
    plans: Vec<Plan>,
}

thread_local! {
    /// Cipher text on its way, and what to do with it. No plain text is ever in here.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// How many of the plans can be read at once: slots that follow each other in a segment.
fn run_length(plans: &[Plan], geometry: Geometry) -> usize {
    let Plan::Medium(first) = plans[0] else {
        return 1;
    };
    let slot = first.entry.slot;
    let rest = (geometry.segment_slots - geometry.index_of(slot)) as usize;
    let follows = |(distance, plan): &(u32, &Plan)| matches!(plan, Plan::Medium(fetch) if fetch.entry.slot == slot + distance);
    (0..).zip(plans).take(rest).take_while(follows).count()
}
