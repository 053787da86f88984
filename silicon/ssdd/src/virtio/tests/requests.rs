//! Requests: carried out, refused, and broken.

use std::sync::atomic::Ordering;

use vhost_user_backend::{VhostUserBackend as _, VringT as _};
use virtio_bindings::virtio_blk::*;

use super::guest::*;
use crate::virtio::disk::ID;

const CAPACITY: usize = 4 << 20;
const SECTORS: u64 = CAPACITY as u64 / 512;

fn written(guest: &Guest) -> bool {
    guest.ram.bytes().iter().any(|byte| *byte != 0)
}

/// Promise: what is written is read, in however odd segments, also across several pieces.
#[test]
fn what_is_written_is_read() {
    let mut guest = Guest::new(CAPACITY);
    let data: Vec<u8> = (0..600 * 1024u32).map(|n| (n % 251) as u8).collect();
    guest.put(DATA, &data);
    let (one, two) = (1000, 600 * 1024 - 1000);
    let out = [(DATA, one, 0), (DATA + u64::from(one), two, 0)];
    assert_eq!(guest.ask(VIRTIO_BLK_T_OUT, 3, &out), (OK, 1));
    assert!(guest.ram.bytes()[1536..1536 + data.len()] == data);
    let second = REGIONS[1].0;
    let into = [
        (second + 7, 333, WRITE),
        (second + 4000, 600 * 1024 - 333, WRITE),
    ];
    let length = data.len() as u32 + 1;
    assert_eq!(guest.ask(VIRTIO_BLK_T_IN, 3, &into), (OK, length));
    assert!(guest.get(second + 7, 333) == data[..333]);
    assert!(guest.get(second + 4000, data.len() - 333) == data[333..]);
}

/// Promise: a header in parts, and the status behind the data in one segment, are taken.
#[test]
fn framing_is_free() {
    let mut guest = Guest::new(CAPACITY);
    guest.header(VIRTIO_BLK_T_IN, 0);
    let segments = [
        (HEADER, 3, 0),
        (HEADER + 3, 13, 0),
        (DATA, 0, WRITE),
        (DATA, 513, WRITE),
    ];
    guest.chain(TABLE, &segments);
    guest.put(DATA, &[UNTOLD; 513]);
    guest.offer(0);
    guest.kick();
    assert_eq!(guest.used(), (1, 0, 513));
    assert!(guest.get(DATA, 513).iter().all(|byte| *byte == 0));
}

/// Promise: a table of its own holds a request as well.
#[test]
fn indirect_tables_are_followed() {
    let mut guest = Guest::new(CAPACITY);
    guest.header(VIRTIO_BLK_T_OUT, 0);
    guest.put(DATA, &[9; 512]);
    guest.chain(
        INDIRECT_TABLE,
        &[(HEADER, 16, 0), (DATA, 512, 0), (STATUS, 1, WRITE)],
    );
    guest.describe(TABLE, &[(INDIRECT_TABLE, 48, INDIRECT, 0)]);
    guest.put(STATUS, &[UNTOLD]);
    guest.offer(0);
    guest.kick();
    assert_eq!((guest.used().0, guest.get(STATUS, 1)[0]), (1, OK));
    assert_eq!(guest.ram.bytes()[..512], [9; 512]);
}

/// Promise: flush flushes; without it negotiated, every write does.
#[test]
fn flushes_are_passed_on() {
    let mut guest = Guest::new(CAPACITY);
    let data = [(DATA, 512, 0)];
    guest.ask(VIRTIO_BLK_T_OUT, 0, &data);
    assert_eq!(guest.ram.flushes.load(Ordering::Relaxed), 0);
    assert_eq!(guest.ask(VIRTIO_BLK_T_FLUSH, 0, &[]), (OK, 1));
    assert_eq!(guest.ram.flushes.load(Ordering::Relaxed), 1);
    let features = guest.backend.features();
    guest
        .backend
        .acked_features(features & !(1 << VIRTIO_BLK_F_FLUSH));
    guest.ask(VIRTIO_BLK_T_OUT, 0, &data);
    guest.put(DATA, &range(0, 8, 0));
    guest.ask(VIRTIO_BLK_T_DISCARD, 0, &[(DATA, 16, 0)]);
    assert_eq!(guest.ram.flushes.load(Ordering::Relaxed), 3);
}

fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    let mut bytes = sector.to_le_bytes().to_vec();
    bytes.extend(sectors.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes
}

