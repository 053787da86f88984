//! The model: for each block every content that it ever had, and by which operation.
//!
//! What a disk may hold after a power cut follows from it: the newest content of all that was
//! flushed, or any content that came later.

use std::hash::Hasher as _;

use super::image::PAGE;

/// A fingerprint of a block's content.
pub type Print = u64;

pub fn print(block: &[u8]) -> Print {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(block);
    hasher.finish()
}

/// All contents of all blocks.
pub struct Model {
    now: Vec<[u8; PAGE]>,
    versions: Vec<Vec<(usize, Print)>>,
}

impl Model {
    /// A new disk: zeros.
    pub fn new(blocks: usize) -> Model {
        Model::with(vec![[0; PAGE]; blocks])
    }

    /// A disk that holds this; the operations are counted from 1 again.
    pub fn with(contents: Vec<[u8; PAGE]>) -> Model {
        let versions = contents
            .iter()
            .map(|block| vec![(0, print(block))])
            .collect();
        Model {
            now: contents,
            versions,
        }
    }

    pub fn blocks(&self) -> usize {
        self.now.len()
    }

    /// The newest content of a block.
    pub fn now(&self, block: usize) -> &[u8; PAGE] {
        &self.now[block]
    }

    /// The newest contents of all blocks.
    pub fn contents(&self) -> &[[u8; PAGE]] {
        &self.now
    }

    /// Operation number `op` writes `data` at byte `offset`.
    pub fn write(&mut self, op: usize, offset: usize, data: &[u8]) {
        let mut done = 0;
        while done < data.len() {
            let (block, start) = ((offset + done) / PAGE, (offset + done) % PAGE);
            let count = (PAGE - start).min(data.len() - done);
            self.now[block][start..start + count].copy_from_slice(&data[done..done + count]);
            self.versions[block].push((op, print(&self.now[block])));
            done += count;
        }
    }

    /// Operation number `op` zeroes this range.
    pub fn zero(&mut self, op: usize, offset: usize, length: usize) {
        self.write(op, offset, &vec![0; length]);
    }

    /// The prints that block may have when everything up to operation `flushed` is flushed and
    /// operation `started` was the last to begin.
    pub fn admissible(
        &self,
        block: usize,
        flushed: usize,
        started: usize,
    ) -> impl Iterator<Item = Print> + '_ {
        let versions = &self.versions[block];
        let first = versions
            .iter()
            .rposition(|&(op, _)| op <= flushed)
            .unwrap_or(0);
        versions[first..]
            .iter()
            .take_while(move |&&(op, _)| op <= started)
            .map(|&(_, print)| print)
    }

    /// The first block that holds what it may not.
    pub fn wrong(&self, found: &[Print], flushed: usize, started: usize) -> Option<usize> {
        (0..self.blocks()).find(|&block| {
            !self
                .admissible(block, flushed, started)
                .any(|it| it == found[block])
        })
    }
}
