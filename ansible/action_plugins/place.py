"""Renders templates and opens trees on the controller, then has the module of the same name write all of it at once."""

from __future__ import annotations

from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader

OF_ENTRY = frozenset(
    {"src", "tree", "content", "dest", "state", "target", "owner", "group", "mode", "validate", "secret"}
)
SOURCES = ("src", "tree", "content")


class ActionModule(ActionBase):
    """The controller's half of `place`."""

    _requires_connection = True
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        files = [made for entry in arguments.pop("files", []) for made in self._made(entry, task_vars)]
        return self._execute_module(module_name="place", module_args={**arguments, "files": files}, task_vars=task_vars)

    def _made(self, entry: dict, task_vars: dict) -> list[dict]:
        """Return what the module takes: one entry for each file, with its text."""
        self._refuse_misspelt(entry)
        kept = {key: value for key, value in entry.items() if key not in ("src", "tree")}
        if "tree" in entry:
            return [
                {**kept, "dest": f"{entry['dest']}/{name}", "content": text}
                for name, text in tree_of(Path(entry["tree"]))
            ]
        return [{**kept, "content": self._text(entry["src"], task_vars)}] if "src" in entry else [kept]

    def _refuse_misspelt(self, entry: dict) -> None:
        unknown = set(entry) - OF_ENTRY
        if unknown or "dest" not in entry:
            raise AnsibleActionFail(f"place: {dict(entry)} has no dest, or keys that do not exist: {sorted(unknown)}")
        if not isinstance(entry.get("mode", ""), str):
            raise AnsibleActionFail(f"place: the mode of {entry['dest']} is a number; write it in quotes, as '0644'")
        sources = [key for key in SOURCES if key in entry]
        if entry.get("state", "file") == "file" and len(sources) != 1:
            raise AnsibleActionFail(f"place: {entry['dest']} needs one of {', '.join(SOURCES)}")

    def _text(self, source: str, task_vars: dict) -> str:
        if not source.endswith(".j2"):
            return Path(self._find_needle("files", source)).read_text(encoding="utf-8")
        found = self._find_needle("templates", source)
        lookup = lookup_loader.get("ansible.builtin.template", loader=self._loader, templar=self._templar)
        return lookup.run([found], variables=task_vars)[0]


def tree_of(top: Path) -> list[tuple[str, str]]:
    """Return name and text of every file below a directory. Raise AnsibleActionFail if there is none."""
    if not top.is_dir():
        raise AnsibleActionFail(f"place: there is no directory {top}")
    found = sorted(path for path in top.rglob("*") if path.is_file())
    return [(str(path.relative_to(top)), path.read_text(encoding="utf-8")) for path in found]
