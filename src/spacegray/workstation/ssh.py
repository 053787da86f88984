"""The way in: an SSH connection that is made once and kept.

A new connection costs seconds under software emulation, a session on a kept one a fraction.
The supervisor keeps the master; `shell` is then a single exec of ssh. The guest's host key
comes over the guest port, so that no first connection has to be trusted blindly.

Light imports only: `shell` runs through here and has half a second in all.
"""

import os
import shlex
import subprocess
from collections.abc import Sequence

from spacegray.errors import SpacegrayError
from spacegray.paths import WorkstationPaths

KEEPALIVE_SECONDS = 30
CONNECT_SECONDS = 60
CONTROL_NAME = "ssh"
"""The master's socket, named relative to the run folder: its full path may be too long."""


def make_key(paths: WorkstationPaths) -> str:
    """Make the owner's key pair if there is none; returns the public key's line."""
    key = paths.ssh_key
    if not key.exists():
        key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"spacegray {paths.name}"]
        try:
            subprocess.run([*command, "-f", key], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SpacegrayError(
                "making the SSH key", error, "see that ssh-keygen works and try again"
            ) from None
    return key.with_suffix(".pub").read_text().strip()


def trust(paths: WorkstationPaths, host_key: str) -> None:
    """Note the guest's host key, as it came over the guest port, as the only one accepted."""
    paths.known_hosts.write_text(f"{_alias(paths)} ssh-ed25519 {host_key}\n")


def master_command(paths: WorkstationPaths, *, port: int, user: str) -> list[str]:
    """The process that makes and keeps the connection; to be run in the run folder."""
    return ["ssh", "-M", "-N", "-o", "BatchMode=yes", *_options(paths, port), f"{user}@127.0.0.1"]


def has_master(paths: WorkstationPaths) -> bool:
    """Whether the kept connection is there."""
    return paths.ssh_control.exists()


def session_command(
    paths: WorkstationPaths, words: Sequence[str], *, port: int, user: str, tty: bool
) -> list[str]:
    """The ssh command of one session; to be run in the run folder.

    Words are quoted, so that the guest's shell sees exactly the arguments that were given.
    """
    command = ["ssh", *_options(paths, port), "-o", "LogLevel=ERROR"]
    command += ["-t" if tty else "-T", f"{user}@127.0.0.1"]
    if words:
        command += ["--", shlex.join(words)]
    return command


def execute(paths: WorkstationPaths, words: Sequence[str], *, port: int, user: str) -> None:
    """Become the session: streams, terminal and exit status are ssh's from here on."""
    tty = os.isatty(0) and os.isatty(1)
    command = session_command(paths, words, port=port, user=user, tty=tty)
    os.chdir(paths.run)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise SpacegrayError(
            f"opening a shell on {paths.name}", error, "install openssh-client"
        ) from None


def _alias(paths: WorkstationPaths) -> str:
    return f"spacegray-{paths.name}"


def _options(paths: WorkstationPaths, port: int) -> list[str]:
    settings = {
        "ControlPath": CONTROL_NAME,
        "IdentityFile": paths.ssh_key,
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "UserKnownHostsFile": paths.known_hosts,
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": _alias(paths),
        "StrictHostKeyChecking": "yes",
        "PasswordAuthentication": "no",
        "ConnectTimeout": CONNECT_SECONDS,
        "ServerAliveInterval": KEEPALIVE_SECONDS,
        # The cheapest sound exchange: under emulation the guest's side costs seconds.
        "KexAlgorithms": "curve25519-sha256",
        "HostKeyAlgorithms": "ssh-ed25519",
    }
    options = ["-F", "none", "-p", str(port)]
    for name, value in settings.items():
        options += ["-o", f'{name}="{value}"' if " " in str(value) else f"{name}={value}"]
    return options
