"""From one command to a shell, and back to off: what a new user does."""

import base64
import json
import subprocess
import time

from virt.firmware.efi import siglist

from spacegray.links import LINKS
from tests.conftest import PASSWORD, Cli, Running


def test_up_makes_and_starts_and_a_second_up_finds_it_running(cli: Cli):
    done = cli("up", "pro", "--edition", "tiny", "--headless", "--yes")
    assert "password " in done.stdout
    assert "Console: http://127.0.0.1:" in done.stdout
    facts = cli.show()
    assert facts["state"] == "running"
    assert facts["secure_boot"] is True
    assert facts["accelerator"] in ("kvm", "tcg")
    assert facts["accelerator_reason"]
    assert [part["name"] for part in facts["disk"]["partitions"]] == [
        "esp", "system", "verity", "data", "esp-b", "system-b", "verity-b",
    ]  # fmt: skip
    assert cli.shell("uname", "-sr").stdout == f"Linux {facts['kernel']}\n"
    assert cli.shell("sh", "-c", "exit 7", check=False).returncode == 7

    started = time.monotonic()
    again = cli("up", "pro", "--headless", "--yes")
    assert "running already" in again.stdout
    assert "password " not in again.stdout
    assert time.monotonic() - started < 30


def test_what_is_written_is_there_after_stop_and_start(workstation: Running):
    cli = workstation.cli
    cli.shell("sh", "-c", "echo kept > /data/kept; sync")
    cli("stop", "pro")
    assert cli.show()["state"] == "off"
    assert cli.show()["secure_boot"] is None
    cli("start", "pro")
    assert cli.shell("cat", "/data/kept").stdout == "kept\n"


def test_every_link_is_passed_in_order_and_the_chip_names_its_ecid(workstation: Running):
    facts = workstation.cli.show()
    passed = [link["link"] for link in facts["links"] if link["status"] == "ok"]
    assert passed == ["chip", "firmware", "disk", "machine", "kernel", "system", "data", "login"]
    assert (facts["target"], facts["trying"]) == ("main", False)
    assert facts["ecid"].startswith("0x")
    assert len(facts["ecid"]) == 18
    seconds = [link["seconds"] for link in facts["links"]]
    assert seconds == sorted(seconds)


def test_the_chip_was_told_of_every_link_and_remembers_the_epoch(workstation: Running):
    chip = json.loads(workstation.cli("chip", "show", "--format", "json").stdout)
    boot = chip["boot"]
    assert (boot["target"], boot["slot"], boot["policy"]) == ("main", chip["current"], "full")
    assert [(link["link"], link["status"]) for link in boot["links"]] == [
        (link, "ok") for link in LINKS
    ]
    assert chip["minimum_epoch"] == chip["slots"][chip["current"]]["epoch"]


def test_the_shell_passes_streams_arguments_and_status(workstation: Running):
    cli = workstation.cli
    assert cli("shell", "pro", "--", "cat", stdin=b"through").stdout == "through"
    done = cli.shell(
        "sh", "-c", 'printf "%s|" "$@" >&2; exit 3', "sh", "a b", "$HOME", "'", check=False
    )
    assert done.returncode == 3
    assert done.stderr.endswith("a b|$HOME|'|")
    assert done.stdout == ""
    assert cli.shell("id", "-un").stdout == "owner\n"
    assert cli.shell("sudo", "id", "-u").stdout == "0\n"
    assert cli("shell", "pro", "--", "false", check=False).returncode == 1


def test_what_was_ordered_and_what_is_given_are_both_shown(workstation: Running):
    facts = workstation.cli.show()
    assert facts["ordered"]["memory_gb"] == 32
    assert facts["ordered"]["cores"] == 8
    assert 0 < facts["given"]["memory_gb"] <= 32
    cpus = workstation.cli.shell("nproc").stdout.strip()
    assert int(cpus) == facts["given"]["cores"]
    table = workstation.cli("show", "pro").stdout
    assert "ordered: 32" in table


def test_the_guest_sees_the_ordered_board(workstation: Running):
    cli = workstation.cli
    product = cli.shell("cat", "/sys/class/dmi/id/product_name").stdout
    assert product == "iMacPro1,1\n"
    assert "W-2140B" in cli.shell("cat", "/proc/cpuinfo").stdout
    lockdown = cli.shell("cat", "/sys/kernel/security/lockdown", check=False).stdout
    assert "[integrity]" in lockdown or "[confidentiality]" in lockdown


def test_the_system_volume_is_sealed_and_mounted_read_only(workstation: Running):
    mounts = workstation.cli.shell("cat", "/proc/mounts").stdout
    root = next(line for line in mounts.splitlines() if line.split()[1] == "/")
    assert root.split()[2] == "erofs"
    command_line = workstation.cli.shell("cat", "/proc/cmdline").stdout
    facts = workstation.cli.show()
    assert facts["root_hash"] in command_line


def test_the_password_was_set_and_is_not_kept_on_the_host(workstation: Running):
    shadow = workstation.cli.shell("sudo", "cat", "/etc/shadow").stdout
    entry = next(line for line in shadow.splitlines() if line.startswith("owner:"))
    salt = entry.split(":")[1].split("$")[2]
    expected = subprocess.run(
        ["openssl", "passwd", "-6", "-salt", salt, "-stdin"],
        input=PASSWORD, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    assert entry.split(":")[1] == expected
    assert not workstation.cli.paths.workstation("pro").provision.exists()


def test_list_and_logs_have_json(workstation: Running):
    listed = json.loads(workstation.cli("list", "--format", "json").stdout)
    assert [facts["name"] for facts in listed] == ["pro"]
    kinds = {event["kind"] for event in workstation.cli.events()}
    assert {"state", "link"} <= kinds
    assert "login" in workstation.cli("logs", "pro").stdout


def test_tools_of_the_field_read_the_same_state(workstation: Running):
    """mokutil, the kernel's own files of variables and virt-firmware, none of which is ours."""
    cli = workstation.cli
    assert "SecureBoot enabled" in cli.shell("mokutil", "--sb-state").stdout
    chip = json.loads(cli("chip", "show", "--format", "json").stdout)
    kernel = chip["slots"][chip["current"]]["kernel"]
    variable = "/sys/firmware/efi/efivars/db-d719b2cb-3d3a-4596-a3bc-dad00e67656f"
    content = base64.b64decode(cli.shell("base64", variable).stdout)
    (allowed,) = siglist.EfiSigDB(content[4:])
    assert [each["data"].hex() for each in allowed] == [kernel]
