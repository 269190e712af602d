"""Looks at a machine before anything is changed on it, and says what is in the way.

Sent to the machine's own Python on standard input; the only argument is JSON with what is expected (vars/main.yml of
this role). Prints JSON: `problems`, sentences for a person, empty if all is well, and what the role has to know of the
machine. Changes nothing. It must run on any Python 3, since it says which one is too old.
"""

import difflib
import grp
import ipaddress
import json
import os
import platform
import pwd
import re
import subprocess
import sys
from pathlib import Path

KEY = re.compile(r"(?:^|\s)(?:ssh-(?:ed25519|rsa)|ecdsa-sha2-nistp\d+|sk-\S+@openssh\.com)\s+AAAA[\w+/]+=*(?:\s|$)")
USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
# Labels as DNS has them; the last one is no number, or it would be an address.
DOMAIN = r"(?=.{1,253}$)(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+(?!\d+$)[a-zA-Z0-9-]{2,63}"
FORMS = {
    "domain": (re.compile(DOMAIN), "domain", "trade.example.com, without https:// and without a path"),
    "mail": (re.compile(rf"[^\s@,;\"'<>]+@{DOMAIN}"), "mail address", "ops@example.com"),
    "address": (re.compile(r"https://[^\s\"'<>]+"), "address", "https://acme.example.com/directory"),
}
MAPPING = "a mapping: names in upper case and their values, as NAME: value"
PART_EXAMPLES = {"a list": "first,second", "a mapping": "first,second", "nothing": '"" (empty), or leave it out'}
RESOLVED = "/run/systemd/resolve/"
REMEMBERED = Path("/var/lib/trading-deploy/resolv.conf")
BEFORE_RESOLVED = Path("/etc/.resolv.conf.systemd-resolved.bak")  # where Debian's package moves a static file


