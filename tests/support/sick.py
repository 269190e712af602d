"""`tradectl` with strategies that misbehave, as a program: `python -m support.sick engine`."""

from __future__ import annotations

from app.cli import main
from app.model import ENTER, EXIT, Bar, Signal
from app.strategies.registry import STRATEGIES


class Hangs:
    """Never comes back from its bar number `at`."""

    def __init__(self, at: int = 3) -> None:
        self.at, self.seen = at, 0
        self.warmup = 0

    def on_bar(self, bar: Bar) -> Signal | None:
        self.seen += 1
        while self.seen >= self.at:
            pass
        return None


class Raises:
    """Fails at its bar number `at`."""

    def __init__(self, at: int = 3) -> None:
        self.at, self.seen = at, 0
        self.warmup = 0

    def on_bar(self, bar: Bar) -> Signal | None:
        self.seen += 1
        return None if self.seen < self.at else [ENTER][self.seen]


class Restless:
    """Wants in on one bar and out on the next."""

    def __init__(self) -> None:
        self.wants, self.warmup = False, 0

    def on_bar(self, bar: Bar) -> Signal | None:
        self.wants = not self.wants
        return ENTER if self.wants else EXIT


STRATEGIES |= {"hangs": Hangs, "raises": Raises, "restless": Restless}

if __name__ == "__main__":
    main()
