//! Adoption: modules for which the vault has no anchor that fits become this chip's.
//!
//! The root is taken from the superblocks, and the disk is recovered from it as after a power cut.
//! What makes it this chip's is a new pairing in both headers, so that no anchor from before fits
//! any more. Invariant: until the vault has the new anchor, the modules can be adopted again: the
//! old root and all that it needs stay, the new root is durable before the first header changes,
//! and at most one header is not whole at a time.

use std::collections::HashSet;

use crate::anchor::Anchor;
use crate::body::{Body, SegmentRow};
use crate::cipher::{Kind, VolumeKey, random};
use crate::error::{Error, OpenError, Which, from_host};
use crate::header::Header;
use crate::index::{LOST_SLOT, Node};
use crate::layout::{BLOCK_BYTES, FANOUT, Geometry, MODULES, SUPERBLOCK_SLOTS};
use crate::medium::{Anchors, Medium};
use crate::record::Entry;
use crate::recovery::{FoundHeader, Opened, read_headers, resume};
use crate::session::Sessions;
use crate::state::{Fetch, Io};
use crate::superblock::{self, Superblock};
use crate::walk::{Found, follow};

/// Takes the modules over: afterwards a new session writes, and the vault knows of it.
///
/// # Errors
/// When the modules hold no state under this key that is whole, or the host or vault fails; they
/// can then be adopted again.
pub(crate) fn adopt<M: Medium, A: Anchors>(
    io: &Io<'_, M, A>,
    key: &VolumeKey,
    cache_bytes: usize,
) -> Result<Opened, OpenError> {
    let headers = read_headers(io.medium, key)?;
    let superblocks = superblocks(io.medium, key)?;
    let geometry = check_headers(&headers, &superblocks)?;
    let whole = || headers.iter().filter(|found| found.is_whole);
    let fits = |superblock: &Superblock| {
        whole().any(|found| found.header.pairing == superblock.anchor.pairing)
    };
    let candidates = superblocks.into_iter().filter(fits);
    let Chosen {
        superblock,
        found,
        incomplete,
    } = choose(io.medium, key, geometry, candidates)?;
    let root = superblock.anchor;
    let strange = [0, 1].map(|module: usize| {
        // A header that is not whole has its identity all the same: an adoption leaves it alone.
        headers[module].header.identity != root.identities[module]
    });
    if let Some(which) = Which::of(strange) {
        return Err(OpenError::Foreign(which));
    }
    let adoptions = whole().map(|found| found.header.adoptions).max();
    let anchor = Anchor {
        pairing: random()?,
        adoptions: adoptions.unwrap_or(root.adoptions).saturating_add(1),
        ..root
    };
    let recovered = !anchor.clean;
    let (pairing, adoptions, identities) = (anchor.pairing, anchor.adoptions, anchor.identities);
    let mut state = resume(io, key, geometry, anchor, found, cache_bytes)?;
    state.sure = superblock.sure;
    state.write_checkpoint(io.medium, false)?;
    for (module, identity) in identities.into_iter().enumerate() {
        let header = Header {
            module: module as u32,
            identity,
            pairing,
            adoptions,
            geometry,
        };
        let written = io.medium.write(module, 0, &header.encode(key)?);
        written.map_err(from_host)?;
        io.medium.sync(module).map_err(Error::Storage)?;
    }
    state.store_anchor(io, false)?;
    Ok(Opened {
        state,
        recovered,
        incomplete,
    })
}

/// The size of the disk, as the headers that are whole have it.
fn check_headers(
    headers: &[FoundHeader; MODULES],
    superblocks: &[Superblock],
) -> Result<Geometry, OpenError> {
    if headers.each_ref().map(|found| found.header.module) == [1, 0] {
        return Err(OpenError::Exchanged);
    }
    match headers.each_ref().map(|found| found.is_whole) {
        [true, true] if headers[0].header.geometry != headers[1].header.geometry => {
            Err(OpenError::Damaged(Which::Both, "their headers differ"))
        }
        [true, _] => Ok(headers[0].header.geometry),
        [_, true] => Ok(headers[1].header.geometry),
        // Under another key, unless a superblock says that it is this one.
        _ if superblocks.is_empty() => Err(OpenError::Foreign(Which::Both)),
        _ => Err(OpenError::Damaged(Which::Both, "their headers")),
    }
}

/// All superblocks under this key, the newest first.
fn superblocks(medium: &impl Medium, key: &VolumeKey) -> Result<Vec<Superblock>, OpenError> {
    let mut found: Vec<Superblock> = Vec::new();
    for module in 0..MODULES {
        for place in SUPERBLOCK_SLOTS {
            let mut slot = [0; BLOCK_BYTES];
            let read = medium.read(module, superblock::offset(place), &mut slot);
            // One that cannot be read is one less: the other module has it as well.
            let superblock = match read {
                Ok(()) => Superblock::open(key, place, &slot)?,
                Err(_) => None,
            };
            found.extend(superblock.filter(|superblock| !found.contains(superblock)));
        }
    }
    let age = |superblock: &Superblock| (superblock.anchor.adoptions, superblock.anchor.sequence);
    found.sort_by_key(|superblock| std::cmp::Reverse(age(superblock)));
    Ok(found)
}