def text_of(path):
    """Return what a file has, and nothing if there is no such file."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def said_by(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603


def pairs_of(text, separator):
    """Read `name=value` or `name: value`, one a line."""
    split = (line.split(separator, 1) for line in text.splitlines() if separator in line)
    return {name.strip(): value.strip().strip('"') for name, value in split}


# -- the machine ----------------------------------------------------------------------------------------------------


def system_problems():
    release = pairs_of(text_of("/etc/os-release"), "=")
    if (release.get("ID"), release.get("VERSION_ID")) != ("debian", "13"):
        found = release.get("PRETTY_NAME", "an unknown system")
        yield f"The appliance runs on Debian 13 (trixie) only; /etc/os-release says {found}. Install Debian 13."
    if platform.machine() not in ("x86_64", "aarch64"):
        yield f"The processor is {platform.machine()}; it has to be amd64 or arm64. Choose another machine."
    if tuple(int(part) for part in platform.python_version_tuple()[:2]) < (3, 11):
        yield f"Python 3.11 is needed, and /usr/bin/python3 is {platform.python_version()}. Install Debian's python3."
    if os.geteuid() != 0:
        yield f"Root is needed, and this runs as {pwd.getpwuid(os.geteuid()).pw_name}. Set become: true in the play."


def size_problems(expected):
    memory = int(pairs_of(text_of("/proc/meminfo"), ":")["MemTotal"].split()[0]) // 1024
    if memory < expected["memory_mib"]:
        yield (
            f"The machine has {memory} MiB of memory, and at least {expected['memory_mib']} MiB are needed "
            "(base_minimum_memory_mib). Give it more."
        )
    makes_swap = wants_swap(expected) and not Path(expected["swap_file"]).exists()
    free_mib = expected["free_mib"]
    needed = {"/": free_mib + expected["swap_mib"] * makes_swap, "/var": free_mib, "/opt": free_mib}
    for place, needed_mib in needed.items():
        disk = os.statvfs(place)
        free = disk.f_bavail * disk.f_frsize // 2**20
        if free < needed_mib:
            yield (
                f"{place} has {free} MiB free, and at least {needed_mib} MiB are needed (base_minimum_free_mib"
                f"{', and base_swap_mib' if needed_mib > expected['free_mib'] else ''}). "
                f"Make room: du -xh --max-depth=2 {place} | sort -h | tail"
            )


def missing_packages(wanted):
    form = "--showformat=${db:Status-Status} ${Package}\n"
    lines = said_by("/usr/bin/dpkg-query", "--show", form, "--", *wanted).splitlines()
    installed = {line.split()[1] for line in lines if line.startswith("installed ")}
    return sorted(set(wanted) - installed)


def is_container():
    return said_by("/usr/bin/systemd-detect-virt", "--container").strip() not in ("", "none")


def wants_swap(expected):
    """Say whether the swap file is ours to make and to keep: nobody else has made swap here."""
    in_use = [line.split()[0] for line in text_of("/proc/swaps").splitlines()[1:]]
    return expected["swap_mib"] > 0 and not is_container() and set(in_use) <= {expected["swap_file"]}


def accounts_are_missing():
    """Say whether an earlier run described users and was cut off before it made them."""
    described = "\n".join(text_of(path) for path in Path("/etc/sysusers.d").glob("trading*.conf"))
    names = re.findall(r"^u!?\s+(\S+)", described, re.MULTILINE)
    return not set(names) <= {user.pw_name for user in pwd.getpwall()}


# -- names ----------------------------------------------------------------------------------------------------------


def resolv_conf():
    """Return the text with the name servers from before systemd-resolved; nothing if the machine always had it."""
    if REMEMBERED.exists():
        return text_of(REMEMBERED)
    current = Path("/etc/resolv.conf")
    return text_of(BEFORE_RESOLVED if RESOLVED in os.path.realpath(current) else current)


def is_elsewhere(address):
    try:
        return not ipaddress.ip_address(address.split("%")[0]).is_loopback
    except ValueError:
        return False


def names_of(text):
    """Return the name servers and the search domains of a resolv.conf."""
    words = [line.split() for line in text.splitlines()]
    servers = [line[1] for line in words if line[:1] == ["nameserver"] and len(line) > 1 and is_elsewhere(line[1])]
    domains = [domain for line in words if line[:1] in (["search"], ["domain"]) for domain in line[1:] if domain != "."]
    return list(dict.fromkeys(servers)), list(dict.fromkeys(domains))


def remembered(servers, domains):
    lines = [f"nameserver {server}" for server in servers] + ([f"search {' '.join(domains)}"] if domains else [])
    return "".join(f"{line}\n" for line in ["# The name servers of this machine before systemd-resolved.", *lines])


# -- who logs in ----------------------------------------------------------------------------------------------------


def ssh_login():
    """Return the user who logged in by ssh to run this, before any sudo; nothing if it did not come by ssh."""
    pid, login = os.getpid(), ""
    while pid > 1:
        environment = pairs_of(text_of(f"/proc/{pid}/environ").replace("\0", "\n"), "=")
        if "SSH_CONNECTION" in environment:
            login = environment.get("USER", login)
        pid = int(text_of(f"/proc/{pid}/stat").rpartition(")")[2].split()[1])
    return login


def home_of(name):
    try:
        return pwd.getpwnam(name).pw_dir
    except KeyError:
        return f"/home/{name}"


def keys_of(name):
    """Return the keys that let a user in, as they stand. A key that is tied to one command lets nobody in."""
    files = (Path(home_of(name), ".ssh", each) for each in ("authorized_keys", "authorized_keys2"))
    lines = [line.strip() for path in files for line in text_of(path).splitlines()]
    return [line for line in lines if KEY.search(line) and not line.startswith("#") and 'command="' not in line]


def former_operators(expected):
    """Return the users of the operators' group who are on the list no longer."""
    try:
        group = grp.getgrnam(expected["group"])
    except KeyError:
        return []
    members = {user.pw_name for user in pwd.getpwall() if user.pw_gid == group.gr_gid} | set(group.gr_mem)
    return sorted(members - {operator["name"] for operator in expected["operators"]} - {"root"})


