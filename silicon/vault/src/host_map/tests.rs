//! The host's map against an emulated TPM: kept, cut short at each step, put back, forged.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::*;
use emulated_tpm::{EmulatedTpm, code, cut_at, plain, with_password};

const ONE: u64 = 0x1111_1111_1111_1111;
const OTHER: u64 = 0x2222_2222_2222_2222;
const OLD: [u8; 32] = [1; 32];
const NEW: [u8; 32] = [2; 32];

const CC_CLEAR: u32 = 0x126;
const CC_NV_INCREMENT: u32 = 0x134;
const CC_GET_CAPABILITY: u32 = 0x17a;
const RH_LOCKOUT: u32 = 0x4000_000a;

fn connect(tpm: &EmulatedTpm) -> Tpm {
    Tpm::new(tpm.connect()).unwrap()
}

/// A TPM and a folder of its host.
struct Host {
    tpm: EmulatedTpm,
    folder: TempDir,
}

impl Host {
    fn start() -> Host {
        Host {
            tpm: EmulatedTpm::start(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// The map as a vault that has just been started opens it.
    fn map(&self) -> HostMap {
        HostMap::new(connect(&self.tpm), File::open(self.folder.path()).unwrap()).unwrap()
    }

    fn expected(&self, ecid: u64) -> Result<Option<[u8; 32]>, Error> {
        self.map().expected(ecid)
    }

    fn advance(&self, ecid: u64, digest: [u8; 32]) -> Result<(), Error> {
        self.map().advance(ecid, &digest)
    }

    /// The one map's file.
    fn file(&self) -> PathBuf {
        let files: Vec<PathBuf> = files(self.folder.path());
        let [file] = &files[..] else {
            panic!("{files:?}");
        };
        file.clone()
    }

    /// How many indices the TPM has.
    fn indices(&self) -> u32 {
        let body = [0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 254];
        let answer = self.tpm.carry_out(&plain(CC_GET_CAPABILITY, &body));
        u32::from_be_bytes(answer[15..19].try_into().unwrap())
    }

    /// Where the map's counter stands.
    fn count(&self) -> u64 {
        self.map().current().unwrap().unwrap().count
    }
}

/// The files in a folder without those that are not in their place.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_none())
        .collect();
    files.sort();
    files
}

/// Promise: the newest word on each chip is kept, for other vaults and through a power cut of the
/// TPM; a chip that is gone is unknown again. Saying the same again costs the counter nothing.
#[test]
fn newest_word_is_kept() {
    let mut host = Host::start();
    assert_eq!(host.expected(ONE), Ok(None));
    assert_eq!(host.map().forget(ONE), Ok(()));
    assert!(files(host.folder.path()).is_empty());
    assert_eq!(host.indices(), 0);

    host.advance(ONE, OLD).unwrap();
    host.advance(OTHER, OLD).unwrap();
    let mut map = host.map();
    map.advance(ONE, &NEW).unwrap();
    assert_eq!(map.expected(ONE), Ok(Some(NEW)));
    host.tpm.cut_power();
    assert_eq!(map.expected(ONE), Ok(Some(NEW)));
    assert_eq!(
        (host.expected(ONE), host.expected(OTHER)),
        (Ok(Some(NEW)), Ok(Some(OLD)))
    );

    let count = host.count();
    host.advance(ONE, NEW).unwrap();
    assert_eq!(host.count(), count);
    host.map().forget(ONE).unwrap();
    assert_eq!(
        (host.expected(ONE), host.expected(OTHER)),
        (Ok(None), Ok(Some(OLD)))
    );
    assert_eq!((host.count(), host.indices()), (count + 1, 2));
    assert_eq!(
        fs::metadata(host.file()).unwrap().len(),
        FILE_SIZE_BYTES as u64
    );
}

/// Promise: the last chip that goes leaves nothing in the TPM and in the folder, wherever a power
/// cut interrupts it; no copy of the map counts then, and the next chip is known again.
#[test]
fn last_chip_leaves_nothing() {
    let mut commands = 0;
    loop {
        let host = Host::start();
        host.advance(ONE, OLD).unwrap();
        let file = host.file();
        let copy = fs::read(&file).unwrap();
        host.tpm.set_middleman(Some(cut_at(commands, true)));
        let done = host.map().forget(ONE).is_ok();
        host.tpm.set_middleman(None);
        match host.expected(ONE) {
            Ok(found) => assert_eq!(found, (!done).then_some(OLD)),
            Err(error) => assert_eq!((error, done), (GONE, false)),
        }
        if done {
            assert_eq!(fs::read_dir(host.folder.path()).unwrap().count(), 0);
            assert_eq!(host.indices(), 0);
            fs::write(&file, &copy).unwrap();
            assert_eq!(host.expected(ONE), Err(GONE));
        }
        if host.advance(OTHER, NEW).is_err() {
            host.map().start_over().unwrap();
            host.advance(OTHER, NEW).unwrap();
        }
        assert_eq!(host.expected(OTHER), Ok(Some(NEW)));
        assert_eq!(host.indices(), 2);
        if done {
            break;
        }
        commands += 1;
    }
    assert!(commands > 8, "{commands}");
}

/// What is there after a change from [`OLD`] to [`NEW`] was cut short: one of both, the new one if
/// it was acknowledged; the other chip's untouched; and the next change is made. Whether it is the
/// new.
fn check_cut(host: &Host, before: Option<[u8; 32]>, result: Result<(), Error>, at: &str) -> bool {
    let found = host
        .expected(ONE)
        .unwrap_or_else(|error| panic!("{at}: {error}"));
    assert!(found == before || found == Some(NEW), "{at}");
    assert!(result.is_err() || found == Some(NEW), "{at}");
    if before.is_some() {
        assert_eq!(host.expected(OTHER), Ok(Some(OLD)), "{at}");
    }
    host.advance(OTHER, NEW)
        .unwrap_or_else(|error| panic!("{at}: {error}"));
    assert_eq!(
        (host.expected(OTHER), host.expected(ONE)),
        (Ok(Some(NEW)), Ok(found)),
        "{at}"
    );
    assert_eq!(host.indices(), 2, "{at}");
    found == Some(NEW)
}

/// A host whose map knows both chips, with two slots written.
fn host_with_map() -> Host {
    let host = Host::start();
    host.advance(ONE, OLD).unwrap();
    host.advance(OTHER, OLD).unwrap();
    host
}

/// Promise: whenever the power is cut at the disk, the map says the old or the new, never neither.
#[test]
fn cut_at_each_change_of_the_disk() {
    for (before, host) in [
        (None, Host::start as fn() -> Host),
        (Some(OLD), host_with_map),
    ] {
        let (mut steps, mut new_seen) = (0, 0);
        loop {
            let host = host();
            let mut map = host.map();
            map.folder.leave_power(Some(steps));
            let result = map.advance(ONE, &NEW);
            drop(map);
            let done = result.is_ok();
            new_seen += u32::from(check_cut(&host, before, result, &format!("step {steps}")));
            if done {
                break;
            }
            steps += 1;
        }
        // A change: read; write, flush. A new map: clear, make, write, flush the file, flush the
        // folder; write, flush the slot; rename, flush; and the change without reading.
        assert_eq!(
            (steps, new_seen),
            if before.is_some() { (3, 1) } else { (11, 1) }
        );
    }
}

/// Promise: the same when the TPM is lost before or after any command. The change counts from the
/// counting on, and from nothing else.
#[test]
fn cut_at_each_command() {
    for (before, host) in [
        (None, Host::start as fn() -> Host),
        (Some(OLD), host_with_map),
    ] {
        for carried_out in [false, true] {
            let mut commands = 0;
            let counted = Arc::new(Mutex::new(false));
            loop {
                let host = host();
                let mut map = host.map();
                let (mut cut, counted) = (cut_at(commands, carried_out), counted.clone());
                *counted.lock().unwrap() = false;
                let seen = counted.clone();
                host.tpm
                    .set_middleman(Some(Box::new(move |command, carry_out| {
                        let mut carry_out = |command: &[u8]| {
                            *seen.lock().unwrap() |= code(command) == CC_NV_INCREMENT;
                            carry_out(command)
                        };
                        cut(command, &mut carry_out)
                    })));
                let result = map.advance(ONE, &NEW);
                drop(map);
                host.tpm.set_middleman(None);
                let at = format!("command {commands}, carried out: {carried_out}");
                let done = result.is_ok();
                let is_new = check_cut(&host, before, result, &at);
                if before.is_some() {
                    assert_eq!(is_new, *counted.lock().unwrap(), "{at}");
                }
                commands += 1;
                // The session's own end is not waited for.
                if done && is_new {
                    break;
                }
            }
            assert!(commands > 8, "{commands}");
        }
    }
}

/// Attack: the host's disk is put back to an older day, map and all. The counter is ahead: every
/// use of the map says so. Starting over lets new chips be known, and no old one.
#[test]
fn put_back_map_is_noticed() {
    let host = host_with_map();
    let days: Vec<Vec<u8>> = (0..4)
        .map(|day| {
            host.advance(ONE, [day; 32]).unwrap();
            fs::read(host.file()).unwrap()
        })
        .collect();
    let file = host.file();
    let put_back = |day: &[u8]| {
        fs::write(&file, day).unwrap();
        assert_eq!(host.expected(ONE), Err(STALE));
        assert_eq!(host.expected(3), Err(STALE));
        assert_eq!(host.advance(ONE, NEW), Err(STALE));
        assert_eq!(host.advance(3, NEW), Err(STALE));
        assert_eq!(host.map().forget(ONE), Ok(()));
        assert_eq!(fs::read(&file).unwrap(), day);
    };
    for day in &days[..3] {
        put_back(day);
    }
    fs::write(&file, &days[3]).unwrap();
    assert_eq!(host.expected(ONE), Ok(Some([3; 32])));

    // Removed altogether: nothing is known, which is no consent; and a new map is another.
    fs::remove_file(&file).unwrap();
    assert_eq!(host.expected(ONE), Ok(None));
    fs::write(&file, &days[3]).unwrap();

    fs::write(&file, &days[2]).unwrap();
    host.map().start_over().unwrap();
    assert_eq!(host.expected(ONE), Ok(None));
    host.advance(3, NEW).unwrap();
    assert_eq!((host.expected(3), host.indices()), (Ok(Some(NEW)), 2));
    for day in &days {
        fs::write(&file, day).unwrap();
        assert_eq!(host.expected(ONE), Err(GONE));
    }
}

/// Attack: the map is damaged or changed, at whichever place of what counts. It says nothing then,
/// and starting over works.
#[test]
fn changed_map_says_nothing() {
    let host = host_with_map();
    let right = fs::read(host.file()).unwrap();
    let number = host.map().current().unwrap().unwrap().slot;
    let slot = HEADER_SIZE_BYTES + number * SLOT_SIZE_BYTES;
    let other = HEADER_SIZE_BYTES + (1 - number) * SLOT_SIZE_BYTES;
    let fields = [
        0,
        8,
        10,
        12,
        16,
        24,
        32,
        63,
        64,
        104,
        MAC_OFFSET - 1,
        MAC_OFFSET,
    ];
    let header_fields = [
        0,
        8,
        10,
        12,
        16,
        48,
        80,
        CHECK_SUM_OFFSET,
        HEADER_SIZE_BYTES - 1,
    ];
    let places = (fields.iter().map(|offset| slot + offset)).chain(header_fields);
    for place in places {
        let mut wrong = right.clone();
        wrong[place] ^= 1;
        fs::write(host.file(), wrong).unwrap();
        let error = host.expected(ONE).unwrap_err();
        assert!(matches!(error, Error::PutBack(_)), "byte {place}: {error}");
    }
    // The other slot counts for nothing, whatever is in it.
    let mut spoilt = right.clone();
    spoilt[other..other + SLOT_SIZE_BYTES].fill(0xff);
    fs::write(host.file(), spoilt).unwrap();
    assert_eq!(host.expected(ONE), Ok(Some(OLD)));
    // Exchanged slots, another size, no file.
    let mut exchanged = right.clone();
    exchanged[HEADER_SIZE_BYTES..].rotate_left(SLOT_SIZE_BYTES);
    for wrong in [&exchanged[..], &right[1..], &[]] {
        fs::write(host.file(), wrong).unwrap();
        assert!(matches!(host.expected(ONE), Err(Error::PutBack(_))));
    }
    let file = host.file();
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert_eq!(host.expected(ONE), Err(DAMAGED));
    fs::remove_dir(&file).unwrap();
    fs::write(&file, &right[1..]).unwrap();
    host.map().start_over().unwrap();
    host.advance(ONE, NEW).unwrap();
    assert_eq!(host.expected(ONE), Ok(Some(NEW)));
}

/// Attack: who may write to the folder, but not speak to the TPM, writes a map for the counter's
/// value. Without the key in the TPM it is none; nor does a key of their own help.
#[test]
fn forged_map_is_none() {
    let host = host_with_map();
    let current = host.map().current().unwrap().unwrap();
    let forged = Slot {
        number: current.slot,
        count: current.count,
        map: [(ONE, NEW)].into(),
    };
    let guess = map_key(&[0; 32], &current.header).unwrap();
    let guess = hmac::Key::new(hmac::HMAC_SHA256, guess.expose());
    let slot = forged.encode(&current.header, &guess);
    current
        .file
        .write(slot_offset(forged.number), &slot)
        .unwrap();
    assert_eq!(host.expected(ONE), Err(STALE));
    // The control: with the key it is one.
    let slot = forged.encode(&current.header, &current.key);
    current
        .file
        .write(slot_offset(forged.number), &slot)
        .unwrap();
    assert_eq!(host.expected(ONE), Ok(Some(NEW)));
}

/// Promise: many vaults at once change one map; none waits for ever, no word is lost, and each
/// change is one count.
#[test]
fn many_vaults_share_a_map() {
    let host = host_with_map();
    let count = host.count();
    std::thread::scope(|scope| {
        for vault in 10..14 {
            let host = &host;
            scope.spawn(move || {
                let mut map = host.map();
                for round in 0..5 {
                    map.advance(vault, &[round; 32]).unwrap();
                    assert_eq!(map.expected(vault), Ok(Some([round; 32])));
                }
            });
        }
    });
    for vault in 10..14 {
        assert_eq!(host.expected(vault), Ok(Some([4; 32])));
    }
    assert_eq!((host.count(), host.indices()), (count + 20, 2));
}

/// Promise: two users of one TPM have maps of their own and do not disturb each other; what one of
/// them knows is nothing to the other.
#[test]
fn users_have_their_own_maps() {
    let host = host_with_map();
    let other = tempfile::tempdir().unwrap();
    let mut theirs = HostMap::new(connect(&host.tpm), File::open(other.path()).unwrap()).unwrap();
    assert_eq!(theirs.expected(ONE), Ok(None));
    for _ in 0..3 {
        theirs.advance(3, &NEW).unwrap();
    }
    assert_eq!(
        (host.expected(ONE), host.expected(3)),
        (Ok(Some(OLD)), Ok(None))
    );
    assert_eq!(host.indices(), 4);
    fs::copy(&files(other.path())[0], host.file()).unwrap();
    assert_eq!(host.expected(ONE), Ok(None));
}

/// Promise: with another TPM, or after it was cleared, nothing is known; a new map is begun beside
/// the old one, which counts again where its TPM does.
#[test]
fn other_tpm_has_another_map() {
    let mut host = host_with_map();
    let old = std::mem::replace(&mut host.tpm, EmulatedTpm::start());
    assert_eq!(host.expected(ONE), Ok(None));
    host.advance(ONE, NEW).unwrap();
    assert_eq!(files(host.folder.path()).len(), 2);
    let new = std::mem::replace(&mut host.tpm, old);
    assert_eq!(host.expected(ONE), Ok(Some(OLD)));

    // A vault that has seen a TPM takes no other for it.
    let mut map = host.map();
    map.expected(ONE).unwrap();
    map.tpm = connect(&new);
    assert_eq!(map.expected(ONE), Err(Error::Tpm(TpmError::OtherTpm)));

    let clear = with_password(CC_CLEAR, &[RH_LOCKOUT], b"", b"");
    assert_eq!(code(&host.tpm.carry_out(&clear)), 0);
    assert_eq!(host.expected(ONE), Ok(None));
}

/// Promise: a map without room refuses one chip more and keeps those it has.
#[test]
fn full_map_says_so() {
    let host = host_with_map();
    let mut current = host.map().current().unwrap().unwrap();
    for ecid in 0..ENTRIES_MAX as u64 - 2 {
        current.map.insert(ecid, OLD);
    }
    current.commit().unwrap();
    let full = Error::Storage("the host's map is full", Errno::NOSPC);
    assert_eq!(host.advance(u64::MAX, NEW), Err(full));
    assert_eq!(host.expected(u64::MAX), Ok(None));
    host.advance(ENTRIES_MAX as u64 - 3, NEW).unwrap();
    assert_eq!(host.expected(ENTRIES_MAX as u64 - 3), Ok(Some(NEW)));
    assert_eq!(host.expected(0), Ok(Some(OLD)));
}

/// Promise: a TPM without room for a map says so, and nothing half made is left.
#[test]
fn full_tpm_leaves_nothing() {
    let host = Host::start();
    let tpm = connect(&host.tpm);
    let mut session = tpm.session(None).unwrap();
    let auth = Auth::default();
    let mut handles = tpm::HANDLE_FIRST..;
    // TPMs keep room for a few counters apart: both kinds, until there is room for neither.
    for kind in [Kind::Data, Kind::Counter] {
        loop {
            let handle = handles.next().unwrap();
            match session.define(Definition { handle, kind }, &auth) {
                Ok(_) => {}
                Err(TpmError::Full) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    // Room for one of the two.
    let first = Definition {
        handle: tpm::HANDLE_FIRST,
        kind: Kind::Data,
    };
    let index = session.find(first, &auth).unwrap();
    session.undefine(index).unwrap();
    let made = host.indices();
    assert_eq!(host.advance(ONE, NEW), Err(Error::Tpm(TpmError::Full)));
    assert_eq!(host.indices(), made);
    // At most zeros, where the next one is prepared.
    assert!(files(host.folder.path()).is_empty());
    for entry in fs::read_dir(host.folder.path()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0));
    }
}

/// Promise: `docs/vault-store.md` and the constants of the map say the same.
#[test]
fn document_has_the_constants() {
    let document = include_str!("../../../../docs/vault-store.md");
    let section = document.split("\n## The host's map\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows: Vec<String> = section
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| offset"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            cells[1..4].join(", ")
        })
        .collect();
    let (header_end, entry) = (AUTH_OFFSET + AUTH_SIZE_BYTES, ENTRY_SIZE_BYTES);
    let expected = [
        format!("0, {}, magic", HEADER_MAGIC.len()),
        format!("{VERSION_OFFSET}, {}, version", size_of_val(&VERSION)),
        format!("10, {}, zero", HANDLE_OFFSET - 10),
        format!("{HANDLE_OFFSET}, 4, handle"),
        format!("{KEY_NAME_OFFSET}, {KEY_NAME_SIZE_BYTES}, TPM's name"),
        format!("{AUTH_OFFSET}, {AUTH_SIZE_BYTES}, authorisation"),
        format!("{header_end}, {}, zero", CHECK_SUM_OFFSET - header_end),
        format!("{CHECK_SUM_OFFSET}, {CHECK_SUM_SIZE_BYTES}, check sum"),
        format!("0, {}, magic", SLOT_MAGIC.len()),
        format!("{VERSION_OFFSET}, {}, version", size_of_val(&VERSION)),
        format!("{ENTRY_COUNT_OFFSET}, 2, entries n"),
        format!("{SLOT_NUMBER_OFFSET}, 4, slot"),
        format!("{COUNT_OFFSET}, 8, count"),
        format!("{ENTRIES_OFFSET}, {entry} n, entries"),
        format!(
            "{ENTRIES_OFFSET} + {entry} n, {} - {entry} n, zero",
            MAC_OFFSET - ENTRIES_OFFSET
        ),
        format!("{MAC_OFFSET}, {MAC_SIZE_BYTES}, MAC"),
    ];
    assert_eq!(rows, expected);
    for text in [
        format!("`{}` and two zero bytes", HEADER_MAGIC[..6].escape_ascii()),
        format!("`{}` and a zero byte", SLOT_MAGIC[..7].escape_ascii()),
        format!("`{FILE_NAME_PREFIX}` and the first eight bytes"),
        format!("always {FILE_SIZE_BYTES} bytes: a header of {HEADER_SIZE_BYTES} bytes"),
        format!("{SLOT_COUNT} slots of {SLOT_SIZE_BYTES} bytes"),
        format!("0 to {ENTRIES_MAX} "),
        format!("`{}`", DERIVATION_LABEL.escape_ascii()),
        format!("| version | {VERSION} |"),
    ] {
        assert!(section.contains(&text), "{text}");
    }
}
