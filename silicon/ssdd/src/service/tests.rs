//! The whole of it over its links: a firmware, a vault that remembers, two module files.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, socketpair,
};
use wire::vault::SsdRequest;
use wire::{Map, request};

use super::*;

const CAPACITY: u64 = 64 << 20;

/// The other ends of an SSD's links.
struct Firmware {
    link: OwnedFd,
    folder: tempfile::TempDir,
    service: JoinHandle<Result<(), String>>,
}

fn pair() -> (OwnedFd, OwnedFd) {
    let kind = SocketType::SEQPACKET;
    socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap()
}

/// Answers as the vault does: the key once, the newest anchor, or until there is one that an
/// adoption is allowed.
fn vault(link: OwnedFd, allows_adoption: bool) {
    let link = Link::new(link).unwrap();
    let (mut key, mut anchor) = (Some([7; 32]), None::<Vec<u8>>);
    while let Ok(Some(packet)) = link.receive() {
        let reply = match SsdRequest::parse(&packet.bytes).unwrap() {
            SsdRequest::VolumeKey => match key.take() {
                Some(key) => success(&[("key", Value::Bytes(&key))]),
                None => wire::refused("spent", "", &[]),
            },
            SsdRequest::ReadAnchor => match &anchor {
                Some(anchor) => success(&[("anchor", Value::Bytes(anchor))]),
                None if allows_adoption => success(&[("adopt", Value::Bool(true))]),
                None => success(&[]),
            },
            SsdRequest::WriteAnchor { anchor: newest, .. } => {
                anchor = Some(newest);
                success(&[])
            }
        };
        link.send(&reply).unwrap();
    }
}

impl Firmware {
    fn new() -> Firmware {
        Firmware::of(tempfile::tempdir().unwrap(), false)
    }

    /// Another chip with the same volume key, on what there is in the folder.
    fn of(folder: tempfile::TempDir, allows_adoption: bool) -> Firmware {
        let (vault_link, vault_end) = pair();
        std::thread::spawn(move || vault(vault_end, allows_adoption));
        Firmware::with_vault(folder, vault_link)
    }

    fn with_vault(folder: tempfile::TempDir, vault_link: OwnedFd) -> Firmware {
        let module = |name: &str| -> OwnedFd {
            let path = folder.path().join(name);
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            options.open(path).unwrap().into()
        };
        let modules = [module("0"), module("1")];
        let (link, end) = pair();
        let service = std::thread::spawn(move || {
            let vault = VaultLink::new(Link::new(vault_link).unwrap());
            let termination = Termination::catch().unwrap();
            Service::new(modules, vault).run(&Link::new(end).unwrap(), &termination)
        });
        Firmware {
            link,
            folder,
            service,
        }
    }

    fn ask(&self, op: &str, fields: &[(&str, Value<'_>)]) -> Answer {
        self.send(&request(op, fields), None);
        self.answer()
    }

    fn send(&self, packet: &[u8], descriptor: Option<BorrowedFd<'_>>) {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.as_slice();
        if !descriptors.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        let bytes = [std::io::IoSlice::new(packet)];
        rustix::net::sendmsg(&self.link, &bytes, &mut ancillary, SendFlags::empty()).unwrap();
    }

    fn answer(&self) -> Answer {
        let mut bytes = [0; wire::PACKET_SIZE_BYTES_MAX];
        let size = rustix::io::read(&self.link, &mut bytes).unwrap();
        Answer(bytes[..size].to_vec())
    }

    fn format(&self) {
        let size = [("capacity_bytes", Value::Uint(CAPACITY))];
        self.ask("format", &size).expect_ok();
    }

    fn open(&self) -> Answer {
        self.open_as(false)
    }

    fn open_as(&self, adopt: bool) -> Answer {
        let fields = [
            ("strict", Value::Bool(false)),
            ("adopt", Value::Bool(adopt)),
        ];
        self.ask("open", &fields)
    }

    fn serve(&self, front: &str, descriptor: Option<BorrowedFd<'_>>) -> Answer {
        self.send(
            &request("serve", &[("front", Value::Text(front))]),
            descriptor,
        );
        self.answer()
    }

    fn listener(&self) -> UnixListener {
        let path = self.folder.path().join("socket");
        let _ = std::fs::remove_file(&path);
        UnixListener::bind(path).unwrap()
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.folder.path().join("socket")).unwrap()
    }

    /// Closes the link; how the SSD ended.
    fn end(self) -> (Result<(), String>, tempfile::TempDir) {
        drop(self.link);
        (self.service.join().unwrap(), self.folder)
    }
}

struct Answer(Vec<u8>);

impl Answer {
    fn map(&self) -> Map<'_> {
        Map::parse(&self.0).unwrap()
    }

