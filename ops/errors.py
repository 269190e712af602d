"""Every error that the watcher raises on purpose, and who has to act on it.

OpsError                  a job or a check could not do its work; the text says what, where and how to mend it
├── ConfigurationError    the operator corrects a setting; nothing was done
├── Misused               what was asked for cannot be done as it was said; nothing was done
├── Blind                 nothing could be looked at: not the verdict that something is CRITICAL, but none at all
├── TimedOut              what was asked did not answer within its limit
├── Changed               what was backed up changed meanwhile: it is done once more
└── Damaged               a file is not what was written: a copy does not count as a backup, a memory is put aside
"""

from __future__ import annotations


class OpsError(Exception):
    """Base of the tree. `exit_code` is what `python -m ops` returns."""

    exit_code = 1


class ConfigurationError(OpsError):
    exit_code = 2


class Misused(OpsError):
    exit_code = 2


class Blind(OpsError):
    exit_code = 70


class TimedOut(OpsError):
    pass


class Absent(OpsError):
    pass


class Locked(OpsError):
    pass


class Changed(OpsError):
    pass


class Damaged(OpsError):
    pass
