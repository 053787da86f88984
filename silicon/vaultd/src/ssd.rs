//! The link to the SSD: its key once, its anchor as often as it likes.
//!
//! Whoever is on the other end is taken for hostile, because it parses what a guest writes. It
//! has the volume key; there is nothing else for it here.
//!
//! Invariants: no descriptor of its ever enters this process; it is never waited for: who does not
//! read its replies is detached; whatever it does ends its own link at most, never the vault; at
//! most one packet is held for it, and one line is said about it.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use vault::{ChangeError, Place, Remembered, Vault};
use wire::vault::{Code, Refusal, SsdRequest};
use wire::{Link, ReceiveError, Value, success};
use zeroize::Zeroizing;

use crate::refusals::{LOCKED, TOO_MUCH, from_vault, no_request, refusal};

/// An SSD that is attached.
pub struct Ssd {
    link: Link,
    key_was_given: bool,
    storage_was_reported: bool,
}

impl Ssd {
    pub fn new(link: Link) -> Ssd {
        Ssd {
            link,
            key_was_given: false,
            storage_was_reported: false,
        }
    }

    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Whether the other end is still open.
    pub fn is_alive(&self) -> bool {
        let mut ends = [PollFd::new(&self.link, PollFlags::empty())];
        let at_once = Timespec::default();
        // An end that cannot be asked is none.
        poll(&mut ends, Some(&at_once)).is_ok() && ends[0].revents().is_empty()
    }

    /// Answers the next request, if there is one; `false` when the link has ended.
    pub fn answer(&mut self, vault: &mut Option<Vault>, place: &Place) -> bool {
        let reply = match self.link.receive_now() {
            Ok(Some(packet)) => self
                .reply(&packet, vault, place)
                .unwrap_or_else(Refusal::packet),
            Ok(None) => return false,
            Err(ReceiveError::TooMuch) => TOO_MUCH.packet(),
            Err(ReceiveError::Link(errno)) => return errno == Errno::AGAIN,
        };
        self.link.send_now(&reply).is_ok()
    }

    fn reply(
        &mut self,
        packet: &[u8],
        vault: &mut Option<Vault>,
        place: &Place,
    ) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let request = SsdRequest::parse(packet).map_err(no_request)?;
        let open = vault.as_mut().ok_or(LOCKED)?;
        match request {
            SsdRequest::VolumeKey if self.key_was_given => {
                Err(refusal(Code::Spent, "this link has had the key"))
            }
            SsdRequest::VolumeKey => {
                let key = open.volume_key().map_err(|error| self.refused(error))?;
                self.key_was_given = true;
                Ok(success(&[("key", Value::Bytes(key.expose()))]))
            }
            SsdRequest::ReadAnchor => {
                match open.newest_anchor().map_err(|error| self.refused(error))? {
                    Remembered::Anchor(anchor) => Ok(success(&[("anchor", Value::Bytes(anchor))])),
                    Remembered::Nothing => Ok(success(&[])),
                    Remembered::Adopt => Ok(success(&[("adopt", Value::Bool(true))])),
                }
            }
            SsdRequest::WriteAnchor { sequence, anchor } => {
                match open.write_anchor(place, sequence, &anchor) {
                    Ok(()) => {}
                    Err(ChangeError::Unchanged(error)) => return Err(self.refused(error)),
                    Err(ChangeError::Uncertain(error)) => {
                        *vault = None;
                        return Err(self.refused(error));
                    }
                }
                self.storage_was_reported = false;
                Ok(success(&[]))
            }
        }
    }

    /// One that keeps asking on a full disk does not fill the log as well.
    fn refused(&mut self, error: vault::Error) -> Refusal {
        let is_storage = matches!(error, vault::Error::Storage(..));
        let is_new = is_storage && !std::mem::replace(&mut self.storage_was_reported, is_storage);
        from_vault(error, is_new)
    }
}
