"""The names that users type stand in `public_names.txt`, so that each change of one shows in a diff.

python tests/test_public_names.py --write    # after a change on purpose
"""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import attrs
import click

from tokengate.cli import main

SNAPSHOT = Path(__file__).parent / "public_names.txt"

MODULES = (
    "actors",
    "supervisors",
    "supervisors.testing",
    "tokengate",
    "tokengate.admin",
    "tokengate.control",
    "tokengate.control.messages",
    "tokengate.control.registry",
    "tokengate.errors",
    "tokengate.events",
    "tokengate.policy",
    "tokengate.telemetry",
    "tokengate.types",
)


def public(module: Any) -> list[str]:
    """Return the public names of a module: those of `__all__`, or else what it defines."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", module.__name__).startswith(module.__name__)
        if not inspect.ismodule(value)
        if name != "annotations"
    )


def describe(module: Any, name: str) -> str:
    """Return the line of a public name; that of a message has its fields."""
    value = getattr(module, name)
    fields = ""
    if module.__name__.endswith("messages") and isinstance(value, type) and attrs.has(value):
        fields = f"({', '.join(field.name for field in attrs.fields(value))})"
    return f"{module.__name__}.{name}{fields}"


def commands(group: click.Group, path: str) -> list[str]:
    """Return a line for each command of a group, with its arguments and options."""
    lines = []
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            lines += commands(command, f"{path} {name}")
        parameters = sorted("/".join(p.opts) if isinstance(p, click.Option) else p.name or "" for p in command.params)
        hidden = " (hidden)" if command.hidden else ""
        lines.append(f"$ {path} {name}{hidden}: {' '.join(parameters)}".rstrip(": "))
    return lines


def names() -> str:
    """Return all public names, a line each."""
    lines = []
    for path in MODULES:
        module = importlib.import_module(path)
        lines += [describe(module, name) for name in public(module)]
    assert isinstance(main, click.Group)
    lines += commands(main, "tokengate")
    return "\n".join(lines) + "\n"


def test_no_public_name_changes_by_accident() -> None:
    """A name that comes, goes, or takes other arguments is in a diff of the snapshot."""
    assert names() == SNAPSHOT.read_text(), "after a change on purpose, run python tests/test_public_names.py --write"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        SNAPSHOT.write_text(names())
    else:
        print(names(), end="")
