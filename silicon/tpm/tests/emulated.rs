//! Against an emulated TPM: what is kept, what is refused, and what whoever sits on the bus learns
//! or can change.

use emulated_tpm::{EmulatedTpm, code, plain, sized, with_password};
use tpm::{Auth, Definition, Error, HANDLE_FIRST, HANDLE_LAST, Kind, Tpm, random_handle};
use zeroize::Zeroizing;

const DATA: Definition = Definition {
    handle: HANDLE_FIRST,
    kind: Kind::Data,
};
const COUNTER: Definition = Definition {
    handle: HANDLE_FIRST + 1,
    kind: Kind::Counter,
};
const SECRET: [u8; 32] = *b"a secret of exactly 32 bytes....";

const RH_OWNER: u32 = 0x4000_0001;
const RH_LOCKOUT: u32 = 0x4000_000a;
const CC_CLEAR: u32 = 0x126;
const CC_HIERARCHY_CHANGE_AUTH: u32 = 0x129;
const CC_NV_READ: u32 = 0x14e;
const CC_CREATE_PRIMARY: u32 = 0x131;
const CC_GET_CAPABILITY: u32 = 0x17a;

fn connect(emulated: &EmulatedTpm) -> Tpm {
    Tpm::new(emulated.connect()).unwrap()
}

fn auth(text: &[u8; 32]) -> Auth {
    Zeroizing::new(*text)
}

fn key() -> Auth {
    auth(b"the authorisation, also 32 bytes")
}

/// Makes the data index with the secret in it.
fn keep_secret(tpm: &Tpm) {
    let mut session = tpm.session(None).unwrap();
    let mut index = session.define(DATA, &key()).unwrap();
    session.write(&mut index, &SECRET).unwrap();
}

fn read_secret(tpm: &Tpm) -> Result<[u8; 32], Error> {
    let mut session = tpm.session(None)?;
    let index = session.find(DATA, &key())?;
    session.read(&index).map(|secret| *secret)
}

/// Promise: what was written is read again, by others and after a power cut, until it is deleted;
/// then there is nothing.
#[test]
fn data_is_kept_until_deleted() {
    let mut emulated = EmulatedTpm::start();
    keep_secret(&connect(&emulated));
    assert_eq!(read_secret(&connect(&emulated)), Ok(SECRET));
    emulated.cut_power();
    let tpm = connect(&emulated);
    assert_eq!(read_secret(&tpm), Ok(SECRET));

    let mut session = tpm.session(None).unwrap();
    let mut index = session.find(DATA, &key()).unwrap();
    session.write(&mut index, &[7; 32]).unwrap();
    assert_eq!(*session.read(&index).unwrap(), [7; 32]);
    session.undefine(index).unwrap();
    assert_eq!(session.look(DATA), Ok(None));
    assert_eq!(session.find(DATA, &key()).err(), Some(Error::Missing));
}

/// Promise: a counter grows by one each time, across power cuts, and a new one begins above every
/// earlier one.
#[test]
fn counter_never_goes_back() {
    let mut emulated = EmulatedTpm::start();
    let mut highest = 0;
    for _ in 0..2 {
        let tpm = connect(&emulated);
        let mut session = tpm.session(None).unwrap();
        let mut counter = session.define(COUNTER, &key()).unwrap();
        session.increment(&mut counter).unwrap();
        let first = session.count(&counter).unwrap();
        assert!(first > highest);
        for step in 1..5 {
            session.increment(&mut counter).unwrap();
            assert_eq!(session.count(&counter), Ok(first + step));
        }
        drop(session);
        emulated.cut_power();
        let mut session = tpm.session(None).unwrap();
        let counter = session.find(COUNTER, &key()).unwrap();
        assert_eq!(session.count(&counter), Ok(first + 4));
        highest = first + 4;
        session.undefine(counter).unwrap();
    }
}

