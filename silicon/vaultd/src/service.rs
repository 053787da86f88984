//! Requests in, replies out, one at a time, from the firmware and from the SSD it attached.
//!
//! Invariants: before birth or opening nothing else is answered but `destroy`; a broken request
//! changes nothing and the vault goes on; a busy link does not keep the other one waiting for
//! more than one request; only the firmware attaches an SSD, and one at a time; when it cannot be
//! known which state is in force, none is used until the vault has been opened again.

mod records;
mod starts;

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use vault::{
    Authority, Budget, ChangeError, KeyFile, Passphrase, Password, Place, Proof, Seal, TpmSeal,
    Vault, store,
};
use wire::vault::{AttachMode, Code, Mode, Refusal, Request, SealKind, With};
use wire::{Link, Packet, ReceiveError, Value, success};
use zeroize::Zeroizing;

use crate::refusals::{LOCKED, TOO_MUCH, no_request, refusal, reported};
use crate::ssd::Ssd;
use crate::transfer::{read_bundle, write_out};

/// Answers requests until the firmware closes the link.
///
/// # Errors
/// When the link itself fails.
pub fn serve(link: &Link, place: &Place, tpm: Option<tpm::Tpm>) -> Result<(), Errno> {
    let mut service = Service {
        place,
        tpm,
        vault: None,
        ssd: None,
    };
    loop {
        let (firmware_speaks, ssd_speaks) = service.wait(link)?;
        // One conversation with the TPM does for all that one request needs of it.
        let _held = service.tpm.as_ref().map(tpm::Tpm::hold);
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
    place: &'a Place,
    tpm: Option<tpm::Tpm>,
    vault: Option<Vault>,
    ssd: Option<Ssd>,
}

/// What a reply is made of, or why there is none.
type Answer = Result<Zeroizing<Vec<u8>>, Refusal>;

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
            if !ssd.answer(&mut self.vault, self.place) {
                self.detach();
            }
        }
    }

    /// Forgets the SSD with whatever it had not been answered yet.
    fn detach(&mut self) {
        self.ssd = None;
        if let Some(vault) = &mut self.vault {
            let ended = vault.end_session(self.place);
            // Nobody waits for this. What was acknowledged is kept, if not in both slots.
            let _ = self.changed(ended);
        }
    }

    /// `false` when the link has ended.
    fn answer_firmware(&mut self, link: &Link) -> Result<bool, Errno> {
        let reply = match link.receive() {
            Ok(Some(packet)) => self.answer(packet).unwrap_or_else(Refusal::packet),
            Ok(None) => {
                if self.ssd.is_some() {
                    self.detach();
                }
                return Ok(false);
            }
            Err(ReceiveError::TooMuch) => TOO_MUCH.packet(),
            Err(ReceiveError::Link(errno)) => return Err(errno),
        };
        match link.send(&reply) {
            Err(Errno::PIPE | Errno::CONNRESET) => Ok(false),
            result => result.map(|()| true),
        }
    }

    fn answer(&mut self, packet: Packet) -> Answer {
        let request = Request::parse(&packet.bytes).map_err(no_request)?;
        let mut descriptors = Descriptors(packet.descriptors.into_iter());
        match request {
            Request::Birth(kind, authority) => {
                self.birth(kind, starts::authority(authority), descriptors)
            }
            Request::AdoptBundle(kind, authority) => {
                self.adopt_bundle(kind, starts::authority(authority), descriptors)
            }
            Request::Open => self.open(descriptors),
            Request::AttachSsd(mode) => self.attach_ssd(mode, descriptors.only()?),
            Request::ExportRecovery => self.export_recovery(&descriptors.only()?),
            Request::MakeRecoveryKey(proof) => self.make_recovery_key(budget(proof), descriptors),
            Request::Unlock(proof) => {
                let secret = read(descriptors.only()?)?;
                self.with_vault(|vault, place| match proof.mode {
                    Mode::Normal => vault.unlock(place, &proven(proof, &secret)),
                    Mode::Recovery => vault.unlock_in_recovery(place, &proven(proof, &secret)),
                })
            }
            Request::CheckFirmwarePassword => self.check_firmware_password(descriptors.only()?),
            Request::SetFirmwarePassword => self.set_firmware_password(descriptors.only()?),
            Request::SetPassword => {
                let new = read(descriptors.only()?)?;
                self.with_vault(|vault, place| vault.set_password(place, &new))
            }
            Request::ChangePassword(proof) => {
                let (secret, new) = (read(descriptors.next()?)?, read(descriptors.only()?)?);
                self.with_vault(|vault, place| {
                    vault.change_password(place, &proven(proof, &secret), &new)
                })
            }
            Request::RemovePassword(proof) => {
                let secret = read(descriptors.only()?)?;
                self.with_vault(|vault, place| {
                    vault.remove_password(place, &proven(proof, &secret))
                })
            }
            Request::AuthoriseRollback(proof) => {
                let secret = descriptors.last_if_any()?.map(read).transpose()?;
                let secret = secret.as_ref().map(|secret| proven(proof, secret));
                self.with_vault(|vault, place| vault.authorise_rollback(place, secret.as_ref()))
            }
            Request::TrustProvider { name, key, proof } => {
                let secret = descriptors.last_if_any()?.map(read).transpose()?;
                let secret = secret.as_ref().map(|secret| proven(proof, secret));
                self.with_vault(|vault, place| {
                    vault.trust_provider(place, &name, &key, secret.as_ref())
                })
            }
            Request::DistrustProvider { fingerprint, proof } => {
                let secret = descriptors.last_if_any()?.map(read).transpose()?;
                let secret = secret.as_ref().map(|secret| proven(proof, secret));
                self.with_vault(|vault, place| {
                    vault.distrust_provider(place, &fingerprint, secret.as_ref())
                })
            }
            Request::RecordService(service) => self.record_service(&service, descriptors),
            request => {
                descriptors.none()?;
                self.answer_plain(request)
            }
        }
    }

    /// The operations that take no descriptor.
    fn answer_plain(&mut self, request: Request) -> Answer {
        match request {
            Request::Identity => self.identity(),
            Request::Status => self.status(),
            Request::Service => self.service(),
            Request::Attest { nonce, software } => {
                let vault = unlocked(&self.vault)?;
                let statement = vault.attest(self.place, &nonce, &software);
                let statement = statement.map_err(reported)?;
                Ok(success(&[("statement", Value::Bytes(&statement))]))
            }
            Request::Erase => self.end_of_data(Vault::erase),
            Request::Restore(given) => {
                let authority = starts::authority(given);
                self.end_of_data(|vault, place| vault.restore(place, authority))
            }
            Request::Destroy => self.destroy(),
            request => self.answer_start(&request).unwrap_or(Err(MISSING)),
        }
    }

    fn birth(
        &mut self,
        kind: SealKind,
        authority: Authority,
        mut descriptors: Descriptors,
    ) -> Answer {
        let seal = self.new_seal(kind, &mut descriptors)?;
        descriptors.none()?;
        let born = Vault::birth(self.place, seal, authority);
        self.keep(born)
    }

    fn adopt_bundle(
        &mut self,
        kind: SealKind,
        authority: Authority,
        mut descriptors: Descriptors,
    ) -> Answer {
        let (bundle, key) = (descriptors.next()?, read(descriptors.next()?)?);
        let bundle = read_bundle(&bundle)?;
        let mistyped = refusal(Code::Secret, "this is no recovery key");
        let key = vault::RecoveryKey::parse(&key).ok_or(mistyped)?;
        let seal = self.new_seal(kind, &mut descriptors)?;
        descriptors.none()?;
        let adopted = Vault::adopt_bundle(self.place, seal, &bundle, &key, authority);
        self.keep(adopted)
    }

    fn open(&mut self, mut descriptors: Descriptors) -> Answer {
        let header = store::header(&self.place.folder).map_err(reported)?;
        let seal = self.seal(header.seal_kind, descriptors.last_if_any()?)?;
        // What is open is closed first: one store, one vault.
        self.vault = None;
        let opened = Vault::open(self.place, seal);
        self.keep(opened)
    }

    fn new_seal(
        &self,
        kind: SealKind,
        descriptors: &mut Descriptors,
    ) -> Result<Box<dyn Seal>, Refusal> {
        match kind {
            SealKind::KeyFile => self.seal(KeyFile::KIND, None),
            SealKind::Tpm => self.seal(TpmSeal::KIND, None),
            SealKind::Passphrase => self.seal(Passphrase::KIND, Some(descriptors.next()?)),
        }
    }

    fn seal(&self, kind: u16, passphrase: Option<OwnedFd>) -> Result<Box<dyn Seal>, Refusal> {
        match (kind, passphrase) {
            (Passphrase::KIND, Some(passphrase)) => {
                Ok(Box::new(Passphrase::new(read(passphrase)?)))
            }
            (Passphrase::KIND, None) => Err(refusal(Code::Passphrase, "it has to be given")),
            (_, Some(_)) => Err(refusal(Code::Descriptor, "this chip takes no passphrase")),
            (KeyFile::KIND, None) => Ok(Box::new(KeyFile)),
            (TpmSeal::KIND, None) => match &self.tpm {
                Some(tpm) => Ok(Box::new(TpmSeal::new(tpm.clone()))),
                None => Err(refusal(Code::Tpm, "the vault was given none")),
            },
            _ => Err(refusal(Code::Corrupt, "kind of seal")),
        }
    }

    fn keep(&mut self, vault: Result<Vault, ChangeError>) -> Answer {
        let vault = self.changed(vault)?;
        let reply = success(&[("ecid", Value::Uint(vault.ecid()))]);
        self.vault = Some(vault);
        Ok(reply)
    }

    fn identity(&self) -> Answer {
        let identity = unlocked(&self.vault)?.identity();
        Ok(success(&[
            ("ecid", Value::Uint(identity.ecid)),
            (
                "identity_public_key",
                Value::Bytes(identity.identity_public_key),
            ),
            ("pk", Value::Bytes(identity.pk)),
            ("kek", Value::Bytes(identity.kek)),
            ("vendor", Value::Bytes(identity.vendor)),
        ]))
    }

    fn status(&self) -> Answer {
        let vault = unlocked(&self.vault)?;
        let status = vault.status(self.place);
        let names: Vec<[String; 3]> = (status.tries.iter())
            .map(|tries| {
                ["failures", "left", "wait_seconds"].map(|what| format!("{}_{what}", tries.name))
            })
            .collect();
        let mut fields = vec![
            ("ecid", Value::Uint(vault.ecid())),
            ("life", Value::Text(status.life.name())),
            ("lives", Value::Uint(status.lives)),
            ("seal", Value::Text(status.seal)),
            ("root", Value::Text(status.root())),
            ("policy", Value::Text(status.policy)),
            ("password", Value::Bool(status.password)),
            ("recovery_key", Value::Bool(status.recovery_key)),
            ("unlocked", Value::Bool(status.unlocked)),
            ("put_back", Value::Bool(status.put_back)),
            ("adopting", Value::Bool(status.adopting)),
            ("rollbacks", Value::Uint(status.rollbacks)),
            ("boundaries", Value::Uint(status.boundaries)),
        ];
        for (tries, [failures, left, wait]) in status.tries.iter().zip(&names) {
            fields.push((failures, Value::Uint(tries.failures)));
            fields.push((left, Value::Uint(tries.left)));
            fields.push((wait, Value::Uint(tries.wait_seconds)));
        }
        Ok(success(&fields))
    }

    fn make_recovery_key(&mut self, budget: Budget, mut descriptors: Descriptors) -> Answer {
        let output = descriptors.next()?;
        let secret = descriptors.last_if_any()?.map(read).transpose()?;
        let proof = secret.as_ref().map(|secret| Proof { budget, secret });
        let vault = self.vault.as_mut().ok_or(LOCKED)?;
        let made = vault.make_recovery_key(self.place, proof.as_ref());
        let text = self.changed(made)?;
        let line = Zeroizing::new(format!("{}\n", text.as_str()));
        write_out(&output, line.as_bytes())?;
        Ok(success(&[]))
    }

    fn export_recovery(&self, output: &OwnedFd) -> Answer {
        let bundle = unlocked(&self.vault)?.export_recovery().map_err(reported)?;
        write_out(output, &bundle)?;
        Ok(success(&[]))
    }

    fn attach_ssd(&mut self, mode: AttachMode, socket: OwnedFd) -> Answer {
        unlocked(&self.vault)?;
        let link = Link::new(socket)
            .map_err(|_| refusal(Code::Descriptor, "not a SOCK_SEQPACKET socket"))?;
        if self.ssd.as_ref().is_some_and(Ssd::is_alive) {
            return Err(refusal(Code::Attached, "an SSD is attached"));
        }
        // One that is gone is forgotten with whatever it had not been answered yet: nothing of it
        // may come after what the next one reads.
        if self.ssd.is_some() {
            self.detach();
        }
        self.with_vault(|vault, place| match mode {
            AttachMode::Open => vault.begin_session(place),
            AttachMode::Format => vault.format(place),
            AttachMode::Adopt => Ok(vault.begin_adoption()?),
        })?;
        self.ssd = Some(Ssd::new(link));
        Ok(success(&[]))
    }

    /// Whatever the SSD still does, nothing of it is kept.
    fn end_of_data(
        &mut self,
        end: impl FnOnce(&mut Vault, &Place) -> Result<Vec<u8>, ChangeError>,
    ) -> Answer {
        self.ssd = None;
        let vault = self.vault.as_mut().ok_or(LOCKED)?;
        let ended = end(vault, self.place);
        let receipt = self.changed(ended)?;
        Ok(success(&[("receipt", Value::Bytes(&receipt))]))
    }

    fn destroy(&mut self) -> Answer {
        self.ssd = None;
        self.vault = None;
        let header = store::header(&self.place.folder);
        let seal = match header {
            // The passphrase is nowhere: there is nothing of it to destroy.
            Ok(header) if header.seal_kind != Passphrase::KIND => {
                Some(self.seal(header.seal_kind, None)?)
            }
            _ => None,
        };
        vault::destroy(self.place, seal).map_err(reported)?;
        Ok(success(&[]))
    }

    fn with_vault(
        &mut self,
        change: impl FnOnce(&mut Vault, &Place) -> Result<(), ChangeError>,
    ) -> Answer {
        let vault = self.vault.as_mut().ok_or(LOCKED)?;
        let changed = change(vault, self.place);
        self.changed(changed)?;
        Ok(success(&[]))
    }

    /// Locks the vault where it cannot be known which state is in force.
    fn changed<T>(&mut self, result: Result<T, ChangeError>) -> Result<T, Refusal> {
        result.map_err(|error| match error {
            ChangeError::Unchanged(error) => reported(error),
            ChangeError::Uncertain(error) => {
                self.vault = None;
                reported(error)
            }
        })
    }
}

