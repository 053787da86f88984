//! What may start: tickets taken and refused, systems tried, rules changed, whatever is cut.

use ticket::{Components, Product, Request, Ticket};

use super::*;
use crate::slots::Slot::{A, B};

const PRODUCT: &str = "tiny";

fn components(byte: u8) -> Components {
    Components {
        firmware: [byte; 32],
        variables: [byte; 32],
        kernel: [byte; 32],
        system: [byte; 32],
        recovery: [byte; 32],
        recovery_kernel: [byte; 32],
    }
}

fn request(vault: &mut Vault, epoch: u64) -> Request {
    let request = vault.request_ticket(PRODUCT, epoch, components(1));
    Request::parse(&request.unwrap()).unwrap()
}

fn signed(request: Request) -> Vec<u8> {
    let ticket = Ticket { request, issued: 9 };
    TICKET_KEY.with(|key| ticket::sign(&ticket, key).unwrap())
}

fn install(
    vault: &mut Vault,
    place: &Place,
    slot: Slot,
    epoch: u64,
    tries: u64,
) -> Result<(), ChangeError> {
    let ticket = signed(request(vault, epoch));
    vault.accept_ticket(place, slot, &ticket, tries)
}

/// What is in the slots: epochs, the current one, tries left.
fn slots(vault: &Vault) -> ([Option<u64>; 2], Option<Slot>, Option<u64>) {
    let slots = vault.boot().slots;
    let epochs = Slot::ALL.map(|slot| slots.entry(slot).map(|entry| entry.epoch));
    (epochs, slots.current(), slots.tries_left())
}

/// Which slot starts, and whether its system is tried.
pub fn start(vault: &mut Vault, place: &Place) -> (Slot, bool) {
    let started = vault.begin_start(place, Target::Main).ok().unwrap();
    (started.slot, started.trying)
}

/// A chip with a password and a system of epoch 5 in slot A.
pub fn installed_chip() -> TempDir {
    let chip = locked_chip();
    let ours = place(&chip);
    install(&mut open(&ours), &ours, A, 5, 0).unwrap();
    chip
}

/// The recovery system was started, and its owner is there.
pub fn own(vault: &mut Vault, place: &Place) {
    vault.begin_start(place, Target::Recovery).ok().unwrap();
    unlock_in_recovery(vault, place).unwrap();
}

pub fn unlock_in_recovery(vault: &mut Vault, place: &Place) -> Result<(), ChangeError> {
    let (secret, budget) = (&password(RIGHT), Budget::PasswordInRecovery);
    vault.unlock_in_recovery(place, &Proof { budget, secret })
}

pub const LOOSEST: Rules = Rules {
    policy: Policy::None,
    external_boot: true,
    other_systems: true,
};

/// Promise: a ticket is taken as the answer to the open request, once, and stays.
#[test]
fn tickets_are_taken_once() {
    let chip = chip();
    let ours = place(&chip);
    let mut vault = open(&ours);
    let nothing = vault.begin_start(&ours, Target::Main).err();
    assert_eq!(nothing, Some(Error::NoTicket.into()));
    let ticket = signed(request(&mut vault, 5));
    vault.accept_ticket(&ours, A, &ticket, 0).unwrap();
    let again = vault.accept_ticket(&ours, B, &ticket, 0);
    assert_eq!(again, Err(Error::Nonce.into()));
    assert_eq!(slots(&vault), ([Some(5), None], Some(A), None));
    let mut vault = open(&ours);
    let later = vault.accept_ticket(&ours, B, &ticket, 0);
    assert_eq!(later, Err(Error::Nonce.into()));
    assert_eq!(start(&mut vault, &ours), (A, false));
    let begun = vault.begin_start(&ours, Target::Recovery).ok().unwrap();
    assert_eq!(begun.entry.components, components(1));
}