/// Promise: each thing that can be wrong with an index is told by its name.
#[test]
fn wrong_indices_are_told_apart() {
    let emulated = EmulatedTpm::start();
    let tpm = connect(&emulated);
    let mut session = tpm.session(None).unwrap();
    assert_eq!(session.find(DATA, &key()).err(), Some(Error::Missing));
    let mut index = session.define(DATA, &key()).unwrap();
    assert_eq!(session.look(DATA), Ok(Some(false)));
    assert_eq!(session.read(&index).err(), Some(Error::Unwritten));
    assert_eq!(session.define(DATA, &key()).err(), Some(Error::Occupied));
    session.write(&mut index, &SECRET).unwrap();
    assert_eq!(session.look(DATA), Ok(Some(true)));
    assert_eq!(session.define(DATA, &key()).err(), Some(Error::Occupied));

    let wrong = auth(b"another authorisation, 32 bytes.");
    let theirs = session.find(DATA, &wrong).unwrap();
    // Often enough that a TPM which counted wrong tries would lock itself.
    for _ in 0..40 {
        assert_eq!(session.read(&theirs).err(), Some(Error::Unauthorised));
    }
    // The conversation goes on after a refusal.
    assert_eq!(*session.read(&index).unwrap(), SECRET);

    let as_counter = Definition {
        kind: Kind::Counter,
        ..DATA
    };
    assert_eq!(session.find(as_counter, &key()).err(), Some(Error::Foreign));
    assert_eq!(session.look(as_counter), Err(Error::Foreign));
}

/// Promise: an authorisation that ends in zeros, which the TPM drops, opens what it was made with.
#[test]
fn zeros_at_the_end_do_not_matter() {
    let emulated = EmulatedTpm::start();
    let tpm = connect(&emulated);
    let mut session = tpm.session(None).unwrap();
    let short = auth(b"short\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let mut index = session.define(DATA, &short).unwrap();
    session.write(&mut index, &SECRET).unwrap();
    assert_eq!(*session.read(&index).unwrap(), SECRET);
}

/// Promise: a TPM without room says so, and goes on working.
#[test]
fn full_tpm_says_so() {
    let emulated = EmulatedTpm::start();
    let tpm = connect(&emulated);
    let mut session = tpm.session(None).unwrap();
    let mut count = 0;
    let error = loop {
        let handle = HANDLE_FIRST + count;
        let kind = Kind::Counter;
        match session.define(Definition { handle, kind }, &key()) {
            Ok(mut counter) => session.increment(&mut counter).unwrap(),
            Err(error) => break error,
        }
        count += 1;
        assert!(HANDLE_FIRST + count <= HANDLE_LAST);
    };
    assert_eq!(error, Error::Full);
    let first = Definition {
        handle: HANDLE_FIRST,
        kind: Kind::Counter,
    };
    let counter = session.find(first, &key()).unwrap();
    assert!(session.count(&counter).is_ok());
}

/// Promise: a TPM whose owner has set an authorisation is named as that, and not as broken.
#[test]
fn owned_tpm_says_so() {
    let emulated = EmulatedTpm::start();
    keep_secret(&connect(&emulated));
    let change = with_password(CC_HIERARCHY_CHANGE_AUTH, &[RH_OWNER], b"", &sized(b"owned"));
    assert_eq!(code(&emulated.carry_out(&change)), 0);
    let error = connect(&emulated).session(None).err();
    assert_eq!(error, Some(Error::OwnerAuthorisation));
}

/// Promise: a TPM that was cleared, and another TPM, are known by their key.
#[test]
fn other_tpm_is_noticed() {
    let mut emulated = EmulatedTpm::start();
    let name = *connect(&emulated).session(None).unwrap().key_name();
    emulated.cut_power();
    assert!(connect(&emulated).session(Some(&name)).is_ok());

    let error = connect(&EmulatedTpm::start()).session(Some(&name)).err();
    assert_eq!(error, Some(Error::OtherTpm));

    let clear = with_password(CC_CLEAR, &[RH_LOCKOUT], b"", b"");
    assert_eq!(code(&emulated.carry_out(&clear)), 0);
    let error = connect(&emulated).session(Some(&name)).err();
    assert_eq!(error, Some(Error::OtherTpm));
    assert_ne!(connect(&emulated).session(None).unwrap().key_name(), &name);
}

/// How many objects and sessions the TPM has loaded.
fn loaded(emulated: &EmulatedTpm) -> usize {
    [0x8000_0000_u32, 0x0200_0000]
        .map(|first| {
            let body = [&[0, 0, 0, 1][..], &first.to_be_bytes(), &[0, 0, 0, 99]].concat();
            let answer = emulated.carry_out(&plain(CC_GET_CAPABILITY, &body));
            u32::from_be_bytes(answer[15..19].try_into().unwrap()) as usize
        })
        .iter()
        .sum()
}

/// Promise: nothing is left loaded, after success and failure alike; a TPM has three places.
#[test]
fn nothing_is_left_loaded() {
    let emulated = EmulatedTpm::start();
    let tpm = connect(&emulated);
    for _ in 0..5 {
        let session = tpm.session(None).unwrap();
        assert_eq!(loaded(&emulated), 1);
        assert_eq!(session.find(DATA, &key()).err(), Some(Error::Missing));
        drop(session);
        assert!(tpm.session(Some(&[0; 32])).is_err());
        assert_eq!(loaded(&emulated), 0);
    }
}

/// Promise: while it is held, one session serves for many, is checked like a new one, and ends with
/// the last who holds it; one in which something failed serves nobody else.
#[test]
fn held_session_is_used_again() {
    let emulated = EmulatedTpm::start();
    let tpm = connect(&emulated);
    let begun = || {
        let traffic = emulated.traffic();
        let packets = traffic
            .iter()
            .filter(|packet| code(packet) == CC_CREATE_PRIMARY);
        packets.count()
    };
    let (hold, another) = (tpm.hold(), tpm.clone().hold());
    keep_secret(&tpm);
    for _ in 0..3 {
        assert_eq!(read_secret(&tpm.clone()), Ok(SECRET));
    }
    assert_eq!((begun(), loaded(&emulated)), (1, 1));
    assert_eq!(tpm.session(Some(&[0; 32])).err(), Some(Error::OtherTpm));
    drop(hold);
    assert_eq!(read_secret(&tpm), Ok(SECRET));
    assert_eq!((begun(), loaded(&emulated)), (0, 1));

    // Two at once are two.
    let (one, other) = (tpm.session(None).unwrap(), tpm.session(None).unwrap());
    assert_eq!(loaded(&emulated), 2);
    drop((one, other));
    assert_eq!((begun(), loaded(&emulated)), (1, 1));

    let mut session = tpm.session(None).unwrap();
    let wrong = session.find(DATA, &auth(&[7; 32])).unwrap();
    assert!(session.read(&wrong).is_err());
    drop(session);
    assert_eq!(loaded(&emulated), 0);
    assert_eq!(read_secret(&tpm), Ok(SECRET));
    assert_eq!((begun(), loaded(&emulated)), (1, 1));
    drop(another);
    assert_eq!(loaded(&emulated), 0);
    assert_eq!(read_secret(&tpm), Ok(SECRET));
    assert_eq!((begun(), loaded(&emulated)), (1, 0));
}

/// Promise: more conversations at once than the TPM has places for: they wait for each other, and
/// each counts.
#[test]
fn many_at_once() {
    let emulated = EmulatedTpm::start();
    let mut session = connect(&emulated).session(None).unwrap();
    let mut counter = session.define(COUNTER, &key()).unwrap();
    session.increment(&mut counter).unwrap();
    let first = session.count(&counter).unwrap();
    drop((session, counter));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let connection = emulated.connect();
            scope.spawn(move || {
                let tpm = Tpm::new(connection).unwrap();
                let mut session = tpm.session(None).unwrap();
                let mut counter = session.find(COUNTER, &key()).unwrap();
                session.increment(&mut counter).unwrap();
            });
        }
    });
    let mut session = connect(&emulated).session(None).unwrap();
    let counter = session.find(COUNTER, &key()).unwrap();
    assert_eq!(session.count(&counter), Ok(first + 8));
}

