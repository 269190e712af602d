"""`python -m app.cli` is tradectl."""

from __future__ import annotations

from app.cli import main

if __name__ == "__main__":  # a web worker that is spawned imports this file under another name
    main()
