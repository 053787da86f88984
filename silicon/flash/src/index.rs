//! The index: which slot holds which block, a radix tree of sealed nodes.
//!
//! Changes are kept beside the tree until their leaf's turn comes, so that a leaf is written once
//! for many of them; a checkpoint takes along those that still wait. Leaves in memory are always
//! as they are on the medium and can be dropped at any time; middles stay.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;

use crate::layout::{BLOCK_BYTES, ENTRY_BYTES, FANOUT};
use crate::record::Entry;

/// The slot number of what could not be saved: reading it is an error.
pub const LOST_SLOT: u32 = u32::MAX;
/// The entry that says so.
pub(crate) const LOST: Entry = Entry {
    slot: LOST_SLOT,
    ..Entry::NONE
};

/// A node's plain text: [`FANOUT`] entries.
#[derive(Clone)]
pub(crate) struct Node(Box<[u8; BLOCK_BYTES]>);

impl Node {
    pub(crate) fn empty() -> Node {
        Node(Box::new([0; BLOCK_BYTES]))
    }

    /// A node of whose entries nothing is known any more.
    pub(crate) fn lost() -> Node {
        let mut node = Node::empty();
        (0..FANOUT).for_each(|place| node.set(place, LOST));
        node
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0[..]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0[..]
    }

    pub(crate) fn get(&self, place: u32) -> Entry {
        let start = place as usize * ENTRY_BYTES;
        let bytes = self.0[start..start + ENTRY_BYTES].try_into();
        Entry::decode(bytes.expect("an entry has this length"))
    }

    pub(crate) fn set(&mut self, place: u32, entry: Entry) {
        let start = place as usize * ENTRY_BYTES;
        let bytes = (&mut self.0[start..start + ENTRY_BYTES]).try_into();
        entry.encode(bytes.expect("an entry has this length"));
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        (0..FANOUT).map(|place| self.get(place))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|&byte| byte == 0)
    }
}

/// A node that has to be read before the question can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needed {
    Leaf(u32, Entry),
    Middle(u32, Entry),
}

/// Where a block is from now on, although its leaf does not say so yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    /// The block's place in its leaf.
    place: u8,
    /// The slot that the leaf has for it is no longer counted as live.
    pub(crate) settled: bool,
    pub(crate) entry: Entry,
}

impl Change {
    pub(crate) fn place(&self) -> u32 {
        u32::from(self.place)
    }
}

pub(crate) struct Index {
    /// What the tree does not know yet, by leaf, each list in the order of places.
    changes: HashMap<u32, LeafChanges, RandomState>,
    /// The leaves in `changes`.
    changed_leaves: BTreeSet<u32>,
    /// How many changes there are.
    count: usize,
    /// Leaves that the next checkpoint has to write anew.
    touched_leaves: BTreeSet<u32>,
    leaves: LeafCache,
    middles: Vec<Option<Node>>,
    changed_middles: BTreeSet<u32>,
    roots: Vec<Entry>,
    /// Blocks that hold something; one whose change is not settled may count twice.
    pub(crate) mapped: u64,
}

impl Index {
    /// An index with these roots, its leaf cache of at most `cache_bytes`.
    pub(crate) fn new(roots: Vec<Entry>, mapped: u64, cache_bytes: usize) -> Index {
        Index {
            changes: HashMap::default(),
            changed_leaves: BTreeSet::new(),
            count: 0,
            touched_leaves: BTreeSet::new(),
            leaves: LeafCache::new(cache_bytes),
            middles: roots.iter().map(|_| None).collect(),
            changed_middles: BTreeSet::new(),
            roots,
            mapped,
        }
    }

    /// Where a block is.
    pub(crate) fn get(&mut self, block: u32) -> Result<Entry, Needed> {
        if let Some(change) = self.change_of(block) {
            return Ok(change.entry);
        }
        self.tree_entry(block)
    }

    /// Where the tree has a block, changes aside.
    pub(crate) fn tree_entry(&mut self, block: u32) -> Result<Entry, Needed> {
        let leaf = block / FANOUT;
        if let Some(node) = self.leaves.get(leaf) {
            return Ok(node.get(block % FANOUT));
        }
        let entry = self.leaf_entry(leaf)?;
        if entry.is_none() {
            return Ok(Entry::NONE);
        }
        self.leaves.misses += 1;
        Err(Needed::Leaf(leaf, entry))
    }

    /// What a block was changed to.
    pub(crate) fn change_of(&self, block: u32) -> Option<Change> {
        self.changes.get(&(block / FANOUT))?.get(block % FANOUT)
    }

    /// What was changed in a leaf, in the order of places.
    pub(crate) fn changes_in(&self, leaf: u32) -> &[Change] {
        self.changes.get(&leaf).map_or(&[], |changes| &changes.list)
    }

