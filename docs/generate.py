"""Writes what is generated: the life cycle of a token, the house from the import contracts, the document of the API.

Run it as `python docs/generate.py`.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from actors import TERMINAL, TRANSITIONS, TokenState

DOCS = Path(__file__).parent
ROOT = DOCS.parent
FLOORS = ("tokengate", "supervisors", "actors")
BEGIN, END = "<!-- begin: docs/generate.py -->", "<!-- end -->"


def life_cycle() -> str:
    """Return the diagram (Mermaid) and the table of the states that may follow each one."""
    arrows = [f"    {state} --> {next}" for state, following in TRANSITIONS.items() for next in following]
    ends = [f"    {state} --> [*]" for state in TokenState if state in TERMINAL]
    rows = [f"| {state} | {', '.join(following)} |" for state, following in TRANSITIONS.items() if following]
    terminal = ", ".join(state for state in TokenState if state in TERMINAL)
    return "\n".join(
        [
            "```mermaid",
            "stateDiagram-v2",
            f"    [*] --> {TokenState.CREATED}",
            *arrows,
            *ends,
            "```",
            "",
            "| from | to |",
            "|---|---|",
            *rows,
            f"| {terminal} | nothing: they are terminal |",
        ]
    )


def layers() -> dict[str, list[list[str]]]:
    """Return the layers of the import contracts, the highest first: {package: its layers of rooms and files}.

    A part that a contract names in parentheses is left out as long as it does not exist.
    """
    contracts: list[Mapping[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    found = {}
    for contract in contracts:
        if contract["type"] == "layers":
            for container in contract.get("containers", ()):
                parts = [re.split(r"\s*[|:]\s*", layer) for layer in contract["layers"]]
                present = [[name for part in layer if (name := _present(container, part))] for layer in parts]
                found[container] = [layer for layer in present if layer]
    return found


def house() -> str:
    """Return the diagrams (Mermaid) of the floors and of the packages with layers, and the table of all rooms."""
    diagrams = [_diagram(FLOORS, {floor: layers().get(floor) or [_rooms(floor)] for floor in FLOORS})]
    for package, parts in layers().items():
        if package not in FLOORS:
            diagrams += ["", f"`{package}` in the same way:", "", _diagram((package,), {package: parts})]
    rooms = sorted(path.parent for floor in FLOORS for path in (ROOT / floor).rglob("__init__.py"))
    rows = [f"| {_link(room)} | {_purpose(room)} |" for room in rooms if room.name not in FLOORS]
    return "\n".join([*diagrams, "", "| room | what is there |", "|---|---|", *rows])


def _present(package: str, part: str) -> str:
    """Return the name of a part of a package; of an optional one only if it exists."""
    name = part.strip("() ")
    path = ROOT / package.replace(".", "/") / name
    return name if not part.startswith("(") or path.is_dir() or path.with_suffix(".py").exists() else ""


def _rooms(package: str) -> list[str]:
    return sorted(path.parent.name for path in (ROOT / package.replace(".", "/")).glob("*/__init__.py"))


def _diagram(packages: tuple[str, ...], parts: Mapping[str, list[list[str]]]) -> str:
    lines = ["```mermaid", "flowchart TD"]
    for package in packages:
        if not any(parts[package]):
            lines.append(f'    {package}["{package}"]')
            continue
        lines.append(f'    subgraph {package.replace(".", "_")}["{package}"]')
        lines += [f'        {_node(package, part)}["{part}"]' for layer in parts[package] for part in layer]
        for upper, lower in pairwise(parts[package]):
            lines += [f"        {_node(package, one)} --> {_node(package, other)}" for one in upper for other in lower]
        lines.append("    end")
    lines += [f"    {upper} --> {lower}" for upper, lower in pairwise(packages)]
    return "\n".join([*lines, "```"])


def _node(package: str, part: str) -> str:
    return f"{package}.{part}".replace(".", "_")


def _link(room: Path) -> str:
    path = room.relative_to(ROOT).as_posix()
    return f"[`{path}/`](../{path}/__init__.py)"


def _purpose(room: Path) -> str:
    """Return the first line of a room's docstring."""
    docstring = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
    return docstring.partition("\n")[0].rstrip(".")


PAGES: dict[str, Callable[[], str]] = {"semantics.md": life_cycle, "architecture.md": house}
"""{page: what is generated into it}."""


def api() -> str:
    """Return the OpenAPI document of a process that knows the nouns of our own rooms only."""
    done = subprocess.run(
        [sys.executable, "-c", _API],
        cwd=ROOT,
        env={**os.environ, "TOKENGATE_PLUGINS": ""},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


_API = """
import json
from tokengate.admin._gates import GateEntry
from tokengate.control._version import own_version
from tokengate.control.registry._modules import import_nouns
from tokengate.control.registry._openapi import openapi
import_nouns()
print(json.dumps(openapi(own_version(), GateEntry), indent=1))
"""

FILES: dict[str, Callable[[], str]] = {"openapi.json": api}
"""{file: what it is}."""


def with_generated(page: str, generated: str) -> str:
    """Return the text of a page, with what stands between the marks made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{generated}\n\n{END}{after}"


if __name__ == "__main__":
    for name, generate in PAGES.items():
        (DOCS / name).write_text(with_generated((DOCS / name).read_text(), generate()))
    for name, generate in FILES.items():
        (DOCS / name).write_text(generate())
