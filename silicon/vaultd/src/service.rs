//! Requests in, replies out, one at a time, from the firmware and from the SSD it attached.
//!
//! Invariants: before birth or opening nothing else is answered; a broken request changes
//! nothing and the vault goes on; a busy link does not keep the other one waiting for more than
//! one request; only the firmware attaches an SSD, and one at a time.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use vault::{Error, FormatError, KeyFile, StateFolder, Vault};
use wire::vault::{Code, DIGEST_SIZE_BYTES, Refusal, Request};
use wire::{Link, Packet, ReceiveError, RequestError, Value, success};
use zeroize::Zeroizing;

use crate::ssd::Ssd;

/// Answers requests until the firmware closes the link.
///
/// # Errors
/// When the link itself fails.
pub fn serve(link: &Link, folder: &StateFolder) -> Result<(), Errno> {
    let mut service = Service {
        folder,
        vault: None,
        ssd: None,
    };
    loop {
        let (firmware_speaks, ssd_speaks) = service.wait(link)?;
        if firmware_speaks && !service.answer_firmware(link)? {
            return Ok(());
        }
        // What the firmware asked may have replaced the SSD; then there is nothing to read yet.
        if ssd_speaks {
            service.answer_ssd();
        }
    }
}

struct Service<'a> {
    folder: &'a StateFolder,
    vault: Option<Vault>,
    ssd: Option<Ssd>,
}

impl Service<'_> {
    /// Waits until there is something to read or to see, and says on which of the two links.
    fn wait(&self, link: &Link) -> Result<(bool, bool), Errno> {
        let mut ends = vec![PollFd::new(link, PollFlags::IN)];
        ends.extend((self.ssd.iter()).map(|ssd| PollFd::new(ssd.link(), PollFlags::IN)));
        while let Err(errno) = poll(&mut ends, None) {
            if errno != Errno::INTR {
                return Err(errno);
            }
        }
        let speaks = |end: Option<&PollFd<'_>>| end.is_some_and(|end| !end.revents().is_empty());
        Ok((speaks(ends.first()), speaks(ends.get(1))))
    }

    fn answer_ssd(&mut self) {
        if let Some(ssd) = &mut self.ssd {
            if !ssd.answer(self.vault.as_ref(), self.folder) {
                self.ssd = None;
            }
        }
    }

    /// `false` when the link has ended.
    fn answer_firmware(&mut self, link: &Link) -> Result<bool, Errno> {
        let reply = match link.receive() {
            Ok(Some(packet)) => self.answer(packet).unwrap_or_else(Refusal::packet),
            Ok(None) => return Ok(false),
            Err(ReceiveError::TooMuch) => TOO_MUCH.packet(),
            Err(ReceiveError::Link(errno)) => return Err(errno),
        };
        match link.send(&reply) {
            Err(Errno::PIPE | Errno::CONNRESET) => Ok(false),
            result => result.map(|()| true),
        }
    }

    fn answer(&mut self, packet: Packet) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let request = Request::parse(&packet.bytes).map_err(no_request)?;
        match (request, packet.descriptor) {
            (Request::AttachSsd { format }, socket) => self.attach_ssd(format, socket),
            (_, Some(_)) => Err(refusal(
                Code::Descriptor,
                "this operation takes no descriptor",
            )),
            (Request::Birth, _) => self.birth(),
            (Request::Open, _) => self.open(),
            (Request::Identity, _) => self.identity(),
            (Request::SignImage { digest }, _) => self.sign_image(&digest),
        }
    }

    fn birth(&mut self) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let vault = Vault::birth(self.folder, &KeyFile).map_err(reported)?;
        Ok(self.keep(vault))
    }

    fn open(&mut self) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let vault = Vault::open(self.folder, &KeyFile).map_err(reported)?;
        Ok(self.keep(vault))
    }

    fn keep(&mut self, vault: Vault) -> Zeroizing<Vec<u8>> {
        let reply = success(&[("ecid", Value::Uint(vault.ecid()))]);
        self.vault = Some(vault);
        reply
    }

    fn identity(&self) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let identity = unlocked(self.vault.as_ref())?.identity();
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

    fn sign_image(&self, digest: &[u8; DIGEST_SIZE_BYTES]) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let vault = unlocked(self.vault.as_ref())?;
        let signature = vault.sign_image(digest).map_err(reported)?;
        Ok(success(&[("signature", Value::Bytes(&signature))]))
    }

    fn attach_ssd(
        &mut self,
        format: bool,
        socket: Option<OwnedFd>,
    ) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        unlocked(self.vault.as_ref())?;
        let socket = socket.ok_or(refusal(
            Code::Descriptor,
            "a socket has to come with this request",
        ))?;
        let link = Link::new(socket)
            .map_err(|_| refusal(Code::Descriptor, "not a SOCK_SEQPACKET socket"))?;
        if self.ssd.as_ref().is_some_and(Ssd::is_alive) {
            return Err(refusal(Code::Attached, "an SSD is attached"));
        }
        // One that is gone is forgotten with whatever it had not been answered yet: nothing of it
        // may come after what the next one reads.
        self.ssd = None;
        if format {
            self.format()?;
        }
        self.ssd = Some(Ssd::new(link));
        Ok(success(&[]))
    }

    fn format(&mut self) -> Result<(), Refusal> {
        let Some(vault) = &mut self.vault else {
            return Err(LOCKED);
        };
        match vault.format(self.folder, &KeyFile) {
            Ok(()) => Ok(()),
            Err(FormatError::Unchanged(error)) => Err(reported(error)),
            Err(FormatError::Uncertain(error)) => {
                // Which key is in force is not known, so none is used.
                self.vault = None;
                Err(reported(error))
            }
        }
    }
}

/// The vault that was born or opened.
pub fn unlocked(vault: Option<&Vault>) -> Result<&Vault, Refusal> {
    vault.ok_or(LOCKED)
}

const LOCKED: Refusal = refusal(Code::Locked, "birth or open comes first");

/// For a packet that cannot be read at all.
pub const TOO_MUCH: Refusal = refusal(
    Code::Malformed,
    "the packet is too long or has too many descriptors",
);

pub const fn refusal(code: Code, detail: &'static str) -> Refusal {
    Refusal { code, detail }
}

/// For a packet that is not one of the link's requests.
pub fn no_request(error: RequestError) -> Refusal {
    match error {
        RequestError::Malformed => refusal(Code::Malformed, "the packet is no request"),
        RequestError::UnknownOperation => refusal(Code::UnknownOperation, "no such operation"),
    }
}

fn reported(error: Error) -> Refusal {
    from_vault(error, true)
}

/// The refusal that an error becomes; `report` has a failing state folder named on standard
/// error.
pub fn from_vault(error: Error, report: bool) -> Refusal {
    match error {
        Error::Exists => refusal(Code::Exists, "this chip has been born already"),
        Error::Unborn => refusal(Code::Unborn, "this chip has not been born"),
        Error::Sealed(what) => refusal(Code::Sealed, what),
        Error::Corrupt(what) => refusal(Code::Corrupt, what),
        Error::Backwards => refusal(Code::Backwards, "the kept anchor is newer"),
        Error::Storage(doing, errno) => {
            let is_full = matches!(errno, Errno::NOSPC | Errno::DQUOT);
            if report && is_full {
                eprintln!("vaultd: {doing}: the file system is full");
            } else if report {
                eprintln!("vaultd: {doing}: {errno}");
            }
            let detail = if is_full {
                "the file system is full"
            } else {
                doing
            };
            refusal(Code::Storage, detail)
        }
        Error::Cryptography(step) => refusal(Code::Cryptography, step),
    }
}
