//! Drives a disk and the model side by side, and asks of every state that a power cut left
//! whether it is one that the model allows.

use std::time::Duration;

use flash::{Error, Flash, Geometry, OpenError, Options};

use super::image::{Disk, PAGE};
use super::medium::Sim;
use super::model::{Model, Print, print};
use super::random::{Random, mix};

/// An operation of the guest or its host. Places are bytes in the blocks that the model knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Write {
        at: usize,
        length: usize,
    },
    /// A write that is acknowledged only when it is durable.
    Fua {
        at: usize,
        length: usize,
    },
    Discard {
        at: usize,
        length: usize,
    },
    Zero {
        at: usize,
        length: usize,
    },
    Flush,
    Tick,
    /// A clean stop, and opening again.
    Reopen,
}

/// A disk to be tried: its size, how it is opened, and which of its blocks are used.
#[derive(Clone)]
pub struct Setup {
    pub geometry: Geometry,
    pub strict: bool,
    pub lease: Duration,
    pub cache_bytes: usize,
    /// Block numbers on the disk of the model's blocks.
    pub places: Vec<u64>,
}

impl Setup {
    /// A small disk, all of its blocks used, with a lease that no test outlives.
    pub fn small(blocks: usize) -> Setup {
        Setup {
            geometry: Geometry {
                blocks: blocks as u64,
                segment_slots: 16,
            },
            strict: false,
            lease: Duration::from_secs(3600),
            cache_bytes: 1 << 20,
            places: (0..blocks as u64).collect(),
        }
    }

    pub fn open(&self, sim: &Sim) -> Result<Flash<Sim, Sim>, OpenError> {
        Flash::open(sim.clone(), sim.clone(), super::key(), self.options())
    }

    /// Opens whatever state the modules hold; the vault takes any anchor.
    pub fn adopt(&self, sim: &Sim) -> Result<Flash<Sim, Sim>, OpenError> {
        sim.set_forgiving();
        Flash::adopt(sim.clone(), sim.clone(), super::key(), self.options())
    }

    fn options(&self) -> Options {
        Options {
            strict: self.strict,
            cache_bytes: self.cache_bytes,
            lease: self.lease,
        }
    }

    /// The part of a range from `at` that lies in one piece on the disk too, and where it lies.
    fn piece(&self, at: usize, length: usize) -> (u64, usize) {
        let (first, mut end) = (at / PAGE, at / PAGE + 1);
        while end * PAGE < at + length && self.places[end] == self.places[end - 1] + 1 {
            end += 1;
        }
        let place = self.places[first] * PAGE as u64 + (at % PAGE) as u64;
        (place, (end * PAGE - at).min(length))
    }

    /// The pieces of a range: place on the disk, place in the range, length.
    pub fn pieces(&self, at: usize, length: usize) -> Vec<(u64, usize, usize)> {
        let (mut pieces, mut done) = (Vec::new(), 0);
        while done < length {
            let (place, count) = self.piece(at + done, length - done);
            pieces.push((place, done, count));
            done += count;
        }
        pieces
    }

    /// A new empty disk, stopped cleanly.
    pub fn formatted(&self) -> Disk {
        let sim = Sim::new(Disk::default());
        flash::format(&sim, &sim, &super::key(), self.geometry).expect("formatting");
        sim.live()
    }

    /// Opens a disk and reads every block of the model; `None` is a block that cannot be read.
    pub fn examine(&self, disk: Disk) -> Result<Examined, OpenError> {
        let sim = Sim::new(disk);
        sim.set_forgiving();
        let flash = self.open(&sim)?;
        Ok(self.examined(sim, &flash))
    }

    /// The same for a disk that is adopted.
    pub fn examine_adopted(&self, disk: Disk) -> Result<Examined, OpenError> {
        let sim = Sim::new(disk);
        let flash = self.adopt(&sim)?;
        Ok(self.examined(sim, &flash))
    }

    fn examined(&self, sim: Sim, flash: &Flash<Sim, Sim>) -> Examined {
        Examined {
            sim,
            prints: self.prints(flash),
            recovered: flash.recovered(),
            incomplete: flash.incomplete(),
        }
    }

    /// What is read from every block of the model, which has to succeed.
    pub fn contents(&self, flash: &Flash<Sim, Sim>) -> Vec<[u8; PAGE]> {
        let mut blocks = vec![[0; PAGE]; self.places.len()];
        for (block, place) in blocks.iter_mut().zip(&self.places) {
            flash.read(place * PAGE as u64, block).expect("reading");
        }
        blocks
    }