/// Promise: handles that are drawn are even, in the range, and not always the same.
#[test]
fn random_handles_are_in_the_range() {
    let handles: Vec<u32> = (0..32).map(|_| random_handle().unwrap()).collect();
    for handle in &handles {
        assert!((HANDLE_FIRST..HANDLE_LAST).contains(handle) && handle % 2 == 0);
    }
    assert!(handles.iter().any(|handle| *handle != handles[0]));
}

/// Attack: somebody reads the bus. Neither the secret nor what opens it passes in clear, in any
/// command from the index's making to its deletion. The control: a plain read shows the secret.
#[test]
fn bus_shows_no_secret() {
    let emulated = EmulatedTpm::start();
    keep_secret(&connect(&emulated));
    assert_eq!(read_secret(&connect(&emulated)), Ok(SECRET));
    let mut session = connect(&emulated).session(None).unwrap();
    let index = session.find(DATA, &key()).unwrap();
    session.undefine(index).unwrap();
    drop(session);
    let traffic = emulated.traffic();
    // Any eight bytes in a row.
    let shows = |traffic: &[Vec<u8>], secret: &[u8; 32]| {
        let shown = |packet: &Vec<u8>| {
            packet
                .windows(8)
                .any(|part| secret.windows(8).any(|whole| part == whole))
        };
        traffic.iter().any(shown)
    };
    assert!(traffic.len() > 20);
    assert!(!shows(&traffic, &SECRET) && !shows(&traffic, &key()));

    keep_secret(&connect(&emulated));
    let handles = [DATA.handle; 2];
    let read = with_password(CC_NV_READ, &handles, &key()[..], &[0, 32, 0, 0]);
    let answer = emulated.carry_out(&read);
    assert!(shows(&[read], &key()) && shows(&[answer], &SECRET));
}