/// Promise: no other ticket is taken, and each attempt ends the request; nothing has changed then.
#[test]
fn other_tickets_are_refused() {
    let chip = installed_chip();
    let ours = place(&chip);
    let mut vault = open(&ours);
    vault.begin_start(&ours, Target::Main).ok().unwrap();
    vault.came_up(&ours).unwrap();
    let before = (slots(&vault), vault.status(&ours).boundaries);
    let forged = |request| {
        let ticket = Ticket { request, issued: 9 };
        ticket::sign(&ticket, &new_key()).unwrap()
    };
    let renamed = |request| {
        signed(Request {
            product: Product::parse("pro").unwrap(),
            ..request
        })
    };
    type Altered<'a> = (&'a dyn Fn(Request) -> Vec<u8>, Error);
    let altered: [Altered<'_>; 8] = [
        (
            &forged,
            Error::Ticket("this chip's authority did not sign it"),
        ),
        (
            &|request| signed(request)[1..].to_vec(),
            Error::Ticket("it is none"),
        ),
        (&|_| Vec::new(), Error::Ticket("it is none")),
        (
            &|request| {
                signed(Request {
                    ecid: request.ecid ^ 1,
                    ..request
                })
            },
            Error::OtherChip,
        ),
        (
            &|request| {
                signed(Request {
                    nonce: [0; 32],
                    ..request
                })
            },
            Error::Nonce,
        ),
        (
            &|request| {
                signed(Request {
                    epoch: 4,
                    ..request
                })
            },
            Error::Epoch,
        ),
        (
            &|request| {
                signed(Request {
                    epoch: 9,
                    ..request
                })
            },
            Error::Ticket(ANOTHER),
        ),
        (&renamed, Error::Ticket(ANOTHER)),
    ];
    for (alter, expected) in altered {
        let request = request(&mut vault, 5);
        let refused = vault.accept_ticket(&ours, B, &alter(request.clone()), 0);
        assert_eq!(refused, Err(expected.into()));
        let spent = vault.accept_ticket(&ours, B, &signed(request), 0);
        assert_eq!(spent, Err(Error::Nonce.into()));
    }
    assert_eq!(
        install(&mut vault, &ours, B, 4, 1),
        Err(Error::Epoch.into())
    );
    assert_eq!(
        install(&mut vault, &ours, A, 6, 1),
        Err(Error::InUse.into())
    );
    let unnamed = vault.request_ticket("No Product", 5, components(1));
    assert!(matches!(unnamed, Err(Error::Malformed(_))));
    assert_eq!((slots(&vault), vault.status(&ours).boundaries), before);
    install(&mut vault, &ours, B, 5, 1).unwrap();
}

const ANOTHER: &str = "it names another system than was asked for";

/// Promise: a system that does not come up is tried so often and no more, across power cuts; one
/// that does is the current one, the epoch moves on, and the one before goes if it is older.
#[test]
fn systems_are_tried() {
    let chip = installed_chip();
    let ours = place(&chip);
    install(&mut open(&ours), &ours, B, 6, 2).unwrap();
    for left in [1, 0] {
        let mut vault = open(&ours);
        assert_eq!(start(&mut vault, &ours), (B, true));
        assert_eq!(slots(&open(&ours)).2, Some(left));
    }
    // The other systems are the current one's, and cost no try.
    let mut vault = open(&ours);
    for target in [Target::Recovery, Target::Other] {
        let started = vault.begin_start(&ours, target).ok().unwrap();
        assert_eq!((started.slot, started.trying), (A, false));
    }
    assert_eq!(start(&mut vault, &ours), (A, false));
    assert_eq!(slots(&vault), ([Some(5), None], Some(A), None));
    vault.came_up(&ours).unwrap();
    assert_eq!(vault.boot().minimum_epoch, 5);

    install(&mut vault, &ours, B, 6, 1).unwrap();
    assert_eq!(start(&mut vault, &ours), (B, true));
    vault.came_up(&ours).unwrap();
    assert_eq!(slots(&open(&ours)), ([None, Some(6)], Some(B), None));
    let boundaries = vault.status(&ours).boundaries;
    vault.came_up(&ours).unwrap();
    vault.give_up(&ours).unwrap();
    assert_eq!(start(&mut vault, &ours), (B, false));
    assert_eq!(vault.status(&ours).boundaries, boundaries);
    assert_eq!(
        install(&mut vault, &ours, A, 5, 0),
        Err(Error::Epoch.into())
    );

    install(&mut vault, &ours, A, 7, 1).unwrap();
    assert_eq!(start(&mut vault, &ours), (A, true));
    vault.give_up(&ours).unwrap();
    assert_eq!(slots(&vault), ([None, Some(6)], Some(B), None));
}

/// Promise: only what was started can have come up: no epoch moves on for anything else.
#[test]
fn only_what_was_started_comes_up() {
    let chip = installed_chip();
    let ours = place(&chip);
    let mut vault = open(&ours);
    let not_started = Err(Error::NotStarted.into());
    assert_eq!(vault.came_up(&ours), not_started);
    vault.begin_start(&ours, Target::Recovery).ok().unwrap();
    assert_eq!(vault.came_up(&ours), not_started);
    install(&mut vault, &ours, B, 6, 1).unwrap();
    start(&mut vault, &ours);
    // While it runs, another takes its place.
    install(&mut vault, &ours, B, 9, 1).unwrap();
    assert_eq!(vault.came_up(&ours), not_started);
    start(&mut vault, &ours);
    vault.give_up(&ours).unwrap();
    assert_eq!(vault.came_up(&ours), not_started);
    start(&mut vault, &ours);
    let refused = vault.begin_start(&ours, Target::External).err();
    assert_eq!(refused, Some(Error::ExternalBoot.into()));
    assert_eq!(vault.came_up(&ours), not_started);
    assert_eq!(vault.boot().minimum_epoch, 0);
}

