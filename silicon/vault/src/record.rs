//! What was done inside the machine, as the store keeps it: whom the owner trusts with that, which
//! work orders are spent, and where the record ends.
//!
//! It is the machine's, not the disk's or the system's: an erase and a new life leave it as it is.
//! A new chip begins with none.
//!
//! Invariants: a work order that was spent is refused for good, by its number or, once there was no
//! more room for that, because it expired no later than the floor; the floor never goes down; the
//! head is the digest of the last entry.

use aws_lc_rs::digest::{SHA256, digest};
use minicbor::encode::Error as EncodeError;
use minicbor::encode::write::EndOfSlice;
use minicbor::{Decoder, Encoder};
use ticket::{ORDER_ID_SIZE_BYTES, Order, PUBLIC_KEY_SIZE_BYTES};

use crate::Error;
use crate::contents::fields::{Reader, Writer};
use crate::start::DIGEST_SIZE_BYTES;
use crate::statement::ENTRY_SIZE_BYTES_MAX;

/// As many providers are trusted at once.
pub const PROVIDERS_MAX: usize = 8;
/// The longest name of a provider.
pub const PROVIDER_NAME_SIZE_BYTES_MAX: usize = 64;
/// As many spent work orders are remembered by their number.
pub const SPENT_ORDERS_MAX: usize = 64;
/// How many fields there are.
pub const FIELDS: u64 = 6;

const TIME_SIZE_BYTES: usize = 8;
const SPENT_SIZE_BYTES: usize = ORDER_ID_SIZE_BYTES + TIME_SIZE_BYTES;
const DAMAGED: Error = Error::Corrupt("service record");

/// Who may sign work orders for this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    name: String,
    key: [u8; PUBLIC_KEY_SIZE_BYTES],
}

/// A work order that is good no more.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Spent {
    id: [u8; ORDER_ID_SIZE_BYTES],
    not_after: u64,
}

/// What was done, by whose leave, and who may give it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    providers: Vec<Provider>,
    spent: Vec<Spent>,
    /// No order that expires then or earlier is taken.
    floor: u64,
    entries: u64,
    head: [u8; DIGEST_SIZE_BYTES],
    last: Vec<u8>,
}

impl Provider {
    /// Somebody of this name, whose orders are signed with this key (`SubjectPublicKeyInfo`).
    ///
    /// # Errors
    /// [`Error::Malformed`] for a name that is none or a key that checks no order.
    pub fn new(name: &str, key: &[u8; PUBLIC_KEY_SIZE_BYTES]) -> Result<Provider, Error> {
        let is_plain = |byte| matches!(byte, b' '..=b'~');
        let fits = (1..=PROVIDER_NAME_SIZE_BYTES_MAX).contains(&name.len());
        if !fits || !name.bytes().all(is_plain) {
            return Err(Error::Malformed(
                "a provider's name has 1 to 64 printable characters of ASCII",
            ));
        }
        if !ticket::is_key(key) {
            return Err(Error::Malformed("the provider's key is none of P-256"));
        }
        Ok(Provider {
            name: name.to_owned(),
            key: *key,
        })
    }

    /// What its orders are verified with.
    pub fn key(&self) -> &[u8; PUBLIC_KEY_SIZE_BYTES] {
        &self.key
    }

    /// What names its key: SHA-256 of it.
    pub fn fingerprint(&self) -> [u8; DIGEST_SIZE_BYTES] {
        ticket::key_id(&self.key)
    }
}

impl Record {
    /// Who is trusted.
    pub fn providers(&self) -> &[Provider] {
        &self.providers
    }

