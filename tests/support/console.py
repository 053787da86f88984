"""A console over made-up workstations, whose screen is nevertheless a real QEMU's."""

import contextlib
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from spacegray.console.app import Console
from spacegray.console.doors import Doors
from spacegray.console.guard import PeerUid
from spacegray.console.machines import Machine, Verb
from spacegray.console.peer import loopback_uid
from spacegray.errors import SpacegrayError, UsageError
from spacegray.links import Target, chain
from spacegray.workstation.unlock import WORDS, Kind

READY_SECONDS = 20.0
POLL_SECONDS = 0.05

DETAILS = {
    "chip": "ECID 0x8d1f5a0b77c3e241",
    "firmware": "OVMF 2022.11, SHA-256 9c41…e07d",
    "disk": "1 TB, encrypted",
    "machine": "QEMU 7.2.22, TCG",
    "kernel": "6.12.57+deb13-amd64",
    "system": "root hash 5be0…91aa",
    "data": "formatted",
    "login": "SSH answered",
    "recovery": "read-only, from memory",
}

BUDGETS = ("password", "recovery", "recovery_key", "firmware_password")
TRIES = 10
FREE_TRIES = 3
WAITS_SECONDS = (60, 300, 900, 3600, 10800, 28800, 28800)
"""What the chip makes a guesser wait, from the fourth wrong one on."""


