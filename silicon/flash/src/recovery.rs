//! Opening: from the anchor over the checkpoint and the log to a state that can go on.

use std::time::Instant;

use crate::anchor::{Anchor, Mark};
use crate::body::{Body, Counters, SegmentRow, SessionRow};
use crate::cipher::{Kind, SALT_BYTES, VolumeKey, random};
use crate::error::{OpenError, Which};
use crate::header::Header;
use crate::index::Index;
use crate::layout::{BLOCK_BYTES, Geometry, MODULES, SUPERBLOCK_SLOTS, TAG_BYTES};
use crate::log::Log;
use crate::medium::{Anchors, Medium};
use crate::record::{Entry, Record};
use crate::segments::Segments;
use crate::session::Sessions;
use crate::state::{Checkpoint, Io, State};
use crate::superblock::Sure;
use crate::walk::{Found, Walked, follow};

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
            adoptions: 0,
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
        adoptions: 0,
        checkpoint_sequence: 0,
        checkpoint: Mark::default(),
        superblock: SUPERBLOCK_SLOTS[1],
        salt,
        tails: [Mark::default(); MODULES],
    };
    let io = Io { medium, anchors };
    let mut state = begin(&io, key, geometry, body, anchor, &Walked::default(), 0)?;
    state.checkpoint(&io, true)?;
    Ok(())
}

/// A disk that was opened or adopted.
pub(crate) struct Opened {
    pub(crate) state: State,
    /// It had not been closed in order.
    pub(crate) recovered: bool,
    /// It is known that something of the newest state is missing.
    pub(crate) incomplete: bool,
}

/// Opens the disk: afterwards a new session writes, and the vault knows of it.
pub(crate) fn open<M: Medium, A: Anchors>(
    io: &Io<'_, M, A>,
    key: &VolumeKey,
    cache_bytes: usize,
) -> Result<Opened, OpenError> {
    let bytes = io.anchors.load().map_err(OpenError::Vault)?;
    let bytes = bytes.ok_or(OpenError::Unformatted)?;
    let anchor =
        Anchor::decode(&bytes).ok_or(OpenError::Geometry("the anchor is not of this version"))?;
    let (geometry, stale) = check_headers(io.medium, key, &anchor)?;
    let found = follow(io.medium, key, geometry, &anchor, stale)?;
    let recovered = !anchor.clean;
    let mut state = resume(io, key, geometry, anchor, found, cache_bytes)?;
    state.checkpoint(io, false)?;
    Ok(Opened {
        state,
        recovered,
        incomplete: false,
    })
}

/// The state that a root leads to, in a session of its own, nothing written yet.
pub(crate) fn resume<M: Medium, A: Anchors>(
    io: &Io<'_, M, A>,
    key: &VolumeKey,
    geometry: Geometry,
    anchor: Anchor,
    found: Found,
    cache_bytes: usize,
) -> Result<State, OpenError> {
    let clean = anchor.clean;
    let walked = &found.walked;
    let mut state = begin(io, key, geometry, found.body, anchor, walked, cache_bytes)?;
    state.counters.opens += 1;
    state.counters.power_cuts += u64::from(!clean);
    for (record, mark) in &walked.records {
        replay(&mut state, io.medium, record, mark)?;
    }
    Ok(state)
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
        superblock: anchor.superblock,
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
        kept_superblock: anchor.superblock,
        superblocks: 0,
        sure: Sure::up_to(anchor.sequence, &anchor.tails),
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

/// Whether both headers are those that the anchor names; which modules are from before an adoption.
fn check_headers(
    medium: &impl Medium,
    key: &VolumeKey,
    anchor: &Anchor,
) -> Result<(Geometry, [bool; MODULES]), OpenError> {
    let headers = read_headers(medium, key)?;
    let identities = headers.each_ref().map(|found| found.header.identity);
    let expected = anchor.identities;
    if identities == [expected[1], expected[0]] {
        return Err(OpenError::Exchanged);
    }
    if let Some(which) = Which::of([0, 1].map(|module| identities[module] != expected[module])) {
        return Err(OpenError::Foreign(which));
    }
    // Of this disk, as both say; in what follows a header counts only if it is authentic.
    let other = |found: &FoundHeader| found.is_whole && found.header.pairing != anchor.pairing;
    let older = headers
        .each_ref()
        .map(|found| other(found) && found.header.adoptions < anchor.adoptions);
    let adopted = [0, 1].map(|module: usize| other(&headers[module]) && !older[module]);
    if let Some(which) = Which::of(adopted) {
        return Err(OpenError::Adopted(which));
    }
    if let Some(which) = Which::of(headers.each_ref().map(|found| !found.is_whole)) {
        return Err(OpenError::Damaged(which, "its header"));
    }
    if headers[0].header.geometry != headers[1].header.geometry {
        return Err(OpenError::Damaged(Which::Both, "their headers differ"));
    }
    Ok((headers[0].header.geometry, older))
}

/// A header as it was found.
pub(crate) struct FoundHeader {
    pub(crate) header: Header,
    /// Written under this key for a module in this place, and as it was written.
    pub(crate) is_whole: bool,
}

/// Both headers; a slot that is none at all is a module that is missing.
pub(crate) fn read_headers(
    medium: &impl Medium,
    key: &VolumeKey,
) -> Result<[FoundHeader; MODULES], OpenError> {
    let mut slots = [[0; BLOCK_BYTES]; MODULES];
    for (module, slot) in slots.iter_mut().enumerate() {
        medium.read(module, 0, slot).map_err(OpenError::Storage)?;
    }
    let headers = slots.each_ref().map(|slot| Header::decode(slot));
    let [Some(zero), Some(one)] = headers else {
        let missing = headers.each_ref().map(Option::is_none);
        return Err(OpenError::Missing(
            Which::of(missing).unwrap_or(Which::Both),
        ));
    };
    let is_whole = |module: usize, header: &Header| -> Result<bool, OpenError> {
        Ok(header.is_authentic(&slots[module], key)?
            && header.module == module as u32
            && header.geometry.is_valid())
    };
    Ok([
        FoundHeader {
            is_whole: is_whole(0, &zero)?,
            header: zero,
        },
        FoundHeader {
            is_whole: is_whole(1, &one)?,
            header: one,
        },
    ])
}
