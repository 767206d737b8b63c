"""The section `[admin]` of `tokengate.toml`, which the daemon reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from tokengate.authority._file import GRANTS, rights_in
from tokengate.authority._grants import Grant
from tokengate.config._file import find_file, read_file, socket_group
from tokengate.config._report import Report
from tokengate.config._sections import CONTROL, Section, register
from tokengate.control.inspection._selector import parse

PORT: Final = 8787

HOST: Final = re.compile(r"127\.0\.0\.1|(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,3}localhost")
"""A name of the daemon: that of no other machine."""


@attrs.frozen
class AdminRow:
    """`[admin]`.

    Attributes:
        port: to listen on; the next free one if it is taken.
        host: name of the daemon in URLs; empty: a random one.
        ceiling: the rights that no one exceeds over HTTP; None: all.
    """

    port: int = PORT
    host: str = ""
    ceiling: frozenset[str] | None = None


@attrs.frozen
class Settings:
    """What the daemon reads of a file.

    Attributes:
        admin: the section `[admin]`.
        group: number of the group whose users may connect to `admin.sock`.
        grants: they tell who may see others' sessions and API tokens.
    """

    admin: AdminRow = AdminRow()
    group: int | None = None
    grants: tuple[Grant, ...] = ()


def settings_in(given: Path | None) -> Settings:
    """Return what a file says, whatever else is in it.

    Args:
        given: path of the file; None for the one that `TOKENGATE_CONFIG` names, if it names one.

    Raises:
        BadConfig: it has errors, or cannot be read.
    """
    file = find_file(given)
    if file is None:
        return Settings()
    config = read_file(file, parse, only=(ADMIN, CONTROL, GRANTS))
    [row] = config.of(ADMIN) or [AdminRow()]
    return Settings(row, socket_group(config), config.of(GRANTS))


def _admin(tables: Sequence[Mapping[str, Any]], report: Report) -> tuple[AdminRow, ...]:
    return tuple(_row(table, report) for table in tables)


def _row(table: Mapping[str, Any], report: Report) -> AdminRow:
    for key in table.keys() - {"port", "host", "ceiling"}:
        report.wrong(("admin", key), table[key], "there is no such key; use one of port, host, ceiling")
    port, host, ceiling = table.get("port", PORT), table.get("host", ""), table.get("ceiling")
    if type(port) is not int or not 0 < port < 65_536:
        report.wrong(("admin", "port"), port, "use a whole number from 1 to 65535")
    if "host" in table and not (isinstance(host, str) and HOST.fullmatch(host)):
        report.wrong(("admin", "host"), host, "use 127.0.0.1, or a name that ends in .localhost")
    return AdminRow(port, host, None if ceiling is None else rights_in(("admin", "ceiling"), ceiling, report))


ADMIN: Final = Section[AdminRow]("admin", _admin, single=True, guarded=True)

register(ADMIN)
