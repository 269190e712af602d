"""A process that really grows, as standard input says: `memory N` takes N MiB, `files N` opens N. It answers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

kept: list[Any] = []


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        what, count = line.split()
        for _ in range(int(count)):
            kept.append(b"\1" * 1024**2 if what == "memory" else Path("/dev/null").open())  # noqa: SIM115
        print("done", flush=True)


if __name__ == "__main__":
    main()
