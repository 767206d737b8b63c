"""Commands that change tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from actors.lowlevel import AFFINITIES
from tokengate.cli._completers import complete_destination
from tokengate.cli._connection import Connection, connected
from tokengate.cli._errors import Failure, UsageProblem
from tokengate.cli._parameters import SECONDS, LimitValue, Number
from tokengate.cli._token_targets import SELECTOR_HELP, TARGET_HELP, Which, on_tokens
from tokengate.control.messages import (
    PATIENT_WAIT,
    Lift,
    Limit,
    Mode,
    OnTokens,
    Outcome,
    Pause,
    Renice,
    Reroute,
    Resume,
    Retag,
    SetThrottle,
    Step,
    Terminate,
    Throttles,
)

_NOT_DONE = ("refused", "unknown", "ended")

# Tokens that the line on stderr names; the table has all.
_NAMED = 5

_wait_option = click.option(
    "--wait",
    type=SECONDS,
    default=PATIENT_WAIT,
    show_default=True,
    metavar="SECONDS",
    help="Time to wait until it is done; after that, the outcome says that it was requested.",
)


def _steer(connection: Connection, verb: OnTokens) -> None:
    outcomes: Sequence[Outcome] = connection.ask(verb)
    if outcomes or connection.output == "json":
        connection.show(outcomes)
    if not outcomes:
        raise Failure(f"nothing matches '{verb.select}'; 'tokengate ps' lists the live tokens")
    failed = [outcome for outcome in outcomes if outcome.outcome in _NOT_DONE]
    if failed:
        named = "; ".join(_line(outcome) for outcome in failed[:_NAMED])
        more = f"; and {len(failed) - _NAMED:,} more" if len(failed) > _NAMED else ""
        raise Failure(f"not done for {len(failed):,} of {len(outcomes):,}: {named}{more}")


def _line(outcome: Outcome) -> str:
    return f"{outcome.token} {outcome.outcome}" + (f" ({outcome.note})" if outcome.note else "")


@click.command(epilog=TARGET_HELP)
@on_tokens
@click.option("--stop-clock", is_flag=True, help="Do not count the pause for their time limits.")
@_wait_option
@connected
def pause(connection: Connection, which: Which, stop_clock: bool, wait: float) -> None:
    """Pause tokens, queued or running, until they are resumed.

    \b
    tokengate pause 42 43
    tokengate pause 'operation=resize,tenant=acme' --stop-clock
    tokengate pause '*' --dry-run
    """  # noqa: D301  # click wants the backspace itself
    _steer(connection, Pause(**which, stop_clock=stop_clock, wait=wait))


@click.command(epilog=TARGET_HELP)
@on_tokens
@connected
def resume(connection: Connection, which: Which) -> None:
    """Let paused tokens run on.

    \b
    tokengate resume 42
    tokengate resume '*'
    """  # noqa: D301
    _steer(connection, Resume(**which))


@click.command(epilog=TARGET_HELP)
@on_tokens
@click.option("-n", "steps", type=click.IntRange(min=1), default=1, show_default=True, help="How many steps.")
@_wait_option
@connected
def step(connection: Connection, which: Which, steps: int, wait: float) -> None:
    """Let paused tokens run some steps, and pause them again.

    A running token is paused first.

    \b
    tokengate step 42
    tokengate step 42 -n 10
    """  # noqa: D301
    _steer(connection, Step(**which, n=steps, wait=wait))


@click.command(epilog=TARGET_HELP)
@on_tokens
@click.option(
    "-s",
    "--mode",
    type=click.Choice(["cancel", "interrupt", "kill"]),
    default="interrupt",
    show_default=True,
    help="cancel asks; interrupt also raises in Python code; kill also leaves code behind that does not end. "
    "The last two kill a child process at once.",
)
@click.option("--reason", default="an operator ended it", metavar="TEXT", help="Text of the token's error.")
@_wait_option
@click.option(
    "--grace",
    type=SECONDS,
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="With -s kill: time until code that does not end is left behind; not for child processes.",
)
@connected
def kill(connection: Connection, which: Which, mode: Mode, reason: str, wait: float, grace: float) -> None:
    """End tokens.

    \b
    tokengate kill 42
    tokengate kill 'tenant=acme,running>60' -s kill --reason 'over quota'
    tokengate kill 'operation=resize' --dry-run
    """  # noqa: D301
    _steer(connection, Terminate(**which, mode=mode, reason=reason, wait=wait, grace=grace))


_PRIORITY_FIRST = "the priority comes first: tokengate renice 9 42"


class _Priority(click.ParamType):  # type: ignore[type-arg]  # older ones of click are not generic
    """A priority; the error says the order of the arguments, which is easily mistaken."""

    name = "priority"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is not a whole number; {_PRIORITY_FIRST}", param, ctx)


# So that a priority below zero is not an option; `on_tokens` refuses other arguments with a dash.
@click.command(epilog=TARGET_HELP, context_settings={"ignore_unknown_options": True})
@click.argument("priority", type=_Priority())
@on_tokens
@connected
def renice(connection: Connection, priority: int, which: Which) -> None:
    """Change the priority of tokens; higher runs first.

    \b
    tokengate renice 9 42
    tokengate renice -5 'tenant=acme,state=queued'
    """  # noqa: D301
    selector = which["select"]
    if isinstance(selector, str) and selector.isidentifier():
        raise UsageProblem(f"'{selector}' is neither an id nor a selector; {_PRIORITY_FIRST}")
    _steer(connection, Renice(**which, priority=priority))


@click.command(epilog=TARGET_HELP)
@on_tokens
@click.option("--set", "pairs", multiple=True, metavar="TAG=VALUE", help="Set a tag; may be given several times.")
@click.option("--remove", multiple=True, metavar="TAG", help="Remove a tag; may be given several times.")
@connected
def retag(connection: Connection, which: Which, pairs: tuple[str, ...], remove: tuple[str, ...]) -> None:
    """Change tags of tokens.

    \b
    tokengate retag 42 --set tenant=acme --remove trial
    tokengate retag 'tenant=acme' --set plan=gold
    """  # noqa: D301
    tags = {}
    for pair in pairs:
        tag, equals, value = pair.partition("=")
        if not equals or not tag:
            raise UsageProblem(f"--set '{pair}' is not TAG=VALUE; write --set TAG=VALUE")
        tags[tag] = value
    if not tags and not remove:
        raise UsageProblem("retag changes nothing; give --set TAG=VALUE or --remove TAG")
    _steer(connection, Retag(**which, set=tags, remove=remove))


@click.command(epilog=TARGET_HELP)
@on_tokens
@click.option(
    "--to",
    required=True,
    metavar="|".join((*AFFINITIES, "ACTOR")),
    shell_complete=complete_destination,
    help="The new affinity or actor.",
)
@connected
def reroute(connection: Connection, which: Which, to: str) -> None:
    """Move queued tokens to another affinity or actor.

    Running tokens stay where they are.

    \b
    tokengate reroute 'operation=fetch,state=queued' --to cpu
    tokengate reroute 42 --to office/mailer2
    """  # noqa: D301
    if to in AFFINITIES:
        _steer(connection, Reroute(**which, affinity=to))
    else:
        _steer(connection, Reroute(**which, actor=to))


@click.command(epilog=TARGET_HELP)
@on_tokens
@click.option("--memory", type=LimitValue("memory", "SIZE"), help="Resident memory, such as 500MB or 2GiB.")
@click.option("--address-space", type=LimitValue("address_space", "SIZE"), help="Address space.")
@click.option("--cpu-time", type=LimitValue("cpu_time", "TIME"), help="Processor time, such as 30s, 5m or 1h.")
@click.option("--wall-time", type=LimitValue("wall_time", "TIME"), help="Time from the token's start.")
@connected
def limit(
    connection: Connection,
    which: Which,
    memory: float | str | None,
    address_space: float | str | None,
    cpu_time: float | str | None,
    wall_time: float | str | None,
) -> None:
    """Limit what tokens may use in their child processes.

    A token that uses more already is ended. 'none' lifts a limit; limits that are not given stay as they are.

    \b
    tokengate limit 42 --memory 2GiB --cpu-time 10
    tokengate limit 'operation=render' --wall-time 5m
    tokengate limit 42 --memory none
    """  # noqa: D301
    if memory is address_space is cpu_time is wall_time is None:
        raise UsageProblem("limit changes nothing; give --memory, --address-space, --cpu-time or --wall-time")
    given = {"memory": memory, "address_space": address_space, "cpu_time": cpu_time, "wall_time": wall_time}
    _steer(connection, Limit(**which, **{name: value for name, value in given.items() if value is not None}))


@click.command(epilog=SELECTOR_HELP)
@click.argument("selector", default="", metavar="[SELECTOR]")
@click.option("--rate", type=Number(min=0, min_open=True), help="Tokens that may begin per second.")
@click.option("--concurrency", type=click.IntRange(min=1), help="Tokens that may run at once.")
@click.option("--lift", is_flag=True, help="End the throttle of SELECTOR ('*': all of them).")
@click.option("--list", "listing", is_flag=True, help="List the throttles.")
@connected
def throttle(
    connection: Connection, selector: str, rate: float | None, concurrency: int | None, lift: bool, listing: bool
) -> None:
    """Limit how many tokens begin per second, or run at once.

    \b
    tokengate throttle operation=fetch --rate 10
    tokengate throttle tenant=acme --concurrency 2
    tokengate throttle --list
    tokengate throttle operation=fetch --lift
    """  # noqa: D301
    limits = rate is not None or concurrency is not None
    if limits + lift + listing != 1:
        raise UsageProblem("throttle takes --rate and --concurrency, or --lift, or --list; give one of the three")
    if listing:
        if selector:
            raise UsageProblem(f"--list lists all throttles; leave '{selector}' out")
        connection.show(connection.ask(Throttles()))
        return
    if not selector:
        raise UsageProblem("throttle needs a SELECTOR; '*' selects all tokens")
    if limits:
        connection.show(connection.ask(SetThrottle(selector, rate=rate, concurrency=concurrency)))
        return
    lifted = connection.ask(Lift(selector))
    connection.show(lifted)
    if not lifted:
        raise Failure(f"no throttle has the selector '{selector}'; 'tokengate throttle --list' lists them")
