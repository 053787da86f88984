//! A client that sends what it is told to, right or wrong.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::device::ram::Ram;
use crate::nbd::Front;
use crate::nbd::protocol::*;

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A front end over a disk in memory.
pub struct Server {
    pub ram: Arc<Ram>,
    pub front: Option<Front>,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Server {
    pub fn new(capacity: usize) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let ram = Arc::new(Ram::new(capacity));
        let front = Front::start(ram.clone(), listener.into()).unwrap();
        Server {
            ram,
            front: Some(front),
            path,
            _folder: folder,
        }
    }

    /// A connection on which nothing was said.
    pub fn connect(&self) -> Client {
        let socket = UnixStream::connect(&self.path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { socket }
    }

    /// A connection that has greeted and is greeted.
    pub fn greeted(&self) -> Client {
        let mut client = self.connect();
        let greeting = client.take(18);
        assert_eq!(greeting[..8], NBD_MAGIC.to_be_bytes());
        assert_eq!(greeting[8..16], OPTION_MAGIC.to_be_bytes());
        assert_eq!(greeting[16..], [0, 3]);
        client.send(&3u32.to_be_bytes());
        client
    }

    /// A connection ready for requests.
    pub fn ready(&self, structured: bool) -> Client {
        let mut client = self.greeted();
        if structured {
            assert_eq!(
                client.option(OPT_STRUCTURED_REPLY, &[]),
                [(REP_ACK, vec![])]
            );
            let query = meta_data(b"", &[b"base:allocation"]);
            let replies = client.option(OPT_SET_META_CONTEXT, &query);
            assert_eq!(replies.last(), Some(&(REP_ACK, vec![])));
        }
        let replies = client.option(OPT_GO, &go_data(b""));
        assert_eq!(replies.last(), Some(&(REP_ACK, vec![])));
        client
    }
}

pub struct Client {
    pub socket: UnixStream,
}

impl Client {
    pub fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    pub fn take(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.socket.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Whether the server has hung up, with nothing more to say.
    pub fn is_over(&mut self) -> bool {
        match self.socket.read(&mut [0]) {
            Ok(0) => true,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
            Ok(_) => false,
        }
    }

    /// Sends an option; all replies up to the one that ends it.
    pub fn option(&mut self, option: u32, data: &[u8]) -> Vec<(u32, Vec<u8>)> {
        self.send(&option_bytes(option, data));
        let mut replies = Vec::new();
        loop {
            let header = self.take(20);
            assert_eq!(header[..8], OPTION_REPLY_MAGIC.to_be_bytes());
            assert_eq!(header[8..12], option.to_be_bytes());
            let kind = u32::from_be_bytes(header[12..16].try_into().unwrap());
            let length = u32::from_be_bytes(header[16..].try_into().unwrap());
            replies.push((kind, self.take(length as usize)));
            if kind == REP_ACK || kind >= 1 << 31 {
                return replies;
            }
        }
    }

    /// Sends one request and takes its simple reply.
    pub fn simple(&mut self, flags: u16, command: u16, offset: u64, length: u32) -> u32 {
        self.send(&request(flags, command, 7, offset, length));
        self.simple_reply(7)
    }

    pub fn write(&mut self, flags: u16, offset: u64, data: &[u8]) -> u32 {
        let length = data.len() as u32;
        self.send(&request(flags, CMD_WRITE, 8, offset, length));
        self.send(data);
        self.simple_reply(8)
    }

    pub fn simple_reply(&mut self, cookie: u64) -> u32 {
        let reply = self.take(SIMPLE_REPLY_BYTES);
        assert_eq!(reply[..4], SIMPLE_REPLY_MAGIC.to_be_bytes());
        assert_eq!(reply[8..], cookie.to_be_bytes());
        u32::from_be_bytes(reply[4..8].try_into().unwrap())
    }

    /// One chunk: flags, kind, cookie and payload.
    pub fn chunk(&mut self) -> (u16, u16, u64, Vec<u8>) {
        let header = self.take(CHUNK_HEADER_BYTES);
        let mut fields = Fields(&header);
        assert_eq!(fields.u32(), Some(STRUCTURED_REPLY_MAGIC));
        let (flags, kind) = (fields.u16().unwrap(), fields.u16().unwrap());
        let cookie = fields.u64().unwrap();
        let length = fields.u32().unwrap() as usize;
        (flags, kind, cookie, self.take(length))
    }

    /// Reads with structured replies: the data, or the error.
    pub fn read(&mut self, flags: u16, offset: u64, length: u32) -> Result<Vec<u8>, u32> {
        self.send(&request(flags, CMD_READ, 9, offset, length));
        let mut data = vec![0; length as usize];
        let mut covered = 0;
        loop {
            let (flags, kind, cookie, payload) = self.chunk();
            assert_eq!(cookie, 9);
            match kind {
                CHUNK_OFFSET_DATA => {
                    let at = u64::from_be_bytes(payload[..8].try_into().unwrap()) - offset;
                    let piece = &payload[8..];
                    data[at as usize..][..piece.len()].copy_from_slice(piece);
                    covered += piece.len();
                }
                CHUNK_NONE => assert_eq!(flags, CHUNK_FLAG_DONE),
                CHUNK_ERROR => {
                    assert_eq!(flags, CHUNK_FLAG_DONE);
                    return Err(u32::from_be_bytes(payload[..4].try_into().unwrap()));
                }
                _ => panic!("chunk of kind {kind}"),
            }
            if flags & CHUNK_FLAG_DONE != 0 {
                assert_eq!(covered, data.len());
                return Ok(data);
            }
        }
    }
}

pub fn option_bytes(option: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = OPTION_MAGIC.to_be_bytes().to_vec();
    bytes.extend(option.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    bytes
}

pub fn go_data(name: &[u8]) -> Vec<u8> {
    let mut data = string(name);
    data.extend([0, 1, 0, 3]);
    data
}

pub fn meta_data(name: &[u8], queries: &[&[u8]]) -> Vec<u8> {
    let mut data = string(name);
    data.extend((queries.len() as u32).to_be_bytes());
    data.extend(queries.iter().flat_map(|query| string(query)));
    data
}

pub fn request(flags: u16, command: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = REQUEST_MAGIC.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(command.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

fn string(text: &[u8]) -> Vec<u8> {
    let mut bytes = (text.len() as u32).to_be_bytes().to_vec();
    bytes.extend(text);
    bytes
}

/// Bytes that differ everywhere.
pub fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes = vec![0; length];
    for piece in bytes.chunks_mut(8) {
        let number = random.next().to_ne_bytes();
        piece.copy_from_slice(&number[..piece.len()]);
    }
    bytes
}

/// Numbers that follow from their seed (xorshift64*).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 |= 1;
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}
