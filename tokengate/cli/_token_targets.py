"""The tokens of a command: numbers are ids, `17.4242` is the uid of one on disk, other text is a selector."""

from __future__ import annotations

from collections.abc import Sequence

import click

from tokengate.cli._errors import Failure, UsageProblem
from tokengate.control.inspection._selector import doubts
from tokengate.control.messages._targets import id_of, number_in

SELECTORS = """\b
SELECTOR is a list of terms with commas between them; a token must match all: FIELD OP VALUE.
  operation actor affinity state held    text         = !=           * is any text
  id priority parent attempt steps       a number     = != > >= < <=
  age running                            30s 1.5h 2d  > >= < <=
  run.p50 run.p95                        the same     > >= < <=  predicted
  memory.p95                             512MiB 2GiB  > >= < <=  predicted
  memory.share overrun                   0.9 90%      > >= < <=  predicted
  failing late gate.saturation           0.9 90%      > >= < <=  predicted
  retry_loop leak                        text         = !=       yes; confirmed
  any other name is a tag                text         = !=           tag.age is a tag named age
  * alone is every token

\b
  operation=resize,tenant=acme,state!=running
  running>30s              that have run for more than 30 seconds
  held=paused              that an operator has paused
  actor=mailer,priority<0  in the mailbox of the mailer
  run.p95>10m,late>80%     that are long and late, in a gate with Predict

Quote a value that has commas or spaces. Quote the whole SELECTOR for your shell, to which > and * mean files."""

SELECTOR_HELP = "'tokengate ps --help' explains SELECTOR."

TARGET_HELP = f"TARGET is ids of tokens, uids of durable ones, or one SELECTOR ('*' for all tokens). {SELECTOR_HELP}"


def token_id(_context: click.Context, _parameter: click.Parameter, value: str) -> int:
    """Return a token's id; the error says how to find it."""
    text = value.removeprefix("#")
    number = number_in(text)
    if number is None:
        raise click.BadParameter(
            f"'{value[:60]}' is not an id; 'tokengate ps operation={value[:60]}' lists tokens with their ids"
        )
    return number


def token_or_actor(context: click.Context, parameter: click.Parameter, value: str) -> int | str:
    """Return a token's id, if it is a number, or else the text, which is the name of an actor."""
    text = value.removeprefix("#")
    return token_id(context, parameter, value) if text.isdecimal() or number_in(text) is not None else value


def target_of(targets: Sequence[str]) -> str | tuple[int, ...]:
    """Return the selector that some arguments are, or else their ids.

    Raises:
        UsageProblem: there are both, or several selectors, or options that do not exist.
    """
    selectors = [target for target in targets if not _is_id(target)]
    for selector in selectors:
        if selector.startswith("-"):
            raise UsageProblem(f"there is no option '{selector}'; --help lists those that there are")
        if selector.isdecimal():
            raise UsageProblem(f"'{selector[:40]}...' is too long for an id; 'tokengate ps' lists tokens")
        if not selector.strip():
            raise UsageProblem("an empty TARGET selects nothing; give ids or a selector, '*' for all tokens")
    if not selectors:
        return tuple(map(id_of, targets))
    if len(targets) > 1:
        raise UsageProblem(
            f"'{selectors[0]}' is a selector, which must be the only TARGET; "
            "give ids only, or join terms with commas and quote them"
        )
    return selectors[0]


def nothing_matches(selector: str) -> Failure:
    """Return the failure of a command whose selector matches no token; it says what may be a slip in that."""
    told = "; ".join([f"nothing matches '{selector}'", *doubts(selector)])
    return Failure(f"{told}; 'tokengate ps' lists the live tokens")


def joined(*selectors: str) -> str:
    """Return a selector for the tokens that all of these match; a number is an id."""
    terms = [f"id={selector}" if selector.isdecimal() else selector for selector in selectors]
    return ",".join(term for term in terms if term not in ("", "*"))


def _is_id(target: str) -> bool:
    return number_in(target) is not None
