"""Finds the file, and reads it as a whole: all its errors, or the rows of all its sections."""

from __future__ import annotations

import errno
import os
import re
import stat
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from tokengate._exceptions import BadConfig, Problem
from tokengate.config._lines import KeyPath
from tokengate.config._report import ParseSelector, Report, name_of
from tokengate.config._sections import CONTROL, PLUGINS, SECTIONS, Section

R = TypeVar("R")

VARIABLE: Final = "TOKENGATE_CONFIG"
"""The environment variable that names the file."""

_MOST_BYTES: Final = 10_000_000  # of a file


@attrs.frozen
class Config:
    """What a file says.

    Attributes:
        path: of the file.
        tables: its content as it was parsed: {section: its tables}.
        rows: {section: what its parser made of them}.
    """

    path: Path
    tables: Mapping[str, Any]
    rows: Mapping[str, tuple[Any, ...]]
    _report: Report

    def of(self, section: Section[R]) -> tuple[R, ...]:
        """Return the rows of a section, in the order of the file."""
        return self.rows[section.name]

    def values(self) -> list[tuple[int, str, object]]:
        """Return each value with its line and name, in the order of the lines: `(4, "policy[0].retry.attempts", 3)`."""
        found = ((self._report.line(path), name_of(path), value) for path, value in _leaves(self.tables))
        return sorted(found, key=lambda one: one[0])


def find_file(given: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the path of the file: the given one, or that which `TOKENGATE_CONFIG` names; None: there is none."""
    named = os.fspath(given) if given is not None else os.environ.get(VARIABLE, "")
    return Path(named) if named else None


def read_file(
    path: Path,
    parse_selector: ParseSelector,
    *,
    plugins: Iterable[object] | None = None,
    only: Collection[Section[Any]] = (),
) -> Config:
    """Read and check a file.

    Args:
        path: of the file.
        parse_selector: `parse` of `tokengate.control.inspection._selector`.
        plugins: of the gate that reads it, which has no use for sections of others; None: all sections are possible.
        only: the sections that are wanted, whatever else the file has; empty: all, and there must be no others.

    Raises:
        BadConfig: it has errors, all of which it names, or it cannot be read.
    """
    text, tables, status = _parse(path)
    report = Report(text, parse_selector)
    sections = {section.name: section for section in only} or SECTIONS
    there = {kind.__name__ for plugin in plugins or () for kind in type(plugin).__mro__}
    for name in () if only else tables:
        needed = PLUGINS.get(name)
        if needed and plugins is not None and needed not in there:
            report.refuse((name,), f"[{name}] is for the plugin {needed}; open the gate with plugins=[{needed}()]")
        elif name not in SECTIONS:
            remedy = f"there is no such section; use one of {', '.join(SECTIONS)}, or import the plugin that has it"
            report.wrong((name,), tables[name], remedy)
    rows: dict[str, tuple[Any, ...]] = {}
    for name, section in sections.items():
        found = tables.get(name)
        if section.guarded and found is not None and (why := _unguarded(status)):
            report.refuse((name,), f"a file with the section {name} {why}")
        given = [] if found is None else [found] if section.single else found
        if isinstance(given, list) and all(isinstance(table, dict) for table in given):
            rows[name] = section.parse(given, report)
        else:
            report.wrong((name,), found, f"write it as {f'[{name}]' if section.single else f'[[{name}]]'}")
    if report.problems:
        raise BadConfig(path, tuple(sorted(report.problems, key=lambda problem: problem.line)))
    return Config(path, tables, rows, report)


def socket_group(config: Config) -> int | None:
    """Return the number of the group whose users may connect to the gate; None: no others than its own user."""
    return next((row.group for row in config.of(CONTROL)), None)


def _unguarded(status: os.stat_result) -> str:
    """Return what is wrong with a file that others may have written, and how to mend it; empty if nothing is."""
    if status.st_uid not in (os.geteuid(), 0):
        return f"must belong to this user or root, and this one belongs to user {status.st_uid}; use chown"
    if status.st_mode & 0o022:
        mode = f"{stat.S_IMODE(status.st_mode):04o}"
        return f"must be writable by no one else, and the mode of this one is {mode}; use chmod go-w"
    return ""


def _parse(path: Path) -> tuple[str, Mapping[str, Any], os.stat_result]:
    data, text = b"", ""
    try:
        with path.open("rb") as opened:
            status = os.fstat(opened.fileno())  # of what is read, whatever is at the path by then
            data = opened.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise OSError(errno.EFBIG, f"it has more than {_MOST_BYTES:,} bytes")
        text = data.decode()
        return text, tomllib.loads(text), status
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = Problem(line, "", data[error.start : error.end], "this is no UTF-8; save the file as UTF-8")
    except OSError as error:
        problem = Problem(0, "", None, f"cannot be read: {error.strerror or error}; name another file")
    except RecursionError:
        problem = Problem(1, "", None, "its brackets are nested too deeply; use fewer")
    except ValueError as error:  # which has the line in its text, or none: some numbers are too long
        found = re.search(r"line (\d+)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        problem = Problem(line, "", None, f"this is no TOML: {error}; mend it, or quote the text")
    raise BadConfig(path, (problem,))


def _leaves(value: object, path: KeyPath = ()) -> Iterator[tuple[KeyPath, object]]:
    """Yield the values that are no tables, with their paths; a list of plain values is one."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list) and value and all(isinstance(inner, dict) for inner in value):
        for number, inner in enumerate(value):
            yield from _leaves(inner, (*path, number))
    else:
        yield path, value
