"""`tokengate audit`: the audit log of a gate; it is verified and sealed also if the gate does not run."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from tokengate.cli._connection import Connection, connected
from tokengate.cli._derive import command_of, show_answer
from tokengate.cli._errors import Failure, UsageProblem, one_line_errors
from tokengate.cli._gate_option import gate_option
from tokengate.cli.commands._follow import follow_stream
from tokengate.control._exceptions import Unreachable
from tokengate.control.messages import AuditRecords, FollowAudit, ShowAuditRecord, Whoami
from tokengate.control.rendering._cells import plain

_directory = click.argument("directory", type=click.Path(path_type=Path), required=False)


class _Audit(click.Group):
    """A group that lists records if its first argument is none of its commands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = {*self.commands, *self.get_help_option_names(ctx)}
        listed = args[0] not in known if args else not ctx.resilient_parsing
        return super().parse_args(ctx, ["list", *args] if listed else args)


@click.group(cls=_Audit)
def audit() -> None:
    """List the records of the audit log, or do more with it.

    'tokengate audit' is short for 'tokengate audit list'.

    \b
    tokengate audit principal=uid:1000,verb=terminate
    tokengate audit 'kind=refused,age<1h' -n 20
    tokengate audit -f
    tokengate audit show 1207
    tokengate audit verify -g shop
    tokengate audit seal -g shop > safe/shop.key
    """  # noqa: D301  # click wants the backspace itself


@audit.command("list")
@click.argument("selector", default="")
@click.option("-f", "--follow", is_flag=True, help="Print the records that are written from now on.")
@click.option(
    "-n", "--limit", type=click.IntRange(1, 1_000), help="Number of records, at most.  [default: 100; with -f: all]"
)
@connected
def list_(connection: Connection, selector: str, follow: bool, limit: int | None) -> None:
    """List the newest records of the audit log, the newest last.

    SELECTOR has terms of principal, kind, verb, via, actor, outcome, request (texts; * is any part), seq, token, owner,
    proposal, of (numbers) and age (30s, 1.5h, 2d), compared as those of 'tokengate ps'. What is read is recorded, too.

    \b
    tokengate audit list
    tokengate audit principal=uid:1000,verb=terminate
    tokengate audit 'kind=refused,age<1h' -n 20
    tokengate audit token=42
    tokengate audit -f --json >> audit.jsonl
    """  # noqa: D301  # click wants the backspace itself
    if follow:
        follow_stream(connection, FollowAudit(selector), limit)
    else:
        show_answer(connection, AuditRecords(selector, **({"limit": limit} if limit else {})))


audit.add_command(command_of(ShowAuditRecord, show_answer, name="show"))


@audit.command()
@_directory
@gate_option
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="What 'audit seal' has printed.")
@click.option("--heads", type=click.Path(path_type=Path), metavar="LOGFILE", help="Log of the process, with heads.")
@click.option("--json", "json_wanted", is_flag=True, help="Print one JSON object.")
def verify(directory: Path | None, gate: str | None, key: Path | None, heads: Path | None, json_wanted: bool) -> None:
    """Check each record of an audit log, and name what was changed.

    DIRECTORY is that of the log; without it, the one that the gate says, or that of its name if it does not run. The
    exit code is 1 if something is wrong.

    The holder of today's key can change what is written from now on. Without heads that were kept elsewhere, another
    chain, and a log that was put back together with its key, are not seen.

    \b
    tokengate audit verify -g shop
    tokengate audit verify /var/lib/shop/audit --key safe/shop.key --heads /var/log/shop.log
    """  # noqa: D301  # click wants the backspace itself
    from tokengate.audit._verify import verify as verified  # here: other commands need it not

    try:
        found = verified(_place(directory, gate), key, heads)
    except (OSError, ValueError) as error:
        raise UsageProblem(str(error)) from None
    if json_wanted:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        for line in (*found.problems, *found.notes):
            click.echo(plain(str(line)))
        number = len(found.problems)
        wrong = f"{number} problem{'s' * (number > 1)}" if number else "nothing is wrong"
        click.echo(f"{found.records:,} records of {plain(found.directory)} are whole; {wrong}")
        click.echo(str(plain(found.heads)))
    if found.problems:
        raise SystemExit(1)


@audit.command()
@_directory
@gate_option
def seal(directory: Path | None, gate: str | None) -> None:
    """Print the first key of an audit log, and remove it from there.

    Keep what is printed in a safe elsewhere: 'audit verify' needs it from then on, and no one can compute it. Whoever
    reads the files of the gate can then change no record that is already there.

    \b
    tokengate audit seal -g shop > safe/shop.key
    """  # noqa: D301  # click wants the backspace itself
    from tokengate.audit._read import first_key
    from tokengate.audit._read import seal as sealed

    place = _place(directory, gate)
    try:
        click.echo(first_key(place), nl=False)
        sys.stdout.flush()  # it is removed only if it could be printed
        sealed(place)
    except FileNotFoundError:
        raise Failure(f"{place} has no first key: there is no log, or it is sealed") from None
    except (OSError, ValueError) as error:
        raise Failure(f"{place}: {error}") from None


def _place(directory: Path | None, gate: str | None) -> Path:
    from tokengate.audit._files import default_directory

    if directory is not None:
        return directory
    try:
        with one_line_errors(), Connection(gate, "table") as connection:
            found = connection.ask(Whoami()).audit
    except Failure as error:
        if not isinstance(error.__cause__, Unreachable):
            raise
        found = ""
    if not (found or gate):
        raise UsageProblem("give the directory of the log, or the name of its gate with -g NAME")
    return Path(found) if found else default_directory((gate or "").partition("@")[0])
