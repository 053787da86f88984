//! Opening: from the anchor over the checkpoint and the log to a state that can go on.

use std::collections::HashMap;
use std::time::Instant;

use crate::anchor::{Anchor, Mark};
use crate::body::{Body, Counters, SegmentRow, SessionRow};
use crate::cipher::{Cipher, Kind, Place, SALT_BYTES, VolumeKey, random};
use crate::error::{OpenError, Which};
use crate::header::Header;
use crate::index::Index;
use crate::layout::{BLOCK_BYTES, GROUP_SLOTS_MAX, Geometry, MODULES, Slot, TAG_BYTES};
use crate::log::{Log, Point};
use crate::medium::{Anchors, Medium};
use crate::record::{BEGINS, ENDS, Entry, RECORD_BYTES, Record};
use crate::segments::{Segments, limit};
use crate::session::Sessions;
use crate::state::{Checkpoint, Io, State};

/// Erases both modules and makes an empty disk of them, under the key.
///
/// # Errors
/// When the geometry is none, or the host or the vault fails; the modules are then worth nothing.
pub fn format<M: Medium, A: Anchors>(
    medium: &M,
    anchors: &A,
    key: &VolumeKey,
    geometry: Geometry,
) -> Result<(), OpenError> {
    if !geometry.is_valid() {
        return Err(OpenError::Geometry("no disk has this size"));
    }
    let pairing = random()?;
    let identities = [random()?, random()?];
    for (module, identity) in identities.into_iter().enumerate() {
        let header = Header {
            module: module as u32,
            identity,
            pairing,
            geometry,
        };
        medium.erase(module).map_err(OpenError::Storage)?;
        medium
            .write(module, 0, &header.encode(key)?)
            .map_err(|error| OpenError::from(crate::error::from_host(error)))?;
    }
    let salt = random()?;
    let body = Body {
        blocks: geometry.blocks,
        next_generation: 1,
        mapped: 0,
        counters: Counters::default(),
        sessions: Vec::new(),
        segments: Vec::new(),
        middles: vec![Entry::NONE; geometry.middles() as usize],
        changes: Vec::new(),
    };
    let anchor = Anchor {
        clean: true,
        pairing,
        identities,
        sequence: 0,
        tag: [0; TAG_BYTES],
        checkpoint_sequence: 0,
        checkpoint: Mark::default(),
        salt,
        tails: [Mark::default(); MODULES],
    };
    let io = Io { medium, anchors };
    let mut state = begin(&io, key, geometry, body, anchor, &Walked::default(), 0)?;
    state.checkpoint(&io, true)?;
    Ok(())
}

/// Opens the disk: afterwards a new session writes, and the vault knows of it.
pub(crate) fn open<M: Medium, A: Anchors>(
    io: &Io<'_, M, A>,
    key: &VolumeKey,
    cache_bytes: usize,
) -> Result<(State, bool), OpenError> {
    let bytes = io.anchors.load().map_err(OpenError::Vault)?;
    let bytes = bytes.ok_or(OpenError::Unformatted)?;
    let anchor =
        Anchor::decode(&bytes).ok_or(OpenError::Geometry("the anchor is not of this version"))?;
    let geometry = read_headers(io.medium, key, &anchor)?;
    check_tails(io.medium, geometry, &anchor)?;
    let cipher = key.session(&anchor.salt)?;
    let mut walk = Walk::start(io.medium, geometry, &cipher, &anchor)?;
    let body = walk.read_body()?;
    check_body(&body, geometry)?;
    let sessions = Sessions::new(&body.sessions, key)?;
    open_tails(io.medium, geometry, &sessions, &anchor)?;
    let walked = walk.read_log()?;
    let clean = anchor.clean;
    let mut state = begin(io, key, geometry, body, anchor, &walked, cache_bytes)?;
    state.counters.opens += 1;
    state.counters.power_cuts += u64::from(!clean);
    for (record, mark) in &walked.records {
        replay(&mut state, io.medium, record, mark)?;
    }
    state.checkpoint(io, false)?;
    Ok((state, !clean))
}

