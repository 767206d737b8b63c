"""`tokengate run`: run a user's own service until a signal ends it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from tokengate import Gate
from tokengate.cli._errors import UsageProblem
from tokengate.cli._parameters import SECONDS
from tokengate.cli._run_target import load_target
from tokengate.cli._signals import Stopping, stop_on_signals
from tokengate.control.registry._modules import command_line
from tokengate.errors import (
    BadConfig,
    BadStateDirectory,
    GateState,
    JournalDamaged,
    JournalInUse,
    NewerFormat,
    StartFailed,
)
from tokengate.types import ShutdownReport

_HINT: Final = "'tokengate admin login --open' shows its page; "


class _Run(click.Command):
    """A command that says where the options of a service go."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = list(args)  # the parser takes them out of `args`
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            before = words[: next((at for at, word in enumerate(words) if word.startswith(error.option_name)), 0)]
            target = next((word for word in before if ":" in word), "TARGET")
            raise click.UsageError(
                f"'tokengate run' has no option {error.option_name}; the arguments of the service follow '--': "
                f"tokengate run {target} -- {error.option_name}",
                ctx,
            ) from None


@click.command(cls=_Run)
@click.argument("target")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- ARGS]...")
@click.option("--admin", "admin_wanted", is_flag=True, help="Start the admin daemon unless one runs: plugin Admin().")
@click.option("--shutdown", type=SECONDS, default=None, metavar="SECONDS", help="Time for an orderly stop.")
def run(target: str, arguments: tuple[str, ...], admin_wanted: bool, shutdown: float | None) -> None:
    """Run a service until SIGINT (Ctrl-C) or SIGTERM.

    TARGET is module:attribute or file.py:attribute. The attribute is a Gate, which is opened; or a function, which
    is called with an open Gate named after it, sets its service up and returns (or returns when gate.wait() does).
    ARGS are for the service, which finds them in sys.argv, after its file.

    The first signal stops the service in order, a second one shortens its deadlines. The exit code is
    0 after a clean stop.

    \b
    tokengate run examples/shop.py:gate
    tokengate run --admin examples/shop.py:gate
    tokengate run examples/shop.py:gate -- --fail payments:0.2
    """  # noqa: D301  # click wants the backspace itself
    for name in ("tokengate.audit", "tokengate.authority"):  # heads and broken glass, whatever else is logged
        logging.getLogger(name).setLevel(logging.INFO)
    with command_line(target, arguments):
        found = load_target(target)
        setup: Callable[[Gate], Any] | None = None
        if isinstance(found, Gate):
            gate = found
        else:
            setup = found
            gate = Gate(getattr(found, "__name__", Path(target).stem))
        if admin_wanted:
            _add_admin(gate)
        with stop_on_signals() as stopping:
            report = _serve(gate, setup, shutdown, stopping, _HINT if admin_wanted else "")
    if report.gave_up:
        raise click.ClickException(f"gate '{gate.name}' gave up: too many restarts")
    if report.abandoned:
        raise click.ClickException(f"gate '{gate.name}' left behind: {', '.join(report.abandoned)}")
    failed = [stage for stage, outcome in report.stages.items() if outcome == "failed"]
    if failed:
        raise click.ClickException(f"gate '{gate.name}' stopped, but not in order; failed: {', '.join(failed)}")
    click.echo(f"gate '{gate.name}' stopped after {report.seconds:.2f} s", err=True)


def _add_admin(gate: Gate) -> None:
    from tokengate.admin import Admin  # here: few services need it

    if all(not isinstance(one, Admin) for one in gate._plugins):
        gate._attach((*gate._plugins, Admin()))


_NOT_OPENED: Final = (
    BadConfig, BadStateDirectory, GateState, JournalDamaged, JournalInUse, NewerFormat, StartFailed,
)  # fmt: skip


def _serve(
    gate: Gate, setup: Callable[[Gate], Any] | None, shutdown: float | None, stopping: Stopping, hint: str
) -> ShutdownReport:
    stopping.gate = gate
    try:
        gate.open()
    except _NOT_OPENED as error:
        raise UsageProblem(f"cannot open gate '{gate.name}': {error}") from error
    click.echo(f"gate '{gate.name}' is open; {hint}Ctrl-C stops it", err=True)
    try:
        with gate.entered():
            if setup is not None:
                name = getattr(setup, "__name__", "the function")
                stopping.interrupt = True
                stopping.notice = f"{name}() was asked to return, as it does when gate.wait() does; again interrupts it"
                setup(gate)
                stopping.interrupt, stopping.notice = False, ""
            gate.wait()
    except KeyboardInterrupt:
        if not stopping.asked:
            raise
    finally:
        stopping.interrupt, stopping.notice = False, ""
        click.echo(f"gate '{gate.name}' is stopping", err=True)
        report = gate.close(shutdown)
    return report