    fn expect_ok(&self) -> Map<'_> {
        let mut map = self.map();
        assert_eq!(map.bool("ok"), Ok(true), "{}", self.refusal());
        map
    }

    fn refusal(&self) -> String {
        let mut map = self.map();
        map.text("error").unwrap_or_default().to_owned()
    }
}

/// Promise: a disk is made, opened, served, verified, closed and opened again, and says how it is.
#[test]
fn a_disk_lives() {
    let firmware = Firmware::new();
    firmware.format();
    let opened = firmware.open();
    let mut reply = opened.expect_ok();
    assert_eq!(reply.uint("capacity_bytes"), Ok(CAPACITY));
    assert_eq!(reply.bool("recovered"), Ok(false));
    assert_eq!(
        firmware.ask("status", &[]).expect_ok().text("state"),
        Ok("open")
    );
    let listener = firmware.listener();
    firmware.serve("nbd", Some(listener.as_fd())).expect_ok();
    let status = firmware.ask("status", &[]);
    let mut reply = status.expect_ok();
    assert_eq!(reply.text("state"), Ok("served"));
    assert_eq!(reply.text("front"), Ok("nbd"));
    for name in ["opens", "stopped", "used_bytes"] {
        let expected = u64::from(name == "opens");
        assert_eq!(reply.uint(name), Ok(expected), "{name}");
    }
    firmware.connect().read_exact(&mut [0; 18]).unwrap();
    let fields = [("block", Value::Uint(0)), ("count", Value::Uint(u64::MAX))];
    let verified = firmware.ask("verify", &fields);
    let mut reply = verified.expect_ok();
    assert_eq!(
        reply.uint("next"),
        Ok(VERIFY_BLOCKS_MAX.min(CAPACITY / 4096))
    );
    assert_eq!(reply.uints("bad"), Ok(vec![]));
    firmware.ask("close", &[]).expect_ok();
    assert_eq!(
        firmware.ask("status", &[]).expect_ok().text("state"),
        Ok("closed")
    );
    // The vault gives the key once; the second opening has it.
    assert_eq!(firmware.open().expect_ok().bool("recovered"), Ok(false));
    assert_eq!(firmware.end().0, Ok(()));
}

/// Promise: an operation at the wrong time, or with the wrong descriptor, is refused and changes
/// nothing.
#[test]
fn what_does_not_fit_is_refused() {
    let firmware = Firmware::new();
    assert_eq!(firmware.open().refusal(), "unformatted");
    for op in ["close", "verify"] {
        let fields = [("block", Value::Uint(0)), ("count", Value::Uint(1))];
        let fields = if op == "verify" { &fields[..] } else { &[] };
        assert_eq!(firmware.ask(op, fields).refusal(), "state", "{op}");
    }
    let listener = firmware.listener();
    let served = firmware.serve("nbd", Some(listener.as_fd()));
    assert_eq!(served.refusal(), "state");
    firmware.format();
    firmware.open().expect_ok();
    let size = [("capacity_bytes", Value::Uint(CAPACITY))];
    assert_eq!(firmware.ask("format", &size).refusal(), "state");
    assert_eq!(firmware.open().refusal(), "state");
    let (stream, _other) = UnixStream::pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    for descriptor in [None, Some(stream.as_fd()), Some(null.as_fd())] {
        assert_eq!(firmware.serve("nbd", descriptor).refusal(), "descriptor");
    }
    firmware.send(&request("status", &[]), Some(null.as_fd()));
    assert_eq!(firmware.answer().refusal(), "descriptor");
    firmware
        .serve("vhost-user-blk", Some(listener.as_fd()))
        .expect_ok();
    let again = firmware.serve("nbd", Some(listener.as_fd()));
    assert_eq!(again.refusal(), "state");
    assert_eq!(firmware.ask("erase", &[]).refusal(), "unknown_op");
    firmware.send(b"no cbor", None);
    assert_eq!(firmware.answer().refusal(), "malformed");
    firmware.send(&[0; wire::PACKET_SIZE_BYTES_MAX + 1], None);
    assert_eq!(firmware.answer().refusal(), "malformed");
    assert_eq!(firmware.end().0, Ok(()));
}

