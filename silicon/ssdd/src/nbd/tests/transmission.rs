//! Requests: carried out, refused, out of order, and cut off.

use std::sync::atomic::Ordering;

use super::client::*;
use crate::nbd::PIECE_BYTES;
use crate::nbd::protocol::*;

const CAPACITY: usize = 8 << 20;
const EINVAL: u32 = 22;
const EIO: u32 = 5;
const ENOSPC: u32 = 28;
const EOVERFLOW: u32 = 75;
const ENOTSUP: u32 = 95;

/// Promise: what is written is read, whatever its size, with simple and structured replies, from
/// the host's cache and from its disk.
#[test]
fn what_is_written_is_read() {
    let server = Server::new(CAPACITY);
    let mut structured = server.ready(true);
    let mut simple = server.ready(false);
    for (offset, length) in [
        (0, 512),
        (4096, 4096),
        (512, 1024),
        (1 << 20, PIECE_BYTES),
        (3 << 19, PIECE_BYTES + 512),
        (512, 3 * PIECE_BYTES + 1536),
        (0, CAPACITY),
    ] {
        let data = pattern(length, offset as u64 + 1);
        assert_eq!(structured.write(0, offset as u64, &data), 0);
        assert!(server.ram.bytes()[offset..offset + length] == data);
        for cold in [false, true] {
            server.ram.cold.store(cold, Ordering::Relaxed);
            assert!(structured.read(0, offset as u64, length as u32) == Ok(data.clone()));
            assert_eq!(simple.simple(0, CMD_READ, offset as u64, length as u32), 0);
            assert!(simple.take(length) == data);
        }
    }
}

/// Promise: empty requests are answered.
#[test]
fn nothing_at_all_is_possible() {
    let server = Server::new(CAPACITY);
    let mut client = server.ready(true);
    assert_eq!(client.read(0, 4096, 0), Ok(vec![]));
    assert_eq!(client.write(0, 4096, &[]), 0);
    for command in [CMD_TRIM, CMD_WRITE_ZEROES, CMD_CACHE] {
        assert_eq!(client.simple(0, command, 4096, 0), 0);
    }
}

/// Promise: what makes no sense is refused with the right error, changes nothing, and the
/// connection lives on.
#[test]
fn senseless_requests_are_refused() {
    let server = Server::new(CAPACITY);
    let end = CAPACITY as u64;
    let mut client = server.ready(true);
    for (flags, offset, length, error) in [
        (0, 1, 512, EINVAL),
        (0, 0, 511, EINVAL),
        (0, end, 512, EINVAL),
        (0, u64::MAX - 511, 1024, EINVAL),
        (0, 0, (32 << 20) + 512, EINVAL),
        (CMD_FLAG_NO_HOLE, 0, 512, EINVAL),
        (1 << 9, 0, 512, EINVAL),
        (CMD_FLAG_DF, 0, PIECE_BYTES as u32 + 512, EOVERFLOW),
    ] {
        assert_eq!(client.read(flags, offset, length), Err(error), "{offset}");
    }
    for (flags, offset, length, error) in [
        (0, 1, 512, EINVAL),
        (0, 0, 513, EINVAL),
        (0, end, 512, ENOSPC),
        (0, end - 512, 1024, ENOSPC),
        (0, u64::MAX - 4095, 1 << 20, ENOSPC),
        (0, 0, (32 << 20) + 512, EINVAL),
        (CMD_FLAG_DF, 0, 512, EINVAL),
    ] {
        let data = pattern(length, 3);
        assert_eq!(client.write(flags, offset, &data), error, "{offset}");
    }
    for (flags, command, offset, length, error) in [
        (0, CMD_TRIM, 1, 512, EINVAL),
        (0, CMD_TRIM, end, 512, EINVAL),
        (0, CMD_CACHE, end, 512, EINVAL),
        (0, CMD_WRITE_ZEROES, end, 512, ENOSPC),
        (0, CMD_WRITE_ZEROES, 0, 1, EINVAL),
        (CMD_FLAG_NO_HOLE, CMD_TRIM, 0, 512, EINVAL),
        (
            CMD_FLAG_NO_HOLE | CMD_FLAG_FAST_ZERO,
            CMD_WRITE_ZEROES,
            0,
            512,
            ENOTSUP,
        ),
        (1 << 15, CMD_FLUSH, 0, 0, EINVAL),
        (0, 8, 0, 512, EINVAL),
        (0, u16::MAX, 0, 0, EINVAL),
    ] {
        assert_eq!(
            client.simple(flags, command, offset, length),
            error,
            "{command}"
        );
    }
    for (offset, length) in [(0, 0), (end, 512), (0, 100)] {
        client.send(&request(0, CMD_BLOCK_STATUS, 5, offset, length));
        let (_, kind, _, payload) = client.chunk();
        assert_eq!(
            (kind, &payload[..4]),
            (CHUNK_ERROR, &EINVAL.to_be_bytes()[..])
        );
    }
    assert!(server.ram.bytes().iter().all(|byte| *byte == 0));
    let mut simple = server.ready(false);
    assert_eq!(simple.simple(CMD_FLAG_DF, CMD_READ, 0, 512), EINVAL);
    assert_eq!(simple.simple(0, CMD_BLOCK_STATUS, 0, 512), EINVAL);
    assert_eq!(simple.simple(0, CMD_FLUSH, 0, 0), 0);
}