/// Promise: discarded and zeroed ranges read as zeros; if one range is wrong none is touched.
#[test]
fn ranges_are_cleared() {
    let mut guest = Guest::new(CAPACITY);
    guest.put(DATA, &[5; 65536]);
    guest.ask(VIRTIO_BLK_T_OUT, 0, &[(DATA, 65536, 0)]);
    let both = [range(0, 8, 0), range(16, 8, 0)].concat();
    guest.put(DATA, &both);
    assert_eq!(
        guest.ask(VIRTIO_BLK_T_DISCARD, 0, &[(DATA, 32, 0)]),
        (OK, 1)
    );
    guest.put(DATA, &range(32, 1, 1));
    assert_eq!(
        guest.ask(VIRTIO_BLK_T_WRITE_ZEROES, 0, &[(DATA, 16, 0)]),
        (OK, 1)
    );
    let bytes = guest.ram.bytes();
    let zero = |sector: usize| bytes[sector * 512..][..512].iter().all(|byte| *byte == 0);
    for sector in 0..40 {
        let cleared = sector < 8 || (16..24).contains(&sector) || sector == 32;
        assert_eq!(zero(sector), cleared, "{sector}");
    }
    for (kind, wrong, status) in [
        (VIRTIO_BLK_T_DISCARD, range(SECTORS, 1, 0), IOERR),
        (VIRTIO_BLK_T_DISCARD, range(u64::MAX, 1, 0), IOERR),
        (VIRTIO_BLK_T_DISCARD, range(0, (1 << 22) + 1, 0), IOERR),
        (VIRTIO_BLK_T_DISCARD, range(0, 8, 1), UNSUPP),
        (VIRTIO_BLK_T_WRITE_ZEROES, range(0, 8, 2), UNSUPP),
        (VIRTIO_BLK_T_DISCARD, vec![0; 15], IOERR),
        (VIRTIO_BLK_T_DISCARD, vec![], IOERR),
        (VIRTIO_BLK_T_DISCARD, range(0, 0, 0).repeat(64), IOERR),
    ] {
        let ranges = [range(40, 8, 0), wrong].concat();
        guest.put(DATA, &ranges);
        let data = [(DATA, ranges.len() as u32, 0)];
        if ranges.len() == 16 {
            continue;
        }
        assert_eq!(guest.ask(kind, 0, &data).0, status);
    }
    assert_eq!(guest.ask(VIRTIO_BLK_T_DISCARD, 0, &[]).0, IOERR);
    assert!(guest.ram.bytes() == bytes);
}

/// Promise: the disk says who it is, and says that it does not know what it does not know.
#[test]
fn other_requests_are_answered() {
    let mut guest = Guest::new(CAPACITY);
    assert_eq!(
        guest.ask(VIRTIO_BLK_T_GET_ID, 0, &[(DATA, 20, WRITE)]),
        (OK, 21)
    );
    assert_eq!(guest.get(DATA, 20), ID);
    assert_eq!(
        guest.ask(VIRTIO_BLK_T_GET_ID, 0, &[(DATA, 4, WRITE)]),
        (OK, 5)
    );
    for kind in [
        VIRTIO_BLK_T_SCSI_CMD,
        VIRTIO_BLK_T_SECURE_ERASE,
        99,
        u32::MAX,
    ] {
        assert_eq!(guest.ask(kind, 0, &[(DATA, 512, WRITE)]), (UNSUPP, 1));
    }
}

/// Promise: what lies beyond the disk, is no whole sector or points outside of memory fails, and
/// nothing is written anywhere.
#[test]
fn senseless_requests_fail() {
    let mut guest = Guest::new(CAPACITY);
    guest.put(DATA, &[1; 8192]);
    let gap = REGIONS[0].1 as u64;
    for (kind, sector, segment) in [
        (VIRTIO_BLK_T_OUT, SECTORS, (DATA, 512, 0)),
        (VIRTIO_BLK_T_OUT, SECTORS - 1, (DATA, 1024, 0)),
        (VIRTIO_BLK_T_OUT, u64::MAX, (DATA, 512, 0)),
        (VIRTIO_BLK_T_OUT, 1 << 55, (DATA, 512, 0)),
        (VIRTIO_BLK_T_OUT, 0, (DATA, 511, 0)),
        (VIRTIO_BLK_T_OUT, 0, (gap, 512, 0)),
        (VIRTIO_BLK_T_OUT, 0, (gap - 256, 512, 0)),
        (VIRTIO_BLK_T_OUT, 0, (u64::MAX - 100, 512, 0)),
        (VIRTIO_BLK_T_IN, SECTORS, (DATA, 512, WRITE)),
        (VIRTIO_BLK_T_IN, 0, (DATA, 100, WRITE)),
        (VIRTIO_BLK_T_IN, 0, (gap, 512, WRITE)),
        (VIRTIO_BLK_T_IN, 0, (u64::MAX - 511, 512, WRITE)),
        (VIRTIO_BLK_T_IN, 0, (DATA, 1 << 30, WRITE)),
        (VIRTIO_BLK_T_IN, 0, (DATA, 1 << 31, WRITE)),
    ] {
        let (status, _) = guest.ask(kind, sector, &[segment]);
        assert_eq!(status, IOERR, "{kind} {sector} {segment:x?}");
    }
    assert!(!written(&guest));
    assert_eq!(guest.get(DATA, 8192), [1; 8192]);
    guest.ram.bad_at.store(0, Ordering::Relaxed);
    assert_eq!(
        guest.ask(VIRTIO_BLK_T_IN, 0, &[(DATA, 512, WRITE)]),
        (IOERR, 1)
    );
    assert_eq!(guest.get(DATA, 512), [1; 512]);
}