    /// What is read from every block of the model.
    pub fn prints(&self, flash: &Flash<Sim, Sim>) -> Vec<Option<Print>> {
        let mut bytes = vec![0; self.places.len() * PAGE];
        let whole = self
            .pieces(0, bytes.len())
            .into_iter()
            .all(|(place, start, count)| {
                flash.read(place, &mut bytes[start..start + count]).is_ok()
            });
        if whole {
            return bytes.chunks(PAGE).map(|block| Some(print(block))).collect();
        }
        let mut block = [0; PAGE];
        let read = |place: &u64| match flash.read(place * PAGE as u64, &mut block) {
            Ok(()) => Some(print(&block)),
            Err(_) => None,
        };
        self.places.iter().map(read).collect()
    }
}

/// A disk that opened.
pub struct Examined {
    /// Its medium, with the log of its opening.
    pub sim: Sim,
    pub prints: Vec<Option<Print>>,
    pub recovered: bool,
    pub incomplete: bool,
}

/// When an operation began and ended, in events of the log, and what held after it.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub start: usize,
    pub end: usize,
    /// Whether everything up to it was acknowledged as durable.
    pub flushed: bool,
    pub sequence: u64,
    pub anchored: u64,
}

/// A disk in use.
pub struct Driver {
    pub setup: Setup,
    pub sim: Sim,
    pub model: Model,
    /// One for each operation; operation number n is the n-th, counted from 1.
    pub moments: Vec<Moment>,
    flash: Option<Flash<Sim, Sim>>,
    seed: u64,
}

impl Driver {
    /// Opens a disk whose contents are those of the model.
    pub fn open(setup: &Setup, disk: Disk, model: Model, seed: u64) -> Driver {
        let sim = Sim::new(disk);
        let flash = setup.open(&sim).expect("opening what was left whole");
        Driver::with(setup, sim, flash, model, seed)
    }

    /// The same for a disk that is adopted.
    pub fn adopt(setup: &Setup, disk: Disk, model: Model, seed: u64) -> Driver {
        let sim = Sim::new(disk);
        let flash = setup.adopt(&sim).expect("adopting what was left whole");
        Driver::with(setup, sim, flash, model, seed)
    }

    fn with(setup: &Setup, sim: Sim, flash: Flash<Sim, Sim>, model: Model, seed: u64) -> Driver {
        Driver {
            setup: setup.clone(),
            sim,
            model,
            moments: Vec::new(),
            flash: Some(flash),
            seed,
        }
    }

    pub fn new(setup: &Setup, seed: u64) -> Driver {
        Driver::open(
            setup,
            setup.formatted(),
            Model::new(setup.places.len()),
            seed,
        )
    }

    pub fn flash(&self) -> &Flash<Sim, Sim> {
        self.flash.as_ref().expect("the disk is open")
    }

    /// Does one operation on the disk and in the model; it has to succeed.
    pub fn apply(&mut self, op: Op) {
        if let Err(error) = self.attempt(op) {
            panic!("operation {} ({op:?}): {error}", self.moments.len());
        }
    }

    /// Does one operation. When it fails, each block of it is as it was or as it should be.
    pub fn attempt(&mut self, op: Op) -> Result<(), Error> {
        let number = self.moments.len() + 1;
        let start = self.sim.log_length();
        let before: Vec<_> = self
            .range(op)
            .map(|block| (block, *self.model.now(block)))
            .collect();
        let result = self.perform(number, op);
        let flushed = result.is_ok() && matches!(op, Op::Flush | Op::Fua { .. } | Op::Reopen);
        let status = self.flash.as_ref().map(Flash::status);
        let (sequence, anchored) =
            status.map_or((0, 0), |status| (status.sequence, status.anchored_sequence));
        self.moments.push(Moment {
            start,
            end: self.sim.log_length(),
            flushed,
            sequence,
            anchored,
        });
        if result.is_err() && self.flash.is_some() {
            self.settle(number, &before);
        }
        result
    }

