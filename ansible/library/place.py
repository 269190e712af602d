"""Writes all files of a role in one call: compared, validated, then put in place, each of them as a whole.

One call instead of one task for each file: a task costs more than a third of a second, a role has a dozen of files.
What was placed last is remembered by its hash, so that a file that was edited by hand since then is told apart from one
that this run changes. The edited text is kept, never lost.
"""

from __future__ import annotations

import difflib
import grp
import hashlib
import json
import os
import pwd
import shlex
import shutil
import stat
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: place
short_description: Write the files of a role, all of them or none
description:
  - Compares, validates and writes files, directories and links. Works in check mode and gives a diff.
  - Reports as drift what was edited by hand since the last call, and keeps the edited text.
options:
  files:
    description: What has to be there. The action of the same name has rendered the templates and opened the trees.
    type: list
    elements: dict
    required: true
    suboptions:
      dest: {description: Absolute path., type: path, required: true}
      state: {description: What it is., type: str, choices: [file, directory, link, absent], default: file}
      content: {description: The text of a file., type: str}
      target: {description: Where a link points to., type: str}
      owner: {description: Name of the user., type: str, default: root}
      group: {description: Name of the group., type: str, default: root}
      mode: {description: Octal digits. 0644 for a file and 0755 for a directory if not given., type: str}
      validate: {description: Command that refuses a bad text; %s is a file that has it., type: str}
      secret: {description: Never show the content., type: bool, default: false}
  remembered:
    description: Directory in which is kept what was placed, and the texts that were edited by hand.
    type: path
    default: /var/lib/trading-deploy
author: The trading appliance
"""

EXAMPLES = """
- name: Place the configuration
  place:
    files:
      - {src: redis.conf.j2, dest: /etc/redis/redis.conf, group: redis, mode: "0640"}
"""

RETURN = """
changed_files: {description: Paths that were changed., type: list, returned: always}
drift: {description: Paths that had been edited by hand., type: list, returned: always}
"""

PRIVATE = 0o600
USUAL_MODE = {"file": 0o644, "directory": 0o755}
HIDDEN = "(secret, not shown)\n"
LONGEST_DRIFT = 40  # lines of a difference in a warning


class Refused(Exception):
    """What was asked for cannot be done; nothing of it was."""


class Discreet(AnsibleModule):
    """A module that does not write its arguments to the system's log: they hold the texts of all files."""

    def _log_invocation(self) -> None:
        pass