/// Promise: FUA and flush reach the disk; without them nothing is flushed.
#[test]
fn flushes_are_passed_on() {
    let server = Server::new(CAPACITY);
    let mut client = server.ready(true);
    let flushes = || server.ram.flushes.load(Ordering::Relaxed);
    client.write(0, 0, &[1; 512]);
    client.simple(0, CMD_TRIM, 0, 4096);
    client.simple(0, CMD_WRITE_ZEROES, 0, 4096);
    assert_eq!(flushes(), 0);
    client.write(CMD_FLAG_FUA, 0, &[1; 512]);
    client.simple(CMD_FLAG_FUA, CMD_TRIM, 0, 4096);
    client.simple(CMD_FLAG_FUA, CMD_WRITE_ZEROES, 0, 4096);
    assert_eq!(flushes(), 3);
    assert_eq!(client.simple(0, CMD_FLUSH, 0, 0), 0);
    // One behind which more is waiting goes to a worker.
    client.send(
        &[
            request(0, CMD_FLUSH, 1, 0, 0),
            request(0, CMD_CACHE, 2, 0, 512),
        ]
        .concat(),
    );
    let cookies = [0, 1].map(|_| client.take(SIMPLE_REPLY_BYTES)[15]);
    assert_eq!(cookies[0] + cookies[1], 3);
    assert_eq!(flushes(), 5);
}

/// Promise: zeros are zeros, with and without their space; block status tells which.
#[test]
fn zeros_and_holes_are_told_apart() {
    let server = Server::new(CAPACITY);
    let mut client = server.ready(true);
    client.write(0, 0, &pattern(64 << 10, 5));
    assert_eq!(client.simple(0, CMD_TRIM, 0, 8192), 0);
    assert_eq!(
        client.simple(CMD_FLAG_FAST_ZERO, CMD_WRITE_ZEROES, 8192, 8192),
        0
    );
    assert_eq!(
        client.simple(CMD_FLAG_NO_HOLE, CMD_WRITE_ZEROES, 16384, 8192),
        0
    );
    assert!(client.read(0, 0, 24576) == Ok(vec![0; 24576]));
    let mut status = |flags| {
        client.send(&request(flags, CMD_BLOCK_STATUS, 6, 0, 128 << 10));
        let (_, kind, _, payload) = client.chunk();
        assert_eq!(
            (kind, &payload[..4]),
            (CHUNK_BLOCK_STATUS, &[0, 0, 0, 1][..])
        );
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        let extents = payload[4..].chunks(8);
        extents
            .map(|extent| (number(&extent[..4]), number(&extent[4..])))
            .collect::<Vec<_>>()
    };
    assert_eq!(status(0), [(16384, 3), (49152, 0), (65536, 3)]);
    assert_eq!(status(CMD_FLAG_REQ_ONE), [(16384, 3)]);
}

