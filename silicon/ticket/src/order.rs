//! Work orders: what may be done inside one machine, signed by whoever its owner trusts with that
//! (`docs/work-orders.md`).

use aws_lc_rs::signature::EcdsaKeyPair;

use crate::cose::{self, Form};
use crate::fields::{Reader, VERSION, encoded};
use crate::{Failed, Refused};

/// No work order is longer.
pub const ORDER_SIZE_BYTES_MAX: usize = 512;
/// A work order's own number.
pub const ORDER_ID_SIZE_BYTES: usize = 16;
/// No job's name is longer.
pub const JOB_SIZE_BYTES_MAX: usize = 64;
/// From the first to the last second of a work order: a leap year.
pub const ORDER_SECONDS_MAX: u64 = 366 * 24 * 3600;

const TYPE: &str = "work order";
const FIELDS: u64 = 8;
const FORM: Form = Form {
    media_type: "application/x-spacegray-work-order+cbor",
    external_data: b"spacegray work order 1",
    size_bytes_max: ORDER_SIZE_BYTES_MAX,
};

/// What is done to a machine: 1 to 64 bytes of `a-z`, `0-9`, space and `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job(String);

impl Job {
    /// Takes the text, if it can name a job.
    #[must_use]
    pub fn parse(text: &str) -> Option<Job> {
        let is_plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b' ' | b'-');
        ((1..=JOB_SIZE_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain))
            .then(|| Job(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// When a work order is good: never for longer than [`ORDER_SECONDS_MAX`]. Seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    not_before: u64,
    not_after: u64,
}

impl Validity {
    /// From the first second to the last; `None` where they are the wrong way round or too far
    /// apart.
    #[must_use]
    pub fn new(not_before: u64, not_after: u64) -> Option<Validity> {
        let seconds = not_after.checked_sub(not_before)?;
        (seconds <= ORDER_SECONDS_MAX).then_some(Validity {
            not_before,
            not_after,
        })
    }

    /// Whether this second is one of them.
    #[must_use]
    pub fn covers(self, time: u64) -> bool {
        (self.not_before..=self.not_after).contains(&time)
    }

    /// The last second.
    #[must_use]
    pub fn not_after(self) -> u64 {
        self.not_after
    }
}

/// A signed work order's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The number of the chip in whose machine it is to be done.
    pub ecid: u64,
    /// Random; a chip takes one order with it.
    pub id: [u8; ORDER_ID_SIZE_BYTES],
    /// What is to be done.
    pub job: Job,
    /// When it was signed, seconds since 1970 by the signer's clock; nobody decides by it.
    pub issued: u64,
    /// When it may be done.
    pub validity: Validity,
}

/// Signs a work order. The key has to sign by `ECDSA_P256_SHA256_FIXED_SIGNING`.
///
/// # Errors
/// [`Failed`] when the cryptographic library does.
pub fn sign_order(order: &Order, key: &EcdsaKeyPair) -> Result<Vec<u8>, Failed> {
    cose::sign(&FORM, &order.payload(), key)
}

/// Reads a work order that was signed with the private half of `spki`.
///
/// # Errors
/// [`Refused::Malformed`] for everything but the one form; [`Refused::Signature`] where the
/// signature is not this key's, or `spki` is none.
pub fn verify_order(bytes: &[u8], spki: &[u8]) -> Result<Order, Refused> {
    Order::from_payload(cose::verified(&FORM, bytes, spki)?)
}

impl Order {
    /// What is signed of it. Its fields are in the order of their encoded names.
    fn payload(&self) -> Vec<u8> {
        encoded(|writer| {
            writer.map(FIELDS)?.str("id")?.bytes(&self.id)?;
            writer.str("job")?.str(self.job.as_str())?;
            writer.str("ecid")?.u64(self.ecid)?;
            writer.str("type")?.str(TYPE)?;
            writer.str("issued")?.u64(self.issued)?;
            writer.str("version")?.u64(VERSION)?;
            writer.str("not_after")?.u64(self.validity.not_after)?;
            writer.str("not_before")?.u64(self.validity.not_before)
        })
    }

    fn from_payload(bytes: &[u8]) -> Result<Order, Refused> {
        let mut reader = Reader::new(bytes, FIELDS)?;
        let id = reader.array("id")?;
        let job = Job::parse(reader.text("job")?).ok_or(Refused::Malformed)?;
        let ecid = reader.uint("ecid")?;
        reader.word("type", TYPE)?;
        let issued = reader.uint("issued")?;
        reader.constant("version", VERSION)?;
        let not_after = reader.uint("not_after")?;
        let not_before = reader.uint("not_before")?;
        let order = Order {
            ecid,
            id,
            job,
            issued,
            validity: Validity::new(not_before, not_after).ok_or(Refused::Malformed)?,
        };
        let again = order.payload();
        reader.end(order, &again)
    }
}
