//! The two places for a whole system, and which of them starts.
//!
//! Each slot holds what was kept of the ticket that names its system. One is the current one, the
//! other may be tried: a number of starts, each charged before it is made, until the system in it
//! came up and becomes the current one, or is given up.
//!
//! Invariants: there is a ticket in the current slot; only the other one is tried, and only while
//! there is a current one to fall back to; nothing puts another ticket into the current slot; once
//! a system was up, none with a lower epoch is left beside it.

use ticket::Entry;

use crate::Error;

/// A place for a whole system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// Both, in their order.
    pub const ALL: [Slot; 2] = [Slot::A, Slot::B];

    /// The slot's name.
    pub fn name(self) -> &'static str {
        match self {
            Slot::A => "a",
            Slot::B => "b",
        }
    }

    fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }
}

/// Both slots.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slots {
    entries: [Option<Entry>; 2],
    current: Option<Slot>,
    /// Tries that are left to the system that is not the current one, while it is tried.
    tries_left: Option<u64>,
}

impl Slots {
    /// What the store kept.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for what no change of slots leads to.
    pub fn read(
        entries: [Option<Entry>; 2],
        current: Option<Slot>,
        tries_left: Option<u64>,
    ) -> Result<Slots, Error> {
        let slots = Slots {
            entries,
            current,
            tries_left,
        };
        let current_is_there = current.is_none() || slots.current_entry().is_some();
        let tried_is_there = tries_left.is_none() || slots.tried_entry().is_some();
        match current_is_there && tried_is_there {
            true => Ok(slots),
            false => Err(Error::Corrupt("slots")),
        }
    }

    /// What a slot holds.
    pub fn entry(&self, slot: Slot) -> Option<&Entry> {
        self.entries[slot as usize].as_ref()
    }

    /// The current slot.
    pub fn current(&self) -> Option<Slot> {
        self.current
    }

    /// The current slot with what it holds.
    pub fn current_entry(&self) -> Option<(Slot, &Entry)> {
        let slot = self.current?;
        Some((slot, self.entry(slot)?))
    }

    /// Tries that are left to the system that is tried, if there is one.
    pub fn tries_left(&self) -> Option<u64> {
        self.tries_left
    }

    /// The slot that is tried with what it holds.
    pub fn tried_entry(&self) -> Option<(Slot, &Entry)> {
        self.tries_left?;
        let slot = self.current?.other();
        Some((slot, self.entry(slot)?))
    }

    /// Puts a system into a slot: tried so often or, with 0, the current one at once.
    ///
    /// # Errors
    /// [`Error::InUse`] for the current slot, [`Error::NoTicket`] when there is nothing to fall
    /// back to.
    pub fn accept(&mut self, slot: Slot, entry: Entry, tries: u64) -> Result<(), Error> {
        if self.current == Some(slot) {
            return Err(Error::InUse);
        }
        if tries > 0 && self.current.is_none() {
            return Err(Error::NoTicket);
        }
        self.entries[slot as usize] = Some(entry);
        if tries == 0 {
            self.current = Some(slot);
        }
        self.tries_left = (tries > 0).then_some(tries);
        Ok(())
    }

    /// Charges one try to the system that is tried; gives it up when none is left.
    pub fn charge(&mut self) {
        match self.tries_left {
            Some(0) => self.give_up(),
            Some(left) => self.tries_left = Some(left - 1),
            None => {}
        }
    }

    /// Gives the system up that is tried, if there is one.
    pub fn give_up(&mut self) {
        if let Some((slot, _)) = self.tried_entry() {
            self.entries[slot as usize] = None;
        }
        self.tries_left = None;
    }

    /// The system in this slot was up, and `minimum_epoch` is the lowest epoch from now on.
    pub fn came_up(&mut self, slot: Slot, minimum_epoch: u64) {
        if self.tried_entry().is_some_and(|(tried, _)| tried == slot) {
            self.current = Some(slot);
            self.tries_left = None;
        }
        let Some(other) = self.current.map(Slot::other) else {
            return;
        };
        if (self.entry(other)).is_some_and(|entry| entry.epoch < minimum_epoch) {
            self.entries[other as usize] = None;
            self.tries_left = None;
        }
    }
}

#[cfg(test)]
mod tests;