def operator_problems(operators, expected, login):
    names = [operator["name"] for operator in operators]
    if not names:
        yield "base_operators is empty, so nobody could look after the machine. Name at least one account in it."
    for name in (name for name in names if name == "root" or not USER.fullmatch(name) or names.count(name) > 1):
        yield f"base_operators has {name!r}, which is root, no name of a user, or there twice. Choose another name."
    for operator in operators:
        for key in (key for key in operator["keys"] if not KEY.search(key) or "\n" in key.strip()):
            yield (
                f"base_operators: a key of {operator['name']} is no line of authorized_keys: {key[:40]!r}. "
                "Copy the one line of the .pub file."
            )
        if not operator["keys"]:
            source = f"{login}, as whom you log in, has none in its ~/.ssh/authorized_keys" if login else "no ssh login"
            yield (
                f"Nobody could log in as {operator['name']}: passwords are refused from now on, base_operators gives "
                f"it no keys, and there are none to copy ({source}). Give it `keys`, or ssh-copy-id your key first."
            )
    left = {operator["name"]: operator["keys"] for operator in operators}.get(login, keys_of(login) if login else [])
    if login and not left:
        yield (
            f"You log in as {login}, and no key would be left for it, while passwords are refused from now on. "
            f"Put your key there first: ssh-copy-id {login}@…"
        )
    if login in former_operators(expected):
        yield f"You log in as {login}, who is no longer in base_operators. Log in as somebody who is, or put it back."


# -- what the inventory says ----------------------------------------------------------------------------------------


def name_problem(name, known):
    own_parts = {one.partition("_")[2]: one for one in known}
    near = difflib.get_close_matches(name.partition("_")[2], own_parts, n=1, cutoff=0.5)
    advice = f"Did you mean {own_parts[near[0]]}?" if near else f"There are {', '.join(own_parts.values())}."
    return f"The inventory sets {name}, which nothing reads. {advice}"


def part_problems(name, parts):
    """Yield what is wrong with a mapping; its values are texts, numbers, or yes or no."""
    for key, kind in parts.items():
        if kind in PART_EXAMPLES:
            yield f"{name} has {kind} as the value of {key}. Write a text: {key}: {PART_EXAMPLES[kind]}."


def text_problem(name, wanted, text):
    """Return what is wrong with a text that has a form, and nothing if all is well. An empty text means: none."""
    form, what, example = FORMS.get(wanted, (None, "", ""))
    if form and text and not form.fullmatch(text):
        return f"{name} is {text!r}, which is no {what}. Write it as {example}, or leave it out."
    return ""


def variable_problems(expected):
    known = expected["known_variables"]
    for name, given in sorted(expected["variables"].items()):
        wanted = known.get(name)
        if wanted is None:
            yield name_problem(name, known)
        elif given["kind"] != ("a mapping" if wanted == "mapping" else "a text"):
            due = MAPPING if wanted == "mapping" else "a text"
            yield f"{name} is {given['kind']} in the inventory, and has to be {due}."
        else:
            yield from part_problems(name, given["parts"])
            yield from filter(None, [text_problem(name, wanted, given["text"])])


def main():
    expected = json.loads(sys.argv[1])
    login = ssh_login()
    copied = keys_of(login) if login else []
    operators = [
        {"name": one["name"], "home": home_of(one["name"]), "keys": one.get("keys") or copied}
        for one in expected["operators"]
    ]
    servers, domains = names_of(resolv_conf())
    found = {
        "problems": [
            *system_problems(),
            *size_problems(expected),
            *operator_problems(operators, expected, login),
            *variable_problems(expected),
        ],
        "login": login,
        "operators": operators,
        "former_homes": [home_of(name) for name in former_operators(expected)],
        "missing_packages": missing_packages(expected["packages"]),
        "accounts_missing": accounts_are_missing(),
        "container": is_container(),
        "swap_wanted": wants_swap(expected),
        "nameservers": servers,
        "search_domains": domains,
        "remembered_resolv_conf": remembered(servers, domains),
    }
    print(json.dumps(found))


main()
