//! Seeded random conversations: nothing that a client sends may end the front end.
//!
//! Each case follows from its number alone; a failing one is named by it.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::time::Duration;

use super::client::*;
use crate::nbd::protocol::*;
use crate::panics;

const CAPACITY: usize = 1 << 20;
const HANDSHAKES: u64 = 3000;
const TRANSMISSIONS: u64 = 3000;

/// Says its piece, then listens to whatever comes until the server hangs up.
fn say(client: &mut Client, bytes: &[u8]) {
    let mut listener = client.socket.try_clone().unwrap();
    let listening = std::thread::spawn(move || {
        let mut waste = [0; 65536];
        while matches!(listener.read(&mut waste), Ok(received) if received > 0) {}
    });
    // The server may have hung up in the middle.
    let _ = client.socket.write_all(bytes);
    let _ = client.socket.shutdown(Shutdown::Write);
    listening.join().unwrap();
}

fn still_works(server: &Server, case: u64) {
    assert_eq!(panics::count(), 0, "up to case {case}");
    // Connections that have just ended may still be counted.
    for _ in 0..100 {
        let mut client = server.connect();
        if client
            .socket
            .read(&mut [0; 18])
            .is_ok_and(|received| received == 18)
        {
            client.send(&3u32.to_be_bytes());
            client.option(OPT_STRUCTURED_REPLY, &[]);
            client.option(OPT_GO, &go_data(b""));
            assert!(client.read(0, 0, 4096).is_ok(), "case {case}");
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("case {case}: nobody is served any more");
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..random.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len() as u64) as usize;
        match random.below(5) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.next() as u8),
            _ => {
                let end = (at + 4).min(bytes.len());
                bytes[at..end].fill(0xff);
            }
        }
    }
}

fn random_option(random: &mut Random) -> Vec<u8> {
    let queries: &[&[u8]] = &[b"base:allocation", b"base:", b"", b"x"];
    let option = random.pick(&[1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 77]);
    let name = random.pick(&[&b""[..], b"other"]);
    let data = match option {
        OPT_INFO | OPT_GO => go_data(name),
        OPT_LIST_META_CONTEXT | OPT_SET_META_CONTEXT => {
            let query = random.pick(queries);
            meta_data(name, &[query, query][..random.below(3) as usize])
        }
        OPT_EXPORT_NAME => name.to_vec(),
        _ => pattern(random.below(2) as usize * random.below(9000) as usize, 1),
    };
    option_bytes(option, &data)
}

fn random_request(random: &mut Random) -> Vec<u8> {
    let command = random.pick(&[0, 0, 0, 1, 1, 1, 3, 4, 5, 6, 7, 7, 8, 99]);
    let flags = random.pick(&[0, 0, 0, 1, 2, 4, 8, 16, 18, 0xffff]);
    let offset = match random.below(4) {
        0 => random.next(),
        1 => CAPACITY as u64 - random.below(3) * 512,
        _ => random.below(CAPACITY as u64 / 512) * 512,
    };
    let length = match random.below(6) {
        0 => random.next() as u32,
        1 => random.below(70_000) as u32,
        _ => random.below(64) as u32 * 512,
    };
    let mut bytes = request(flags, command, random.next(), offset, length);
    if command == CMD_WRITE {
        bytes.resize(bytes.len() + (length as usize).min(100_000), 0x5a);
    }
    bytes
}

/// Promise: no handshake, however broken, ends the front end.
#[test]
fn broken_handshakes_are_survived() {
    panics::watch();
    let server = Server::new(CAPACITY);
    for case in 0..HANDSHAKES {
        let random = &mut Random(case.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut bytes = random
            .pick(&[3u32, 3, 3, 1, 0, u32::MAX])
            .to_be_bytes()
            .to_vec();
        for _ in 0..random.below(6) {
            bytes.extend(random_option(random));
        }
        mutate(random, &mut bytes);
        say(&mut server.connect(), &bytes);
        if case % 100 == 0 {
            still_works(&server, case);
        }
    }
    still_works(&server, HANDSHAKES);
}

/// Promise: no stream of requests, however broken, ends the front end.
#[test]
fn broken_requests_are_survived() {
    panics::watch();
    let server = Server::new(CAPACITY);
    for case in 0..TRANSMISSIONS {
        let random = &mut Random(case.wrapping_mul(0xd134_2543_de82_ef95) | 1);
        let mut bytes = Vec::new();
        for _ in 0..random.below(12) {
            bytes.extend(random_request(random));
        }
        mutate(random, &mut bytes);
        let cold = random.below(2) == 0;
        server
            .ram
            .cold
            .store(cold, std::sync::atomic::Ordering::Relaxed);
        let mut client = server.connect();
        let mut hello = 3u32.to_be_bytes().to_vec();
        if random.below(4) > 0 {
            hello.extend(option_bytes(OPT_STRUCTURED_REPLY, &[]));
            let query = meta_data(b"", &[b"base:allocation"]);
            hello.extend(option_bytes(OPT_SET_META_CONTEXT, &query));
        }
        hello.extend(option_bytes(OPT_GO, &go_data(b"")));
        hello.extend(bytes);
        say(&mut client, &hello);
        if case % 100 == 0 {
            still_works(&server, case);
        }
    }
    still_works(&server, TRANSMISSIONS);
}
