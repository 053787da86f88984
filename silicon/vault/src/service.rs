//! Work inside the machine: by whose leave it is done, and the record of it.
//!
//! The owner may do what they like to their machine; for anybody else's work they trust providers,
//! who sign work orders (`docs/work-orders.md`). Every job that was done is one entry of a record
//! that the identity key signs (`docs/service-record.md`). The vault sees no part of the machine:
//! that what was recorded was done is the firmware's word, as is the time.
//!
//! Invariants: an entry that was handed out is in the store, and its order is spent there by the
//! same write; an order counts once, for this chip, for the job that it names, while it is valid,
//! if somebody who is trusted now signed it; nothing of it is read before that signature was found
//! good. Where there is a password, who is trusted changes and the owner's own work is recorded
//! only for somebody who proved to be the owner, and each such try is charged as for
//! [`Vault::unlock`]; the disk's key is not left open by it. What was put back records nothing.

use ticket::{Job, Order, PUBLIC_KEY_SIZE_BYTES, Refused};

use crate::Error;
use crate::access::Proof;
use crate::boundary::Place;
use crate::error::ChangeError;
use crate::record::{Provider, Record};
use crate::start::DIGEST_SIZE_BYTES;
use crate::statement::{self, ServiceEntry};
use crate::vault::{Keep, Vault};

/// What is to be recorded.
pub struct Work<'a> {
    /// What is done, as a work order would name it.
    pub job: &'a str,
    /// More about it: a CBOR map of plain values with names as keys, or nothing.
    pub detail: &'a [u8],
    /// When, seconds since 1970 by the host's clock.
    pub time: u64,
    /// The head of the record that the first entry goes on from: that of the chip before this one.
    pub continues: Option<&'a [u8; DIGEST_SIZE_BYTES]>,
}

/// By whose leave work is done.
pub enum Leave<'a> {
    /// The owner's, with a proof where there is a password.
    Owner(Option<Proof<'a>>),
    /// That of whoever signed this work order.
    Order(&'a [u8]),
}

impl Vault {
    /// What was done inside the machine, and who may have it done.
    pub fn service(&self) -> &Record {
        &self.contents.record
    }

    /// From now on orders that are signed with this key count; one that is trusted already gets
    /// this name.
    ///
    /// # Errors
    /// As [`Vault::unlock`]; [`Error::Malformed`], [`Error::Full`]; [`Error::Unauthorised`] without
    /// the proof where there is a password.
    pub fn trust_provider(
        &mut self,
        place: &Place,
        name: &str,
        key: &[u8; PUBLIC_KEY_SIZE_BYTES],
        proof: Option<&Proof<'_>>,
    ) -> Result<(), ChangeError> {
        self.must_fit()?;
        let mut record = self.contents.record.clone();
        record.trust(Provider::new(name, key)?)?;
        self.must_be_owner(place, proof)?;
        self.put_record(place, record)
    }

    /// From now on they do not.
    ///
    /// # Errors
    /// As [`Vault::unlock`]; [`Error::Absent`] for a key that is not trusted;
    /// [`Error::Unauthorised`] without the proof where there is a password.
    pub fn distrust_provider(
        &mut self,
        place: &Place,
        fingerprint: &[u8; DIGEST_SIZE_BYTES],
        proof: Option<&Proof<'_>>,
    ) -> Result<(), ChangeError> {
        self.must_fit()?;
        let mut record = self.contents.record.clone();
        record.distrust(fingerprint)?;
        self.must_be_owner(place, proof)?;
        self.put_record(place, record)
    }

    /// Records that work is done, and spends the order for it. Returns the entry, signed (COSE).
    ///
    /// # Errors
    /// [`Error::Malformed`] for what no entry can hold. With an order [`Error::Order`],
    /// [`Error::OtherChip`], [`Error::Job`], [`Error::Replayed`], [`Error::Validity`]; by the owner
    /// as [`Vault::unlock`], and [`Error::Unauthorised`] without the proof.
    pub fn record_service(
        &mut self,
        place: &Place,
        work: &Work<'_>,
        leave: &Leave<'_>,
    ) -> Result<Vec<u8>, ChangeError> {
        self.must_fit()?;
        let job = Job::parse(work.job).ok_or(Error::Malformed(
            "a job has 1 to 64 of a to z, 0 to 9, space and -",
        ))?;
        statement::check_detail(work.detail)?;
        if work.continues.is_some() && self.contents.record.entries() > 0 {
            return Err(Error::Malformed("only a first entry goes on from another record").into());
        }
        let (by, order) = match leave {
            Leave::Order(order) => {
                let order = self.order(order)?;
                self.check_order(&order.1, &job, work.time)?;
                ("provider", Some(order))
            }
            Leave::Owner(proof) => match self.must_be_owner(place, proof.as_ref())? {
                true => ("owner with password", None),
                false => ("owner", None),
            },
        };
        let (fingerprint, id): (&[u8], &[u8]) = match &order {
            Some((fingerprint, order)) => (fingerprint, &order.id),
            None => (&[], &[]),
        };
        let mut record = self.contents.record.clone();
        let entry = ServiceEntry {
            ecid: self.ecid,
            number: record.entries(),
            previous: work.continues.unwrap_or(record.head()),
            time: work.time,
            job: job.as_str(),
            by,
            provider: fingerprint,
            order: id,
            detail: work.detail,
        };
        let entry = statement::service_entry(&self.contents.identity_key, &entry)?;
        record.append(entry.clone());
        if let Some((_, order)) = &order {
            record.spend(order);
        }
        self.put_record(place, record)?;
        Ok(entry)
    }

    /// An order that somebody signed who is trusted now, and that key's name.
    fn order(&self, bytes: &[u8]) -> Result<([u8; DIGEST_SIZE_BYTES], Order), Error> {
        for provider in self.contents.record.providers() {
            match ticket::verify_order(bytes, provider.key()) {
                Ok(order) => return Ok((provider.fingerprint(), order)),
                Err(Refused::Malformed) => return Err(Error::Order("it is none")),
                Err(Refused::Signature) => {}
            }
        }
        Err(Error::Order("no trusted provider signed it"))
    }

    fn check_order(&self, order: &Order, job: &Job, time: u64) -> Result<(), Error> {
        if order.ecid != self.ecid {
            return Err(Error::OtherChip);
        }
        if order.job != *job {
            return Err(Error::Job);
        }
        self.contents.record.check_order(order, time)
    }

    fn put_record(&mut self, place: &Place, record: Record) -> Result<(), ChangeError> {
        let changed = self.change(place, Keep::Anchor, false, |next| {
            next.record = record;
            Ok(())
        });
        changed.map(|_| ())
    }
}
