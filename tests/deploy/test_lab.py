"""The laboratory itself: what other tests of the deployment rely on is tried here first."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from deploy import network
from deploy.box import Box
from deploy.lab import Lab
from deploy.playbook import ROOT, Ansible
from deploy.shell import LabError, answer, run

BOOT_SECONDS = 15
PINNED = ROOT / "requirements.lock"
# A run that prints where it lives, boots a machine with everything that leaves traces, and then ends in some way.
RUN = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background has it ignored
sys.path.insert(0, {tests!r})
from deploy.lab import Lab
lab = Lab()
print(lab.name, lab.claim.state, lab.claim.disks, flush=True)
box = lab.up("traces", disks={{"/srv/small": 8}})
box.reboot()
lab.part(box, lab.up("other"))
print("up", flush=True)
{end}
"""
PLAY = """
- hosts: trading
  gather_facts: false
  tasks:
    - name: Leave a file
      ansible.builtin.copy: {content: "{{ word }}", dest: /srv/word, mode: "0644"}
    - name: Take a while
      ansible.builtin.command: {cmd: "sleep {{ pause | default(0) }}"}
      changed_when: false
    - name: Leave another file
      ansible.builtin.copy: {content: "end", dest: /srv/end, mode: "0644"}
"""


def reaches(one: Box, other: Box) -> bool:
    return one.ssh(f"timeout 2 bash -c '</dev/tcp/{other.address}/22'").ok


