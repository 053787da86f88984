//! What a chip asks to be signed.

use crate::Refused;
use crate::fields::{Components, Product, Reader, VERSION, Writer, Written, encoded};

/// A nonce's length.
pub const NONCE_SIZE_BYTES: usize = 32;
/// No request is longer.
pub const REQUEST_SIZE_BYTES_MAX: usize = 512;

const TYPE: &str = "ticket request";
const FIELDS: u64 = 7;

/// What a chip asks to be signed for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The chip's number.
    pub ecid: u64,
    /// Random; the chip takes one ticket for it.
    pub nonce: [u8; NONCE_SIZE_BYTES],
    /// The system's security epoch: of two systems of one product, the newer one's is not lower.
    pub epoch: u64,
    /// What the system is an edition of.
    pub product: Product,
    /// What is to start.
    pub components: Components,
}

impl Request {
    /// Reads a whole request.
    ///
    /// # Errors
    /// [`Refused::Malformed`] for everything but its one form.
    pub fn parse(bytes: &[u8]) -> Result<Request, Refused> {
        if bytes.len() > REQUEST_SIZE_BYTES_MAX {
            return Err(Refused::Malformed);
        }
        let mut reader = Reader::new(bytes, FIELDS)?;
        let ecid = reader.uint("ecid")?;
        reader.word("type", TYPE)?;
        let epoch = reader.uint("epoch")?;
        let nonce = reader.array("nonce")?;
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
        let again = request.encode();
        reader.end(request, &again)
    }

    /// Its one form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encoded(|writer| {
            writer.map(FIELDS)?.str("ecid")?.u64(self.ecid)?;
            writer.str("type")?.str(TYPE)?;
            writer.str("epoch")?.u64(self.epoch)?;
            writer.str("nonce")?.bytes(&self.nonce)?;
            self.write_rest(writer)
        })
    }

    /// The fields that come last, in a request and in a ticket.
    pub(crate) fn write_rest<'a>(&self, writer: &'a mut Writer) -> Written<'a> {
        writer.str("product")?.str(self.product.as_str())?;
        writer.str("version")?.u64(VERSION)?;
        self.components.write(writer)
    }
}
