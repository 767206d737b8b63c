"""`tokengate audit`: the audit log of a gate, also of one that does not run."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from tokengate.cli._errors import Failure, UsageProblem
from tokengate.cli._gate_option import gate_option
from tokengate.control.rendering._cells import plain

_directory = click.argument("directory", type=click.Path(path_type=Path), required=False)


@click.group()
def audit() -> None:
    """Verify the audit log of a gate, and seal it.

    \b
    tokengate audit verify -g shop
    tokengate audit seal -g shop > safe/shop.key
    """  # noqa: D301  # click wants the backspace itself


@audit.command()
@_directory
@gate_option
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="What 'audit seal' has printed.")
@click.option("--heads", type=click.Path(path_type=Path), metavar="LOGFILE", help="Log of the process, with heads.")
@click.option("--json", "json_wanted", is_flag=True, help="Print one JSON object.")
def verify(directory: Path | None, gate: str | None, key: Path | None, heads: Path | None, json_wanted: bool) -> None:
    """Check each record of an audit log, and name what was changed.

    DIRECTORY is that of the log; without it, the one of the gate's name. No gate is needed. The exit code is 1 if
    something is wrong.

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
    if gate is None:
        raise UsageProblem("give the directory of the log, or the name of its gate with -g NAME")
    return default_directory(gate)
