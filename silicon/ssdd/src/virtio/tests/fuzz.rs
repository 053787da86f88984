//! Seeded random rings: nothing in a guest's memory may end the front end.
//!
//! Each case follows from its number alone; a failing one is named by it.

use vhost_user_backend::{VhostUserBackend as _, VringT as _};

use super::guest::*;

const CAPACITY: usize = 1 << 20;
const CASES: u64 = 20_000;

/// Numbers that follow from their seed (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

fn address(random: &mut Random) -> u64 {
    match random.below(8) {
        0 => random.next(),
        1 => REGIONS[0].1 as u64 - random.below(600),
        2 => REGIONS[1].0 + random.below(REGIONS[1].1 as u64 + 600),
        3 => random.pick(&[
            TABLE,
            AVAILABLE,
            USED,
            INDIRECT_TABLE,
            u64::MAX,
            u64::MAX - 511,
        ]),
        4 => HEADER,
        _ => DATA + random.below(1 << 16),
    }
}

fn descriptor(random: &mut Random) -> (u64, u32, u16, u16) {
    let length = match random.below(6) {
        0 => random.next() as u32,
        1 => random.pick(&[0, 1, 15, 16, 17, 48, 511, u32::MAX]),
        _ => random.below(64) as u32 * 512,
    };
    let flags = random.pick(&[
        0,
        NEXT,
        NEXT,
        NEXT,
        WRITE,
        NEXT | WRITE,
        INDIRECT,
        7,
        u16::MAX,
    ]);
    (address(random), length, flags, random.below(20) as u16)
}

/// A request as drivers send it, with up to two things wrong.
fn request(random: &mut Random, guest: &Guest) {
    let kind = random.pick(&[0, 0, 1, 1, 4, 8, 11, 13, 14, 99]);
    guest.header(kind, random.below(CAPACITY as u64 / 512 + 2));
    let way = if kind == 0 || kind == 8 { WRITE } else { 0 };
    let length = random.pick(&[512, 4096, 16, 20, 32, 65536]);
    let mut descriptors = [
        (HEADER, 16, NEXT, 1),
        (DATA, length, NEXT | way, 2),
        (STATUS, 1, WRITE, 0),
    ];
    for _ in 0..random.below(3) {
        let number = random.below(3) as usize;
        descriptors[number] = descriptor(random);
    }
    let table = random.pick(&[TABLE, INDIRECT_TABLE]);
    guest.describe(table, &descriptors);
    if table == INDIRECT_TABLE {
        let length = random.pick(&[48, 48, 48, 32, 47, 1 << 20, u32::MAX - 15]);
        guest.describe(TABLE, &[(table, length, INDIRECT, 0)]);
    }
}

/// Promise: no ring and no request, however broken, makes the disk panic, spin, or write outside
/// of it; a good request afterwards is answered.
#[test]
fn broken_rings_are_survived() {
    let mut guest = Guest::new(CAPACITY);
    for case in 0..CASES {
        let random = &mut Random(case.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        if random.below(50) == 0 {
            guest = Guest::new(CAPACITY);
            guest.ring.set_queue_event_idx(random.below(2) == 0);
        }
        match random.below(4) {
            0 => {
                let descriptors: Vec<_> = (0..RING_SIZE).map(|_| descriptor(random)).collect();
                guest.describe(TABLE, &descriptors);
                guest.describe(INDIRECT_TABLE, &descriptors);
            }
            _ => request(random, &guest),
        }
        if random.below(10) == 0 {
            // Rings that lie about themselves, and bytes of any kind.
            let at = random.pick(&[AVAILABLE, USED, TABLE, INDIRECT_TABLE]) + random.below(200);
            guest.put(at, &random.next().to_le_bytes());
        }
        guest.offer(random.below(RING_SIZE.into()) as u16);
        guest.kick();
    }
    let mut guest = Guest::new(CAPACITY);
    assert_eq!(guest.ask(4, 0, &[]), (OK, 1));
    assert_eq!(guest.backend.num_queues(), 16);
}
