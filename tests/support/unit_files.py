"""Reads the unit files of systemd/ as they are written: keys in order, each with the comment that stands above it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SYSTEMD = Path(__file__).resolve().parents[2] / "systemd"


@dataclass(frozen=True)
class Line:
    """`KEY=value` of a section. `reason` is the comment above it; `between` are the keys that stand between the two."""

    section: str
    key: str
    value: str
    reason: str
    between: tuple[str, ...]


@dataclass(frozen=True)
class Unit:
    name: str
    lines: tuple[Line, ...]

    def all(self, key: str) -> list[str]:
        return [line.value for line in self.lines if line.key == key]

    def get(self, key: str) -> str:
        """Return the value that counts: the last one, empty if there is none."""
        return (self.all(key) or [""])[-1]

    def words(self, key: str) -> list[str]:
        """Return the words of a list that is written on one or more lines; an empty line begins it anew."""
        found: list[str] = []
        for value in self.all(key):
            found = [*found, *value.split()] if value else []
        return found

    def line(self, key: str) -> Line | None:
        return next((line for line in reversed(self.lines) if line.key == key), None)


def read(path: Path) -> Unit:
    """Read a unit file, or a drop-in under the name of its unit."""
    name = path.parent.name.removesuffix(".d") if path.parent.suffix == ".d" else path.name
    lines: list[Line] = []
    section, comment, open_comment, between = "", "", False, tuple[str, ...]()
    for number, text in enumerate(path.read_text().splitlines(), 1):
        if text.startswith("#"):
            comment = f"{comment} {text[1:].strip()}".strip() if open_comment else text[1:].strip()
            open_comment, between = True, ()
            continue
        open_comment = False
        if text.startswith("["):
            section, comment, between = text.strip("[]"), "", ()
        elif not text:
            comment, between = "", ()
        else:
            key, sign, value = text.partition("=")
            assert sign and key == key.strip() and value == value.strip(), f"{path}, line {number}: {text!r}"
            lines.append(Line(section, key, value, comment, between))
            between = (*between, key)
    return Unit(name, tuple(lines))


def own(kind: str) -> dict[str, Unit]:
    """Return the appliance's own units of a kind, by name."""
    return {path.name: read(path) for path in sorted(SYSTEMD.glob(f"*.{kind}"))}


def drop_ins() -> dict[str, Unit]:
    """Return what is added to units of Debian, by the name of the unit."""
    return {unit.name: unit for unit in map(read, sorted(SYSTEMD.glob("*.service.d/*.conf")))}


def seconds(span: str) -> float:
    """Return a time span of systemd in seconds."""
    for suffix, factor in (("ms", 0.001), ("min", 60.0), ("h", 3600.0), ("s", 1.0)):
        if span.endswith(suffix):
            return float(span.removesuffix(suffix)) * factor
    return float(span)
