//! The way from a root over its checkpoint along the log: what there is of a disk, nothing changed.

use std::collections::HashMap;

use crate::anchor::{Anchor, Mark};
use crate::body::{Body, SessionRow};
use crate::cipher::{Cipher, Kind, Place, VolumeKey};
use crate::error::{OpenError, Which};
use crate::layout::{BLOCK_BYTES, GROUP_SLOTS_MAX, Geometry, MODULES, Slot};
use crate::log::Point;
use crate::medium::Medium;
use crate::record::{BEGINS, ENDS, RECORD_BYTES, Record};
use crate::segments::limit;
use crate::session::Sessions;

/// All that a root leads to.
pub(crate) struct Found {
    pub(crate) body: Body,
    pub(crate) sessions: Sessions,
    pub(crate) walked: Walked,
}

/// What came after the checkpoint.
#[derive(Default)]
pub(crate) struct Walked {
    /// The records that count, in order.
    pub(crate) records: Vec<(Record, Mark)>,
    pub(crate) last: Point,
    /// The segments that the chain runs through, with their generations.
    pub(crate) segments: HashMap<u32, u32>,
    /// The newest of them.
    pub(crate) generation: u32,
}

/// Follows a root to the log's end. Modules in `stale` are known to be older already.
///
/// # Errors
/// [`OpenError::Stale`], [`OpenError::Damaged`] when something that the root knows is not there.
pub(crate) fn follow(
    medium: &impl Medium,
    key: &VolumeKey,
    geometry: Geometry,
    root: &Anchor,
    stale: [bool; MODULES],
) -> Result<Found, OpenError> {
    check_tails(medium, geometry, root, stale)?;
    let cipher = key.session(&root.salt)?;
    let mut walk = Walk::start(medium, geometry, &cipher, root)?;
    let body = walk.read_body()?;
    check_body(&body, geometry)?;
    let sessions = Sessions::new(&body.sessions, key)?;
    open_tails(medium, geometry, &sessions, root)?;
    let walked = walk.read_log()?;
    Ok(Found {
        body,
        sessions,
        walked,
    })
}

/// Whether each module's last record is there, by its tag; what can be seen without a key.
fn check_tails(
    medium: &impl Medium,
    geometry: Geometry,
    anchor: &Anchor,
    mut stale: [bool; MODULES],
) -> Result<(), OpenError> {
    for (module, mark) in anchor.tails.iter().enumerate() {
        if mark.slot == 0 {
            continue;
        }
        let mut slot = [0; BLOCK_BYTES];
        let (place, offset) = geometry.place_of(mark.slot);
        if geometry.segment_of(mark.slot) >= limit(geometry) || place != module {
            return Err(OpenError::Geometry("the anchor is of another disk"));
        }
        medium
            .read(module, offset, &mut slot)
            .map_err(OpenError::Storage)?;
        stale[module] |= slot[RECORD_BYTES..] != mark.tag;
    }
    Which::of(stale).map_or(Ok(()), |which| Err(OpenError::Stale(which)))
}

/// Whether each module's last record really is one.
fn open_tails(
    medium: &impl Medium,
    geometry: Geometry,
    sessions: &Sessions,
    anchor: &Anchor,
) -> Result<(), OpenError> {
    let mut stale = [false; MODULES];
    for (module, mark) in anchor.tails.iter().enumerate() {
        if mark.slot != 0 {
            let cipher = sessions.of(mark.generation);
            let record = match cipher {
                Some(cipher) => read_record(medium, geometry, cipher, mark.generation, mark.slot)
                    .map_err(OpenError::Storage)?,
                None => None,
            };
            stale[module] = record.is_none();
        }
    }
    Which::of(stale).map_or(Ok(()), |which| Err(OpenError::Stale(which)))
}

