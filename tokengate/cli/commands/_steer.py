"""Commands that change tokens."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import click

from actors.lowlevel import AFFINITIES
from tokengate.cli._approval import WAIT_APPROVAL, applied, waits
from tokengate.cli._completers import complete_destination, complete_token
from tokengate.cli._connection import Connection, connected
from tokengate.cli._derive import command_of, help_text, parameters_of, show_answer
from tokengate.cli._errors import Failure, UsageProblem
from tokengate.cli._parameters import AtOnce, Number, Rate
from tokengate.cli._token_targets import SELECTOR_HELP, TARGET_HELP, nothing_matches, target_of
from tokengate.control.messages import (
    ENVELOPE,
    Change,
    Compensate,
    Estimate,
    Extend,
    Lift,
    Limit,
    OnTokens,
    Outcome,
    Pause,
    Preempt,
    Reload,
    Renice,
    Reroute,
    ResetThrottle,
    Resume,
    Retag,
    RetryNow,
    SetThrottle,
    Step,
    Terminate,
    Throttles,
)
from tokengate.control.registry._verbs import help_of

_NOT_DONE = ("refused", "unknown", "ended", "changed")

# Tokens that the line on stderr names; the table has all.
_NAMED = 5


def _steer(connection: Connection, verb: OnTokens) -> None:
    outcomes: Sequence[Outcome] = connection.ask(verb)
    proposal = next((one.proposal for one in outcomes if one.outcome == "awaiting" and one.proposal), None)
    if proposal is not None and connection.wait_approval is not None:
        done = applied(connection, proposal).outcomes
        outcomes = [*(one for one in outcomes if one.outcome != "awaiting"), *done]
        proposal = None
    if outcomes or connection.output == "json":
        connection.show(outcomes)
    if not outcomes:
        raise nothing_matches(str(verb.select))
    if proposal is not None:
        raise waits(proposal)
    check_done(outcomes)


def check_done(outcomes: Sequence[Outcome]) -> None:
    """Raise `Failure` if a verb was not done for some tokens."""
    failed = [outcome for outcome in outcomes if outcome.outcome in _NOT_DONE]
    if failed:
        named = "; ".join(_line(outcome) for outcome in failed[:_NAMED])
        more = f"; and {len(failed) - _NAMED:,} more" if len(failed) > _NAMED else ""
        raise Failure(f"not done for {len(failed):,} of {len(outcomes):,}: {named}{more}")


def _line(outcome: Outcome) -> str:
    return f"{outcome.token} {outcome.outcome}" + (f" ({outcome.note})" if outcome.note else "")


pause = command_of(Pause, _steer)
resume = command_of(Resume, _steer)
step = command_of(Step, _steer)
kill = command_of(Terminate, _steer)
retry = command_of(RetryNow, _steer)
extend = command_of(Extend, _steer)
compensate = command_of(Compensate, _steer)
reload_ = command_of(Reload, show_answer)
throttles = command_of(Throttles, show_answer)
renice = command_of(Renice, _steer)
retag = command_of(Retag, _steer, one_of=("set", "remove"))
limit = command_of(Limit, _steer, one_of=("memory", "address_space", "cpu_time", "wall_time"))


@click.command(params=[*parameters_of(OnTokens), WAIT_APPROVAL], epilog=TARGET_HELP)
@click.option(
    "--to",
    required=True,
    metavar="|".join((*AFFINITIES, "ACTOR")),
    shell_complete=complete_destination,
    help="The new affinity or actor.",
)
@connected
def reroute(connection: Connection, /, to: str, wait_approval: float | None, **which: Any) -> None:
    """Move queued tokens to another affinity or actor.

    For running tokens it counts at their next attempt, if a policy has one follow.

    \b
    tokengate reroute 'operation=fetch,state=queued' --to cpu
    tokengate reroute 42 --to office/mailer2
    """  # noqa: D301  # click wants the backspace itself
    connection.wait_approval = wait_approval
    _steer(connection, Reroute(**which, affinity=to) if to in AFFINITIES else Reroute(**which, actor=to))


def _with_words(
    message: type[OnTokens], metavar: str, *options: click.Parameter, short_help: str | None = None
) -> Callable[[Any], click.Command]:
    """Return a decorator for the command of a verb whose arguments `NAME=VALUE` may follow TARGET."""
    words = click.Argument(["words"], nargs=-1, required=True, metavar=metavar, shell_complete=complete_token)
    return click.command(
        params=[words, *options, *parameters_of(Change), WAIT_APPROVAL],
        help=help_text(help_of(message), examples=message.examples),
        short_help=short_help,
        epilog=TARGET_HELP,
    )


def _named_words(words: Sequence[str], names: Collection[str]) -> tuple[list[str], dict[str, Any]]:
    """Return the targets among words, and the arguments `NAME=VALUE` with these names after them.

    Raises:
        UsageProblem: one of these is given twice.
    """
    targets, found = list(words), dict[str, Any]()
    while len(targets) > 1:
        name, equals, value = targets[-1].partition("=")
        if not equals or name not in names:
            break
        if name in found:
            raise UsageProblem(f"{name} is given twice, {name}={value} and {name}={found[name]}; give it once")
        found[name] = value
        targets.pop()
    return targets, found


@_with_words(
    Estimate, "TARGET... [run=TIME] [memory=SIZE]", short_help="Set how long tokens will run, and what they need."
)
@connected
def estimate(connection: Connection, /, words: tuple[str, ...], wait_approval: float | None, **said: Any) -> None:
    targets, found = _named_words(words, ("run", "memory"))
    if not found:
        last = f", and '{targets[-1]}' is neither" if len(targets) > 1 and "=" in targets[-1] else ""
        raise UsageProblem(
            f"estimate needs run=TIME, memory=SIZE or both after TARGET{last}: tokengate {Estimate.examples[0]}"
        )
    connection.wait_approval = wait_approval
    _steer(connection, Estimate(target_of(targets), **found, **said))


@_with_words(
    Preempt,
    "TARGET... [to=PLACE] [memory=SIZE]",
    *(one for one in parameters_of(Preempt) if one.name == "wait"),
)
@connected
def preempt(connection: Connection, /, words: tuple[str, ...], wait_approval: float | None, **said: Any) -> None:
    targets, found = _named_words(words, ("to", "memory"))
    connection.wait_approval = wait_approval
    _steer(connection, Preempt(target_of(targets), **found, **said))


@click.command(params=parameters_of(Change), epilog=SELECTOR_HELP)
@click.argument("selectors", nargs=-1, metavar="[SELECTOR]")
@click.option(
    "--rate", type=Rate(min=0, min_open=True), metavar="RATE", help="Tokens that may begin: per second, or 100/s, 5/m."
)
@click.option("--burst", type=click.IntRange(min=1), help="Tokens that may begin at once after a rest.")
@click.option(
    "--concurrency",
    type=AtOnce(min=1),
    metavar="NUMBER",
    help="Tokens that may run at once, or 'adaptive', which needs --slow.",
)
@click.option(
    "--slow",
    type=Number(min=0, min_open=True),
    metavar="SECONDS",
    help="A token that runs longer is slow: 'adaptive' lowers its limit.",
)
@click.option("--key", help="A tag or parameter, each value of which has its own limit.")
@click.option("--over", type=click.Choice(["wait", "reject", "lower", "warn"]), help="What tokens beyond it do.")
@click.option("--lift", is_flag=True, help="End the throttle of SELECTOR ('*': all of them).")
@click.option("--list", "listing", is_flag=True, help="List the throttles.")
@connected
def throttle(connection: Connection, /, selectors: tuple[str, ...], lift: bool, listing: bool, **limits: Any) -> None:
    """Limit how many tokens begin per second, or run at once.

    \b
    tokengate throttle operation=fetch --rate 10
    tokengate throttle tenant=acme --concurrency 2
    tokengate throttle operation=pay --rate 100/s --key tenant --over reject
    tokengate throttles
    tokengate throttle operation=fetch --lift
    tokengate throttle reset operation=fetch
    """  # noqa: D301
    said = {option: limits.pop(option) for option in ENVELOPE}
    limits = {option: value for option, value in limits.items() if value is not None}
    resets = selectors[:1] == ("reset",)
    selector = "".join(selectors[resets:][:1])
    if len(selectors) > 1 + resets:
        raise UsageProblem(f"throttle takes one SELECTOR; quote it, or leave '{selectors[-1]}' out")
    if bool(limits) + lift + listing + resets != 1:
        raise UsageProblem("throttle takes limits such as --rate 5, or --lift, or --list, or reset; give one of them")
    if listing:
        if selector:
            raise UsageProblem(f"--list lists all throttles; leave '{selector}' out")
        connection.show(connection.ask(Throttles()))
        return
    if not selector:
        raise UsageProblem("throttle needs a SELECTOR; '*' selects all tokens")
    if limits:
        connection.show(connection.ask(SetThrottle(selector, **limits, **said)))
        return
    if resets:
        connection.show(connection.ask(ResetThrottle(selector, **said)))
        return
    lifted = connection.ask(Lift(selector, **said))
    connection.show(lifted)
    if not lifted:
        raise Failure(f"no throttle has the selector '{selector}'; 'tokengate throttles' lists them")
