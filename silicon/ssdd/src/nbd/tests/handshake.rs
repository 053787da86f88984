//! The handshake: what is agreed on, and what is refused.

use super::client::*;
use crate::nbd::CONNECTIONS_MAX;
use crate::nbd::handshake::{BLOCK_SIZES, OPTION_BYTES_MAX, OPTIONS_MAX};
use crate::nbd::protocol::*;

const CAPACITY: usize = 1 << 20;

/// Promise: `INFO` and `GO` tell size, flags and block sizes; DF only with structured replies.
#[test]
fn export_is_described() {
    let server = Server::new(CAPACITY);
    let mut client = server.greeted();
    let told = |client: &mut Client, option| {
        let replies = client.option(option, &go_data(b""));
        let [(REP_INFO, export), (REP_INFO, sizes), (REP_ACK, _)] = &replies[..] else {
            panic!("{replies:?}");
        };
        assert_eq!(export[..2], INFO_EXPORT.to_be_bytes());
        assert_eq!(export[2..10], (CAPACITY as u64).to_be_bytes());
        let bytes: Vec<u8> = BLOCK_SIZES.iter().flat_map(|n| n.to_be_bytes()).collect();
        assert_eq!(sizes[2..], bytes);
        u16::from_be_bytes(export[10..].try_into().unwrap())
    };
    let plain = told(&mut client, OPT_INFO);
    assert_eq!(plain & FLAG_SEND_DF, 0);
    client.option(OPT_STRUCTURED_REPLY, &[]);
    assert_eq!(told(&mut client, OPT_INFO), plain | FLAG_SEND_DF);
    assert_eq!(told(&mut client, OPT_GO), plain | FLAG_SEND_DF);
    assert_eq!(client.read(0, 0, 512), Ok(vec![0; 512]));
}

/// Promise: there is one export, under the default name, and every other is refused.
#[test]
fn other_exports_are_unknown() {
    let server = Server::new(CAPACITY);
    let mut client = server.greeted();
    let list = client.option(OPT_LIST, &[]);
    assert_eq!(list, [(REP_SERVER, vec![0; 4]), (REP_ACK, vec![])]);
    client.option(OPT_STRUCTURED_REPLY, &[]);
    for (option, data) in [
        (OPT_INFO, go_data(b"other")),
        (OPT_GO, go_data(b"other")),
        (OPT_LIST_META_CONTEXT, meta_data(b"other", &[])),
        (
            OPT_SET_META_CONTEXT,
            meta_data(b"other", &[b"base:allocation"]),
        ),
    ] {
        assert_eq!(client.option(option, &data), [(REP_ERR_UNKNOWN, vec![])]);
    }
    client.send(&option_bytes(OPT_EXPORT_NAME, b"other"));
    assert!(client.is_over());
}

/// Promise: the old way in works, with padding and without.
#[test]
fn export_name_begins_transmission() {
    let server = Server::new(CAPACITY);
    for (flags, padding) in [(1u32, 124), (3, 0)] {
        let mut client = server.connect();
        client.take(18);
        client.send(&flags.to_be_bytes());
        client.send(&option_bytes(OPT_EXPORT_NAME, b""));
        let export = client.take(10 + padding);
        assert_eq!(export[..8], (CAPACITY as u64).to_be_bytes());
        assert_eq!(client.simple(0, CMD_FLUSH, 0, 0), 0);
    }
}

/// Promise: options that are not offered, or not in their form, are refused and the handshake
/// goes on.
#[test]
fn refused_options_do_not_end_the_handshake() {
    let server = Server::new(CAPACITY);
    let mut client = server.greeted();
    let mut long_name = go_data(b"");
    long_name[3] = 200;
    let mut trailing = go_data(b"");
    trailing.push(0);
    let mut many = meta_data(b"", &[]);
    many[4..].fill(0xff);
    for (option, data, error) in [
        (OPT_STARTTLS, vec![], REP_ERR_UNSUP),
        (OPT_STARTTLS, vec![1], REP_ERR_INVALID),
        (4, vec![], REP_ERR_UNSUP),
        (11, vec![], REP_ERR_UNSUP),
        (u32::MAX, vec![1; 100], REP_ERR_UNSUP),
        (OPT_LIST, vec![0], REP_ERR_INVALID),
        (OPT_STRUCTURED_REPLY, vec![0], REP_ERR_INVALID),
        (OPT_GO, vec![], REP_ERR_INVALID),
        (OPT_GO, long_name, REP_ERR_INVALID),
        (OPT_GO, trailing, REP_ERR_INVALID),
        (OPT_LIST_META_CONTEXT, many, REP_ERR_INVALID),
        // Without structured replies there is no block status.
        (OPT_SET_META_CONTEXT, meta_data(b"", &[]), REP_ERR_INVALID),
        (OPT_GO, vec![0; OPTION_BYTES_MAX + 1], REP_ERR_TOO_BIG),
    ] {
        assert_eq!(client.option(option, &data), [(error, vec![])], "{option}");
    }
    assert_eq!(client.option(OPT_ABORT, &[]), [(REP_ACK, vec![])]);
    assert!(client.is_over());
}

/// Promise: `base:allocation` is found by its name and by its namespace, and nothing else is.
#[test]
fn one_context_is_offered() {
    let server = Server::new(CAPACITY);
    let mut client = server.greeted();
    client.option(OPT_STRUCTURED_REPLY, &[]);
    let found = [&[0; 4][..], b"base:allocation"].concat();
    for (queries, is_found) in [
        (&[][..], true),
        (&[&b"base:"[..]], true),
        (&[b"x:y", b"base:allocation"], true),
        (&[b"base:other"], false),
    ] {
        let replies = client.option(OPT_LIST_META_CONTEXT, &meta_data(b"", queries));
        let context = (REP_META_CONTEXT, found.clone());
        assert_eq!(replies.contains(&context), is_found);
    }
    let none = client.option(OPT_SET_META_CONTEXT, &meta_data(b"", &[b"base:"]));
    assert_eq!(none, [(REP_ACK, vec![])]);
    client.option(OPT_GO, &go_data(b""));
    client.send(&request(0, CMD_BLOCK_STATUS, 1, 0, 4096));
    assert_eq!(client.chunk().1, CHUNK_ERROR);
}

/// Promise: whoever breaks the rules is hung up on.
#[test]
fn broken_handshakes_end() {
    let server = Server::new(CAPACITY);
    let mut client = server.connect();
    client.take(18);
    client.send(&0x8000_0003u32.to_be_bytes());
    assert!(client.is_over());
    let mut client = server.greeted();
    client.send(b"not the option's magic..");
    assert!(client.is_over());
    let mut client = server.greeted();
    for _ in 0..OPTIONS_MAX {
        client.option(OPT_LIST, &[]);
    }
    assert!(client.is_over());
}

/// Promise: no more than the named number of clients is served, and one that leaves makes room.
#[test]
fn connections_are_limited() {
    let server = Server::new(CAPACITY);
    let mut clients: Vec<Client> = (0..CONNECTIONS_MAX).map(|_| server.ready(true)).collect();
    assert!(server.connect().is_over());
    assert_eq!(clients[0].read(0, 0, 512), Ok(vec![0; 512]));
    drop(clients.pop());
    // The server needs a moment to notice.
    let room = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        !server.connect().is_over()
    });
    assert!(room);
}
