"""`tokengate doctor`: what hinders an installation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import click
import msgspec

from tokengate.cli.doctor._child import check_child_process
from tokengate.cli.doctor._gates import check_control_directory, check_gates
from tokengate.cli.doctor._installation import check_dependencies, check_packages, check_python
from tokengate.cli.doctor._result import Result
from tokengate.cli.doctor._system import (
    check_encoding,
    check_limits,
    check_platform,
    check_resources,
    check_switch_interval,
)

CHECKS: tuple[Callable[[], Iterator[Result]], ...] = (
    check_python,
    check_dependencies,
    check_packages,
    check_platform,
    check_limits,
    check_resources,
    check_switch_interval,
    check_control_directory,
    check_gates,
    check_child_process,
    check_encoding,
)

_WIDTH = 20  # columns for the names of checks


def results() -> Iterator[Result]:
    """Yield the results of all checks; a check that raises has failed."""
    for check in CHECKS:
        try:
            yield from check()
        except Exception as error:  # the other checks are still of use
            name = check.__name__.removeprefix("check_").replace("_", " ")
            yield Result(name, "failed", f"the check itself raised {type(error).__name__}: {error}", "report this")


@click.command()
@click.option("--json", "json_wanted", is_flag=True, help="Print one JSON object.")
def doctor(json_wanted: bool) -> None:
    """Check this installation, and say what to do.

    Python and the dependencies, packages with the same names, the platform, limits, cores and memory, the directory of
    control sockets, the gates that run here, a child process, and the terminal. The exit code is 1 if a check has
    failed.

    \b
    tokengate doctor
    tokengate doctor --json
    """  # noqa: D301  # click wants the backspace itself
    found = []
    for result in results():
        found.append(result)
        if not json_wanted:
            click.echo(f"{result.status:7}  {result.name:{_WIDTH}}  {result.text}")
            if result.remedy:
                click.echo(f"{'':7}  {'':{_WIDTH}}  {result.remedy}")
    counts = Counter(result.status for result in found)
    if json_wanted:
        answer = {"ok": not counts["failed"], "checks": found}
        click.echo(msgspec.json.format(msgspec.json.encode(answer)))
    else:
        click.echo(f"{len(found)} checks: " + ", ".join(f"{number} {status}" for status, number in counts.items()))
    if counts["failed"]:
        raise SystemExit(1)
