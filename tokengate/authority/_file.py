"""The sections `[[grant]]`, `[approvals]` and `[audit]` of a file, as rows of checked values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from tokengate._exceptions import BadPolicy
from tokengate.authority._decide import NOBODY, ROLES, rights_of
from tokengate.authority._grants import Grant
from tokengate.config._names import gid_of, uid_of
from tokengate.config._report import Report
from tokengate.config._sections import Section, register
from tokengate.control.inspection._selector import Selector, parse, quoted
from tokengate.control.messages import RIGHTS
from tokengate.policy import _values
from tokengate.policy._file import Path as KeyPath
from tokengate.policy._file import Tables


@attrs.frozen
class ApprovalsRow:
    """The table `[approvals]`.

    Attributes:
        line: where it begins.
        bulk: number of tokens beyond which a verb of `terminate` needs approval; 0: never.
        expires: seconds after which a proposal that needs approval expires.
    """

    line: int
    bulk: int = 0
    expires: float = 900.0


@attrs.frozen
class AuditRow:
    """The table `[audit]`.

    Attributes:
        line: where it begins.
        path: directory of the log; None for the usual one.
        retain: seconds that records are kept; None: for ever.
    """

    line: int
    path: Path | None = None
    retain: float | None = None


_KEYS: Final = ("to", "role", "select")
_FIELDS: Final = ("operation", "actor", "affinity")
_LAST_ID: Final = 2**32 - 2
_TO: Final = "user:NAME, group:NAME, uid:NUMBER, gid:NUMBER, api:NAME, process or process:interventions"
_NUMBERS: Final[Mapping[str, Callable[[str], int]]] = {
    "user": uid_of,
    "group": gid_of,
    "uid": int,
    "gid": int,
}
"""{what a grant may be for: returns its number}."""


def grants(tables: Tables, report: Report) -> tuple[Grant, ...]:
    """Return the grants of a file; errors are added to the report."""
    rows = []
    for number, table in enumerate(tables):
        path: KeyPath = ("grant", number)
        _check_keys(path, table, _KEYS, report)
        found: dict[str, set[Any]] = {"users": set(), "groups": set(), "principals": set()}
        for at, text in _texts((*path, "to"), table.get("to"), f"name {_TO}", report):
            try:
                field, one = _named(text)
                found[field].add(one)
            except ValueError as error:
                report.wrong(at, text, str(error))
        rights = rights_in((*path, "role"), table.get("role"), report)
        where = _where((*path, "select"), table["select"], report) if "select" in table else None
        sets = {field: frozenset(ones) for field, ones in found.items()}
        rows.append(Grant(report.line(path), rights=rights, selector=where, **sets))
    return tuple(rows)


def rights_in(path: KeyPath, value: object, report: Report) -> frozenset[str]:
    """Return the rights of a list of roles and rights; a text is a list of one. Errors are added to the report."""
    known = f"use roles ({', '.join(ROLES)}) or rights ({', '.join(RIGHTS)})"
    names = list(_texts(path, value, known, report))
    for at, text in names:
        if text not in (*ROLES, *RIGHTS):
            report.wrong(at, text, known)
    return rights_of(text for _, text in names)


def _texts(path: KeyPath, value: object, remedy: str, report: Report) -> Iterator[tuple[KeyPath, str]]:
    """Yield the texts of a list with their paths; a text is a list of one."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list) and value:
        for number, one in enumerate(value):
            if isinstance(one, str):
                yield (*path, number), one
            else:
                report.wrong((*path, number), one, remedy)
    else:
        report.wrong(path, value, remedy)


def _named(text: str) -> tuple[str, int | str]:
    """Return the field of a grant that has a principal, and how it stands there.

    Raises:
        ValueError: there is none of this name, with what to write instead.
    """
    kind, _, name = text.partition(":")
    if text in ("process", "process:interventions") or (kind == "api" and re.fullmatch(r"[\w.-]+", name)):
        return "principals", text
    if kind not in _NUMBERS or not name or (kind in ("uid", "gid") and not re.fullmatch("[0-9]{1,10}", name)):
        raise ValueError(f"use {_TO}")
    try:
        number = _NUMBERS[kind](name)
    except LookupError as error:
        why, other = str(error).partition(";")[0], "uid" if kind == "user" else "gid"
        raise ValueError(f"{why}; correct it, or use {other}:NUMBER") from None
    if number > _LAST_ID:
        raise ValueError(f"use a number of at most {_LAST_ID}")
    if kind in ("user", "uid") and number == NOBODY:
        raise ValueError(f"{NOBODY} stands for users without a number here, and has no rights; name another user")
    return ("users" if kind in ("user", "uid") else "groups"), number


def _where(path: KeyPath, value: object, report: Report) -> Selector | None:
    """Return the selector of a grant, in which an actor is named by its whole path; None: everywhere."""
    text = report.selector(path, value)
    terms = []
    for term in parse(text).parts:
        if term.op != "=" or not (term.is_tag or term.name in _FIELDS):
            remedy = f"'{term.name}{term.op}' is not possible here; use tags, {', '.join(_FIELDS)}, each with ="
            report.wrong(path, value, remedy)
            return None
        if term.is_tag:
            terms.append(f"tag.{quoted(term.name)}={quoted(term.value)}")
        else:
            whole = "/" if term.name == "actor" and term.value[:1] not in ("", "/") else ""
            terms.append(f"{term.name}={quoted(whole + term.value)}")
    return parse(",".join(terms)) if terms else None


def approvals(tables: Tables, report: Report) -> tuple[ApprovalsRow, ...]:
    """Return the table `[approvals]` of a file, if it has one; errors are added to the report."""
    checks = {"bulk": lambda key, value: _values.whole("", key, value, 0), "expires": _period}
    return tuple(ApprovalsRow(line, **values) for line, values in _read("approvals", tables, checks, report))


def audit(tables: Tables, report: Report) -> tuple[AuditRow, ...]:
    """Return the table `[audit]` of a file, if it has one; errors are added to the report."""
    checks = {"path": _directory, "retain": _period}
    return tuple(AuditRow(line, **values) for line, values in _read("audit", tables, checks, report))


def _read(
    section: str, tables: Tables, checks: Mapping[str, Callable[[str, object], Any]], report: Report
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line and values of a single table."""
    for table in tables:
        _check_keys((section,), table, checks, report)
        values = {}
        for key in table.keys() & checks.keys():
            try:
                values[key] = checks[key](key, table[key])
            except BadPolicy as error:
                report.wrong((section, key), table[key], error.remedy)
        yield report.line((section,)), values


def _check_keys(path: KeyPath, table: Mapping[str, Any], known: Iterable[str], report: Report) -> None:
    for key in table:
        if key not in known:
            report.wrong((*path, key), table[key], f"there is no such key; use one of {', '.join(known)}")


def _period(key: str, value: object) -> float:
    return _values.period("", key, value)


def _directory(key: str, value: object) -> Path:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise BadPolicy("", key, value, "use the whole path of a directory, such as '/var/lib/shop/audit'")
    return Path(value)


GRANTS: Final = Section[Grant]("grant", grants, guarded=True)
APPROVALS: Final = Section[ApprovalsRow]("approvals", approvals, single=True, guarded=True)
AUDIT: Final = Section[AuditRow]("audit", audit, single=True)

register(GRANTS, APPROVALS, AUDIT)
