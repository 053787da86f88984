//! Tickets: asked for with a nonce, and taken once.
//!
//! Invariants: a ticket is taken only if the pinned authority signed it, for this chip, as the
//! answer to the one request that is open, for no older a system than one that was up; whatever
//! comes of it, the request is over. Which authority that is, a birth or a new life says and
//! nothing else.

use ticket::{Components, Entry, NONCE_SIZE_BYTES, Product, Refused, Request, Ticket};

use crate::Error;
use crate::boundary::Place;
use crate::error::ChangeError;
use crate::slots::Slot;
use crate::vault::{Keep, Vault};

/// The longest vendor certificate.
pub const VENDOR_SIZE_BYTES_MAX: usize = 2048;

/// Who signs for a chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// `SubjectPublicKeyInfo` of its ticket key.
    pub key: [u8; ticket::PUBLIC_KEY_SIZE_BYTES],
    /// Its vendor certificate, DER: by it the machine's firmware checks what the vendor signed.
    pub vendor: Vec<u8>,
}

impl Authority {
    /// Whether it can be pinned.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a key that checks no ticket, or a certificate of a wrong size.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !ticket::is_key(&self.key) {
            return Err(Error::Malformed("the authority's key is none of P-256"));
        }
        match self.vendor.len() {
            1..=VENDOR_SIZE_BYTES_MAX => Ok(()),
            _ => Err(Error::Malformed("a vendor certificate has 1 to 2048 bytes")),
        }
    }
}

impl Vault {
    /// The request for a ticket for this system, in the place of any earlier one: `product` is
    /// its edition, `epoch` its security epoch.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a product's name that is none.
    pub fn request_ticket(
        &mut self,
        product: &str,
        epoch: u64,
        components: Components,
    ) -> Result<Vec<u8>, Error> {
        let product = Product::parse(product).ok_or(Error::Malformed(
            "a product has 1 to 32 of a to z, 0 to 9 and -",
        ))?;
        let mut nonce = [0; NONCE_SIZE_BYTES];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| Error::Cryptography("random bytes"))?;
        let request = Request {
            ecid: self.ecid,
            nonce,
            epoch,
            product,
            components,
        };
        let encoded = request.encode();
        self.start.request = Some(request);
        Ok(encoded)
    }

    /// Lets the system that `ticket` names be the one of `slot`: tried so often or, with 0, the
    /// current one from now on.
    ///
    /// # Errors
    /// [`Error::Ticket`], [`Error::OtherChip`], [`Error::Nonce`], [`Error::Epoch`],
    /// [`Error::InUse`], [`Error::NoTicket`] when it is to be tried and nothing is there to fall
    /// back to. In any case the request is over.
    pub fn accept_ticket(
        &mut self,
        place: &Place,
        slot: Slot,
        ticket: &[u8],
        tries: u64,
    ) -> Result<(), ChangeError> {
        let asked = self.start.request.take();
        let ticket =
            ticket::verify(ticket, &self.contents.boot.authority.key).map_err(not_taken)?;
        if ticket.request.ecid != self.ecid {
            return Err(Error::OtherChip.into());
        }
        let asked = asked.filter(|asked| asked.nonce == ticket.request.nonce);
        let asked = asked.ok_or(Error::Nonce)?;
        if ticket.request.epoch < self.contents.boot.minimum_epoch {
            return Err(Error::Epoch.into());
        }
        if ticket.request != asked {
            return Err(Error::Ticket("it names another system than was asked for").into());
        }
        let mut slots = self.contents.boot.slots.clone();
        slots.accept(slot, kept(ticket), tries)?;
        let changed = self.change(place, Keep::Anchor, false, |next| {
            next.boot.slots = slots;
            Ok(())
        });
        changed.map(|_| ())
    }
}

/// What is kept of a ticket that was taken.
fn kept(ticket: Ticket) -> Entry {
    let Ticket { request, issued } = ticket;
    Entry {
        components: request.components,
        epoch: request.epoch,
        issued,
        product: request.product,
    }
}

fn not_taken(refused: Refused) -> Error {
    match refused {
        Refused::Malformed => Error::Ticket("it is none"),
        Refused::Signature => Error::Ticket("this chip's authority did not sign it"),
    }
}
