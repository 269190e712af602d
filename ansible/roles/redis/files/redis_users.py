#!/usr/bin/python3
"""Makes the passwords of the Redis users, and the access list that knows their hashes only.

    redis-users [--check]

A password is made once, on this machine, and kept where systemd takes it from as a credential. To change one, remove
its file and deploy again. Each file is written whole or not at all and the access list last, so that a run that was
killed is finished by the next. Prints {"changed": [paths]}; with --check what would be changed. No secret is printed.
"""

from __future__ import annotations

import grp
import hashlib
import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

RULES = Path("/etc/redis/users.rules")
ACCESS_LIST = Path("/etc/redis/users.acl")
CREDENTIALS = Path("/etc/trading/credentials")
PLACE = re.compile(r"#\{(\w+)\}")
ENDS_WELL = "not listen anywhere"  # said by a Redis that has read everything and found it good


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print("usage: redis-users [--check]", file=sys.stderr)
        return 2
    check = bool(arguments)
    rules = read_rules()
    missing = [path for path in credentials_of(rules) if not password(path)]
    if not check:
        for path in missing:
            write(path, secrets.token_urlsafe(32), 0o600, 0)
    changed = missing + ([ACCESS_LIST] if missing or not is_written(access_list(rules)) else [])
    if changed and not check:
        write_access_list(access_list(rules))
    print(json.dumps({"changed": [str(path) for path in changed]}))
    return 0


def read_rules() -> list[str]:
    """Return the lines that are neither empty nor a comment; an access list has no room for these."""
    lines = (line.strip() for line in RULES.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def credentials_of(rules: list[str]) -> list[Path]:
    return [CREDENTIALS / name for rule in rules for name in PLACE.findall(rule)]


def password(path: Path) -> str:
    """Return a password, empty if there is none yet."""
    return path.read_text().strip() if path.exists() else ""


def access_list(rules: list[str]) -> str:
    """Return the text of the access list; only call it once all passwords are there."""

    def hashed(found: re.Match[str]) -> str:
        return "#" + hashlib.sha256(password(CREDENTIALS / found[1]).encode()).hexdigest()

    return "".join(PLACE.sub(hashed, rule) + "\n" for rule in rules)


def is_written(text: str) -> bool:
    """Say whether the access list is there with this text and the right owner and mode."""
    if not ACCESS_LIST.exists():
        return False
    found = ACCESS_LIST.stat()
    rights = (found.st_uid, found.st_gid, found.st_mode & 0o7777)
    return rights == (0, grp.getgrnam("redis").gr_gid, 0o640) and ACCESS_LIST.read_text() == text


def write_access_list(text: str) -> None:
    """Write the access list if Redis takes it. Raise SystemExit with what Redis says if not."""
    candidate = ACCESS_LIST.with_name(".users.acl.candidate")
    write(candidate, text, 0o640, grp.getgrnam("redis").gr_gid)
    dry_start = ("redis-server", "--port", "0", "--dir", "/", "--aclfile", str(candidate))
    said = subprocess.run(dry_start, capture_output=True, text=True, timeout=30, check=False).stdout  # noqa: S603
    if ENDS_WELL not in said:
        candidate.unlink()
        reasons = [line for line in said.splitlines() if "ACL" in line]
        raise SystemExit(f"Redis refuses the rules in {RULES}, nothing was changed: {' '.join(reasons) or said}")
    candidate.replace(ACCESS_LIST)


def write(path: Path, text: str, mode: int, group: int) -> None:
    """Write a file of root that is there whole or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        os.fchown(stream.fileno(), 0, group)
        os.fchmod(stream.fileno(), mode)
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
