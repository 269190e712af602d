"""The Vagrantfile, read by Vagrant itself. No machine is made here: a box cannot be downloaded everywhere."""

from __future__ import annotations

import os
from pathlib import Path

from deploy.playbook import ROOT
from deploy.shell import answer
from vm.conftest import Tell


def test_vagrant_takes_the_vagrantfile_for_valid(tmp_path: Path, tell: Tell) -> None:
    home = (f"VAGRANT_HOME={tmp_path}/home", f"VAGRANT_DOTFILE_PATH={tmp_path}/dot", f"VAGRANT_CWD={ROOT}")
    said = answer("env", "-C", ROOT, *home, f"PATH={os.environ['PATH']}", "vagrant", "validate", seconds=300)
    version = answer("env", *home, "vagrant", "--version", seconds=300).stdout.strip()
    tell(f"{version}: {said.stdout.strip()}")

    assert said.ok, said
    assert "validated successfully" in said.stdout


def test_a_misspelt_key_would_not_be_valid(tmp_path: Path) -> None:
    """So that the test above cannot pass for a Vagrant that looks at nothing."""
    text = (ROOT / "Vagrantfile").read_text().replace("config.vm.hostname", "config.vm.hostnam")
    (tmp_path / "Vagrantfile").write_text(text)
    home = (f"VAGRANT_HOME={tmp_path}/home", f"VAGRANT_DOTFILE_PATH={tmp_path}/dot")
    said = answer("env", "-C", tmp_path, *home, "vagrant", "validate", seconds=300)

    assert not said.ok
    assert "hostnam" in said.stdout + said.stderr