/// Attack: somebody changes one byte of the answer that brings the secret, whichever. It is an
/// error, and never another secret.
#[test]
fn changed_answer_is_no_answer() {
    let emulated = EmulatedTpm::start();
    keep_secret(&connect(&emulated));
    let mut position = 0;
    loop {
        let (sender, sizes) = std::sync::mpsc::channel();
        emulated.set_middleman(Some(Box::new(move |command, carry_out| {
            let mut answer = carry_out(command);
            if code(command) == CC_NV_READ {
                sender.send(answer.len()).unwrap();
                // The size itself is the link's matter; see there.
                let byte = answer
                    .get_mut(position)
                    .filter(|_| !(2..6).contains(&position));
                if let Some(byte) = byte {
                    *byte ^= 1;
                }
            }
            Some(answer)
        })));
        let result = read_secret(&connect(&emulated));
        let size = sizes.recv().unwrap();
        if position >= size {
            assert_eq!(result, Ok(SECRET));
            break;
        }
        assert!(
            (2..6).contains(&position) || result.is_err(),
            "byte {position}"
        );
        position += 1;
    }
    assert!(position > 100);
}

/// Attack: somebody changes a command on its way. The TPM refuses it, and does not do another
/// thing.
#[test]
fn changed_command_is_refused() {
    let emulated = EmulatedTpm::start();
    keep_secret(&connect(&emulated));
    // The last byte: the offset to write to.
    emulated.set_middleman(Some(Box::new(|command, carry_out| {
        let mut command = command.to_vec();
        if code(&command) == 0x137 {
            *command.last_mut().unwrap() ^= 1;
        }
        Some(carry_out(&command))
    })));
    let tpm = connect(&emulated);
    let mut session = tpm.session(None).unwrap();
    let mut index = session.find(DATA, &key()).unwrap();
    let error = session.write(&mut index, &[7; 32]).unwrap_err();
    assert_eq!(error, Error::Unauthorised);
    emulated.set_middleman(None);
    assert_eq!(read_secret(&connect(&emulated)), Ok(SECRET));
}

/// Attack: somebody answers an old question again: the answer to an earlier read of a counter is
/// none to this one.
#[test]
fn old_answer_is_no_answer() {
    let emulated = EmulatedTpm::start();
    let tpm = connect(&emulated);
    let mut session = tpm.session(None).unwrap();
    let mut counter = session.define(COUNTER, &key()).unwrap();
    session.increment(&mut counter).unwrap();
    let mut old = None;
    emulated.set_middleman(Some(Box::new(move |command, carry_out| {
        if code(command) != CC_NV_READ {
            return Some(carry_out(command));
        }
        Some(old.get_or_insert_with(|| carry_out(command)).clone())
    })));
    session.count(&counter).unwrap();
    session.increment(&mut counter).unwrap();
    assert_eq!(session.count(&counter), Err(Error::Garbled("HMAC")));
}

/// Attack: somebody on the bus gives a key of their own for the TPM's. Where the TPM is known, it
/// is noticed before anything secret is sent.
#[test]
fn substituted_key_is_noticed() {
    let (emulated, theirs) = (EmulatedTpm::start(), EmulatedTpm::start());
    keep_secret(&connect(&emulated));
    let name = *connect(&emulated).session(None).unwrap().key_name();
    emulated.set_middleman(Some(Box::new(move |command, carry_out| {
        let answer = carry_out(command);
        let is_asked = code(command) == CC_CREATE_PRIMARY;
        Some(if is_asked {
            theirs.carry_out(command)
        } else {
            answer
        })
    })));
    emulated.traffic();
    let error = connect(&emulated).session(Some(&name)).err();
    assert_eq!(error, Some(Error::OtherTpm));
    // The key's making and its freeing, each with an answer.
    assert_eq!(emulated.traffic().len(), 4);
}