/// Promise: an error of the disk is told, and what came before it in the same reply does not make
/// it look like success; a write that failed in the middle is drained.
#[test]
fn errors_of_the_disk_are_told() {
    let server = Server::new(CAPACITY);
    server
        .ram
        .bad_at
        .store(PIECE_BYTES as u64, Ordering::Relaxed);
    let mut client = server.ready(true);
    let mut simple = server.ready(false);
    let long = 3 * PIECE_BYTES as u32;
    for cold in [false, true] {
        server.ram.cold.store(cold, Ordering::Relaxed);
        assert_eq!(client.read(0, 0, long), Err(EIO));
        assert_eq!(client.read(0, PIECE_BYTES as u64, 512), Err(EIO));
        assert_eq!(simple.simple(0, CMD_READ, 0, long), EIO);
        assert_eq!(simple.simple(0, CMD_READ, PIECE_BYTES as u64, 512), EIO);
    }
    assert_eq!(client.write(0, 0, &pattern(long as usize, 1)), EIO);
    assert_eq!(client.write(0, 0, &pattern(4096, 2)), 0);
}

/// Promise: many requests sent at once are all answered, also where workers answer some.
#[test]
fn many_at_once_are_all_answered() {
    let server = Server::new(CAPACITY);
    let data = pattern(CAPACITY, 77);
    let mut client = server.ready(true);
    assert_eq!(client.write(0, 0, &data), 0);
    for cold in [false, true] {
        server.ram.cold.store(cold, Ordering::Relaxed);
        let count = 1000;
        let requests: Vec<u8> = (0..count)
            .flat_map(|n| request(0, CMD_READ, n, n * 4096, 4096))
            .collect();
        let mut sender = client.socket.try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            std::io::Write::write_all(&mut sender, &requests).unwrap();
        });
        let mut open = vec![true; count as usize];
        for _ in 0..count {
            let (flags, kind, cookie, payload) = client.chunk();
            assert_eq!((flags, kind), (CHUNK_FLAG_DONE, CHUNK_OFFSET_DATA));
            assert!(std::mem::take(&mut open[cookie as usize]));
            let at = cookie as usize * 4096;
            assert_eq!(payload[..8], (at as u64).to_be_bytes());
            assert!(payload[8..] == data[at..at + 4096]);
        }
        sending.join().unwrap();
    }
}

/// Promise: replies owed by workers are sent before a polite goodbye; a wrong magic number ends
/// the connection, and so does closing the disk, also under a client that does not listen.
#[test]
fn connections_end() {
    let mut server = Server::new(CAPACITY);
    server.ram.cold.store(true, Ordering::Relaxed);
    let mut client = server.ready(true);
    let last = [
        request(0, CMD_READ, 1, 0, 1 << 20),
        request(0, CMD_DISC, 2, 0, 0),
    ];
    client.send(&last.concat());
    while client.chunk().0 & CHUNK_FLAG_DONE == 0 {}
    assert!(client.is_over());
    let mut client = server.ready(true);
    client.send(&[0; REQUEST_BYTES]);
    assert!(client.is_over());
    let mut deaf = server.ready(true);
    for cookie in 0..20 {
        deaf.send(&request(0, CMD_READ, cookie, 0, 4 << 20));
    }
    let mut left = server.ready(true);
    left.send(&request(0, CMD_READ, 1, 0, 8 << 20));
    left.send(&request(0, CMD_DISC, 1, 0, 0));
    let mut idle = server.ready(true);
    drop(server.front.take());
    assert!(idle.is_over());
}
