//! A signed ticket.

use aws_lc_rs::signature::EcdsaKeyPair;

use crate::cose::{self, Form};
use crate::fields::{Reader, VERSION, encoded};
use crate::{Failed, Refused, Request};

/// No ticket is longer.
pub const TICKET_SIZE_BYTES_MAX: usize = 2048;

const FIELDS: u64 = 7;
const FORM: Form = Form {
    media_type: "application/x-spacegray-ticket+cbor",
    external_data: b"spacegray ticket 1",
    size_bytes_max: TICKET_SIZE_BYTES_MAX,
};

/// A signed ticket's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// What was asked.
    pub request: Request,
    /// When the authority signed it, seconds since 1970 by the authority's clock.
    pub issued: u64,
}

/// Signs a ticket. The key has to sign by `ECDSA_P256_SHA256_FIXED_SIGNING`.
///
/// # Errors
/// [`Failed`] when the cryptographic library does.
pub fn sign(ticket: &Ticket, key: &EcdsaKeyPair) -> Result<Vec<u8>, Failed> {
    cose::sign(&FORM, &ticket.payload(), key)
}

/// Reads a ticket that was signed with the private half of `spki`.
///
/// # Errors
/// [`Refused::Malformed`] for everything but the one form; [`Refused::Signature`] where the
/// signature is not this key's, or `spki` is none.
pub fn verify(bytes: &[u8], spki: &[u8]) -> Result<Ticket, Refused> {
    Ticket::from_payload(cose::verified(&FORM, bytes, spki)?)
}

impl Ticket {
    /// What is signed of it. Its fields are in the order of their encoded names.
    fn payload(&self) -> Vec<u8> {
        let request = &self.request;
        encoded(|writer| {
            writer.map(FIELDS)?.str("ecid")?.u64(request.ecid)?;
            writer.str("epoch")?.u64(request.epoch)?;
            writer.str("nonce")?.bytes(&request.nonce)?;
            writer.str("issued")?.u64(self.issued)?;
            request.write_rest(writer)
        })
    }

    fn from_payload(bytes: &[u8]) -> Result<Ticket, Refused> {
        let mut reader = Reader::new(bytes, FIELDS)?;
        let ecid = reader.uint("ecid")?;
        let epoch = reader.uint("epoch")?;
        let nonce = reader.array("nonce")?;
        let issued = reader.uint("issued")?;
        let product = reader.product()?;
        reader.constant("version", VERSION)?;
        let components = reader.components()?;
        let request = Request {
            ecid,
            nonce,
            epoch,
            product,
            components,
        };
        let ticket = Ticket { request, issued };
        let again = ticket.payload();
        reader.end(ticket, &again)
    }
}
