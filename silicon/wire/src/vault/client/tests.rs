//! The client against vaults that do not do what they should.

use std::os::fd::OwnedFd;
use std::thread;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::*;
use crate::vault::SsdRequest;
use crate::{refused, success};

fn pair() -> (Client, Link) {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs): (OwnedFd, OwnedFd) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let client = Client::new(Link::new(ours).unwrap());
    (client, Link::new(theirs).unwrap())
}

/// A vault that answers each request, whatever it is, with the next of `answers`.
fn vault(link: Link, answers: Vec<Vec<u8>>) -> thread::JoinHandle<Vec<SsdRequest>> {
    thread::spawn(move || {
        let mut heard = Vec::new();
        for answer in answers {
            let packet = link.receive().unwrap().unwrap();
            heard.push(SsdRequest::parse(&packet.bytes).unwrap());
            link.send(&answer).unwrap();
        }
        heard
    })
}

/// Promise: each question is one that the vault reads, each answer comes back as it was given.
#[test]
fn questions_and_answers() {
    let (mut client, link) = pair();
    let vault = vault(
        link,
        vec![
            success(&[("key", Value::Bytes(&[5; 32]))]).to_vec(),
            success(&[]).to_vec(),
            success(&[("anchor", Value::Bytes(b"root"))]).to_vec(),
            refused("backwards", "the kept anchor is newer", &[]).to_vec(),
            success(&[]).to_vec(),
        ],
    );
    assert_eq!(*client.volume_key().unwrap(), [5; 32]);
    assert_eq!(client.read_anchor().unwrap(), Remembered::Nothing);
    assert_eq!(
        client.read_anchor().unwrap(),
        Remembered::Anchor(b"root".to_vec())
    );
    let refusal = client.write_anchor(6, b"old").unwrap_err();
    assert!(matches!(
        &refusal,
        ClientError::Refused { code: Code::Backwards, detail } if detail == "the kept anchor is newer"
    ));
    assert_eq!(
        io::Error::from(refusal).to_string(),
        "the vault refused (backwards: the kept anchor is newer)"
    );
    client.write_anchor(7, b"new").unwrap();
    let heard = vault.join().unwrap();
    assert_eq!(heard.len(), 5);
    assert_eq!(
        heard[4],
        SsdRequest::WriteAnchor {
            sequence: 7,
            anchor: b"new".to_vec()
        }
    );
}

/// Promise: an answer that is none ends the link, and the next question says so at once.
#[test]
fn broken_answers_end_the_link() {
    for answer in [
        b"\x80".to_vec(),
        success(&[]).to_vec(),
        success(&[("key", Value::Bytes(&[5; 31]))]).to_vec(),
        success(&[("key", Value::Bytes(&[5; 32])), ("more", Value::Uint(1))]).to_vec(),
        refused("never heard of", "", &[]).to_vec(),
    ] {
        let (mut client, link) = pair();
        let vault = vault(link, vec![answer]);
        assert!(matches!(client.volume_key(), Err(ClientError::Malformed)));
        assert!(matches!(client.volume_key(), Err(ClientError::Gone)));
        vault.join().unwrap();
    }
}

/// Promise: a vault that hung up is gone, before the question and after it.
#[test]
fn vault_that_hangs_up_is_gone() {
    let (mut client, link) = pair();
    drop(link);
    assert!(matches!(client.read_anchor(), Err(ClientError::Gone)));
    let (mut client, link) = pair();
    let vault = thread::spawn(move || link.receive().unwrap().map(|_| ()));
    assert!(matches!(client.read_anchor(), Err(ClientError::Gone)));
    vault.join().unwrap();
}

/// Promise: silence ends after the time limit, and a late answer is not taken for another's.
#[test]
fn late_answers_are_not_taken() {
    let (mut client, link) = pair();
    client.time_limit = Duration::from_millis(50);
    let begun = Instant::now();
    assert!(matches!(client.read_anchor(), Err(ClientError::TimedOut)));
    assert!(begun.elapsed() >= client.time_limit);
    assert!(link.receive().unwrap().is_some());
    assert!(
        link.send(&success(&[("anchor", Value::Bytes(b"old"))]))
            .is_err()
    );
    assert!(matches!(client.read_anchor(), Err(ClientError::Gone)));
}

/// Promise: a vault that reads nothing holds nobody up for longer than the limit.
#[test]
fn full_link_times_out() {
    let (mut client, _link) = pair();
    client.time_limit = Duration::from_millis(50);
    while let Some(link) = &client.link {
        match link.send_now(&[0; crate::PACKET_SIZE_BYTES_MAX]) {
            Err(Errno::AGAIN) => break,
            result => result.unwrap(),
        }
    }
    assert!(matches!(
        client.write_anchor(1, b"x"),
        Err(ClientError::TimedOut)
    ));
}
