"""Folders that users share: what another one puts there as a link is neither written through nor copied."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.watched import NOW

from ops import stamps
from ops.copies import copy_file
from ops.stamps import Stamp


def test_a_link_in_the_place_of_a_draft_is_not_written_through(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    ledger.write_bytes(b"entries")
    folder = tmp_path / "stamps"
    folder.mkdir()
    (folder / f".archive.{os.getpid()}").symlink_to(ledger)
    stamps.write(folder, Stamp("archive", NOW, NOW, True, "well", {}))
    assert ledger.read_bytes() == b"entries"
    assert [(path.name, path.is_symlink()) for path in folder.iterdir()] == [("archive.json", False)]


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_no_plain_file_is_not_copied(tmp_path: Path, kind: str) -> None:
    """As where somebody exchanged it after it was found to be one."""
    secret, source, target = tmp_path / "secret", tmp_path / "budget.json", tmp_path / "copy"
    secret.write_text("of another user")
    source.symlink_to(secret) if kind == "link" else os.mkfifo(source)
    with pytest.raises(OSError, match=r"symbolic links|no plain file"):
        copy_file(source, target)
    assert not target.exists() or target.read_bytes() == b""