/// A state after the walk, in a session of its own, nothing written yet.
fn begin<M: Medium, A: Anchors>(
    io: &Io<'_, M, A>,
    key: &VolumeKey,
    geometry: Geometry,
    body: Body,
    anchor: Anchor,
    walked: &Walked,
    cache_bytes: usize,
) -> Result<State, OpenError> {
    let salt: [u8; SALT_BYTES] = random()?;
    let generation = body.next_generation.max(walked.generation + 1);
    let mut rows = body.sessions.clone();
    rows.push(SessionRow {
        first_generation: generation,
        salt,
    });
    let sessions = Sessions::new(&rows, key)?;
    let mut table = body.segments.clone();
    for (&segment, &generation) in &walked.segments {
        if table.len() <= segment as usize {
            table.resize(segment as usize + 1, SegmentRow::default());
        }
        let row = &mut table[segment as usize];
        if row.generation != generation {
            *row = SegmentRow {
                generation,
                ..SegmentRow::default()
            };
        }
    }
    let tail = |segment| {
        let is_in = |mark: &Mark| mark.slot != 0 && geometry.segment_of(mark.slot) == segment;
        anchor.tails.iter().chain(&walked.last.tails).any(is_in)
    };
    let needed =
        |segment: u32, _: &SegmentRow| walked.segments.contains_key(&segment) || tail(segment);
    let mut segments = Segments::new(geometry, table, needed);
    segments.prepare(2, io.medium)?;
    let segment = segments.take(1).ok_or(OpenError::NoSpace)?;
    let next = segments.take(segment).ok_or(OpenError::NoSpace)?;
    segments.opened(segment, generation);
    let log = Log::new(geometry, walked.last, segment, generation, next);
    let checkpoint = Checkpoint {
        sequence: anchor.checkpoint_sequence,
        mark: anchor.checkpoint,
    };
    let mut index = Index::new(body.middles, body.mapped, cache_bytes);
    for change in &body.changes {
        index.change(change.block, change.entry, change.settled);
    }
    Ok(State {
        geometry,
        sessions,
        segments,
        index,
        log,
        counters: body.counters,
        cleaning: Default::default(),
        durable: walked.last,
        checkpoint,
        anchored: anchor.sequence,
        anchor: Anchor { salt, ..anchor },
        unanchored_since: None,
        doomed: Vec::new(),
        opened_segments: 0,
        flushes: 0,
        trimmed: 0,
        merged_up_to: 0,
        gives_back: true,
        flags: 0,
        begun: checkpoint,
        stopped: false,
        last_change: Instant::now(),
    })
}

/// Applies a record that the checkpoint did not know.
fn replay(
    state: &mut State,
    medium: &impl Medium,
    record: &Record,
    mark: &Mark,
) -> Result<(), OpenError> {
    let damaged = || {
        let module = state.geometry.place_of(mark.slot).0;
        OpenError::Damaged(Which::module(module), "a record of the log")
    };
    let blocks = state.geometry.blocks;
    let outside =
        |trim: &&crate::record::Trim| u64::from(trim.block) + u64::from(trim.count) > blocks;
    if record.trims.iter().find(outside).is_some() {
        return Err(damaged());
    }
    let first = mark.slot - record.members.len() as u32;
    let data = |member: &crate::record::Member| member.kind == Kind::Data;
    if (record.members.iter()).any(|member| data(member) && u64::from(member.number) >= blocks) {
        return Err(damaged());
    }
    for &trim in &record.trims {
        state.apply_trim(medium, trim)?;
    }
    state.counters.slots_written += 1 + record.members.len() as u64;
    for (slot, member) in (first..).zip(&record.members) {
        if member.kind == Kind::Data {
            let tag = member.tag;
            state.point(member.number, Entry { slot, tag });
            state.counters.host_written_blocks += 1;
        }
    }
    Ok(())
}

fn read_headers(
    medium: &impl Medium,
    key: &VolumeKey,
    anchor: &Anchor,
) -> Result<Geometry, OpenError> {
    let mut slots = [[0; BLOCK_BYTES]; MODULES];
    for (module, slot) in slots.iter_mut().enumerate() {
        medium.read(module, 0, slot).map_err(OpenError::Storage)?;
    }
    let headers = [0, 1].map(|module| Header::decode(&slots[module]));
    if let Some(which) = Which::of([headers[0].is_none(), headers[1].is_none()]) {
        return Err(OpenError::Missing(which));
    }
    let headers = headers.map(|header| header.expect("a missing one was reported"));
    let expected = &anchor.identities;
    if headers[0].identity == expected[1] && headers[1].identity == expected[0] {
        return Err(OpenError::Exchanged);
    }
    let foreign = [0, 1].map(|module: usize| {
        headers[module].pairing != anchor.pairing || headers[module].identity != expected[module]
    });
    if let Some(which) = Which::of(foreign) {
        return Err(OpenError::Foreign(which));
    }
    let mut damaged = [false; MODULES];
    for module in 0..MODULES {
        damaged[module] = !headers[module].is_authentic(&slots[module], key)?
            || headers[module].module != module as u32
            || !headers[module].geometry.is_valid();
    }
    if let Some(which) = Which::of(damaged) {
        return Err(OpenError::Damaged(which, "its header"));
    }
    if headers[0].geometry != headers[1].geometry {
        return Err(OpenError::Damaged(Which::Both, "their headers differ"));
    }
    Ok(headers[0].geometry)
}

/// Whether each module's last record is there, by its tag; what can be seen without a key.
fn check_tails(medium: &impl Medium, geometry: Geometry, anchor: &Anchor) -> Result<(), OpenError> {
    let mut stale = [false; MODULES];
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
        stale[module] = slot[RECORD_BYTES..] != mark.tag;
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

/// What came after the checkpoint.
#[derive(Default)]
struct Walked {
    records: Vec<(Record, Mark)>,
    last: Point,
    /// The segments that the chain runs through, with their generations.
    segments: HashMap<u32, u32>,
    generation: u32,
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