/// Promise: chains that loop, break off, or mix their order carry nothing out; those with a place
/// to say so are failed, all come back.
#[test]
fn broken_chains_are_given_back() {
    let mut guest = Guest::new(CAPACITY);
    guest.put(DATA, &[1; 512]);
    let good = [
        (HEADER, 16, NEXT, 1),
        (DATA, 512, NEXT, 2),
        (STATUS, 1, WRITE, 0),
    ];
    let changed = |number: usize, descriptor| {
        let mut chain = good;
        chain[number] = descriptor;
        chain.to_vec()
    };
    for (descriptors, told) in [
        (changed(2, (STATUS, 1, WRITE | NEXT, 0)), true),
        (changed(2, (STATUS, 1, WRITE | NEXT, 2)), true),
        (changed(2, (STATUS, 1, WRITE | NEXT, RING_SIZE)), true),
        (changed(2, (STATUS, 1, 0, 0)), false),
        (changed(0, (HEADER, 16, NEXT, 0)), false),
        (changed(0, (HEADER, 15, NEXT, 1)), true),
        (changed(0, (DATA + 600, 16, WRITE | NEXT, 1)), false),
        (changed(1, (DATA, 512, INDIRECT, 2)), false),
        (changed(0, (INDIRECT_TABLE, 40, INDIRECT, 1)), false),
        (changed(0, (INDIRECT_TABLE, 0, INDIRECT, 1)), false),
        (changed(0, (REGIONS[0].1 as u64, 48, INDIRECT, 1)), false),
        (changed(2, (REGIONS[0].1 as u64, 1, WRITE, 0)), false),
    ] {
        guest.header(VIRTIO_BLK_T_OUT, 0);
        guest.put(STATUS, &[UNTOLD]);
        guest.describe(TABLE, &descriptors);
        let before = guest.used().0;
        guest.offer(0);
        guest.kick();
        assert_eq!(guest.used().0, before.wrapping_add(1), "{descriptors:x?}");
        let status = guest.get(STATUS, 1)[0];
        assert_eq!(status == IOERR, told, "{descriptors:x?}");
        assert_ne!(status, OK);
    }
    // A write whose status cannot be told was carried out: that is the only one.
    let bytes = guest.ram.bytes();
    assert!(bytes[512..].iter().all(|byte| *byte == 0));
}

/// Promise: a ring that lies about itself is left alone, without spinning, and goes on once it is
/// mended; a queue that is stopped does nothing.
#[test]
fn broken_rings_are_left_alone() {
    let mut guest = Guest::new(CAPACITY);
    guest.put(AVAILABLE + 2, &(RING_SIZE + 1).to_le_bytes());
    guest.kick();
    assert_eq!(guest.used().0, 0);
    guest.offer(RING_SIZE);
    guest.offer(u16::MAX);
    guest.kick();
    assert_eq!(guest.used().0, 0);
    assert_eq!(guest.ask(VIRTIO_BLK_T_FLUSH, 0, &[]), (OK, 1));
    guest.ring.set_queue_ready(false);
    guest.offer(0);
    guest.kick();
    assert_eq!(guest.used().0, 1);
    guest.ring.set_queue_ready(true);
    guest
        .ring
        .set_queue_info(0x10_0000, AVAILABLE, USED)
        .unwrap();
    guest.kick();
    let in_the_gap = [(TABLE, 0x18_0000, USED), (TABLE, AVAILABLE, 0x18_0000)];
    for (table, available, used) in in_the_gap {
        guest.ring.set_queue_info(table, available, used).unwrap();
        guest.kick();
    }
}
