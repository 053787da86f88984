//! The record of what was done inside the machine.

use vault::{Leave, Work};
use wire::vault::Service as Asked;
use wire::{Value, success};

use super::{Answer, Descriptors, Service, proven, read, unlocked};
use crate::refusals::LOCKED;

impl Service<'_> {
    pub(super) fn service(&self) -> Answer {
        let record = unlocked(&self.vault)?.service();
        Ok(success(&[
            ("entries", Value::Uint(record.entries())),
            ("head", Value::Bytes(record.head())),
            ("last", Value::Bytes(record.last())),
            ("providers", Value::Bytes(&record.encode_providers())),
        ]))
    }

    pub(super) fn record_service(&mut self, asked: &Asked, mut descriptors: Descriptors) -> Answer {
        let secret = match asked.order.is_empty() {
            true => descriptors.last_if_any()?.map(read).transpose()?,
            // Whoever has an order needs to be nobody.
            false => descriptors.none().map(|()| None)?,
        };
        let leave = match asked.order.is_empty() {
            true => Leave::Owner(secret.as_ref().map(|secret| proven(asked.proof, secret))),
            false => Leave::Order(&asked.order),
        };
        let work = Work {
            job: &asked.job,
            detail: &asked.detail,
            time: asked.time,
            continues: asked.continues.as_ref(),
        };
        let vault = self.vault.as_mut().ok_or(LOCKED)?;
        let recorded = vault.record_service(self.place, &work, &leave);
        let entry = self.changed(recorded)?;
        let record = unlocked(&self.vault)?.service();
        Ok(success(&[
            ("entry", Value::Bytes(&entry)),
            ("entries", Value::Uint(record.entries())),
            ("head", Value::Bytes(record.head())),
        ]))
    }
}
