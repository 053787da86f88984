"""The owner's password and recovery key, the machine on or off.

What proves the owner, and what is to be the new secret, are descriptors that the chip reads.
"""

import os

from spacegray.errors import SpacegrayError
from spacegray.workstation import hold, unlock, ways_back
from spacegray.workstation.api import Workstation
from spacegray.workstation.unlock import Given, Owner


def set_(workstation: Workstation, owner: Owner) -> None:
    """Have a password where there is none."""
    doing = f"setting the password of {workstation.name}"
    with hold.any_chip(workstation, doing, "getting a password", owner) as (mailbox, _):
        shown = mailbox.show()
        ways_back.must_have_disk(workstation.at, doing, shown)
        if shown["password"]:
            raise SpacegrayError(
                doing, "it has one", f"`password change {workstation.name}` makes it another"
            )
        with owner.new(doing, "password") as new:
            mailbox.set_password(new.descriptor)


def change(workstation: Workstation, owner: Owner) -> None:
    """Have another password; the proof is the present one or the recovery key."""
    doing = f"changing the password of {workstation.name}"
    with hold.any_chip(workstation, doing, "getting another password", owner) as (mailbox, _):
        _must_have_one(workstation, doing, mailbox.show()["password"])

        def act(given: Given) -> None:
            with owner.new(doing, "password") as new:
                mailbox.change_password(
                    given.descriptor, new.descriptor, with_=given.proof, mode=given.mode
                )

        unlock.prove(doing, owner, mailbox, "password", act)


def verify(workstation: Workstation, owner: Owner) -> None:
    """Return if the password, or the recovery key, is right; a wrong one is charged."""
    doing = f"verifying the password of {workstation.name}"
    with hold.any_chip(workstation, doing, "verifying its password", owner) as (mailbox, _):

        def act(given: Given) -> None:
            mailbox.unlock(given.descriptor, with_=given.proof, mode=given.mode)

        unlock.prove(doing, owner, mailbox, "password", act)


def remove(workstation: Workstation, owner: Owner) -> None:
    """Have no password any more: then the disk opens for whoever can start the machine."""
    doing = f"removing the password of {workstation.name}"
    with hold.any_chip(workstation, doing, "losing its password", owner) as (mailbox, _):
        _must_have_one(workstation, doing, mailbox.show()["password"])

        def act(given: Given) -> None:
            mailbox.remove_password(given.descriptor, with_=given.proof, mode=given.mode)

        unlock.prove(doing, owner, mailbox, "password", act)


def make_recovery_key(workstation: Workstation, owner: Owner) -> int:
    """Make a recovery key in place of any other.

    Returns a descriptor, the caller's to close: the reading end of a pipe with the key in it, one
    line. It can be read once; the chip does not say it again.
    """
    doing = f"making a recovery key for {workstation.name}"
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        with hold.any_chip(workstation, doing, "getting a recovery key", owner) as (mailbox, _):
            shown = mailbox.show()
            ways_back.must_have_disk(workstation.at, doing, shown)
            if not shown["password"]:
                mailbox.make_recovery_key(writer)
                return reader

            def act(given: Given) -> None:
                mailbox.make_recovery_key(
                    writer, given.descriptor, with_=given.proof, mode=given.mode
                )

            unlock.prove(doing, owner, mailbox, "password", act)
            return reader
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)


def _must_have_one(workstation: Workstation, doing: str, password: bool) -> None:
    if not password:
        raise SpacegrayError(
            doing, "it has none", f"`password set {workstation.name}` sets the first one"
        )
