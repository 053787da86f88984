//! The authority: what it signs, and what it never signs again.
//!
//! Invariants: the ticket key signs tickets, the vendor key images and the order key work orders,
//! nothing else; a higher epoch is durable before the ticket with it leaves; no two work orders have
//! the same number; keys are made where there never were any, and never
//! in place of lost ones: chips trust the old ones alone.

use std::time::{SystemTime, UNIX_EPOCH};

use ticket::{Job, ORDER_ID_SIZE_BYTES, Order, Request, Ticket, Validity};
use zeroize::Zeroizing;

use crate::epochs::{self, Epochs};
use crate::error::Error;
use crate::folder::Folder;
use crate::keys::{self, Keys};

/// An open authority.
pub struct Authority {
    folder: Folder,
    keys: Keys,
    epochs: Epochs,
}

impl Authority {
    /// Opens the authority of a folder, which it is given for good; in an empty one a new authority
    /// is made, durably.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where one of its files is damaged, or missing beside the other.
    pub fn open(folder: Folder) -> Result<Authority, Error> {
        Authority::open_or_make(folder, Keys::generate)
    }

    fn open_or_make(
        folder: Folder,
        generate: impl FnOnce() -> Result<(Keys, Zeroizing<Vec<u8>>), Error>,
    ) -> Result<Authority, Error> {
        let epochs = folder.read(epochs::FILE, epochs::FILE_SIZE_BYTES_MAX)?;
        let epochs = (epochs.as_ref())
            .map(|file| Epochs::parse(file))
            .transpose()?;
        let keys = folder.read(keys::FILE, keys::FILE_SIZE_BYTES_MAX)?;
        let (keys, epochs) = match (keys, epochs) {
            (Some(file), Some(epochs)) => (Keys::parse(&file)?, epochs),
            (Some(_), None) => return Err(Error::Corrupt("epochs is missing")),
            // The keys are written last: without them nothing was ever signed.
            (None, Some(epochs)) if !epochs.is_empty() => {
                return Err(Error::Corrupt("authority.keys is missing"));
            }
            (None, _) => {
                let epochs = Epochs::default();
                folder.write(epochs::FILE, &epochs.encode())?;
                let (keys, file) = generate()?;
                folder.write(keys::FILE, &file)?;
                (keys, epochs)
            }
        };
        Ok(Authority {
            folder,
            keys,
            epochs,
        })
    }

    /// The keys, of which only the public halves can be had.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The ticket for a request.
    ///
    /// # Errors
    /// [`Error::Epoch`], [`Error::Products`], [`Error::Malformed`]; after [`Error::Storage`] the
    /// epoch may count or not.
    pub fn sign_ticket(&mut self, request: &[u8]) -> Result<Vec<u8>, Error> {
        let request = Request::parse(request).map_err(|_| Error::Malformed)?;
        if let Some(epochs) = self.epochs.with(&request.product, request.epoch)? {
            self.folder.write(epochs::FILE, &epochs.encode())?;
            self.epochs = epochs;
        }
        let issued = now();
        self.keys.sign_ticket(&Ticket { request, issued })
    }

