"""`tokengate inventory`: the functions of a code base that are worth a policy."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from rich.console import Console

from tokengate.cli._errors import UsageProblem, one_line_errors
from tokengate.control.rendering._cells import plain
from tokengate.demo import find_sources, make_screen

if TYPE_CHECKING:
    from tokengate.demo._screen import Screen
    from tokengate.policy._inventory import Finding, Reason

_SOME = 3  # reasons of a kind that are written out
_MANY = 100  # files whose reading takes so long that progress is shown


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "json_wanted", is_flag=True, help="Print one JSON object.")
def inventory(path: Path, json_wanted: bool) -> None:
    """List the functions that are worth a policy, and why.

    PATH is a Python file, or a directory with some. Each function that writes globals, files or databases, calls
    processes or networks, has long loops, blocks the loop of its coroutine, or retries by hand is listed with an
    affinity and a policy to begin with. Nothing is imported or run.

    \b
    tokengate inventory src
    tokengate inventory src/shop/payments.py --json
    """  # noqa: D301  # click wants the backspace itself
    if not path.exists():
        raise UsageProblem(f"{path} does not exist; give a Python file, or a directory with some")
    paths = find_sources(path) if path.is_dir() else [str(path)]
    screen = make_screen(Console(stderr=True), "reading", len(paths))
    with one_line_errors(), screen, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those on the sources
        found, skipped = _analysed(paths, screen)
    if json_wanted:
        functions = [{"path": name, **msgspec.to_builtins(one)} for name, findings in found.items() for one in findings]
        answer = {"files": len(paths), "functions": functions, "skipped": skipped}
        click.echo(msgspec.json.format(msgspec.json.encode(answer)))
        return
    for name, findings in found.items():
        if findings:
            click.echo(f"{plain(name)}")
        for one in findings:
            click.echo(f"  {one.line}: {one.function}: {_reasons(one.reasons)}")
            click.echo(f'     affinity="{one.affinity}", policy={one.policy}')
    for name, why in skipped.items():
        click.echo(f"skipped: {plain(name)}: {plain(why)}", err=True)
    _summary(len(paths), [one for findings in found.values() for one in findings], len(skipped))


def _analysed(paths: Sequence[str], screen: Screen) -> tuple[dict[str, list[Finding]], dict[str, str]]:
    """Return {path: its findings}, and {path: why it was skipped}."""
    from tokengate.policy._inventory import analyse  # here: other commands need it not

    found, skipped = {}, {}
    for number, name in enumerate(paths, 1):
        try:
            found[name] = analyse(Path(name).read_bytes())
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
            skipped[name] = _in_words(error)
        if len(paths) >= _MANY:
            screen.show(number, "")
    return found, skipped


def _in_words(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}" if error.lineno else error.msg
    if isinstance(error, RecursionError | MemoryError):
        return "its expressions are nested too deeply"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _reasons(reasons: Sequence[Reason]) -> str:
    """Return reasons by kind: `calls networks (requests.get at line 7)`."""
    kinds: dict[str, list[str]] = {}
    for reason in reasons:
        kinds.setdefault(reason.kind, []).append(f"{reason.what} at line {reason.line}")
    return "; ".join(
        f"{kind} ({', '.join(where[:_SOME])}{f', {len(where) - _SOME} more' if len(where) > _SOME else ''})"
        for kind, where in kinds.items()
    )


def _summary(files: int, findings: Sequence[Finding], skipped: int) -> None:
    counts = Counter(sorted(kind for one in findings for kind in {reason.kind for reason in one.reasons}))
    kinds = "".join(f"; {kind}: {number:,}" for kind, number in counts.most_common())
    left_out = f"; files skipped: {skipped:,}" if skipped else ""
    click.echo(f"functions worth a policy: {len(findings):,}, in {files:,} files{kinds}{left_out}")
