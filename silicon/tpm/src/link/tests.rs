//! A TPM that says what a test has it say.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use super::*;

/// `TPM_RC_RETRY`.
const RC_RETRY: u32 = 0x922;
const COMMAND: [u8; 12] = *b"\x80\x01\0\0\0\x0c\0\0\x01\x76\0\0";

fn answer(code: u32, body: &[u8]) -> Vec<u8> {
    command(ST_NO_SESSIONS, code, body).bytes().to_vec()
}

/// A link to a TPM that gives these answers to as many commands, and then closes the connection.
/// The commands are the thread's result.
fn scripted(answers: Vec<Vec<u8>>) -> (Link, JoinHandle<Vec<Vec<u8>>>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let thread = std::thread::spawn(move || {
        let receive = |theirs: &mut UnixStream| {
            let mut command = vec![0; COMMAND.len()];
            theirs.read_exact(&mut command).ok().map(|()| command)
        };
        let mut commands = Vec::new();
        for answer in answers {
            commands.push(receive(&mut theirs).unwrap());
            theirs.write_all(&answer).unwrap();
        }
        commands
    });
    (Link::new(ours.into()).unwrap(), thread)
}

/// Promise: an answer is taken when it is there, in whatever pieces it comes.
#[test]
fn answer_in_pieces() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut link = Link::new(ours.into()).unwrap();
    let thread = std::thread::spawn(move || {
        theirs.read_exact(&mut [0; COMMAND.len()]).unwrap();
        for byte in answer(RC_SUCCESS, b"body") {
            theirs.write_all(&[byte]).unwrap();
        }
        theirs
    });
    let answer = link.run(&COMMAND).ok().unwrap();
    assert_eq!((answer.tag, answer.body()), (ST_NO_SESSIONS, &b"body"[..]));
    thread.join().unwrap();
}

/// Promise: a TPM that does not answer holds nobody up for ever; and the answer that comes later is
/// not taken for that to another command.
#[test]
fn silent_tpm_times_out() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut link = Link::new(ours.into()).unwrap();
    link.command_time = Duration::from_millis(10);
    assert_eq!(link.run(&COMMAND).err(), Some(Error::TimedOut));
    theirs.write_all(&answer(RC_SUCCESS, b"late")).unwrap();
    assert_eq!(link.run(&COMMAND).err(), Some(Error::TimedOut));
}

/// Promise: what is no answer is an error, and ends the connection.
#[test]
fn broken_answers_are_refused() {
    let mut long = answer(RC_SUCCESS, b"body");
    long.push(0);
    let with_size = |size: u32| {
        let mut bytes = answer(RC_SUCCESS, b"");
        bytes[2..6].copy_from_slice(&size.to_be_bytes());
        bytes
    };
    for bytes in [
        long,
        with_size(0),
        with_size(9),
        with_size(PACKET_SIZE_BYTES_MAX as u32 + 1),
        with_size(u32::MAX),
    ] {
        let (mut link, thread) = scripted(vec![bytes]);
        for _ in 0..2 {
            assert_eq!(link.run(&COMMAND).err(), Some(Error::Garbled("size")));
        }
        thread.join().unwrap();
    }
}

/// Promise: a TPM that goes away is noticed, before, within and after an answer.
#[test]
fn lost_tpm_is_noticed() {
    for part in [0, 1, 13] {
        let (mut link, thread) = scripted(vec![answer(RC_SUCCESS, b"body")[..part].to_vec()]);
        for _ in 0..2 {
            assert_eq!(link.run(&COMMAND).err(), Some(Error::Gone(Errno::PIPE)));
        }
        thread.join().unwrap();
    }
    let (mut link, thread) = scripted(vec![]);
    thread.join().unwrap();
    assert_eq!(link.run(&COMMAND).err(), Some(Error::Gone(Errno::PIPE)));
}

/// Promise: a TPM that asks for it is asked again, with the same command; not for ever.
#[test]
fn busy_tpm_is_asked_again() {
    let busy = || answer(RC_RETRY, b"");
    let (mut link, thread) = scripted(vec![busy(), busy(), answer(RC_SUCCESS, b"body")]);
    assert_eq!(link.run(&COMMAND).ok().unwrap().body(), b"body");
    assert_eq!(thread.join().unwrap(), vec![COMMAND.to_vec(); 3]);

    let (mut link, thread) = scripted(vec![busy(), answer(RC_SUCCESS, b"body")]);
    link.retry_time = Duration::ZERO;
    assert_eq!(link.run(&COMMAND).err(), Some(Error::Busy));
    // A refusal leaves the connection as it was.
    assert!(link.run(&COMMAND).is_ok());
    thread.join().unwrap();
}

/// Promise: a TPM that nobody has started is started, also by two at once.
#[test]
fn new_tpm_is_started() {
    for startup in [RC_SUCCESS, RC_INITIALIZE] {
        let (mut link, thread) = scripted(vec![
            answer(RC_INITIALIZE, b""),
            answer(startup, b""),
            answer(RC_SUCCESS, b"body"),
        ]);
        assert_eq!(link.run(&COMMAND).ok().unwrap().body(), b"body");
        let sent = thread.join().unwrap();
        assert_eq!(sent[1], b"\x80\x01\0\0\0\x0c\0\0\x01\x44\0\0");
        assert_eq!((&sent[0], &sent[2]), (&COMMAND.to_vec(), &COMMAND.to_vec()));
    }
}

/// Promise: what stopped the TPM is told by its name.
#[test]
fn codes_are_named() {
    for (code, error) in [
        (0x14a, Error::Unwritten),
        (0x14b, Error::Full),
        (0x14c, Error::Occupied),
        (0x18b, Error::Missing),
        (0x28b, Error::Missing),
        (0x98e, Error::Unauthorised),
        (0x9a2, Error::Unauthorised),
        (0x921, Error::LockedOut),
        (0x922, Error::Busy),
        (0x101, Error::Refused(0x101)),
        (0x1c4, Error::Refused(0x1c4)),
    ] {
        assert_eq!(refusal(code), error);
    }
}
