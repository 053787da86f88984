//! What decides what starts: tickets, rules, the firmware password, and the starts themselves.

use std::os::fd::OwnedFd;

use vault::{Authority, BootState, Policy, Rules, Slot, Started, Target, Vault};
use wire::vault::{Components, Request};
use wire::{Value, success};

use super::{Answer, Service, read, unlocked};
use crate::refusals::{LOCKED, reported};

impl Service<'_> {
    /// The operations that take no descriptor; `None` for another one.
    pub(super) fn answer_start(&mut self, request: &Request) -> Option<Answer> {
        Some(match request {
            Request::Boot => self.boot(),
            Request::RequestTicket {
                product,
                epoch,
                components,
            } => self.request_ticket(product, *epoch, components),
            Request::AcceptTicket {
                slot: into,
                ticket,
                tries,
            } => self
                .with_vault(|vault, place| vault.accept_ticket(place, slot(*into), ticket, *tries)),
            Request::BeginStart(target) => self.begin_start(self::target(*target)),
            Request::CameUp => self.with_vault(Vault::came_up),
            Request::GiveUp => self.with_vault(Vault::give_up),
            Request::SetPolicy {
                policy,
                external_boot,
                other_systems,
            } => {
                let rules = Rules {
                    policy: self::policy(*policy),
                    external_boot: *external_boot,
                    other_systems: *other_systems,
                };
                self.with_vault(|vault, place| vault.set_policy(place, rules))
            }
            Request::RemoveFirmwarePassword => self.with_vault(Vault::remove_firmware_password),
            Request::KeepVariables { digest } => {
                self.with_vault(|vault, place| vault.keep_variables(place, digest))
            }
            _ => return None,
        })
    }

    pub(super) fn check_firmware_password(&mut self, given: OwnedFd) -> Answer {
        let given = read(given)?;
        self.with_vault(|vault, place| vault.check_firmware_password(place, &given))
    }

    pub(super) fn set_firmware_password(&mut self, new: OwnedFd) -> Answer {
        let new = read(new)?;
        self.with_vault(|vault, place| vault.set_firmware_password(place, &new))
    }

    fn boot(&self) -> Answer {
        let BootState {
            rules,
            firmware_password,
            firmware_password_given,
            minimum_epoch,
            slots,
            target,
            owner_present,
            variables,
        } = unlocked(&self.vault)?.boot();
        let [a, b] = Slot::ALL.map(|slot| slots.entry(slot).map(ticket::Entry::encode));
        Ok(success(&[
            ("policy", Value::Text(rules.policy.name())),
            ("external_boot", Value::Bool(rules.external_boot)),
            ("other_systems", Value::Bool(rules.other_systems)),
            ("firmware_password", Value::Bool(firmware_password)),
            (
                "firmware_password_given",
                Value::Bool(firmware_password_given),
            ),
            ("minimum_epoch", Value::Uint(minimum_epoch)),
            ("slot_a", Value::Bytes(a.as_deref().unwrap_or_default())),
            ("slot_b", Value::Bytes(b.as_deref().unwrap_or_default())),
            (
                "current",
                Value::Text(slots.current().map_or("", Slot::name)),
            ),
            ("trying", Value::Bool(slots.tries_left().is_some())),
            (
                "tries_left",
                Value::Uint(slots.tries_left().unwrap_or_default()),
            ),
            ("target", Value::Text(target.map_or("", Target::name))),
            ("owner_present", Value::Bool(owner_present)),
            ("variables", digest(variables)),
        ]))
    }

    fn request_ticket(&mut self, product: &str, epoch: u64, asked: &Components) -> Answer {
        let components = ticket::Components {
            firmware: asked.firmware,
            variables: asked.variables,
            kernel: asked.kernel,
            system: asked.system,
            recovery: asked.recovery,
            recovery_kernel: asked.recovery_kernel,
        };
        let vault = self.vault.as_mut().ok_or(LOCKED)?;
        let request = vault.request_ticket(product, epoch, components);
        let request = request.map_err(reported)?;
        Ok(success(&[("request", Value::Bytes(&request))]))
    }

    fn begin_start(&mut self, target: Target) -> Answer {
        let vault = self.vault.as_mut().ok_or(LOCKED)?;
        let begun = vault.begin_start(self.place, target);
        let reply = begun.map(|started| {
            let Started {
                slot,
                entry,
                trying,
                rules,
                variables,
            } = started;
            success(&[
                ("slot", Value::Text(slot.name())),
                ("entry", Value::Bytes(&entry.encode())),
                ("trying", Value::Bool(trying)),
                ("policy", Value::Text(rules.policy.name())),
                ("external_boot", Value::Bool(rules.external_boot)),
                ("other_systems", Value::Bool(rules.other_systems)),
                ("variables", digest(variables)),
            ])
        });
        self.changed(reply)
    }
}

/// The authority that came along with a request.
pub(super) fn authority(given: wire::vault::Authority) -> Authority {
    Authority {
        key: given.key,
        vendor: given.vendor,
    }
}

fn digest(digest: Option<&[u8; wire::vault::DIGEST_SIZE_BYTES]>) -> Value<'_> {
    Value::Bytes(digest.map_or(&[], |digest| &digest[..]))
}

fn slot(slot: wire::vault::Slot) -> Slot {
    match slot {
        wire::vault::Slot::A => Slot::A,
        wire::vault::Slot::B => Slot::B,
    }
}

fn target(target: wire::vault::Target) -> Target {
    match target {
        wire::vault::Target::Main => Target::Main,
        wire::vault::Target::Other => Target::Other,
        wire::vault::Target::External => Target::External,
        wire::vault::Target::Recovery => Target::Recovery,
    }
}

fn policy(policy: wire::vault::Policy) -> Policy {
    match policy {
        wire::vault::Policy::Full => Policy::Full,
        wire::vault::Policy::Medium => Policy::Medium,
        wire::vault::Policy::None => Policy::None,
    }
}
