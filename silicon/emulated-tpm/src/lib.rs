//! An emulated TPM for tests: swtpm, and somebody who sits on its bus.
//!
//! Any number of connections lead to it, as through the kernel's `/dev/tpmrm0`: one command is
//! carried out after the other, and what a connection has loaded is freed when it ends.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const START_SECONDS_MAX: u64 = 20;
const PAUSE: Duration = Duration::from_millis(2);
const HEADER_SIZE_BYTES: usize = 10;
const CC_CREATE_PRIMARY: u32 = 0x131;
const CC_FLUSH_CONTEXT: u32 = 0x165;
const CC_START_AUTH_SESSION: u32 = 0x176;

/// Has a command carried out by the TPM.
pub type CarryOut<'a> = dyn FnMut(&[u8]) -> Vec<u8> + 'a;
/// What whoever sits on the bus makes of a command: an answer, or `None` to cut the connection.
pub type Middleman = dyn FnMut(&[u8], &mut CarryOut<'_>) -> Option<Vec<u8>> + Send;

/// An emulated TPM that is on.
pub struct EmulatedTpm {
    folder: TempDir,
    process: Child,
    bus: Arc<Mutex<Bus>>,
}

struct Bus {
    tpm: UnixStream,
    middleman: Option<Box<Middleman>>,
    /// Every command and answer, as they passed.
    traffic: Vec<Vec<u8>>,
}

impl EmulatedTpm {
    /// A new TPM.
    ///
    /// # Panics
    /// Here and elsewhere: when swtpm is missing or does not do what it should.
    pub fn start() -> EmulatedTpm {
        let folder = tempfile::tempdir().unwrap();
        let (process, tpm) = start(&folder);
        let bus = Bus {
            tpm,
            middleman: None,
            traffic: Vec::new(),
        };
        let bus = Arc::new(Mutex::new(bus));
        EmulatedTpm {
            folder,
            process,
            bus,
        }
    }

    /// A new connection to the TPM.
    pub fn connect(&self) -> OwnedFd {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let bus = self.bus.clone();
        std::thread::spawn(move || serve(theirs, &bus));
        ours.into()
    }

    /// Puts somebody on the bus, or takes them away.
    pub fn set_middleman(&self, middleman: Option<Box<Middleman>>) {
        self.bus().middleman = middleman;
    }

    /// What has passed since the last call.
    pub fn traffic(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.bus().traffic)
    }

    /// Has a command carried out for the test itself.
    pub fn carry_out(&self, command: &[u8]) -> Vec<u8> {
        exchange(&mut self.bus().tpm, command)
    }

    /// Cuts the TPM's power, without a word to it, and gives it back. Connections stay.
    pub fn cut_power(&mut self) {
        let bus = self.bus.clone();
        let mut bus = bus.lock().unwrap();
        self.stop();
        (self.process, bus.tpm) = start(&self.folder);
    }

    fn bus(&self) -> MutexGuard<'_, Bus> {
        self.bus.lock().unwrap()
    }

    fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Cuts the connection before or after it has carried out so many commands.
pub fn cut_at(commands: usize, carried_out: bool) -> Box<Middleman> {
    let mut left = commands;
    Box::new(move |command: &[u8], carry_out: &mut CarryOut<'_>| {
        if left == 0 {
            if carried_out {
                carry_out(command);
            }
            return None;
        }
        left -= 1;
        Some(carry_out(command))
    })
}

impl Drop for EmulatedTpm {
    fn drop(&mut self) {
        self.stop();
    }
}

