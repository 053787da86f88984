//! What a chip keeps of a ticket: everything but what made it this chip's at that moment.

use crate::fields::{Components, Product, Reader, encoded};
use crate::{Refused, Ticket};

/// No entry is longer.
pub const ENTRY_SIZE_BYTES_MAX: usize = 384;

const FIELDS: u64 = 4;

/// What is known of an installed system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What may start.
    pub components: Components,
    /// The system's security epoch.
    pub epoch: u64,
    /// When the ticket was signed, seconds since 1970.
    pub issued: u64,
    /// What the system is an edition of.
    pub product: Product,
}

/// The entry of a ticket, in its one form.
#[must_use]
pub fn encode_entry(ticket: &Ticket) -> Vec<u8> {
    let request = &ticket.request;
    let entry = Entry {
        components: request.components,
        epoch: request.epoch,
        issued: ticket.issued,
        product: request.product.clone(),
    };
    entry.encode()
}

/// Reads an entry.
///
/// # Errors
/// [`Refused::Malformed`] for everything but the one form.
pub fn parse_entry(bytes: &[u8]) -> Result<Entry, Refused> {
    if bytes.len() > ENTRY_SIZE_BYTES_MAX {
        return Err(Refused::Malformed);
    }
    let mut reader = Reader::new(bytes, FIELDS)?;
    let epoch = reader.uint("epoch")?;
    let issued = reader.uint("issued")?;
    let product = reader.product()?;
    let components = reader.components()?;
    let entry = Entry {
        components,
        epoch,
        issued,
        product,
    };
    let again = entry.encode();
    reader.end(entry, &again)
}

impl Entry {
    /// Its one form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encoded(|writer| {
            writer.map(FIELDS)?.str("epoch")?.u64(self.epoch)?;
            writer.str("issued")?.u64(self.issued)?;
            writer.str("product")?.str(self.product.as_str())?;
            self.components.write(writer)
        })
    }
}
