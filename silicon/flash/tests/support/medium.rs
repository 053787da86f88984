//! The simulated medium: records every change, fails on demand, and forgets what was not synced.
//!
//! A clone is another handle of the same medium, as a descriptor would be.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use flash::{Anchors, Medium};

use super::image::{Disk, Image};

/// Bytes of an anchor, as docs/flash-format.md has them.
const ANCHOR_BYTES: usize = 184;

/// What changes the bytes of a module.
#[derive(Clone)]
pub enum Change {
    Write { offset: u64, data: Arc<[u8]> },
    Punch { offset: u64, length: u64 },
    Erase,
}

impl Change {
    pub fn apply(&self, image: &mut Image) {
        match self {
            Change::Write { offset, data } => image.write(*offset, data),
            Change::Punch { offset, length } => image.punch(*offset, *length),
            Change::Erase => *image = Image::default(),
        }
    }
}

/// One thing that happened to the medium, in order.
#[derive(Clone)]
pub enum Event {
    Change {
        module: usize,
        change: Change,
    },
    Sync {
        module: usize,
    },
    /// A sync that said no: what it should have made durable can be lost whatever comes later.
    FailedSync {
        module: usize,
    },
    /// What the vault remembers from here on.
    Anchor(Option<Vec<u8>>),
}

/// What can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    Read,
    Write,
    Sync,
    Allocate,
    Punch,
    Store,
    Load,
}

/// A failure to come: the call of this sort after `after` more of them, once or from then on.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub call: Call,
    pub after: usize,
    pub errno: i32,
    pub lasting: bool,
}

struct State {
    base: Disk,
    live: Disk,
    log: Vec<Event>,
    faults: Vec<Fault>,
    failed: usize,
    cold: bool,
    slow: Duration,
    forgiving: bool,
    stores: usize,
}

/// A handle of the medium; also the memory of its vault.
#[derive(Clone)]
pub struct Sim(Arc<Mutex<State>>);

impl Sim {
    /// A medium that holds this, all of it durable.
    pub fn new(disk: Disk) -> Sim {
        Sim(Arc::new(Mutex::new(State {
            base: disk.clone(),
            live: disk,
            log: Vec::new(),
            faults: Vec::new(),
            failed: 0,
            cold: false,
            slow: Duration::ZERO,
            forgiving: false,
            stores: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .expect("no test panics while it holds the medium")
    }

    /// What is there now, synced or not.
    pub fn live(&self) -> Disk {
        self.state().live.clone()
    }

    /// What was durable when the log began, and everything that happened since.
    pub fn history(&self) -> (Disk, Vec<Event>) {
        let state = self.state();
        (state.base.clone(), state.log.clone())
    }

    /// Events so far.
    pub fn log_length(&self) -> usize {
        self.state().log.len()
    }

    /// Lets a failure come.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Ends all failures; returns those that were still to come.
    pub fn heal(&self) -> Vec<Fault> {
        std::mem::take(&mut self.state().faults)
    }

    /// How many calls were made to fail so far.
    pub fn failed(&self) -> usize {
        self.state().failed
    }

    /// Says of every cached read that it would wait.
    pub fn set_cold(&self, cold: bool) {
        self.state().cold = cold;
    }

    /// Has the vault take lower sequences too: what it would refuse has to be refused before.
    pub fn set_forgiving(&self) {
        self.state().forgiving = true;
    }

    /// Has the vault take so long to store an anchor, or twice as long to say so, in turns.
    pub fn set_slow(&self, pause: Duration) {
        self.state().slow = pause;
    }

    /// How often an anchor was stored.
    pub fn stores(&self) -> usize {
        self.state().stores
    }

    /// Has the vault forget the anchor, as it does before a format.
    pub fn forget_anchor(&self) {
        self.state().remember(None);
    }

    /// Keeps no log from now on: what is there counts as durable. For long runs.
    pub fn forget(&self) {
        let mut state = self.state();
        state.base = state.live.clone();
        state.log = Vec::new();
    }
}

impl State {
    fn remember(&mut self, anchor: Option<Vec<u8>>) {
        self.live.anchor.clone_from(&anchor);
        self.log.push(Event::Anchor(anchor));
    }

    fn check(&mut self, call: Call) -> io::Result<()> {
        for index in 0..self.faults.len() {
            let fault = &mut self.faults[index];
            if fault.call != call {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
                continue;
            }
            let errno = fault.errno;
            if !fault.lasting {
                self.faults.remove(index);
            }
            self.failed += 1;
            return Err(io::Error::from_raw_os_error(errno));
        }
        Ok(())
    }

    fn change(&mut self, module: usize, change: Change) {
        change.apply(&mut self.live.modules[module]);
        self.log.push(Event::Change { module, change });
    }
}

impl Medium for Sim {
    fn read(&self, module: usize, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        state.check(Call::Read)?;
        state.live.modules[module].read(offset, buffer);
        Ok(())
    }

    fn read_cached(&self, module: usize, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
        if self.state().cold {
            buffer.fill(0xa5);
            return Ok(false);
        }
        self.read(module, offset, buffer).map(|()| true)
    }

    fn write(&self, module: usize, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        if let Err(error) = state.check(Call::Write) {
            // Half of it may have gone through, as with a disk that fills up.
            let half = data.len() / 2 / 512 * 512;
            state.change(
                module,
                Change::Write {
                    offset,
                    data: data[..half].into(),
                },
            );
            return Err(error);
        }
        state.change(
            module,
            Change::Write {
                offset,
                data: data.into(),
            },
        );
        Ok(())
    }

    fn sync(&self, module: usize) -> io::Result<()> {
        let mut state = self.state();
        if let Err(error) = state.check(Call::Sync) {
            state.log.push(Event::FailedSync { module });
            return Err(error);
        }
        state.log.push(Event::Sync { module });
        Ok(())
    }

    fn allocate(&self, _module: usize, _offset: u64, _length: u64) -> io::Result<()> {
        // Changes no byte that can be read.
        self.state().check(Call::Allocate)
    }

    fn punch(&self, module: usize, offset: u64, length: u64) -> io::Result<()> {
        let mut state = self.state();
        state.check(Call::Punch)?;
        state.change(module, Change::Punch { offset, length });
        Ok(())
    }

    fn erase(&self, module: usize) -> io::Result<()> {
        self.state().change(module, Change::Erase);
        Ok(())
    }
}

impl Anchors for Sim {
    fn load(&self) -> io::Result<Option<Vec<u8>>> {
        let mut state = self.state();
        state.check(Call::Load)?;
        Ok(state.live.anchor.clone())
    }

    fn store(&self, sequence: u64, anchor: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.stores += 1;
        state.check(Call::Store)?;
        let (first, pause) = (state.stores % 2 == 0, state.slow);
        if first {
            drop(state);
            std::thread::sleep(pause);
            state = self.state();
        }
        assert_eq!(anchor.len(), ANCHOR_BYTES, "an anchor of another size");
        assert_eq!(
            sequence_of(anchor),
            sequence,
            "the anchor names another sequence"
        );
        let newest = state.live.anchor.as_deref().map_or(0, sequence_of);
        if sequence < newest && !state.forgiving {
            return Err(io::Error::other("backwards"));
        }
        state.remember(Some(anchor.to_vec()));
        drop(state);
        if !first {
            std::thread::sleep(2 * pause);
        }
        Ok(())
    }
}

fn sequence_of(anchor: &[u8]) -> u64 {
    u64::from_le_bytes(anchor[56..64].try_into().expect("eight bytes"))
}
