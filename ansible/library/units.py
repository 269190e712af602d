"""Brings systemd units to their state, all of a role in one call; what is older than its configuration is renewed.

A play that is killed between a change and its handler leaves a service that runs on the old configuration, and the next
run would see nothing to do. So nothing is remembered here: when a unit started, or was reloaded, is compared with the
time at which its files were written.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: units
short_description: See that systemd units are enabled, run, and run what is configured
options:
  units:
    description: The units, brought to their state in this order.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name with its suffix., type: str, required: true}
      enabled: {description: Whether it starts with the machine; left as it is if not given., type: bool}
      state: {description: Whether it runs., type: str, choices: [started, stopped, either], default: started}
      config: {description: Files and directories that it reads., type: list, elements: path, default: []}
      on_change: {description: What to do if they are newer., type: str, choices: [restart, reload, nothing],
        default: restart}
author: The trading appliance
"""

EXAMPLES = """
- name: See that Redis runs what is configured
  units:
    units:
      - {name: redis-server.service, enabled: true, config: [/etc/redis/redis.conf]}
"""

RETURN = """
did: {description: What was done to which unit., type: list, returned: always}
"""

PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "UnitFileState",
    "NeedDaemonReload",
    "ConditionResult",
    "InactiveExitTimestamp",
    "StateChangeTimestamp",
    "ReloadResult",
    "FragmentPath",
    "DropInPaths",
)
RUNNING = ("active", "reloading", "activating", "refreshing")
SECONDS = 150  # that one start may take
TICK = 0.01  # seconds by which a file's time may lie before its writing: the kernel gives it that of its last tick


class Unit:
    """A unit as it is wanted, beside what systemd says of it."""

    def __init__(self, wanted: dict, shown: dict[str, str]) -> None:
        self.name, self.wanted, self.shown = wanted["name"], wanted, shown

    @property
    def runs(self) -> bool:
        return self.shown.get("ActiveState") in RUNNING

    @property
    def is_missing(self) -> bool:
        return self.shown.get("LoadState") == "not-found"

    @property
    def is_enabled(self) -> bool:
        return self.shown.get("UnitFileState") in ("enabled", "static", "generated", "indirect", "alias")

    def actions(self) -> list[str]:
        """Return the verbs of systemctl that bring it to its state, and nothing if it is there."""
        verbs = []
        enabled = self.wanted["enabled"]
        if enabled is not None and enabled != self.is_enabled:
            verbs.append("enable" if enabled else "disable")
        if self.wanted["state"] == "stopped":
            return verbs + (["stop"] if self.runs else [])
        if self.wanted["state"] == "started" and not self.runs:
            return [*verbs, "start"]
        return verbs + self._renewal() if self.runs else verbs

    def _renewal(self) -> list[str]:
        began, changed = (moment(self.shown.get(key, "")) for key in ("InactiveExitTimestamp", "StateChangeTimestamp"))
        own = [self.shown.get("FragmentPath", ""), *self.shown.get("DropInPaths", "").split()]
        verb = self.wanted["on_change"]
        if verb == "nothing":
            return []
        if newest(own) > began:
            return ["restart"]
        # A reload that failed is the last change of its state too, but it left the old configuration in force.
        renewed = changed if verb == "reload" and self.shown.get("ReloadResult", "success") == "success" else began
        if newest(self.wanted["config"]) > renewed:
            return [verb]
        return []


def newest(paths: list[str]) -> float:
    """Return when the newest of the files, or of those below a directory, was written; 0.0 if there is none.

    It is the time of the last change of any kind: a file that was moved here has an old time of its content.
    """
    times = [-TICK]
    for path in (Path(name) for name in paths if name):
        below = [path, *path.rglob("*")] if path.is_dir() else [path]
        times.extend(one.stat().st_ctime for one in below if one.exists())
    return max(times) + TICK


def moment(text: str) -> float:
    """Read `Wed 2026-01-07 10:00:00.123456 UTC`; 0.0 for nothing, which is older than everything."""
    if not text or text == "n/a":
        return 0.0
    return datetime.strptime(text, "%a %Y-%m-%d %H:%M:%S.%f UTC").replace(tzinfo=UTC).timestamp()


def show(module: AnsibleModule, names: list[str]) -> dict[str, dict[str, str]]:
    """Ask systemd for the state of units, by their name."""
    command = ["systemctl", "show", "--timestamp=us+utc", f"--property={','.join(PROPERTIES)}", "--", *names]
    code, out, err = module.run_command(command, environ_update={"LC_ALL": "C"})
    if code:
        module.fail_json(msg=f"systemctl show failed: {err.strip()}")
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in out.split("\n\n")]
    return dict(zip(names, blocks, strict=True))


def look(module: AnsibleModule) -> list[Unit]:
    wanted = module.params["units"]
    shown = show(module, [unit["name"] for unit in wanted])
    return [Unit(unit, shown[unit["name"]]) for unit in wanted]


def act(module: AnsibleModule, verb: str, name: str) -> None:
    """Do it, or fail with what the unit's log says."""
    command = ["timeout", str(SECONDS), "systemctl", verb, name]
    code, out, err = module.run_command(command)
    if code:
        _, log, _ = module.run_command(["journalctl", "--no-pager", "--quiet", "-o", "cat", "-n", "20", "-u", name])
        module.fail_json(
            msg=f"systemctl {verb} {name} failed: {(err or out).strip()}\nits last log lines:\n{log.strip()}",
            unit=name,
        )


def main() -> None:
    unit = {
        "name": {"type": "str", "required": True},
        "enabled": {"type": "bool"},
        "state": {"type": "str", "choices": ["started", "stopped", "either"], "default": "started"},
        "config": {"type": "list", "elements": "path", "default": []},
        "on_change": {"type": "str", "choices": ["restart", "reload", "nothing"], "default": "restart"},
    }
    module = AnsibleModule(
        argument_spec={"units": {"type": "list", "elements": "dict", "options": unit, "required": True}},
        supports_check_mode=True,
    )
    units = look(module)
    did = []
    if any(one.shown.get("NeedDaemonReload") == "yes" for one in units) and not module.check_mode:
        module.run_command(["systemctl", "daemon-reload"], check_rc=True)
        units = look(module)
    missing = [
        one.name for one in units if one.shown.get("LoadState") == "not-found" and one.wanted["state"] != "stopped"
    ]
    if missing and not module.check_mode:
        module.fail_json(msg=f"there is no unit {', '.join(missing)}; its package or its file is missing")
    for one in units:
        for verb in one.actions():
            did.append(f"{verb} {one.name}")
            if not module.check_mode:
                act(module, verb, one.name)
    module.exit_json(changed=bool(did), did=did)


if __name__ == "__main__":
    main()