    /// A new work order: `job` is what may be done in the machine of the chip with this number,
    /// between two moments in seconds since 1970, both included.
    ///
    /// # Errors
    /// [`Error::Job`], [`Error::Validity`].
    pub fn sign_order(
        &self,
        ecid: u64,
        job: &str,
        not_before: u64,
        not_after: u64,
    ) -> Result<Vec<u8>, Error> {
        let job = Job::parse(job).ok_or(Error::Job)?;
        let validity = Validity::new(not_before, not_after).ok_or(Error::Validity)?;
        let mut id = [0; ORDER_ID_SIZE_BYTES];
        aws_lc_rs::rand::fill(&mut id).map_err(|_| Error::Cryptography("random bytes"))?;
        self.keys.sign_order(&Order {
            ecid,
            id,
            job,
            issued: now(),
            validity,
        })
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;

    use ticket::{Components, Product};

    use super::*;
    use crate::folder::LOCK_PATIENCE;

    /// A lock that was given up is held a moment longer where another test's thread has forked
    /// and not yet started its program.
    fn folder(place: &Path) -> Folder {
        Folder::take(File::open(place).unwrap(), LOCK_PATIENCE).unwrap()
    }

    fn open(place: &Path) -> Result<Authority, Error> {
        Authority::open(folder(place))
    }

    fn request(product: &str, epoch: u64) -> Vec<u8> {
        let components = Components {
            firmware: [1; 32],
            variables: [2; 32],
            kernel: [3; 32],
            system: [4; 32],
            recovery: [5; 32],
            recovery_kernel: [6; 32],
        };
        let request = Request {
            ecid: 7,
            nonce: [8; 32],
            epoch,
            product: Product::parse(product).unwrap(),
            components,
        };
        request.encode()
    }

    /// Promise: a ticket is what was asked, with the time, under the key of the identity; the same
    /// authority is there after it was opened again.
    #[test]
    fn tickets_are_signed() {
        let place = tempfile::tempdir().unwrap();
        let mut first = open(place.path()).unwrap();
        let key = first.keys().ticket_key().to_vec();
        let asked = request("tiny", 5);
        let signed = first.sign_ticket(&asked).unwrap();
        let ticket = ticket::verify(&signed, &key).unwrap();
        assert_eq!(ticket.request.encode(), asked);
        assert!(ticket.issued > 1_700_000_000);
        drop(first);
        assert_eq!(open(place.path()).unwrap().keys().ticket_key(), key);
    }

    /// Promise: an older system gets no ticket, also from an authority that was opened again.
    #[test]
    fn epochs_are_remembered() {
        let place = tempfile::tempdir().unwrap();
        let mut first = open(place.path()).unwrap();
        first.sign_ticket(&request("tiny", 5)).unwrap();
        assert_eq!(first.sign_ticket(&request("tiny", 4)), Err(Error::Epoch));
        drop(first);
        let mut second = open(place.path()).unwrap();
        assert_eq!(second.sign_ticket(&request("tiny", 4)), Err(Error::Epoch));
        second.sign_ticket(&request("tiny", 5)).unwrap();
        second.sign_ticket(&request("pro", 4)).unwrap();
        assert_eq!(second.sign_ticket(b""), Err(Error::Malformed));
    }

    /// Promise: a work order says what was asked, with the time and a number of its own, under the
    /// order key and no other; the same key is there after the authority was opened again.
    #[test]
    fn orders_are_signed() {
        let place = tempfile::tempdir().unwrap();
        let first = open(place.path()).unwrap();
        let key = first.keys().order_key().to_vec();
        let sign = |authority: &Authority| authority.sign_order(7, "memory 64", 10, 20).unwrap();
        let signed = sign(&first);
        let order = ticket::verify_order(&signed, &key).unwrap();
        assert_eq!((order.ecid, order.job.as_str()), (7, "memory 64"));
        assert_eq!(Some(order.validity), Validity::new(10, 20));
        assert!(order.issued > 1_700_000_000);
        let ticket_key = first.keys().ticket_key();
        assert!(ticket::verify_order(&signed, ticket_key).is_err());
        drop(first);
        let second = open(place.path()).unwrap();
        let other = ticket::verify_order(&sign(&second), &key).unwrap();
        assert_ne!(other.id, order.id);
    }

    /// Promise: no order is signed that no chip takes.
    #[test]
    fn only_orders_in_form_are_signed() {
        let place = tempfile::tempdir().unwrap();
        let authority = open(place.path()).unwrap();
        let longest = "x".repeat(ticket::JOB_SIZE_BYTES_MAX);
        let year = ticket::ORDER_SECONDS_MAX;
        for job in ["", "Memory", "memory\n64", &format!("{longest}x")] {
            assert_eq!(authority.sign_order(1, job, 0, 1), Err(Error::Job));
        }
        for (from, to) in [(1, 0), (5, 6 + year), (0, u64::MAX)] {
            let refused = authority.sign_order(1, "ssd both", from, to);
            assert_eq!(refused, Err(Error::Validity));
        }
        let last = authority.sign_order(u64::MAX, &longest, u64::MAX - year, u64::MAX);
        let order = ticket::verify_order(&last.unwrap(), authority.keys().order_key());
        assert_eq!(order.unwrap().validity.not_after(), u64::MAX);
    }

    /// Promise: no ticket leaves whose epoch is not durable, wherever the power goes; and before a
    /// ticket was signed, keys are made until they are there.
    #[test]
    fn power_may_go_at_any_step() {
        let (_, file) = Keys::generate().unwrap();
        // Made once: it takes a while.
        let generate = || Ok((Keys::parse(&file)?, file.clone()));
        let mut signed = false;
        for steps in 0.. {
            let place = tempfile::tempdir().unwrap();
            let taken = folder(place.path());
            taken.leave_power(Some(steps));
            let ticket = Authority::open_or_make(taken, generate)
                .and_then(|mut authority| authority.sign_ticket(&request("tiny", 5)));
            let mut later = Authority::open_or_make(folder(place.path()), generate).unwrap();
            match ticket {
                Ok(ticket) => {
                    ticket::verify(&ticket, later.keys().ticket_key()).unwrap();
                    assert_eq!(later.sign_ticket(&request("tiny", 4)), Err(Error::Epoch));
                    signed = true;
                }
                Err(error) => {
                    assert!(matches!(error, Error::Storage(..)), "{steps}: {error}");
                    assert!(!signed);
                }
            }
            if signed {
                assert!(steps > 10, "{steps}");
                return;
            }
        }
    }

    /// Promise: lost keys are not replaced and a lost memory is not forgotten.
    #[test]
    fn half_an_authority_is_refused() {
        for missing in [keys::FILE, epochs::FILE] {
            let place = tempfile::tempdir().unwrap();
            let mut authority = open(place.path()).unwrap();
            authority.sign_ticket(&request("tiny", 5)).unwrap();
            drop(authority);
            std::fs::remove_file(place.path().join(missing)).unwrap();
            assert!(matches!(open(place.path()).err(), Some(Error::Corrupt(_))));
        }
    }
}