fn check_body(body: &Body, geometry: Geometry) -> Result<(), OpenError> {
    let rising = |pair: &[SessionRow]| pair[0].first_generation < pair[1].first_generation;
    let fits = body.blocks == geometry.blocks
        && body.mapped <= 2 * body.blocks
        && (body.segments.iter()).all(|row| u32::from(row.live) <= geometry.segment_slots)
        && (body.changes.iter()).all(|change| u64::from(change.block) < geometry.blocks)
        && body.segments.len() <= limit(geometry) as usize
        && body.middles.len() == geometry.middles() as usize
        && body.next_generation < crate::state::GENERATIONS_MAX
        && !body.sessions.is_empty()
        && body.sessions.windows(2).all(rising);
    fits.then_some(())
        .ok_or(OpenError::Damaged(Which::Both, "the checkpoint"))
}

/// The record in a slot and its tag, if there is one.
fn read_record(
    medium: &impl Medium,
    geometry: Geometry,
    cipher: &Cipher,
    generation: u32,
    slot: Slot,
) -> std::io::Result<Option<(Record, Mark)>> {
    let (module, offset) = geometry.place_of(slot);
    let mut bytes = [0; BLOCK_BYTES];
    medium.read(module, offset, &mut bytes)?;
    let found = Record::open(cipher, Place { generation, slot }, &bytes);
    Ok(found.map(|(record, tag)| {
        let mark = Mark {
            slot,
            generation,
            tag,
        };
        (record, mark)
    }))
}

/// The way along the chain.
struct Walk<'a, M> {
    medium: &'a M,
    geometry: Geometry,
    cipher: &'a Cipher,
    anchor: &'a Anchor,
    record: Record,
    mark: Mark,
    walked: Walked,
}

impl<'a, M: Medium> Walk<'a, M> {
    /// At the checkpoint's first record.
    fn start(
        medium: &'a M,
        geometry: Geometry,
        cipher: &'a Cipher,
        anchor: &'a Anchor,
    ) -> Result<Self, OpenError> {
        let mark = anchor.checkpoint;
        if geometry.segment_of(mark.slot) >= limit(geometry) {
            return Err(OpenError::Geometry("the anchor is of another disk"));
        }
        let found = read_record(medium, geometry, cipher, mark.generation, mark.slot)
            .map_err(OpenError::Storage)?
            .filter(|(record, found)| {
                *found == mark
                    && record.sequence == anchor.checkpoint_sequence
                    && record.flags & BEGINS != 0
            });
        let (record, mark) = found.ok_or_else(|| {
            let module = Which::module(geometry.place_of(mark.slot).0);
            OpenError::Damaged(module, "the checkpoint")
        })?;
        let mut walk = Walk {
            medium,
            geometry,
            cipher,
            anchor,
            record,
            mark,
            walked: Walked::default(),
        };
        walk.walked.last.tails = anchor.tails;
        walk.note();
        Ok(walk)
    }

    /// The body, and the way to its last record.
    fn read_body(&mut self) -> Result<Body, OpenError> {
        let mut body = Vec::new();
        loop {
            for place in 0..self.record.members.len() {
                let plain = self.open_member(place)?;
                let piece = body.len() / BLOCK_BYTES;
                let member = self.record.members[place];
                match plain {
                    Some(plain)
                        if member.kind == Kind::Piece && member.number as usize == piece =>
                    {
                        body.extend_from_slice(&plain);
                    }
                    _ => return Err(self.damaged("the checkpoint")),
                }
            }
            if self.record.flags & ENDS != 0 {
                break;
            }
            if !self.step()? {
                return Err(self.damaged("the checkpoint"));
            }
        }
        Body::decode(&body).ok_or_else(|| self.damaged("the checkpoint"))
    }

    /// All records after the body that count.
    fn read_log(mut self) -> Result<Walked, OpenError> {
        let mut points = vec![self.walked.last];
        let mut durable = self.anchor.sequence;
        self.check_anchored()?;
        while self.step()? {
            self.check_anchored()?;
            durable = durable.max(self.record.durable);
            self.walked.records.push((self.record.clone(), self.mark));
            points.push(self.walked.last);
        }
        if self.walked.last.sequence < self.anchor.sequence {
            return Err(self.damaged("the log"));
        }
        // What never was flushed may have got to the medium in any order: it counts up to the
        // first group that is not whole.
        let whole = self.count_whole(durable)?;
        self.walked.records.truncate(whole);
        self.walked.last = points[whole];
        Ok(self.walked)
    }