    fn perform(&mut self, number: usize, op: Op) -> Result<(), Error> {
        match op {
            Op::Write { at, length } | Op::Fua { at, length } => {
                let mut data = vec![0; length];
                Random::new(mix(self.seed ^ mix(number as u64))).fill(&mut data);
                self.model.write(number, at, &data);
                let flash = self.flash.as_ref().expect("the disk is open");
                for (place, start, count) in self.setup.pieces(at, length) {
                    flash.write(place, &data[start..start + count])?;
                }
                if matches!(op, Op::Fua { .. }) {
                    flash.flush()
                } else {
                    Ok(())
                }
            }
            Op::Discard { at, length } | Op::Zero { at, length } => {
                self.model.zero(number, at, length);
                for (place, _, count) in self.setup.pieces(at, length) {
                    if matches!(op, Op::Zero { .. }) {
                        self.flash().write_zeroes(place, count as u64)?;
                    } else {
                        self.flash().discard(place, count as u64)?;
                    }
                }
                Ok(())
            }
            Op::Flush => self.flash().flush(),
            Op::Tick => {
                self.flash().tick();
                Ok(())
            }
            Op::Reopen => {
                self.flash.take().expect("the disk is open").close()?;
                let flash = self
                    .setup
                    .open(&self.sim)
                    .expect("opening after a clean stop");
                assert!(!flash.recovered(), "a clean stop was taken for a power cut");
                self.flash = Some(flash);
                Ok(())
            }
        }
    }

    /// The model's blocks that an operation changes.
    fn range(&self, op: Op) -> std::ops::Range<usize> {
        match op {
            Op::Write { at, length }
            | Op::Fua { at, length }
            | Op::Discard { at, length }
            | Op::Zero { at, length } => at / PAGE..(at + length).div_ceil(PAGE),
            Op::Flush | Op::Tick | Op::Reopen => 0..0,
        }
    }

    /// After a failed operation: looks which blocks it changed, and tells the model.
    fn settle(&mut self, number: usize, before: &[(usize, [u8; PAGE])]) {
        let faults = self.sim.heal();
        for (block, old) in before {
            let mut found = [0; PAGE];
            let place = self.setup.places[*block] * PAGE as u64;
            if self.flash().read(place, &mut found).is_err() || found == *self.model.now(*block) {
                continue;
            }
            assert!(
                found == *old,
                "a failed operation left block {block} neither old nor new"
            );
            self.model.write(number, block * PAGE, old);
        }
        faults.into_iter().for_each(|fault| self.sim.fail(fault));
    }

    /// Compares every block with the model; refusals are failures.
    pub fn compare(&self) {
        for (block, found) in self.setup.prints(self.flash()).into_iter().enumerate() {
            let wanted = print(self.model.now(block));
            assert_eq!(
                found,
                Some(wanted),
                "block {block} after {} operations",
                self.moments.len()
            );
        }
    }

    /// Reads a block if that needs no waiting; true when it was read, and right.
    pub fn glance(&self, block: usize) -> bool {
        let mut found = [0; PAGE];
        let place = self.setup.places[block] * PAGE as u64;
        let read = self
            .flash()
            .read_cached(place, &mut found)
            .expect("a cached read");
        assert!(
            !read || found == *self.model.now(block),
            "block {block}, read from memory"
        );
        read
    }

    /// A clean stop, for good.
    pub fn close(&mut self) {
        let flash = self.flash.take().expect("the disk is open");
        flash.close().expect("a clean stop");
    }

    /// Power off: nothing is written any more.
    pub fn cut(&mut self) {
        self.flash = None;
    }

    /// The last operation begun and the last flush acknowledged when the log had `position`
    /// events.
    pub fn oracle(&self, position: usize) -> (usize, usize) {
        let started = self
            .moments
            .iter()
            .take_while(|it| it.start <= position)
            .count();
        let flushed = self
            .moments
            .iter()
            .rposition(|it| it.flushed && it.end <= position)
            .map_or(0, |index| index + 1);
        (flushed, started)
    }

    /// The last flush that the vault knew of when the log had `position` events: what no older
    /// copy can take back.
    pub fn anchored(&self, position: usize) -> usize {
        let done = self
            .moments
            .iter()
            .take_while(|it| it.end <= position)
            .count();
        let Some(last) = self.moments[..done].last() else {
            return 0;
        };
        let kept = |it: &Moment| it.flushed && it.sequence <= last.anchored;
        self.moments[..done]
            .iter()
            .rposition(kept)
            .map_or(0, |index| index + 1)
    }
}