/// The descriptors that came with a request, in their order.
struct Descriptors(std::vec::IntoIter<OwnedFd>);

const MISSING: Refusal = refusal(Code::Descriptor, "a descriptor has to come along");
const TOO_MANY: Refusal = refusal(Code::Descriptor, "too many descriptors came along");

impl Descriptors {
    fn next(&mut self) -> Result<OwnedFd, Refusal> {
        self.0.next().ok_or(MISSING)
    }

    fn only(&mut self) -> Result<OwnedFd, Refusal> {
        let descriptor = self.next()?;
        self.none()?;
        Ok(descriptor)
    }

    fn last_if_any(&mut self) -> Result<Option<OwnedFd>, Refusal> {
        let descriptor = self.0.next();
        self.none()?;
        Ok(descriptor)
    }

    fn none(&mut self) -> Result<(), Refusal> {
        self.0.next().is_none().then_some(()).ok_or(TOO_MANY)
    }
}

fn budget(proof: wire::vault::Proof) -> Budget {
    match (proof.with, proof.mode) {
        (With::RecoveryKey, _) => Budget::RecoveryKey,
        (With::Password, Mode::Normal) => Budget::Password,
        (With::Password, Mode::Recovery) => Budget::PasswordInRecovery,
    }
}

fn proven(proof: wire::vault::Proof, secret: &Password) -> Proof<'_> {
    Proof {
        budget: budget(proof),
        secret,
    }
}

fn read(descriptor: OwnedFd) -> Result<Password, Refusal> {
    Password::read(descriptor).map_err(reported)
}

/// The vault that was born or opened.
pub fn unlocked(vault: &Option<Vault>) -> Result<&Vault, Refusal> {
    vault.as_ref().ok_or(LOCKED)
}