    /// All changes, by block.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (u32, Change)> + '_ {
        self.changed_leaves.iter().flat_map(|&leaf| {
            let list = self.changes_in(leaf).iter();
            list.map(move |change| (leaf * FANOUT + change.place(), *change))
        })
    }

    /// Where a leaf is.
    pub(crate) fn leaf_entry(&mut self, leaf: u32) -> Result<Entry, Needed> {
        let middle = leaf / FANOUT;
        match &self.middles[middle as usize] {
            Some(node) => Ok(node.get(leaf % FANOUT)),
            None if self.roots[middle as usize].is_none() => Ok(Entry::NONE),
            None => Err(Needed::Middle(middle, self.roots[middle as usize])),
        }
    }

    /// Where a middle is.
    pub(crate) fn root(&self, middle: u32) -> Entry {
        self.roots.get(middle as usize).copied().unwrap_or_default()
    }

    /// All roots, for the checkpoint.
    pub(crate) fn roots(&self) -> &[Entry] {
        &self.roots
    }

    /// Takes a node that was needed, unless the tree has gone on in the meantime.
    pub(crate) fn supply(&mut self, needed: Needed, node: Node) {
        match needed {
            Needed::Leaf(leaf, entry) => {
                if self.leaf_entry(leaf) == Ok(entry) {
                    self.leaves.insert(leaf, node);
                }
            }
            Needed::Middle(middle, entry) => {
                let place = &mut self.middles[middle as usize];
                if place.is_none() && self.roots[middle as usize] == entry {
                    *place = Some(node);
                }
            }
        }
    }

    /// Changes where a block is; `settled` as in [`Change`].
    pub(crate) fn change(&mut self, block: u32, entry: Entry, settled: bool) {
        let leaf = block / FANOUT;
        let changes = self.changes.entry(leaf).or_default();
        if changes.list.is_empty() {
            self.changed_leaves.insert(leaf);
        }
        let change = Change {
            place: (block % FANOUT) as u8,
            settled,
            entry,
        };
        self.count += usize::from(changes.set(change));
    }

    /// Forgets the changes of a leaf: its node has them, or nothing of it is left.
    pub(crate) fn leaf_done(&mut self, leaf: u32) {
        self.touched_leaves.remove(&leaf);
        if let Some(changes) = self.changes.remove(&leaf) {
            self.count -= changes.list.len();
            self.changed_leaves.remove(&leaf);
        }
    }

    /// Has the leaf written anew by the next checkpoint, whatever changes.
    pub(crate) fn touch_leaf(&mut self, leaf: u32) {
        self.touched_leaves.insert(leaf);
    }

    /// The lowest leaf that the checkpoint has to write.
    pub(crate) fn first_touched_leaf(&self) -> Option<u32> {
        self.touched_leaves.first().copied()
    }

    /// Has the middle written anew by the next checkpoint; it must be in memory.
    pub(crate) fn touch_middle(&mut self, middle: u32) {
        self.changed_middles.insert(middle);
    }

    /// How many blocks are changed.
    pub(crate) fn changes_count(&self) -> usize {
        self.count
    }

    /// Nodes that a checkpoint would write, at most.
    pub(crate) fn touched_nodes(&self) -> usize {
        // A touched leaf changes its middle, if that was not changed already.
        let leaves = self.touched_leaves.len();
        leaves + self.middles.len().min(leaves + self.changed_middles.len())
    }

    /// Whether a leaf has changes.
    pub(crate) fn is_leaf_changed(&self, leaf: u32) -> bool {
        self.changes.contains_key(&leaf)
    }

    /// The first changed leaf from `leaf` on.
    pub(crate) fn next_changed_leaf(&self, leaf: u32) -> Option<u32> {
        self.changed_leaves.range(leaf..).next().copied()
    }

    /// A leaf that is in memory.
    pub(crate) fn cached_leaf(&mut self, leaf: u32) -> Option<&Node> {
        self.leaves.get(leaf)
    }

    /// Puts a leaf at its new place: `node` is there, or nothing. Its middle must be in memory or
    /// not exist.
    pub(crate) fn set_leaf(&mut self, leaf: u32, entry: Entry, node: Option<Node>) {
        match node {
            Some(node) => self.leaves.insert(leaf, node),
            None => self.leaves.remove(leaf),
        }
        let middle = leaf / FANOUT;
        let node = self.middles[middle as usize].get_or_insert_with(Node::empty);
        node.set(leaf % FANOUT, entry);
        self.changed_middles.insert(middle);
    }

    /// The lowest middle that has to be written anew, if it is in memory.
    pub(crate) fn first_changed_middle(&self) -> Option<(u32, Option<&Node>)> {
        let number = *self.changed_middles.first()?;
        Some((number, self.middles[number as usize].as_ref()))
    }

    /// Puts a middle at its new place.
    pub(crate) fn set_middle(&mut self, middle: u32, entry: Entry) {
        self.roots[middle as usize] = entry;
        self.changed_middles.remove(&middle);
    }

    /// The first leaf after `leaf` whose middle may hold something; skips what never was written.
    pub(crate) fn skip_empty_middles(&self, leaf: u32) -> u32 {
        let mut middle = leaf / FANOUT;
        let empty = |middle: u32| {
            self.middles
                .get(middle as usize)
                .is_some_and(Option::is_none)
                && self.roots[middle as usize].is_none()
        };
        if !empty(middle) {
            return leaf;
        }
        while empty(middle) {
            middle += 1;
        }
        middle.saturating_mul(FANOUT)
    }

    /// Up to which block (without it) it is known without reading that all are mapped like
    /// `block`, or all are not.
    pub(crate) fn same_until(&mut self, block: u32, mapped: bool) -> u32 {
        let leaf = block / FANOUT;
        let end = (leaf + 1).saturating_mul(FANOUT);
        if !self.is_leaf_changed(leaf) && self.leaf_entry(leaf) == Ok(Entry::NONE) {
            let changed = self.next_changed_leaf(leaf).unwrap_or(u32::MAX);
            let next = self.skip_empty_middles(leaf + 1).min(changed);
            return next.max(leaf + 1).saturating_mul(FANOUT);
        }
        let same = |one: &u32| self.get(*one).is_ok_and(|entry| entry.is_none() != mapped);
        (block..end)
            .take_while(same)
            .last()
            .map_or(block, |last| last)
            + 1
    }

    /// Leaf cache hits and misses so far.
    pub(crate) fn cache_counts(&self) -> (u64, u64) {
        (self.leaves.hits, self.leaves.misses)
    }
}