def traces(name: str, *directories: Path) -> list[str]:
    """Return everything on this machine that a run of this name left behind."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    loops = answer("losetup", "--list", "--noheadings", "--output", "BACK-FILE").stdout.splitlines()
    processes = run("ps", "-ww", "-eo", "cmd").splitlines()
    words = [f"{name}-", *(f"{directory}/" for directory in directories)]
    return [
        *re.findall(rf"^{name}-\S+", answer("ip", "netns", "list").stdout, re.MULTILINE),
        *re.findall(rf"^\d+: {name}(?:v\d+)?[@:].*", run("ip", "-o", "link"), re.MULTILINE),
        *re.findall(rf"^table \w+ {name}$", run("nft", "list", "tables"), re.MULTILINE),
        *(line for line in (*mounts, *loops, *processes) if any(word in line for word in words)),
        *(str(path) for tree in network.hierarchies() for path in tree.glob(f"{name}-*")),
        *(str(path) for path in network.NSPAWN.glob(f"*/{name}-*")),
        *(str(path) for path in (*directories, network.HOLD / f"{name[2:]}.lock") if path.exists()),
    ]


def start_run(end: str) -> tuple[subprocess.Popen[str], str, list[Path]]:
    """Start a run in a process of its own, and return it once its machines are up, with its name and directories."""
    code = RUN.format(tests=str(ROOT / "tests"), end=end)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    name, *directories = process.stdout.readline().split()
    assert process.stdout.readline() == "up\n"
    return process, name, [Path(directory) for directory in directories]


# -- machines -----------------------------------------------------------------------------------------------------


def test_a_machine_boots_in_seconds_and_answers_ssh(lab: Lab) -> None:
    began = time.monotonic()
    box = lab.up("quick")
    took = time.monotonic() - began

    assert took < BOOT_SECONDS
    assert box.wait_until_booted() == "running"
    assert "VERSION_CODENAME=trixie" in box.get("/etc/os-release")
    assert box.run("ps -p 1 -o comm=").strip() == "systemd"
    assert box.run("hostname").strip() == "quick"
    lab.remove(box)


def test_a_command_that_fails_is_told_with_all_it_wrote(bare: Box) -> None:
    assert bare.ssh("exit 7").returncode == 7
    with pytest.raises(LabError, match=r"(?s)echo seen.*exit code 3.*seen.*and this"):
        bare.run("echo seen; echo and this >&2; exit 3")


def test_a_file_goes_there_and_comes_back(bare: Box) -> None:
    bare.put("/etc/new/place", "ä word\n", mode="0640")
    assert bare.get("/etc/new/place") == "ä word\n"
    assert bare.run("stat -c %a /etc/new/place").strip() == "640"


def test_two_machines_reach_each_other_and_share_no_cgroup(lab: Lab) -> None:
    one, other = lab.up_together("one", "other")
    groups = [re.findall(r"^(?:0:|\d+:name=systemd):(\S*)$", Path(f"/proc/{box._init()}/cgroup").read_text(),
                         re.MULTILINE) for box in (one, other)]  # fmt: skip

    assert reaches(one, other)
    assert reaches(other, one)
    assert groups[0]
    assert not set(groups[0]) & set(groups[1])
    lab.remove(one)
    assert other.run("systemctl is-system-running --wait").strip() == "running"
    lab.remove(other)


def test_a_layer_saved_from_one_machine_is_the_start_of_others(lab: Lab, tmp_path: Path) -> None:
    first = lab.up("first")
    first.put("/srv/word", "kept")
    identity = first.get("/etc/machine-id")
    layer = lab.save(first, tmp_path / "layer")

    began = time.monotonic()
    second, third = lab.up_together("second", "third", layers=[layer])
    assert time.monotonic() - began < BOOT_SECONDS
    assert {second.get("/srv/word"), third.get("/srv/word")} == {"kept"}
    assert len({identity, second.get("/etc/machine-id"), third.get("/etc/machine-id")}) == 3
    second.put("/srv/word", "changed")
    assert third.get("/srv/word") == "kept"
    lab.remove(second)
    lab.remove(third)


def test_a_reboot_gives_a_new_boot_id_and_keeps_the_disk(bare: Box) -> None:
    bare.put("/srv/word", "kept")
    before = bare.boot_id()
    bare.reboot()
    assert bare.boot_id() not in ("", before)
    assert bare.get("/srv/word") == "kept"


def test_a_machine_that_was_switched_off_comes_up_again(bare: Box) -> None:
    bare.run("mkdir -p /var/log/journal && systemctl restart systemd-journald")
    bare.power_off()
    assert not bare.is_on
    bare.start()
    assert "Reached target poweroff.target" in bare.wait_until_up().run("journalctl --boot=-1 --no-pager")


def test_a_pulled_plug_ends_everything_at_once_and_without_a_shutdown(bare: Box) -> None:
    bare.run("mkdir -p /var/log/journal && systemctl restart systemd-journald && journalctl --flush --sync")
    began = time.monotonic()
    bare.pull_the_plug()
    assert time.monotonic() - began < 2
    assert not bare.is_on
    bare.start()
    assert "Reached target poweroff.target" not in bare.wait_until_up().run("journalctl --boot=-1 --no-pager")


# -- hurting them -------------------------------------------------------------------------------------------------


def test_a_cut_cable_lets_nothing_through_until_it_is_mended(lab: Lab) -> None:
    one, other = lab.up_together("cut", "whole")
    one.cut()
    assert not reaches(other, one)
    one.mend()
    other.wait_for(lambda: reaches(other, one))

    lab.part(one, other)
    assert not reaches(one, other)
    assert one.ssh("true").ok
    lab.join()
    assert reaches(one, other)
    lab.remove(one)
    lab.remove(other)


def test_a_frozen_machine_does_nothing_until_it_is_thawed(bare: Box) -> None:
    bare.freeze()
    assert not bare.ssh("true", seconds=1).ok
    bare.thaw()
    assert bare.ssh("true").ok


@pytest.mark.parametrize("kind", ["from the start", "while it runs"])
def test_a_disk_can_be_filled_to_the_last_byte_and_freed(lab: Lab, kind: str) -> None:
    box = lab.up("full", disks={"/srv/small": 8} if kind == "from the start" else None)
    box.run("install -d -o daemon -m 750 /srv/small && echo kept > /srv/small/old")
    if kind == "while it runs":
        box.small_disk("/srv/small", 512)
    box.fill("/srv/small")

    refused = box.ssh("head -c 8192 /dev/urandom > /srv/small/new")
    assert "No space left on device" in refused.stderr
    assert box.run("cat /srv/small/old; stat -c '%U %a' /srv/small") == "kept\ndaemon 750\n"
    box.free("/srv/small")
    box.run("head -c 8192 /dev/urandom > /srv/small/new")
    with pytest.raises(LabError, match="lies on the whole disk"):
        box.fill("/srv")
    lab.remove(box)


def test_a_unit_can_live_at_another_time(bare: Box) -> None:
    bare.put("/etc/systemd/system/now.service", "[Service]\nType=oneshot\nExecStart=/usr/bin/date +now=%%F\n")
    bare.shift_clock("now.service", "+65d")
    bare.run("systemctl start now.service")
    told = bare.run("date --date='+65 days' +now=%F").strip()
    assert told in bare.journal("now.service")


# -- the way outside ----------------------------------------------------------------------------------------------


def test_a_machine_reaches_the_mirror_and_the_package_index_of_this_one(bare: Box, tmp_path: Path) -> None:
    bare.run("apt-get update --error-on=any", seconds=120)
    bare.run("DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends python3-venv", seconds=180)
    pinned = re.search(r"^click==.*?(?=^\S+==)", PINNED.read_text(), re.MULTILINE | re.DOTALL)
    assert pinned
    bare.put("/srv/pinned", pinned[0])

    bare.run("python3 -m venv /srv/venv")
    bare.run("/srv/venv/bin/pip install --require-hashes --only-binary :all: -r /srv/pinned", seconds=180)
    assert bare.run("/srv/venv/bin/python -c 'import click; print(click.__name__)'") == "click\n"


# -- what is deployed ---------------------------------------------------------------------------------------------


def test_a_deployed_machine_boots_in_seconds_with_all_of_it_running(deployed: Box) -> None:
    assert deployed.wait_until_booted() == "running"
    assert set(deployed.status("trading-engine", "trading-api", "nginx", "redis-server").values()) == {"active"}


# -- playbooks ----------------------------------------------------------------------------------------------------


def test_a_playbook_runs_and_its_recap_is_read(bare: Box, tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(PLAY)
    ansible = Ansible(tmp_path / "controller", bare, variables={"word": "first"})

    first = ansible.run(tmp_path / "play.yml").must()
    again = ansible.run(tmp_path / "play.yml").must()
    other = ansible.run(tmp_path / "play.yml", word="second").must()
    assert [play.recap[bare.name].changed for play in (first, again, other)] == [2, 0, 1]
    assert first.recap[bare.name].ok == 3
    assert first.tasks == ["Leave a file", "Take a while", "Leave another file"]
    assert bare.get("/srv/word") == "second"

    with pytest.raises(LabError, match=r"(?s)exit code 2.*invalid"):
        ansible.run(tmp_path / "play.yml", pause="invalid").must()


def test_a_controller_can_be_killed_at_a_task(bare: Box, tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(PLAY)
    ansible = Ansible(tmp_path / "controller", bare, variables={"word": "half", "pause": 60})
    running = ansible.start(tmp_path / "play.yml")
    running.wait_for_task("Take a while")
    killed = running.kill()

    assert killed.returncode == -signal.SIGKILL
    assert not killed.ok
    assert not answer("pgrep", "-f", str(ansible.inventory)).stdout
    assert bare.get("/srv/word") == "half"
    assert not bare.exists("/srv/end")
    assert ansible.run(tmp_path / "play.yml", pause=0).must().recap[bare.name].changed == 1


def test_a_play_that_ends_before_the_task_is_told_at_once(bare: Box, tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(PLAY)
    running = Ansible(tmp_path / "controller", bare, variables={"word": "x"}).start(tmp_path / "play.yml")
    with pytest.raises(LabError, match="ended before task 'No such task'"):
        running.wait_for_task("No such task")


# -- nothing stays ------------------------------------------------------------------------------------------------


def test_two_runs_at_once_have_names_and_subnets_of_their_own(lab: Lab) -> None:
    with Lab() as other:
        assert other.name != lab.name
        assert other.gateway != lab.gateway
        ours, theirs = lab.up("same"), other.up("same")
        ours.put("/srv/word", "ours")
        assert not theirs.exists("/srv/word")
        lab.remove(ours)
        assert theirs.ssh("true").ok


def test_runs_leave_nothing_behind_however_they_end(lab: Lab) -> None:
    ends = ["lab.close()", "raise RuntimeError('on purpose')", "sys.exit(3)", "time.sleep(60)"]
    with ThreadPoolExecutor() as together:
        runs = list(together.map(start_run, ends))
    assert len({name for _, name, _ in runs}) == len(ends)

    runs[-1][0].send_signal(signal.SIGINT)
    for process, _, _ in runs:
        process.wait(60)
    assert [traces(name, *directories) for _, name, directories in runs] == [[]] * len(ends)


def test_what_a_killed_run_left_is_removed_by_the_next_one(lab: Lab) -> None:
    process, name, directories = start_run("time.sleep(60)")
    process.kill()
    process.wait()
    assert len(traces(name, *directories)) > 10

    Lab().close()
    assert not traces(name, *directories)
    assert lab.up("after").ssh("true").ok
    assert os.path.ismount(lab.claim.state / "base")