    /// How many of the records count.
    fn count_whole(&mut self, durable: u64) -> Result<usize, OpenError> {
        for number in 0..self.walked.records.len() {
            if self.walked.records[number].0.sequence <= durable {
                continue;
            }
            (self.record, self.mark) = self.walked.records[number].clone();
            for place in 0..self.record.members.len() {
                if self.open_member(place)?.is_none() {
                    return Ok(number);
                }
            }
        }
        Ok(self.walked.records.len())
    }

    fn check_anchored(&self) -> Result<(), OpenError> {
        let is_it = self.record.sequence == self.anchor.sequence;
        if is_it && self.mark.tag != self.anchor.tag {
            return Err(self.damaged("the log"));
        }
        Ok(())
    }

    /// Goes to the next record; false when there is none.
    fn step(&mut self) -> Result<bool, OpenError> {
        let slots = self.geometry.segment_slots;
        let segment = self.geometry.segment_of(self.mark.slot);
        let after = self.geometry.index_of(self.mark.slot) + 1;
        let here = after..slots.min(after + GROUP_SLOTS_MAX + 1);
        let there = 0..slots.min(GROUP_SLOTS_MAX + 1);
        let generation = self.mark.generation;
        if self.find(segment, generation, here)? {
            return Ok(true);
        }
        let next = self.record.next_segment;
        if next >= limit(self.geometry) {
            return Ok(false);
        }
        self.find(next, generation + 1, there)
    }

    fn find(
        &mut self,
        segment: u32,
        generation: u32,
        places: std::ops::Range<u32>,
    ) -> Result<bool, OpenError> {
        for index in places.clone() {
            let slot = self.geometry.slot_at(segment, index);
            let found = read_record(self.medium, self.geometry, self.cipher, generation, slot)
                .map_err(OpenError::Storage)?;
            let Some((record, mark)) = found else {
                continue;
            };
            let follows = record.sequence == self.record.sequence + 1
                && record.previous == self.mark.tag
                && record.generation == generation
                && record.members.len() as u32 == index - places.start;
            if follows {
                self.record = record;
                self.mark = mark;
                self.note();
            }
            // A record that does not follow ends the chain all the same.
            return Ok(follows);
        }
        Ok(false)
    }

    fn note(&mut self) {
        let segment = self.geometry.segment_of(self.mark.slot);
        let module = self.geometry.module_of(segment);
        let walked = &mut self.walked;
        walked.segments.insert(segment, self.mark.generation);
        walked.generation = walked.generation.max(self.mark.generation);
        walked.last.sequence = self.record.sequence;
        walked.last.tag = self.mark.tag;
        walked.last.tails[module] = self.mark;
    }

    /// A slot of the current record's group, decrypted; `None` when it is not what was sealed.
    fn open_member(&self, place: usize) -> Result<Option<Vec<u8>>, OpenError> {
        let count = self.record.members.len() as u32;
        if count > self.geometry.index_of(self.mark.slot) {
            return Ok(None);
        }
        let slot = self.mark.slot - count + place as u32;
        let member = self.record.members[place];
        let (module, offset) = self.geometry.place_of(slot);
        let mut sealed = [0; BLOCK_BYTES];
        self.medium
            .read(module, offset, &mut sealed)
            .map_err(OpenError::Storage)?;
        let mut plain = vec![0; BLOCK_BYTES];
        let at = Place {
            generation: self.mark.generation,
            slot,
        };
        let number = u64::from(member.number);
        let opened = (self.cipher).open(at, member.kind, number, &sealed, &member.tag, &mut plain);
        Ok(opened.then_some(plain))
    }

    fn damaged(&self, what: &'static str) -> OpenError {
        let (module, _) = self.geometry.place_of(self.mark.slot);
        OpenError::Damaged(Which::module(module), what)
    }
}