fn start(folder: &TempDir) -> (Child, UnixStream) {
    let socket = folder.path().join("socket");
    let _ = std::fs::remove_file(&socket);
    let process = Command::new("swtpm")
        .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
        .args(["--tpmstate", &format!("dir={}", folder.path().display())])
        .args([
            "--server",
            &format!("type=unixio,path={}", socket.display()),
        ])
        .stderr(Stdio::null())
        .spawn()
        .expect("this test needs the program swtpm: ./test installs it (package swtpm)");
    let begin = Instant::now();
    loop {
        match UnixStream::connect(&socket) {
            Ok(tpm) => return (process, tpm),
            Err(error) => {
                let seconds = begin.elapsed().as_secs();
                assert!(seconds < START_SECONDS_MAX, "swtpm does not start: {error}");
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// Serves one connection to its end.
fn serve(mut client: UnixStream, bus: &Mutex<Bus>) {
    let mut loaded = BTreeSet::new();
    while let Some(command) = receive(&mut client) {
        let Ok(mut bus) = bus.lock() else { return };
        let Bus {
            tpm,
            middleman,
            traffic,
        } = &mut *bus;
        let mut carry_out = |command: &[u8]| {
            let answer = exchange(tpm, command);
            traffic.extend([command.to_vec(), answer.clone()]);
            remember(&mut loaded, command, &answer);
            answer
        };
        let answer = match middleman {
            Some(middleman) => middleman(&command, &mut carry_out),
            None => Some(carry_out(&command)),
        };
        match answer {
            Some(answer) if client.write_all(&answer).is_ok() => {}
            _ => break,
        }
    }
    let Ok(mut bus) = bus.lock() else { return };
    for handle in loaded {
        exchange(&mut bus.tpm, &plain(CC_FLUSH_CONTEXT, &number(handle)));
    }
}

/// Keeps which objects and sessions are loaded.
fn remember(loaded: &mut BTreeSet<u32>, command: &[u8], answer: &[u8]) {
    let word = |bytes: &[u8], offset: usize| {
        u32::from_be_bytes(bytes[offset..offset + 4].try_into().unwrap())
    };
    if word(answer, 6) != 0 {
        return;
    }
    match word(command, 6) {
        CC_CREATE_PRIMARY | CC_START_AUTH_SESSION => {
            loaded.insert(word(answer, HEADER_SIZE_BYTES));
        }
        CC_FLUSH_CONTEXT => {
            loaded.remove(&word(command, HEADER_SIZE_BYTES));
        }
        _ => {}
    }
}

fn exchange(tpm: &mut UnixStream, command: &[u8]) -> Vec<u8> {
    tpm.write_all(command).expect("swtpm takes a command");
    receive(tpm).expect("swtpm answers")
}

/// One whole command or answer; `None` at the connection's end.
fn receive(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; HEADER_SIZE_BYTES];
    stream.read_exact(&mut bytes).ok()?;
    let size = u32::from_be_bytes(bytes[2..6].try_into().unwrap()) as usize;
    bytes.resize(size, 0);
    stream.read_exact(&mut bytes[HEADER_SIZE_BYTES..]).ok()?;
    Some(bytes)
}

/// A command without authorisations.
pub fn plain(code: u32, body: &[u8]) -> Vec<u8> {
    raw(0x8001, code, body)
}

/// A command with one or more handles, authorised by a password.
pub fn with_password(code: u32, handles: &[u32], password: &[u8], parameters: &[u8]) -> Vec<u8> {
    let session = [&number(0x4000_0009)[..], &[0; 2], &[0], &sized(password)].concat();
    let handles: Vec<u8> = handles.iter().copied().flat_map(number).collect();
    let size = number(session.len() as u32);
    raw(
        0x8002,
        code,
        &[&handles, &size[..], &session, parameters].concat(),
    )
}

/// Bytes behind their size.
pub fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// The code of a command or an answer.
pub fn code(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[6..10].try_into().unwrap())
}

fn raw(tag: u16, code: u32, body: &[u8]) -> Vec<u8> {
    let size = number((HEADER_SIZE_BYTES + body.len()) as u32);
    [&tag.to_be_bytes()[..], &size, &number(code), body].concat()
}

fn number(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}