/// Promise: a new life begins with the strictest rules, no system and no firmware password; the
/// epochs of the life before are not forgotten, and only the new authority's tickets count.
#[test]
fn a_new_life_begins_strictly() {
    let chip = installed_chip();
    let ours = place(&chip);
    let mut vault = open(&ours);
    start(&mut vault, &ours);
    vault.came_up(&ours).unwrap();
    own(&mut vault, &ours);
    vault.set_policy(&ours, LOOSEST).unwrap();
    vault.set_firmware_password(&ours, &password("x")).unwrap();
    vault.keep_variables(&ours, &[7; 32]).unwrap();
    assert_eq!(vault.boot().variables, Some(&[7; 32]));
    let other = new_key();
    let new = Authority {
        key: (other.public_key().as_der().unwrap().as_ref().try_into()).unwrap(),
        vendor: b"another certificate".to_vec(),
    };
    let no_key = Authority {
        key: [0; ticket::PUBLIC_KEY_SIZE_BYTES],
        vendor: b"x".to_vec(),
    };
    let refused = vault.restore(&ours, no_key).err();
    assert!(matches!(
        refused,
        Some(ChangeError::Unchanged(Error::Malformed(_)))
    ));
    let asked = request(&mut vault, 5);
    vault.restore(&ours, new).unwrap();
    for vault in [&vault, &open(&ours)] {
        let boot = vault.boot();
        assert_eq!(boot.rules, Rules::STRICTEST);
        assert_eq!((boot.minimum_epoch, boot.target), (5, None));
        assert_eq!((boot.firmware_password, boot.owner_present), (false, false));
        assert_eq!((boot.slots, boot.variables), (&Slots::default(), None));
        assert_eq!(vault.identity().vendor, b"another certificate");
    }
    let before = vault.accept_ticket(&ours, A, &signed(asked), 0);
    assert!(matches!(
        before,
        Err(ChangeError::Unchanged(Error::Ticket(_)))
    ));
    let old_epoch = request(&mut vault, 4);
    let ticket = |request| ticket::sign(&Ticket { request, issued: 9 }, &other).unwrap();
    let refused = vault.accept_ticket(&ours, A, &ticket(old_epoch), 0);
    assert_eq!(refused, Err(Error::Epoch.into()));
    let asked = request(&mut vault, 5);
    (vault.accept_ticket(&ours, A, &ticket(asked), 0)).unwrap();
}

/// Promise: whenever the power is cut during any change of what may start, there is the old state
/// or the new one, and the rest of the chip is as it was; and the answer was not a lie.
#[test]
fn changes_cut_at_each_change() {
    type Change = fn(&mut Vault, &Place) -> Result<(), ChangeError>;
    let changes: [(&str, Change); 6] = [
        ("a ticket", |vault, place| install(vault, place, B, 6, 0)),
        ("a try", |vault, place| {
            vault.begin_start(place, Target::Main).map(|_| ())
        }),
        ("came up", Vault::came_up),
        ("given up", Vault::give_up),
        ("rules", |vault, place| vault.set_policy(place, LOOSEST)),
        ("variables", |vault, place| {
            vault.keep_variables(place, &[7; 32])
        }),
    ];
    let chip = installed_chip();
    let ours = place(&chip);
    install(&mut open(&ours), &ours, B, 6, 2).unwrap();
    drop(ours);
    let state = |vault: &Vault| {
        let boot = vault.boot();
        let rules = (boot.rules, boot.minimum_epoch, boot.variables.copied());
        (boot.slots.clone(), rules)
    };
    for (name, change) in changes {
        let (mut steps, mut seen) = (0, [0; 2]);
        while seen[1] < 4 {
            let folder = copy(chip.path());
            let cut = place(&folder);
            let mut vault = open(&cut);
            match name {
                "rules" => own(&mut vault, &cut),
                "came up" => drop(start(&mut vault, &cut)),
                _ => {}
            }
            let before = state(&vault);
            cut.folder.leave_power(Some(steps));
            let result = change(&mut vault, &cut);
            cut.folder.leave_power(None);
            let after = state(&vault);
            drop(cut);
            let again = place(&folder);
            let mut vault = open(&again);
            let found = state(&vault);
            try_with(&mut vault, &again, Budget::Password, RIGHT).unwrap();
            match result {
                Ok(()) => assert_eq!(found, after, "{name}, {steps}"),
                Err(ChangeError::Unchanged(_)) => assert_eq!(found, before, "{name}, {steps}"),
                Err(ChangeError::Uncertain(_)) => {}
            }
            seen[usize::from(found != before)] += 1;
            steps += 1;
        }
        assert!(seen[0] > 4, "{name}: {seen:?}");
    }
}
