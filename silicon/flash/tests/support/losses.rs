//! Everything that a power cut can leave: for one moment of a log, every state of the modules in
//! which some of the unsynced changes are missing or torn.

use super::image::{Disk, Image};
use super::medium::{Change, Event};
use super::random::{Random, mix};

const SECTOR: usize = 512;

/// What became of the changes that no sync had made durable.
#[derive(Clone, Debug)]
pub enum Loss {
    /// All of them are there: the program died, or the disk was quick.
    Nothing,
    /// None is there.
    Everything,
    /// All but one (by its place among the unsynced).
    One(usize),
    /// All but two.
    Two(usize, usize),
    /// All, one of them in part: only these sectors of it were written.
    Torn {
        change: usize,
        sectors: std::ops::Range<usize>,
    },
    /// All, one of them without this sector.
    Without { change: usize, sector: usize },
    /// Any choice: each is kept, lost or cut at a sector, as the seed says.
    Any(u64),
}

/// A log walked event by event: what is durable, and what is not yet.
pub struct Walk<'a> {
    events: &'a [Event],
    next: usize,
    durable: [Image; 2],
    durable_key: u64,
    anchor: Option<Vec<u8>>,
    anchor_at: usize,
    unsynced: Vec<Unsynced>,
}

struct Unsynced {
    module: usize,
    change: Change,
    event: usize,
    /// A sync failed over it: no later sync counts.
    doomed: bool,
}

impl<'a> Walk<'a> {
    pub fn new(base: &Disk, events: &'a [Event]) -> Walk<'a> {
        Walk {
            events,
            next: 0,
            durable: base.modules.clone(),
            durable_key: 0,
            anchor: base.anchor.clone(),
            anchor_at: 0,
            unsynced: Vec::new(),
        }
    }

    /// Events passed so far.
    pub fn position(&self) -> usize {
        self.next
    }

    /// Passes one event; false at the end.
    pub fn step(&mut self) -> bool {
        let Some(event) = self.events.get(self.next) else {
            return false;
        };
        self.next += 1;
        match event {
            Event::Change { module, change } => self.unsynced.push(Unsynced {
                module: *module,
                change: change.clone(),
                event: self.next,
                doomed: false,
            }),
            Event::Sync { module } => {
                let (module, durable) = (*module, &mut self.durable);
                let key = &mut self.durable_key;
                self.unsynced.retain(|it| {
                    let stays = it.module != module || it.doomed;
                    if !stays {
                        it.change.apply(&mut durable[module]);
                        *key ^= change_key(it.event, 0);
                    }
                    stays
                });
            }
            Event::FailedSync { module } => {
                for it in self.unsynced.iter_mut().filter(|it| it.module == *module) {
                    it.doomed = true;
                }
            }
            Event::Anchor(bytes) => {
                self.anchor.clone_from(bytes);
                self.anchor_at = self.next;
            }
        }
        true
    }

    /// The losses to try here: none, all, each single, each pair; with `tears` those too.
    pub fn losses(&self, tears: bool) -> Vec<Loss> {
        let count = self.unsynced.len();
        let mut losses = vec![Loss::Nothing];
        if count > 1 {
            losses.push(Loss::Everything);
        }
        losses.extend((0..count).map(Loss::One));
        for a in 0..count {
            losses.extend((a + 1..count).map(|b| Loss::Two(a, b)));
        }
        for change in 0..if tears { count } else { 0 } {
            let Change::Write { data, .. } = &self.unsynced[change].change else {
                continue;
            };
            let sectors = data.len().div_ceil(SECTOR);
            for cut in 1..sectors {
                losses.push(Loss::Torn {
                    change,
                    sectors: 0..cut,
                });
                losses.push(Loss::Torn {
                    change,
                    sectors: cut..sectors,
                });
            }
            for sector in 1..sectors.saturating_sub(1) {
                losses.push(Loss::Without { change, sector });
            }
        }
        losses
    }

    /// What is left after a power cut here, and a number that is the same for the same bytes.
    pub fn cut(&self, loss: &Loss) -> (Disk, u64) {
        let mut modules = self.durable.clone();
        let mut key = self.durable_key ^ mix(self.anchor_at as u64 ^ 0xa000_0000_0000);
        let mut random = Random::new(match loss {
            Loss::Any(seed) => *seed,
            _ => 0,
        });
        for (index, it) in self.unsynced.iter().enumerate() {
            let image = &mut modules[it.module];
            let whole = match loss {
                Loss::Nothing => true,
                Loss::Everything => false,
                Loss::One(a) => index != *a,
                Loss::Two(a, b) => index != *a && index != *b,
                Loss::Torn { change, sectors } if *change == index => {
                    write_sectors(&it.change, image, |sector| sectors.contains(&sector));
                    key ^= change_key(it.event, (sectors.start << 20 | sectors.end) as u64);
                    false
                }
                Loss::Without {
                    change,
                    sector: gone,
                } if *change == index => {
                    write_sectors(&it.change, image, |sector| sector != *gone);
                    key ^= change_key(it.event, 1 << 40 | *gone as u64);
                    false
                }
                Loss::Torn { .. } | Loss::Without { .. } => true,
                Loss::Any(_) => match random.below(4) {
                    0 | 1 => true,
                    2 => false,
                    _ => {
                        let mut sectors = Random::new(random.next());
                        write_sectors(&it.change, image, |_| sectors.once_in(2));
                        key ^= change_key(it.event, random.next());
                        false
                    }
                },
            };
            if whole {
                it.change.apply(image);
                key ^= change_key(it.event, 0);
            }
        }
        (
            Disk {
                modules,
                anchor: self.anchor.clone(),
            },
            key,
        )
    }
}

fn change_key(event: usize, part: u64) -> u64 {
    mix(mix(event as u64 + 1) ^ part)
}

/// Applies those sectors of a write that are chosen; other changes are taken or left as one.
fn write_sectors(change: &Change, image: &mut Image, mut keep: impl FnMut(usize) -> bool) {
    match change {
        Change::Write { offset, data } => {
            for (sector, bytes) in data.chunks(SECTOR).enumerate() {
                if keep(sector) {
                    image.write(offset + (sector * SECTOR) as u64, bytes);
                }
            }
        }
        other => {
            if keep(0) {
                other.apply(image);
            }
        }
    }
}