class Wanted:
    """One file, directory, link or absence, beside what is there now."""

    def __init__(self, entry: dict) -> None:
        self.path = Path(entry["dest"])
        self.state = entry["state"]
        self.content = (entry["content"] or "").encode()
        self.target = entry["target"]
        self.owner, self.group = entry["owner"], entry["group"]
        self.mode = int(entry["mode"], 8) if entry["mode"] else USUAL_MODE.get(self.state, 0)
        self.validate = entry["validate"]
        self.secret = entry["secret"]
        self.there = os.lstat(self.path) if os.path.lexists(self.path) else None
        self.kind = kind_of(self.there)
        if self.kind not in (None, self.state) and self.state != "absent" and "directory" in (self.kind, self.state):
            raise Refused(f"{self.path} is a {self.kind}, and a {self.state} is wanted; move it away first")
        self.before = self.path.read_bytes() if self.kind == "file" else b""

    @property
    def differs(self) -> bool:
        """Say whether the content, or what it is, is not as wanted."""
        if self.state == "absent":
            return self.there is not None
        if self.state != self.kind:
            return True
        if self.state == "link":
            return str(self.path.readlink()) != self.target
        return self.state == "file" and self.before != self.content

    @property
    def rights_differ(self) -> bool:
        if self.state not in USUAL_MODE or self.there is None:
            return False
        wanted = (number_of(pwd.getpwnam, self.owner), number_of(grp.getgrnam, self.group), self.mode)
        return (self.there.st_uid, self.there.st_gid, stat.S_IMODE(self.there.st_mode)) != wanted

    @property
    def changes(self) -> bool:
        return self.differs or self.rights_differ

    def diff(self) -> dict:
        """Return the difference in the form that Ansible shows; of a new file that it is new, without its text."""
        before, after = (self._shown(text) for text in (self.before, self.content))
        if self.state != "file" or not self.differs or self.there is None:
            before, after = (f"{line}\n" for line in (self._described(), self._description()))
        return {"before_header": str(self.path), "after_header": str(self.path), "before": before, "after": after}

    def _shown(self, text: bytes) -> str:
        return HIDDEN if self.secret and text else text.decode(errors="replace")

    def _described(self) -> str:
        if self.there is None:
            return "absent"
        return f"{self.kind} {self.there.st_uid}:{self.there.st_gid} {stat.S_IMODE(self.there.st_mode):04o}"

    def _description(self) -> str:
        if self.state in ("absent", "link"):
            return self.state if self.state == "absent" else f"link to {self.target}"
        user, group = number_of(pwd.getpwnam, self.owner), number_of(grp.getgrnam, self.group)
        owner = f"{self.owner if user is None else user}:{self.group if group is None else group}"
        return f"{self.state} {owner} {self.mode:04o}"

    def write(self) -> None:
        """Bring it to the wanted state, in one step that is seen whole or not at all."""
        if self.state == "absent":
            shutil.rmtree(self.path) if self.kind == "directory" else self.path.unlink()
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.state == "directory":
            self.path.mkdir(exist_ok=True)
            own(self.path, self)
        elif self.state == "file" and not self.differs:
            own(self.path, self)
        else:
            self._replace()

    def _replace(self) -> None:
        fresh = self.path.with_name(f".{self.path.name}.placing")
        fresh.unlink(missing_ok=True)
        if self.state == "link":
            fresh.symlink_to(self.target)
        else:
            fresh.touch(mode=0o600, exist_ok=False)
            with fresh.open("wb") as stream:
                stream.write(self.content)
                stream.flush()
                own(fresh, self)
                os.fsync(stream.fileno())
        fresh.replace(self.path)


class Memory:
    """What was placed last, by its hash: a file that has another content now was edited by hand."""

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)
        self.file = self.directory / "placed.json"
        self.hashes: dict[str, list[str]] = json.loads(self.file.read_text()) if self.file.exists() else {}

    def is_drift(self, wanted: Wanted) -> bool:
        known = self.hashes.get(str(wanted.path))
        return bool(known) and wanted.kind == "file" and wanted.differs and digest(wanted.before) not in known

    def keep_edited(self, wanted: Wanted) -> Path:
        """Keep a text that was edited by hand, and return where."""
        kept = (
            self.directory / "edited" / f"{str(wanted.path).strip('/').replace('/', '_')}.{digest(wanted.before)[:8]}"
        )
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.parent.chmod(0o700)
        kept.write_bytes(wanted.before)
        kept.chmod(0o600)
        return kept

    def expect(self, all_wanted: list[Wanted]) -> None:
        """Remember both texts before the first is written: a run that is killed then is no edit by hand."""
        for wanted in (w for w in all_wanted if w.state == "file"):
            known = self.hashes.get(str(wanted.path), [])
            self.hashes[str(wanted.path)] = list(dict.fromkeys([digest(wanted.content), *known]))
        self._save()

    def settle(self, all_wanted: list[Wanted]) -> None:
        known = {str(w.path): [digest(w.content)] for w in all_wanted if w.state == "file"}
        gone = {str(w.path) for w in all_wanted if w.state == "absent"}
        settled = {path: hashes for path, hashes in {**self.hashes, **known}.items() if path not in gone}
        if settled != self.hashes or not self.file.exists() or stat.S_IMODE(self.file.stat().st_mode) != PRIVATE:
            self.hashes = settled
            self._save()

    def _save(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        fresh = self.file.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=PRIVATE, exist_ok=False)  # some of the hashes are those of secrets
        fresh.write_text(json.dumps(self.hashes, indent=1, sort_keys=True))
        fresh.replace(self.file)


def kind_of(there: os.stat_result | None) -> str | None:
    if there is None:
        return None
    if stat.S_ISLNK(there.st_mode):
        return "link"
    return "directory" if stat.S_ISDIR(there.st_mode) else "file"


