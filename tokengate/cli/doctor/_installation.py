"""Checks of Python, of the dependencies, and of the packages `actors` and `supervisors`."""

from __future__ import annotations

import operator
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any, Final

from tokengate._installation import PACKAGES, explain, foreign_file
from tokengate.cli.doctor._result import Result

DISTRIBUTION: Final = "tokengate-runtime"

_FIRST, _LAST = (3, 11), (3, 13)  # versions of Python that are tested

_REQUIREMENT: Final = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^]]*\])?\s*\(?([^();]*)\)?\s*")
_BOUND: Final = re.compile(r"(~=|==|!=|<=|>=|<|>)\s*(\S+)")
_OPERATORS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq, "!=": operator.ne, "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
}  # fmt: skip


def check_python() -> Iterator[Result]:
    """Check that this Python is a version on which TokenGate is tested."""
    implementation, running = platform.python_implementation(), platform.python_version()
    tested = f"CPython {_FIRST[0]}.{_FIRST[1]} to {_LAST[0]}.{_LAST[1]}"
    found = f"{implementation} {running} in {sys.executable}"
    if sys.version_info[:2] < _FIRST:
        yield Result("python", "failed", f"{found} is too old", f"use {tested}")
    elif implementation != "CPython" or sys.version_info[:2] > _LAST:
        yield Result("python", "warning", f"{found} is not tested", f"use {tested}")
    elif not getattr(sys, "_is_gil_enabled", lambda: True)():
        yield Result("python", "warning", f"{found} runs without the GIL, which is not tested", f"use {tested} with it")
    else:
        yield Result("python", "ok", found)


def check_dependencies(distribution: str = DISTRIBUTION) -> Iterator[Result]:
    """Check that all dependencies are installed, in versions within the bounds of the distribution's metadata."""
    try:
        needed = list(_needed(requires(distribution) or ()))
    except PackageNotFoundError:
        yield Result("dependencies", "failed", f"'{distribution}' is not installed", f"run: pip install {distribution}")
        return
    wrong, installed = [], []
    for name, bounds in needed:
        try:
            found = version(name)
        except PackageNotFoundError:
            wrong.append((f"{name} is not installed", f"{name}{bounds}"))
            continue
        installed.append(f"{name} {found}")
        if not fits(found, bounds):
            wrong.append((f"{name} is {found}, not {bounds}", f"{name}{bounds}"))
    if wrong:
        text = "; ".join(what for what, _ in wrong)
        yield Result("dependencies", "failed", text, f"run: pip install {' '.join(repr(one) for _, one in wrong)}")
    else:
        yield Result("dependencies", "ok", ", ".join(installed))


def _needed(requirements: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield (name, bounds) of the requirements that hold everywhere, and not for an extra only."""
    for requirement in requirements:
        found = _REQUIREMENT.match(requirement)
        if found is not None and ";" not in requirement:
            yield found[1], found[2].strip()


def fits(found: str, bounds: str) -> bool:
    """Tell whether a version is within bounds such as `>=4.4,<5`; only its numbers are compared, as in `4.4.1`."""
    return all(_fits(found, sign, bound) for sign, bound in _BOUND.findall(bounds.replace(",", " ")))


def _fits(found: str, sign: str, bound: str) -> bool:
    mine, theirs = _numbers(found), _numbers(bound)
    if sign == "~=":
        return mine >= theirs and mine[: len(theirs) - 1] == theirs[:-1]
    length = max(len(mine), len(theirs))
    mine, theirs = (each + (0,) * (length - len(each)) for each in (mine, theirs))
    return _OPERATORS[sign](mine, theirs)


def _numbers(text: str) -> tuple[int, ...]:
    release = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, release[0].split("."))) if release else ()


def check_packages(path: Sequence[str] | None = None) -> Iterator[Result]:
    """Check that no file of a program hides `actors` or `supervisors`, here or in a program that starts here.

    The current directory comes first on `sys.path` of a program that starts in it, and then the folders of PYTHONPATH;
    the command `tokengate` has another `sys.path`.

    Args:
        path: the folders that Python searches after these; None takes `sys.path`.
    """
    after = sys.path if path is None else path
    for package in PACKAGES:
        hidden = foreign_file(package)
        for folder in (os.getcwd(), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))):
            hidden = hidden or foreign_file(package, [folder, *after])
        if hidden is None:
            yield Result(package, "ok", f"the package '{package}' is TokenGate's")
        else:
            what, _, remedy = explain(package, hidden).partition(". ")
            yield Result(package, "failed", what, remedy)
