"""Actions: the verb of a rule with its arguments."""

from __future__ import annotations

import shlex
from typing import Any

import attrs

from actors import Token
from actors.lowlevel import AFFINITIES, place_of, process_drain
from tokengate.control.inspection._selector import nearly
from tokengate.control.messages import Change
from tokengate.predict._arguments import Values
from tokengate.predict._rule_verbs import VERBS, Target, Verb


@attrs.frozen
class Action:
    """A verb with its arguments.

    Attributes:
        verb: its name.
        text: as it was written.
        args: {name of an argument: its value}.
    """

    verb: str
    text: str
    args: Values

    @property
    def kind(self) -> Verb:
        """What its verb does."""
        return VERBS[self.verb]

    @property
    def rank(self) -> int:
        """How careful it is; the most careful has 0."""
        return list(VERBS).index(self.verb)

    def target(self, token: Token[Any], terms: str) -> Target:
        """Return what it is done to for a token, where a rule has these terms about places and tags."""
        place = place_of(token)
        match self.kind.of:
            case "token":
                return Target(f"token {token.id}", token.id, place)
            case "throttle":
                return Target(terms, token.id, place, terms)
            case "process":
                drain = process_drain(token)
                worker = None if drain is None or drain.own else drain.worker_of(token)
                if worker is not None:
                    return Target(f"process {worker.pid}", token.id, place, worker=worker.pid)
        return Target(place.path, token.id, place)

    def message(self, target: Target, select: Any, reason: str) -> Change[Any]:
        """Return the message that does it.

        Args:
            target: what it is done to.
            select: what the message has in the place of the token: its id, or a selector.
            reason: for the record.
        """
        return self.kind.do(self.args, target, select, {"reason": reason})

    def values(self, target: Target) -> Values:
        """Return the values that it changes, as they are now; none of a token that has ended."""
        if not self.is_of_token:
            return self.kind.values_there(target)
        token = target.token
        return {} if token is None else self.values_of(token)

    def values_of(self, token: Token[Any]) -> Values:
        """Return the values of a token that it changes, as they are now."""
        return self.kind.values(self.args, token)

    @property
    def to(self) -> str | None:
        """The name of the actor to which it sends tokens; None: it sends them to none."""
        to = self.args.get("actor", self.args.get("to"))
        return None if to in AFFINITIES else to

    @property
    def intended(self) -> Values:
        """The values that it sets, of the verbs whose effect on a durable token outlives the process."""
        if self.verb == "renice":
            return {"priority": self.args["priority"]}
        return self.args["set"] if self.verb == "retag" else {}

    def is_taken(self, before: Values) -> bool:
        """Tell whether an operator has set there what it would set, by the values before."""
        return self.kind.is_state and any(value not in (None, "auto", False) for value in before.values())

    def undo(self, target: Target, before: Values, set_: Values) -> Change[Any] | None:
        """Return the message that restores the values before; None: it cannot be undone, or need not be."""
        return None if self.kind.undo is None else self.kind.undo(target, before, set_)

    @property
    def is_of_token(self) -> bool:
        """Whether it is done to single tokens."""
        return self.kind.of == "token"


def action_of(text: object) -> Action:
    """Parse a verb with its arguments.

    Raises:
        ValueError: it cannot be read; the text is the remedy.
    """
    try:
        words = shlex.split(text) if isinstance(text, str) else []
    except ValueError as error:
        raise ValueError(f"{error}; write it as on the command line, such as 'renice -1'") from None
    if not words or words[0] not in VERBS:
        raise ValueError(f"write one verb with its arguments, such as 'renice -1'; it is one of {', '.join(VERBS)}")
    verb, given = words[0], words[1:]
    return Action(verb, " ".join(words), VERBS[verb].read(verb, given))


def doubts(text: str) -> list[str]:
    """Return what may be a slip in a verb that can be read, with the remedy: an actor named nearly like an affinity."""
    to = action_of(text).to
    near = "" if to is None else nearly(to, AFFINITIES)
    return [f"'{to}' is taken for an actor; write {near} if that affinity is meant"] if near else []