/// Promise: the end of the link closes an open disk cleanly, also one that is served to somebody.
#[test]
fn the_end_of_the_link_is_clean() {
    let firmware = Firmware::new();
    firmware.format();
    firmware.open().expect_ok();
    let listener = firmware.listener();
    firmware.serve("nbd", Some(listener.as_fd())).expect_ok();
    let mut client = firmware.connect();
    client.read_exact(&mut [0; 18]).unwrap();
    let (ended, _folder) = firmware.end();
    assert_eq!(ended, Ok(()));
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

/// Promise: a module that does not belong is named by its number.
#[test]
fn modules_are_named() {
    let firmware = Firmware::new();
    firmware.format();
    let folder = firmware.folder.path();
    let (zero, one) = (folder.join("0"), folder.join("1"));
    for (emptied, expected) in [(vec![&one], 1), (vec![&zero, &one], 2)] {
        let kept: HashMap<_, _> = [&zero, &one]
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .into();
        for path in emptied {
            File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(0)
                .unwrap();
        }
        let refused = firmware.open();
        assert_eq!(refused.refusal(), "missing");
        assert_eq!(refused.map().uint("module"), Ok(expected));
        for (path, bytes) in kept {
            std::fs::write(path, bytes).unwrap();
        }
    }
    firmware.open().expect_ok();
}

/// Promise: an adoption needs the vault's word; it is another's disk from then on, and the chip
/// before is told so.
#[test]
fn adoption_needs_the_vaults_word() {
    let first = Firmware::new();
    first.format();
    assert_eq!(first.open_as(true).refusal(), "unauthorised");
    first.open().expect_ok();
    first.ask("close", &[]).expect_ok();
    let zero = first.folder.path().join("0");
    let before = std::fs::read(&zero).unwrap();

    // The same files, for the first one goes on.
    let copy = tempfile::tempdir().unwrap();
    for name in ["0", "1"] {
        std::fs::hard_link(first.folder.path().join(name), copy.path().join(name)).unwrap();
    }
    let second = Firmware::of(copy, true);
    assert_eq!(second.open().refusal(), "unformatted");
    assert_eq!(std::fs::read(&zero).unwrap(), before);
    let adopted = second.open_as(true);
    let mut reply = adopted.expect_ok();
    assert_eq!(reply.uint("capacity_bytes"), Ok(CAPACITY));
    assert_eq!(reply.bool("recovered"), Ok(false));
    assert_eq!(reply.bool("incomplete"), Ok(false));
    second.ask("close", &[]).expect_ok();
    second.open().expect_ok();
    second.ask("close", &[]).expect_ok();

    let refused = first.open();
    assert_eq!(refused.refusal(), "adopted");
    assert_eq!(refused.map().uint("module"), Ok(2));
    assert_eq!(first.end().0, Ok(()));
    assert_eq!(second.end().0, Ok(()));
}

/// Promise: without a vault nothing is opened, and the SSD says why.
#[test]
fn a_vault_that_is_gone_is_named() {
    let (vault_link, vault_end) = pair();
    drop(vault_end);
    let firmware = Firmware::with_vault(tempfile::tempdir().unwrap(), vault_link);
    assert_eq!(firmware.open().refusal(), "vault");
    assert_eq!(firmware.end().0, Ok(()));
}
