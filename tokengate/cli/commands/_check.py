"""`tokengate check`: what a `tokengate.toml` says, or what is wrong in it."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import click
import msgspec

from tokengate._exceptions import BadConfig
from tokengate.control.inspection._selector import doubts, parse
from tokengate.control.rendering._cells import plain


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "json_wanted", is_flag=True, help="Print one JSON object.")
def check(file: Path, json_wanted: bool) -> None:
    """Check a tokengate.toml, and show what it says.

    Each value is printed with its line. If there are errors, all of them are printed instead, and the exit code is 2.
    What may be a slip, such as a tag whose name is nearly that of a field, is a warning on stderr. No gate is needed,
    and none is changed.

    \b
    tokengate check tokengate.toml
    tokengate check tokengate.toml --json
    """  # noqa: D301  # click wants the backspace itself
    import tokengate.admin._config
    import tokengate.authority._file
    import tokengate.durable._config
    import tokengate.predict._rules_file  # noqa: F401  # their sections; here: other commands need none of these
    from tokengate.cli._plugins import import_plugins
    from tokengate.config._file import read_file

    import_plugins()  # which may bring sections
    values: list[tuple[int, str, object]] = []
    problems = []
    try:
        values = read_file(file, parse).values()
    except BadConfig as error:
        if not json_wanted:
            click.echo("\n".join(str(plain(line)) for line in str(error).splitlines()), err=True)
        problems = [attrs.asdict(problem) for problem in error.problems]
    warnings = [(line, field, value, text) for line, field, value in values for text in _doubts(field, value)]
    if json_wanted:
        rows = [{"line": line, "field": field, "value": value} for line, field, value in values]
        answer = {
            "file": str(file), "ok": not problems, "values": rows, "problems": problems,
            "warnings": [dict(zip(("line", "field", "value", "remedy"), one, strict=True)) for one in warnings],
        }  # fmt: skip
        try:
            click.echo(msgspec.json.format(msgspec.json.encode(answer, enc_hook=str)))
        except OverflowError:  # an int of more than 64 bits
            click.echo(json.dumps(answer, indent=2, default=str))
    elif not problems:
        width = max((len(field) for _, field, _ in values), default=0)
        for line, field, value in values:
            click.echo(f"{line:5}  {field:{width}}  {plain(value)}")
        click.echo(f"{file} has no errors")
        for line, field, value, text in warnings:
            click.echo(f"{file}:{line}: warning: {field} is {plain(repr(value))}; {plain(text)}", err=True)
    if problems:
        raise SystemExit(2)


def _doubts(field: str, value: object) -> list[str]:
    """Return what may be a slip in a value that is no error, each with the remedy."""
    from tokengate.predict import _action  # here, as above

    find = {"select": doubts, "do": _action.doubts}.get(field.rpartition(".")[2])
    return find(value) if find is not None and isinstance(value, str) else []
