"""Says whether the firewall's rules would shut out the deployment that brings them, and whether they are in force.

Sent to the machine's own Python on standard input; arguments are the port of sshd and the networks that may call it.
Prints JSON: `problems`, sentences for a person, empty if all is well; `altered`, whether the kernel has other rules
than the file, as after `nft flush ruleset`. Changes nothing.
"""

import ipaddress
import json
import os
import subprocess
import sys
from pathlib import Path

RULES = "/etc/nftables.conf"
LIST = "nft --stateless --terse list ruleset"  # without counters and the addresses that were seen
LIST_OF_FILE = f"unshare --net sh -c 'nft --file {RULES} && {LIST}'"  # as the kernel shows it, in a network of its own


def listed(command):
    """Return a list of rules, None if there is no nft or no file yet."""
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)  # noqa: S603 - constants
    return None if done.returncode else done.stdout


def are_altered():
    of_file = listed(LIST_OF_FILE)
    return of_file is not None and of_file != listed(LIST)


def environment_of(pid):
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def ssh_connection():
    """Return client address and server port of the ssh connection that runs this, before any sudo; None without one."""
    pid, found = os.getpid(), None
    while pid > 1:
        for entry in environment_of(pid):
            if entry.startswith("SSH_CONNECTION="):
                found = entry.partition("=")[2].split()
        pid = int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    return (found[0], int(found[3])) if found else None


def networks_of(texts):
    """Return networks, and the texts that are none."""
    networks, wrong = [], []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError as fault:
            wrong.append(f"firewall_ssh_from has {text!r}: {fault}. Write a network as 192.0.2.0/24 or 2001:db8::/32.")
    return networks, wrong


def problems_of(port, texts):
    networks, wrong = networks_of(texts)
    connection = ssh_connection()
    if wrong or connection is None:
        return wrong
    address, used_port = ipaddress.ip_address(connection[0].split("%")[0]), connection[1]
    address = getattr(address, "ipv4_mapped", None) or address
    problems = []
    if not any(address in network for network in networks):
        problems.append(
            f"This deployment comes from {address}, which is in none of the networks of firewall_ssh_from "
            f"({', '.join(texts) or 'empty'}). Add a network that has it, or deploy from another place."
        )
    if used_port != port:
        problems.append(
            f"This deployment came in through port {used_port}, and firewall_ssh_port is {port}. "
            f"Set firewall_ssh_port: {used_port}."
        )
    return problems


print(json.dumps({"problems": problems_of(int(sys.argv[1]), sys.argv[2].split()), "altered": are_altered()}))