class FakeMachine:
    """A workstation that is whatever a test says it is."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self.state = "off"
        self.reason = ""
        self.broken: str | None = None
        self.boot = 0
        self.target: Target = "main"
        self.security: dict[str, Any] = {
            "policy": "full",
            "external_boot": "deny",
            "other_systems": "deny",
            "firmware_password": False,
            "minimum_epoch": 1_764_547_200,
        }
        self.powered_on = time.time()
        self.links: list[dict[str, Any]] = []
        self.acts: list[Verb] = []
        self.refusal: SpacegrayError | None = None
        self.screen: Path | None = None
        self.secrets: dict[str, str] = {}
        self.needs: list[str] = []
        self.failures: dict[str, int] = {}
        self.attempts_at: float | None = None
        self.locked_until: float | None = None
        self.heard: list[tuple[str, str, bytes]] = []
        self.looking: threading.Event | None = None
        self.life = "in use"
        self.mount = "stand"
        self.record: dict[str, Any] = {
            "name": name,
            "ecid": "0x8d1f5a0b77c3e241",
            "verified": True,
            "wrong": [],
            "notes": [],
            "entries": [],
            "providers": [],
        }
        self._events = folder / f"{name}.jsonl"
        self._events.write_text("")

    @property
    def name(self) -> str:
        return self._name

    @property
    def events_path(self) -> Path:
        return self._events

    def status(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "reason": self.reason,
            "link": self.broken,
            "boot": self.boot,
            "target": self.target,
            "since": self.powered_on,
            "links": list(self.links),
            "needs": list(self.needs),
            "attempts": self.attempts(),
            "attempts_at": self.attempts_at,
            "locked_until": self.locked_until,
        }

    def attempts(self) -> dict[str, dict[str, int]]:
        """The budgets; a sealed chip knows none."""
        if self.state != "locked" or "passphrase" in self.needs:
            return {}
        return {
            budget: {
                "failures": (failures := self.failures.get(budget, 0)),
                "left": TRIES - failures,
                "wait_seconds": WAITS_SECONDS[failures - FREE_TRIES]
                if FREE_TRIES <= failures < TRIES
                else 0,
            }
            for budget in BUDGETS
        }

    def show(self) -> dict[str, Any]:
        return {
            "name": self.name,
            **self.status(),
            "accelerator": "tcg",
            "accelerator_reason": "/dev/kvm opens, but firmware did not reach its marker in 5 s",
            "secure_boot": True if self.state == "running" else None,
            "kernel": "6.12.57+deb13-amd64",
            "ecid": "0x8d1f5a0b77c3e241",
            "chip": {
                "seal": "tpm2",
                "root": "tpm",
                "life": self.life,
                "lives": 2,
                "password": True,
                "recovery_key": "recovery_key" in self.secrets,
                "rollbacks": 1,
                **self.security,
                "needs": list(self.needs),
            },
            "ordered": {
                "cores": 8,
                "memory_gb": 32,
                "graphics": "vega-56",
                "ssd_tb": 1,
                "mount": self.mount,
                "ordered": "2017-12-14",
                "edition": "base",
                "user": "owner",
            },
            "given": {"cores": 1, "memory_gb": 3.52, "graphics": "virtio-gpu, 1920x1080, 2D"},
            "disk": {
                "size_bytes": 10**12,
                "used_bytes": 1_612_000_000,
                "partitions": [
                    {"name": "esp", "size_bytes": 512 << 20},
                    {"name": "system", "size_bytes": 8 << 30},
                    {"name": "verity", "size_bytes": 512 << 20},
                    {"name": "data", "size_bytes": 10**12 - (9 << 30)},
                ],
            },
            "root_hash": "5be0cd19137e2179" * 4,
            "folder": "/home/owner/.local/share/spacegray/pro",
            "state_folder": "/home/owner/.local/state/spacegray/pro",
        }

    def service(self) -> dict[str, Any]:
        if self.refusal is not None:
            raise self.refusal
        return self.record

    def screen_socket(self) -> socket.socket:
        if self.screen is None:
            raise SpacegrayError(f"opening the screen of {self.name}", "it is off", "start it")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(str(self.screen))
        return connection

    def act(self, verb: Verb) -> None:
        self.acts.append(verb)
        if self.refusal is not None:
            raise self.refusal
        if verb in ("start", "recovery"):
            self.power_on("recovery" if verb == "recovery" else "main")

    def unlock(self, kind: Kind, secret: int, mode: str) -> dict[str, Any]:
        with open(os.dup(secret), "rb") as file:
            given = file.read()
        self.heard.append((kind, mode, given))
        if self.refusal is not None:
            raise self.refusal
        if self.looking is not None:
            assert self.looking.wait(READY_SECONDS)
        budget = "recovery" if mode == "recovery" else kind
        code = self._judge(kind, budget, given.decode())
        return {
            "right": code is None,
            "code": code,
            "stopped_by": f"this is not the {WORDS[kind]}" if code else "",
            "next_step": "try again" if code else "",
            "standing": {"needs": list(self.needs), "attempts": self.attempts()},
        }

    def _judge(self, kind: Kind, budget: str, given: str) -> str | None:
        counted = self.attempts().get(budget)
        if counted is not None and counted["left"] == 0:
            return "disabled"
        if counted is not None and counted["wait_seconds"]:
            return "wait"
        if kind not in self.secrets:
            return "absent"
        if given != self.secrets[kind]:
            if counted is None:
                return "passphrase"
            self.failures[budget] = counted["failures"] + 1
            self.attempts_at = time.time()
            return "wrong"
        self.failures.pop(budget, None)
        del self.needs[0]
        if not self.needs:
            self.state, self.locked_until = "starting", None
        return None

    # What a test does to it

    def lock(self, *needs: str, **secrets: str) -> None:
        """It was powered on, and its chip waits for `needs`; `secrets` are the right ones."""
        self.power_on()
        self.state, self.needs, self.secrets = "locked", list(needs), secrets
        self.attempts_at = time.time()
        self.locked_until = self.attempts_at + 600

    def power_on(self, target: Target = "main") -> None:
        self.boot += 1
        self.target = target
        self.powered_on = time.time()
        self.links, self.broken, self.reason = [], None, ""
        self.state = "starting"

    def light(self, *links: str, seconds: float | None = None) -> None:
        """These links were seen to hold, just now or `seconds` after power-on."""
        for link in links:
            passed = time.time() - self.powered_on if seconds is None else seconds
            seen = {"link": link, "status": "ok", "detail": DETAILS[link]}
            self.links.append({**seen, "at": self.powered_on + passed, "seconds": passed})
        if self.links[-1]["link"] == chain(self.target)[-1]:
            self.state = "recovery" if self.target == "recovery" else "running"

    def fail(self, link: str, detail: str) -> None:
        """This link was seen to break."""
        passed = time.time() - self.powered_on
        seen = {"link": link, "status": "failed", "detail": detail}
        self.links.append({**seen, "at": time.time(), "seconds": passed})
        self.state, self.broken, self.reason = "failed", link, detail

    def tell(self, kind: str, **fields: object) -> None:
        """One more event in its log."""
        with self._events.open("a") as file:
            file.write(json.dumps({"at": time.time(), "kind": kind, **fields}) + "\n")


class FakeMachines:
    """Several of them."""

    def __init__(self, folder: Path, *names: str) -> None:
        self._all = {name: FakeMachine(name, folder) for name in names}

    def __getitem__(self, name: str) -> FakeMachine:
        return self._all[name]

    def names(self) -> Sequence[str]:
        return sorted(self._all)

    def find(self, name: str) -> Machine:
        if name not in self._all:
            raise UsageError(f"looking for {name!r}", "there is none", "choose another")
        return self._all[name]


@contextlib.contextmanager
def qemu_screen(folder: Path) -> Iterator[Path]:
    """A real QEMU without a disk: its firmware waits for a key. Yields its RFB socket."""
    path = folder / "vnc"
    command = "qemu-system-x86_64 -accel tcg -nodefaults -vga std -m 32 -display none"
    menu = ["-boot", "menu=on,splash-time=60000"]
    qemu = subprocess.Popen(
        [*command.split(), *menu, "-vnc", f"unix:{path}"], stdin=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not path.exists():
            assert qemu.poll() is None
            assert time.monotonic() < deadline, "QEMU made no screen"
            time.sleep(POLL_SECONDS)
        yield path
    finally:
        qemu.kill()
        qemu.wait()


class Serving:
    """A console that serves `machines` from a thread, on a free port unless one is given."""

    def __init__(
        self,
        machines: FakeMachines,
        *,
        port: int = 0,
        doors: Doors | None = None,
        peer_uid: PeerUid = loopback_uid,
    ) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self.doors = doors or Doors()
        self.console = Console(machines, self.doors, port=self.port, peer_uid=peer_uid)
        config = uvicorn.Config(
            self.console.guard,
            ws="websockets-sansio",
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],))
        self._thread.start()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def address(self, workstation: str = "") -> str:
        """A one-time address."""
        where = f"&workstation={workstation}" if workstation else ""
        return f"{self.origin}/open?token={self.doors.issue()}{where}"

    def close(self) -> None:
        """End the console, as if it had been killed."""
        self._server.should_exit = True
        self._thread.join()