def number_of(find, name: str) -> int | None:
    """Return the number of a user or a group, None if there is none of that name (yet)."""
    try:
        return find(name)[2]
    except KeyError:
        return None


def own(path: Path, wanted: Wanted) -> None:
    user, group = number_of(pwd.getpwnam, wanted.owner), number_of(grp.getgrnam, wanted.group)
    if user is None or group is None:
        raise Refused(f"{wanted.path}: there is no user {wanted.owner} or no group {wanted.group}")
    os.chown(path, user, group)
    path.chmod(wanted.mode)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def validate(module: AnsibleModule, wanted: Wanted) -> None:
    """Ask the program that will read it. Raise Refused with what it says."""
    program = shlex.split(wanted.validate)[0]
    if module.get_bin_path(program) is None and not os.access(program, os.X_OK):
        if module.check_mode:
            return  # a machine on which nothing is installed yet
        raise Refused(f"{wanted.path} cannot be validated: there is no {program}")
    with tempfile.TemporaryDirectory() as directory:
        candidate = Path(directory) / wanted.path.name
        candidate.write_bytes(wanted.content)
        candidate.chmod(0o600)
        code, out, err = module.run_command(shlex.split(wanted.validate.replace("%s", str(candidate))))
        if code:
            said = HIDDEN if wanted.secret else (err or out).strip()
            raise Refused(f"{wanted.path} is refused by {program}, nothing was written: {said}")


def report_drift(module: AnsibleModule, memory: Memory, wanted: Wanted) -> None:
    where = "" if module.check_mode else f" (its text is kept as {memory.keep_edited(wanted)})"
    lines = [HIDDEN.strip()]
    if not wanted.secret:
        old, new = (text.decode(errors="replace").splitlines() for text in (wanted.content, wanted.before))
        lines = list(difflib.unified_diff(old, new, "as placed", "as edited", lineterm="", n=1))[:LONGEST_DRIFT]
    done = "would be put back" if module.check_mode else "was put back"
    module.warn("\n".join([f"drift: {wanted.path} was edited by hand and {done}{where}", *lines]))


def place(module: AnsibleModule) -> dict:
    """Do it. Raise Refused before anything was written if something is wrong with one of them."""
    all_wanted = [Wanted(entry) for entry in module.params["files"]]
    memory = Memory(module.params["remembered"])
    changing = [wanted for wanted in all_wanted if wanted.changes]
    for wanted in changing:
        if wanted.validate and wanted.state == "file" and wanted.differs:
            validate(module, wanted)
    drifted = [wanted for wanted in changing if memory.is_drift(wanted)]
    for wanted in drifted:
        report_drift(module, memory, wanted)
    result = {
        "changed": bool(changing),
        "changed_files": [str(wanted.path) for wanted in changing],
        "drift": [str(wanted.path) for wanted in drifted],
        "diff": [wanted.diff() for wanted in changing],
        "at": datetime.now(UTC).isoformat(timespec="seconds") if changing else "",
    }
    if not module.check_mode:
        if changing:
            memory.expect(changing)
        for wanted in changing:
            wanted.write()
        memory.settle(all_wanted)
    return result


def main() -> None:
    entry = {
        "dest": {"type": "path", "required": True},
        "state": {"type": "str", "choices": ["file", "directory", "link", "absent"], "default": "file"},
        "content": {"type": "str"},
        "target": {"type": "str"},
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
        "mode": {"type": "str"},
        "validate": {"type": "str"},
        "secret": {"type": "bool", "default": False, "no_log": False},
    }
    module = Discreet(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "options": entry, "required": True},
            "remembered": {"type": "path", "default": "/var/lib/trading-deploy"},
        },
        supports_check_mode=True,
    )
    hidden = {"module_args": "not shown: it has the texts of all files"}
    try:
        module.exit_json(**place(module), invocation=hidden)
    except Refused as fault:
        module.fail_json(msg=str(fault), invocation=hidden)
    except OSError as fault:
        module.fail_json(msg=f"{fault.filename}: {fault.strerror}; what was placed before it stays", invocation=hidden)


if __name__ == "__main__":
    main()