struct Chosen {
    superblock: Superblock,
    found: Found,
    /// It is not the newest, or not all of it is there.
    incomplete: bool,
}

/// The newest root of which everything is there, if its log leads to all that a newer superblock
/// knew durable. Where there is none such: the newest root whose log does, damaged as it is, for a
/// checkpoint that only was not finished leaves the one before whole; or the newest of the others.
fn choose(
    medium: &impl Medium,
    key: &VolumeKey,
    geometry: Geometry,
    superblocks: impl Iterator<Item = Superblock>,
) -> Result<Chosen, OpenError> {
    let (mut damaged, mut older, mut refusal) = (None, None, None);
    let mut durable = 0;
    for superblock in superblocks {
        let sequence = superblock.sure.sequence;
        match follow(medium, key, geometry, &superblock.anchor, [false; MODULES]) {
            Ok(found) => {
                let checked = Checked {
                    medium,
                    geometry,
                    sessions: &found.sessions,
                    segments: &found.body.segments,
                    sure_before: superblock.sure.before,
                };
                let leads_on = found.walked.last.sequence >= durable;
                let chosen = Chosen {
                    incomplete: !leads_on || !checked.is_complete(&found.body)?,
                    superblock,
                    found,
                };
                if !chosen.incomplete {
                    return Ok(chosen);
                }
                let others = if leads_on { &mut damaged } else { &mut older };
                others.get_or_insert(chosen);
            }
            Err(error @ OpenError::Storage(_)) => return Err(error),
            Err(error) => drop(refusal.get_or_insert(error)),
        }
        durable = durable.max(sequence);
    }
    let none = OpenError::Damaged(Which::Both, "their superblocks");
    damaged.or(older).ok_or(refusal.unwrap_or(none))
}

/// A checkpoint whose superblock may have been written when not all of it was.
struct Checked<'a, M> {
    medium: &'a M,
    geometry: Geometry,
    sessions: &'a Sessions,
    segments: &'a [SegmentRow],
    sure_before: u32,
}

/// What is behind an entry.
enum Behind {
    /// Nothing, or something that was known durable.
    Sure,
    /// The plain text.
    Whole(Node),
    /// Not what was written.
    Lost,
}

impl<M: Medium> Checked<'_, M> {
    /// Whether everything that the checkpoint points to and that was not known durable opens.
    fn is_complete(&self, body: &Body) -> Result<bool, OpenError> {
        for change in &body.changes {
            if matches!(
                self.look(change.entry, Kind::Data, change.block)?,
                Behind::Lost
            ) {
                return Ok(false);
            }
        }
        let changed = body.changes.iter().map(|change| change.block).collect();
        self.is_whole(&body.middles, Kind::Middle, 0, &changed)
    }

    /// The same for entries, the first of them that of number `first`, and all below them. Below
    /// what is sure all is sure: a node is written after what it points to.
    fn is_whole(
        &self,
        entries: &[Entry],
        kind: Kind,
        first: u32,
        changed: &HashSet<u32>,
    ) -> Result<bool, OpenError> {
        for (number, &entry) in (first..).zip(entries) {
            if kind == Kind::Data && changed.contains(&number) {
                continue;
            }
            let node = match self.look(entry, kind, number)? {
                Behind::Sure => continue,
                Behind::Lost => return Ok(false),
                Behind::Whole(node) => node,
            };
            let below = match kind {
                Kind::Middle => Kind::Leaf,
                Kind::Leaf => Kind::Data,
                Kind::Data | Kind::Piece | Kind::Record | Kind::Superblock => continue,
            };
            let entries: Vec<Entry> = node.entries().collect();
            if !self.is_whole(&entries, below, number.saturating_mul(FANOUT), changed)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn look(&self, entry: Entry, kind: Kind, number: u32) -> Result<Behind, OpenError> {
        let segment = self.geometry.segment_of(entry.slot) as usize;
        let row = self.segments.get(segment).copied().unwrap_or_default();
        if entry.is_none() || entry.slot == LOST_SLOT || row.generation < self.sure_before {
            return Ok(Behind::Sure);
        }
        let (module, offset) = self.geometry.place_of(entry.slot);
        let (mut sealed, mut node) = ([0; BLOCK_BYTES], Node::empty());
        self.medium
            .read(module, offset, &mut sealed)
            .map_err(OpenError::Storage)?;
        let fetch = Fetch {
            entry,
            generation: row.generation,
            kind,
            number,
        };
        Ok(if fetch.open(self.sessions, &sealed, node.bytes_mut()) {
            Behind::Whole(node)
        } else {
            Behind::Lost
        })
    }
}
