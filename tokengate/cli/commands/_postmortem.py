"""`tokengate postmortem`: one zip with all that is known of a token."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from tokengate.cli._connection import Connection
from tokengate.cli._errors import UsageProblem, one_line_errors
from tokengate.cli._gate_option import gate_option
from tokengate.cli._out_file import out_option, tell
from tokengate.cli.commands._history import dir_option, progress, reader_of
from tokengate.control.messages import AuditRecordRow, Message
from tokengate.control.rendering._cells import plain


@click.command()
@click.argument("name", metavar="ID")
@out_option
@dir_option
@click.option(
    "--audit", type=click.Path(path_type=Path), metavar="DIR", help="With --dir: the audit log, if it is elsewhere."
)
@gate_option
@click.option("--json", "json_wanted", is_flag=True, help="Print one JSON object about it.")
def postmortem(
    name: str, out: Path, directory: Path | None, audit: Path | None, gate: str | None, json_wanted: bool
) -> None:
    """Write one zip with all that is known of a token.

    ID is its uid, or its id. The zip has its attempts, events and samples, parents and children, the other records of
    its last minute, audit records, log lines, the tree, versions and the configuration: each as far as you may see it.
    Its index.json says what was left out, and why.

    \b
    tokengate postmortem 7f3a91c2.4242 -o resize.zip
    tokengate postmortem 4242 -o resize.zip --dir /var/lib/shop
    """  # noqa: D301  # click wants the backspace itself
    from tokengate.history._postmortem import Offline, Postmortem  # here: other commands need it not
    from tokengate.telemetry._out_file import written

    with one_line_errors(), Connection(gate, "json") as connection, progress() as told:
        ask: Callable[[Message[Any]], Any] = connection.ask
        if directory is not None:
            ask = Offline(reader_of(directory, told), partial(_audit, audit)).ask
        found = Postmortem(ask)
        found.collect(name)
        try:
            with written(out) as file:
                found.write(file)
        except OSError as error:
            raise UsageProblem(f"{out}: {error.strerror}") from None
    if json_wanted:
        tell(out, msgspec.json.encode({"file": str(out), **found.index}))
        return
    parts = found.index["parts"]
    tell(out, f"{plain(str(out))}: {', '.join(f'{part} ({count:,})' for part, count in parts.items())}")
    for part, why in found.index["left_out"].items():
        tell(out, f"left out: {plain(part)}: {plain(why)}")


def _audit(directory: Path | None, gate: str, select: str, limit: int) -> tuple[AuditRecordRow, ...]:
    from tokengate.audit._files import default_directory
    from tokengate.authority._audit_verbs import rows_of

    return rows_of(directory or default_directory(gate), select, limit)
