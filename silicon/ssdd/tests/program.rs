//! The program itself, confined as it is, from its start to its clean end.

use std::fs::File;
use std::io::{IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command};

use rustix::io::FdFlags;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};
use wire::vault::SsdRequest;
use wire::{Link, Map, PACKET_SIZE_BYTES_MAX, Value, request, success};

const CAPACITY: u64 = 64 << 20;
/// Clients at the same time, and how often they all come: each has a thread and memory of its own
/// in the program, which its allocator shares out and gives back in its own ways.
const CLIENTS: u64 = 8;
const ROUNDS: u64 = 10;
const WRITE_BYTES: usize = 600 * 1024;

struct Ssd {
    child: Child,
    link: OwnedFd,
    folder: tempfile::TempDir,
}

/// Both ends; the first one is inherited by programs.
fn pair() -> (OwnedFd, OwnedFd) {
    let kind = SocketType::SEQPACKET;
    let (theirs, ours) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    rustix::io::fcntl_setfd(&theirs, FdFlags::empty()).unwrap();
    (theirs, ours)
}

fn vault(link: OwnedFd) {
    let link = Link::new(link).unwrap();
    let mut anchor: Option<Vec<u8>> = None;
    while let Ok(Some(packet)) = link.receive() {
        let reply = match SsdRequest::parse(&packet.bytes).unwrap() {
            SsdRequest::VolumeKey => success(&[("key", Value::Bytes(&[7; 32]))]),
            SsdRequest::ReadAnchor => match &anchor {
                Some(anchor) => success(&[("anchor", Value::Bytes(anchor))]),
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

impl Ssd {
    /// Started, formatted, open, and served to NBD clients.
    fn serving() -> Ssd {
        let folder = tempfile::tempdir().unwrap();
        let modules = ["0", "1"].map(|name| {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            let module = options.open(folder.path().join(name)).unwrap();
            rustix::io::fcntl_setfd(&module, FdFlags::empty()).unwrap();
            module
        });
        let (link_end, link) = pair();
        let (vault_end, vault_link) = pair();
        let numbers = [
            ("--link-fd", link_end.as_raw_fd()),
            ("--vault-fd", vault_end.as_raw_fd()),
            ("--module-fd", modules[0].as_raw_fd()),
            ("--module-fd", modules[1].as_raw_fd()),
        ];
        let arguments = numbers.map(|(option, number)| [option.to_owned(), number.to_string()]);
        let child = Command::new(env!("CARGO_BIN_EXE_ssdd"))
            .args(arguments.as_flattened())
            .spawn()
            .unwrap();
        std::thread::spawn(move || vault(vault_link));
        let ssd = Ssd {
            child,
            link,
            folder,
        };
        ssd.ask("format", &[("capacity_bytes", Value::Uint(CAPACITY))], None);
        ssd.open(false);
        let listener = UnixListener::bind(ssd.folder.path().join("socket")).unwrap();
        let front = [("front", Value::Text("nbd"))];
        ssd.ask("serve", &front, Some(listener.as_fd()));
        ssd
    }

    fn open(&self, strict: bool) {
        let fields = [
            ("strict", Value::Bool(strict)),
            ("adopt", Value::Bool(false)),
        ];
        self.ask("open", &fields, None);
    }

    /// Asks for something that has to succeed.
    fn ask(&self, op: &str, fields: &[(&str, Value<'_>)], descriptor: Option<BorrowedFd<'_>>) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.as_slice();
        if !descriptors.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        let packet = request(op, fields);
        let bytes = [IoSlice::new(&packet)];
        sendmsg(&self.link, &bytes, &mut ancillary, SendFlags::empty()).unwrap();
        let mut reply = [0; PACKET_SIZE_BYTES_MAX];
        let size = rustix::io::read(&self.link, &mut reply).unwrap();
        assert_ne!(size, 0, "{op}: the program has ended");
        let mut map = Map::parse(&reply[..size]).unwrap();
        assert_eq!(map.bool("ok"), Ok(true), "{op}");
    }

    /// A client that writes, flushes and reads again.
    fn use_it(&self, number: u64) {
        let mut client = UnixStream::connect(self.folder.path().join("socket")).unwrap();
        let offset = number * (1 << 20);
        let data = vec![number as u8 + 1; WRITE_BYTES];
        client.read_exact(&mut [0; 18]).unwrap();
        // No zeroes, and the export of no name.
        client.write_all(&[0, 0, 0, 3]).unwrap();
        client.write_all(b"IHAVEOPT\0\0\0\x01\0\0\0\0").unwrap();
        client.read_exact(&mut [0; 10]).unwrap();
        for (command, payload) in [(1, &data[..]), (3, &[]), (0, &[])] {
            let mut request = vec![0x25, 0x60, 0x95, 0x13, 0, 0, 0, command];
            request.extend(number.to_be_bytes());
            let (offset, length) = if command == 3 {
                (0, 0)
            } else {
                (offset, WRITE_BYTES)
            };
            request.extend(offset.to_be_bytes());
            request.extend((length as u32).to_be_bytes());
            request.extend(payload);
            client.write_all(&request).unwrap();
            let mut reply = [0; 16];
            client.read_exact(&mut reply).unwrap();
            assert_eq!(reply[..8], [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0]);
        }
        let mut read = vec![0; WRITE_BYTES];
        client.read_exact(&mut read).unwrap();
        assert!(read == data);
    }
}

/// Promise: no system call that the program needs is forbidden to it, however many clients come
/// and go; the end of its link ends it cleanly.
#[test]
fn clients_come_and_go() {
    let mut ssd = Ssd::serving();
    for _ in 0..ROUNDS {
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let ssd = &ssd;
                scope.spawn(move || ssd.use_it(client));
            }
        });
    }
    ssd.ask("status", &[], None);
    let fields = [("block", Value::Uint(0)), ("count", Value::Uint(1 << 20))];
    ssd.ask("verify", &fields, None);
    ssd.ask("close", &[], None);
    ssd.open(true);
    drop(ssd.link);
    assert_eq!(ssd.child.wait().unwrap().code(), Some(0));
}

/// Promise: SIGTERM closes the disk before it ends the program.
#[test]
fn sigterm_ends_it_cleanly() {
    let mut ssd = Ssd::serving();
    ssd.use_it(1);
    let child = rustix::process::Pid::from_child(&ssd.child);
    rustix::process::kill_process(child, rustix::process::Signal::TERM).unwrap();
    assert_eq!(ssd.child.wait().unwrap().code(), Some(0));
}