/// The changes of one leaf: which places have one, and those in their order. A change is found by
/// counting the bits below its own.
#[derive(Default)]
struct LeafChanges {
    bits: [u64; (FANOUT / u64::BITS) as usize],
    list: Vec<Change>,
}

impl LeafChanges {
    fn get(&self, place: u32) -> Option<Change> {
        let (rank, there) = self.find(place);
        there.then(|| self.list[rank])
    }

    /// Whether it is a new one.
    fn set(&mut self, change: Change) -> bool {
        let (rank, there) = self.find(change.place());
        if there {
            self.list[rank] = change;
        } else {
            self.list.insert(rank, change);
            self.bits[usize::from(change.place / 64)] |= 1 << (change.place % 64);
        }
        !there
    }

    fn find(&self, place: u32) -> (usize, bool) {
        let (word, bit) = ((place / u64::BITS) as usize, place % u64::BITS);
        let before: u32 = self.bits[..word].iter().map(|word| word.count_ones()).sum();
        let below = self.bits[word] & ((1 << bit) - 1);
        let there = self.bits[word] >> bit & 1 == 1;
        ((before + below.count_ones()) as usize, there)
    }
}

struct Frame {
    leaf: u32,
    node: Node,
    recent: bool,
}

/// Leaves in memory, the least recently used (by the clock algorithm) dropped first.
struct LeafCache {
    frames: Vec<Frame>,
    places: HashMap<u32, usize, RandomState>,
    limit: usize,
    hand: usize,
    hits: u64,
    misses: u64,
}

impl LeafCache {
    fn new(bytes: usize) -> LeafCache {
        LeafCache {
            frames: Vec::new(),
            places: HashMap::default(),
            limit: (bytes / BLOCK_BYTES).max(1),
            hand: 0,
            hits: 0,
            misses: 0,
        }
    }

    fn get(&mut self, leaf: u32) -> Option<&Node> {
        let &place = self.places.get(&leaf)?;
        self.hits += 1;
        let frame = &mut self.frames[place];
        frame.recent = true;
        Some(&frame.node)
    }

    fn insert(&mut self, leaf: u32, node: Node) {
        let frame = Frame {
            leaf,
            node,
            recent: true,
        };
        if let Some(&place) = self.places.get(&leaf) {
            self.frames[place] = frame;
        } else if self.frames.len() < self.limit {
            self.places.insert(leaf, self.frames.len());
            self.frames.push(frame);
        } else {
            while std::mem::take(&mut self.frames[self.hand].recent) {
                self.hand = (self.hand + 1) % self.frames.len();
            }
            self.places.remove(&self.frames[self.hand].leaf);
            self.places.insert(leaf, self.hand);
            self.frames[self.hand] = frame;
            self.hand = (self.hand + 1) % self.frames.len();
        }
    }

    fn remove(&mut self, leaf: u32) {
        let Some(place) = self.places.remove(&leaf) else {
            return;
        };
        self.frames.swap_remove(place);
        if let Some(moved) = self.frames.get(place) {
            self.places.insert(moved.leaf, place);
        }
        if self.hand >= self.frames.len() {
            self.hand = 0;
        }
    }
}