    /// The same in CBOR: an array with name and key of each.
    pub fn encode_providers(&self) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new());
        let count = self.providers.len() as u64;
        // Writing to a vector cannot fail.
        encoder.array(count).expect("a vector takes all bytes");
        for provider in &self.providers {
            (encoder.array(2))
                .and_then(|encoder| encoder.str(&provider.name))
                .and_then(|encoder| encoder.bytes(&provider.key))
                .expect("a vector takes all bytes");
        }
        encoder.into_writer()
    }

    /// How many entries there are.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// SHA-256 of the last entry; zeros before the first.
    pub fn head(&self) -> &[u8; DIGEST_SIZE_BYTES] {
        &self.head
    }

    /// The last entry; empty before the first.
    pub fn last(&self) -> &[u8] {
        &self.last
    }

    /// From now on its orders count. A key that is trusted already gets this name.
    ///
    /// # Errors
    /// [`Error::Full`].
    pub(crate) fn trust(&mut self, provider: Provider) -> Result<(), Error> {
        let known = (self.providers.iter()).position(|known| known.key == provider.key);
        match known {
            Some(place) => self.providers[place] = provider,
            None if self.providers.len() == PROVIDERS_MAX => return Err(Error::Full),
            None => self.providers.push(provider),
        }
        Ok(())
    }

    /// From now on the orders of this key count no more.
    ///
    /// # Errors
    /// [`Error::Absent`] when it is not trusted.
    pub(crate) fn distrust(&mut self, fingerprint: &[u8; DIGEST_SIZE_BYTES]) -> Result<(), Error> {
        let is_this = |provider: &Provider| provider.fingerprint() == *fingerprint;
        let place = (self.providers.iter())
            .position(is_this)
            .ok_or(Error::Absent)?;
        self.providers.remove(place);
        Ok(())
    }

    /// Whether this order is still good at this moment.
    ///
    /// # Errors
    /// [`Error::Replayed`], [`Error::Validity`].
    pub(crate) fn check_order(&self, order: &Order, time: u64) -> Result<(), Error> {
        if self.spent.iter().any(|spent| spent.id == order.id) {
            return Err(Error::Replayed);
        }
        if !order.validity.covers(time) || order.validity.not_after() <= self.floor {
            return Err(Error::Validity);
        }
        Ok(())
    }

    /// The order is good no more. Where there is no room to remember it, the one that expires first
    /// is forgotten, and with it everything that expires no later is refused.
    pub(crate) fn spend(&mut self, order: &Order) {
        self.spent.push(Spent {
            id: order.id,
            not_after: order.validity.not_after(),
        });
        if self.spent.len() > SPENT_ORDERS_MAX {
            let first = (0..self.spent.len())
                .min_by_key(|place| self.spent[*place].not_after)
                .expect("it is not empty");
            self.floor = self.floor.max(self.spent.remove(first).not_after);
        }
    }

    /// This entry is the last one.
    pub(crate) fn append(&mut self, entry: Vec<u8>) {
        self.entries += 1;
        self.head = digest_of(&entry);
        self.last = entry;
    }

    /// Writes its fields.
    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError<EndOfSlice>> {
        let spent: Vec<u8> = (self.spent.iter())
            .flat_map(|spent| [&spent.id[..], &spent.not_after.to_be_bytes()].concat())
            .collect();
        writer.bytes("providers", &self.encode_providers())?;
        writer.bytes("spent_orders", &spent)?;
        writer.uint("spent_floor", self.floor)?;
        writer.uint("record_entries", self.entries)?;
        writer.bytes("record_head", &self.head)?;
        writer.bytes("record_last", &self.last)
    }

    /// Reads what [`Record::write`] wrote.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Record, Error> {
        let record = Record {
            providers: providers(reader.bytes("providers")?)?,
            spent: spent(reader.bytes("spent_orders")?)?,
            floor: reader.uint("spent_floor")?,
            entries: reader.uint("record_entries")?,
            head: reader.array("record_head")?.ok_or(DAMAGED)?,
            last: reader.bytes("record_last")?.to_vec(),
        };
        let is_whole = match record.entries {
            0 => record.last.is_empty() && record.head == [0; DIGEST_SIZE_BYTES],
            _ => {
                (1..=ENTRY_SIZE_BYTES_MAX).contains(&record.last.len())
                    && record.head == digest_of(&record.last)
            }
        };
        is_whole.then_some(record).ok_or(DAMAGED)
    }
}

fn digest_of(entry: &[u8]) -> [u8; DIGEST_SIZE_BYTES] {
    let digest = digest(&SHA256, entry);
    digest.as_ref().try_into().expect("a SHA-256 has 32 bytes")
}

fn providers(bytes: &[u8]) -> Result<Vec<Provider>, Error> {
    let unreadable = |_| DAMAGED;
    let mut decoder = Decoder::new(bytes);
    let mut record = Record::default();
    for _ in 0..decoder.array().map_err(unreadable)?.ok_or(DAMAGED)? {
        if decoder.array().map_err(unreadable)? != Some(2) {
            return Err(DAMAGED);
        }
        let name = decoder.str().map_err(unreadable)?;
        let key = decoder.bytes().map_err(unreadable)?;
        let key = key.try_into().map_err(|_| DAMAGED)?;
        let provider = Provider::new(name, key).map_err(|_| DAMAGED)?;
        record.trust(provider).map_err(|_| DAMAGED)?;
    }
    // Each key once, nothing after the last: there is one form of it.
    (record.encode_providers() == bytes)
        .then_some(record.providers)
        .ok_or(DAMAGED)
}

fn spent(bytes: &[u8]) -> Result<Vec<Spent>, Error> {
    let each = bytes.chunks_exact(SPENT_SIZE_BYTES);
    if !each.remainder().is_empty() || each.len() > SPENT_ORDERS_MAX {
        return Err(DAMAGED);
    }
    let read = |each: &[u8]| {
        let (id, not_after) = each.split_at(ORDER_ID_SIZE_BYTES);
        Ok(Spent {
            id: id.try_into().map_err(|_| DAMAGED)?,
            not_after: u64::from_be_bytes(not_after.try_into().map_err(|_| DAMAGED)?),
        })
    };
    each.map(read).collect()
}

#[cfg(test)]
mod tests;
