//! Requests in, replies out, one at a time.
//!
//! Invariants: before birth or opening nothing else is answered; a broken request changes
//! nothing and the vault goes on; the disk key goes into a pipe and nowhere else.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::io::Errno;
use vault::{Error, KeyFile, StateFolder, Vault};
use wire::{
    Code, Link, Packet, ReceiveError, Refusal, Request, RequestError, Value, refused, success,
};

/// Answers requests until the firmware closes the link.
///
/// # Errors
/// When the link itself fails.
pub fn serve(link: &Link, folder: &StateFolder) -> Result<(), Errno> {
    let mut service = Service {
        folder,
        vault: None,
    };
    loop {
        let reply = match link.receive() {
            Ok(Some(packet)) => service.answer(packet).unwrap_or_else(refused),
            Ok(None) => return Ok(()),
            Err(ReceiveError::TooMuch) => refused(TOO_MUCH),
            Err(ReceiveError::Link(errno)) => return Err(errno),
        };
        match link.send(&reply) {
            Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
            result => result?,
        }
    }
}

struct Service<'a> {
    folder: &'a StateFolder,
    vault: Option<Vault>,
}

impl Service<'_> {
    fn answer(&mut self, packet: Packet) -> Result<Vec<u8>, Refusal> {
        let request = Request::parse(&packet.bytes).map_err(|error| match error {
            RequestError::Malformed => refusal(Code::Malformed, "the packet is no request"),
            RequestError::UnknownOperation => refusal(Code::UnknownOperation, "no such operation"),
        })?;
        if packet.descriptor.is_some() && request != Request::ReleaseDiskKey {
            return Err(refusal(
                Code::Descriptor,
                "this operation takes no descriptor",
            ));
        }
        match request {
            Request::Birth => self.birth(),
            Request::Open => self.open(),
            Request::Identity => self.identity(),
            Request::SignImage { digest } => self.sign_image(&digest),
            Request::ReleaseDiskKey => self.release_disk_key(packet.descriptor),
        }
    }

    fn birth(&mut self) -> Result<Vec<u8>, Refusal> {
        let vault = Vault::birth(self.folder, &KeyFile).map_err(from_vault)?;
        Ok(self.keep(vault))
    }

    fn open(&mut self) -> Result<Vec<u8>, Refusal> {
        let vault = Vault::open(self.folder, &KeyFile).map_err(from_vault)?;
        Ok(self.keep(vault))
    }

    fn keep(&mut self, vault: Vault) -> Vec<u8> {
        let reply = success(&[("ecid", Value::Uint(vault.ecid()))]);
        self.vault = Some(vault);
        reply
    }

    fn identity(&self) -> Result<Vec<u8>, Refusal> {
        let identity = self.unlocked()?.identity();
        Ok(success(&[
            ("ecid", Value::Uint(identity.ecid)),
            (
                "identity_public_key",
                Value::Bytes(identity.identity_public_key),
            ),
            ("pk", Value::Bytes(identity.pk)),
            ("kek", Value::Bytes(identity.kek)),
            ("db", Value::Bytes(identity.db)),
        ]))
    }

    fn sign_image(&self, digest: &[u8; wire::DIGEST_SIZE_BYTES]) -> Result<Vec<u8>, Refusal> {
        let signature = self.unlocked()?.sign_image(digest).map_err(from_vault)?;
        Ok(success(&[("signature", Value::Bytes(&signature))]))
    }

    fn release_disk_key(&self, pipe: Option<OwnedFd>) -> Result<Vec<u8>, Refusal> {
        let vault = self.unlocked()?;
        let pipe = pipe.ok_or(refusal(
            Code::Descriptor,
            "a pipe has to come with this request",
        ))?;
        let status = rustix::fs::fstat(&pipe).map_err(|_| UNUSABLE_PIPE)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::Fifo {
            return Err(refusal(Code::Descriptor, "not a pipe"));
        }
        // A pipe that can be written to now takes this little at once (PIPE_BUF), so a reader
        // who does not read cannot hold the vault up.
        let mut writable = [PollFd::new(&pipe, PollFlags::OUT)];
        poll(&mut writable, Some(&Timespec::default())).map_err(|_| UNUSABLE_PIPE)?;
        if writable[0].revents() != PollFlags::OUT {
            return Err(UNUSABLE_PIPE);
        }
        let text = vault.disk_key_text();
        match rustix::io::write(&pipe, &text[..]) {
            Ok(size) if size == text.len() => Ok(success(&[])),
            _ => Err(UNUSABLE_PIPE),
        }
    }

    fn unlocked(&self) -> Result<&Vault, Refusal> {
        self.vault
            .as_ref()
            .ok_or(refusal(Code::Locked, "birth or open comes first"))
    }
}

const TOO_MUCH: Refusal = refusal(
    Code::Malformed,
    "the packet is too long or has too many descriptors",
);
const UNUSABLE_PIPE: Refusal = refusal(Code::Descriptor, "the pipe cannot be written to");

const fn refusal(code: Code, detail: &'static str) -> Refusal {
    Refusal { code, detail }
}

fn from_vault(error: Error) -> Refusal {
    match error {
        Error::Exists => refusal(Code::Exists, "this chip has been born already"),
        Error::Unborn => refusal(Code::Unborn, "this chip has not been born"),
        Error::Sealed(what) => refusal(Code::Sealed, what),
        Error::Corrupt(what) => refusal(Code::Corrupt, what),
        Error::Storage(doing, Errno::NOSPC | Errno::DQUOT) => {
            eprintln!("vaultd: {doing}: the file system is full");
            refusal(Code::Storage, "the file system is full")
        }
        Error::Storage(doing, errno) => {
            eprintln!("vaultd: {doing}: {errno}");
            refusal(Code::Storage, doing)
        }
        Error::Cryptography(step) => refusal(Code::Cryptography, step),
    }
}
