"""What policies publish to the subscribers of a gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import attrs


@attrs.frozen
class PolicyEvent:
    """Base of the events of policies.

    Attributes:
        kind: what it is called where events are followed.
        place: name of the operation, or path of the actor.
    """

    kind: ClassVar[str]
    place: str

    @property
    def text(self) -> str:
        """What has happened."""
        raise NotImplementedError


@attrs.frozen
class BreakerChanged(PolicyEvent):
    """A breaker has opened, has closed, or lets attempts probe.

    Attributes:
        key: whose breaker it is; None if the breaker has no keys.
        state: its new state.
        held: whether an operator holds it there.
    """

    kind: ClassVar[str] = "policy.breaker_changed"
    key: str | int | None
    state: Literal["closed", "open", "half_open"]
    held: bool

    @property
    def text(self) -> str:
        key = "" if self.key is None else f" of {self.key!r}"
        held = ", held by an operator" if self.held else ""
        return f"the breaker{key} of '{self.place}' is {self.state.replace('_', ' ')}{held}"


@attrs.frozen
class OverloadChanged(PolicyEvent):
    """Tokens of a priority wait too long, and those that have are rejected at their turn; or this is over.

    Attributes:
        priority: of the tokens.
        overloaded: whether they are rejected.
    """

    kind: ClassVar[str] = "policy.overload_changed"
    priority: int
    overloaded: bool

    @property
    def text(self) -> str:
        what = "waits too long, and is rejected at its turn" if self.overloaded else "no longer waits too long"
        return f"what has priority {self.priority} in '{self.place}' {what}"


@attrs.frozen
class PolicyChanged(PolicyEvent):
    """Fields of a policy have other values: an operator has set them, or a file was read again.

    Attributes:
        fields: {field: its new value}; None for one that is as the file or the code says again.
    """

    kind: ClassVar[str] = "policy.policy_changed"
    fields: dict[str, str | None]

    @property
    def text(self) -> str:
        named = ", ".join(name if value is None else f"{name}={value}" for name, value in self.fields.items())
        return f"the policy of '{self.place}' has changed: {named}"


@attrs.frozen
class TokenRetried(PolicyEvent):
    """An attempt has failed, and another one follows.

    Attributes:
        token: id of the token.
        attempt: number of the attempt that has failed.
        delay: seconds until the next one is due.
        error: name of the error's class.
    """

    kind: ClassVar[str] = "policy.token_retried"
    token: int
    attempt: int
    delay: float
    error: str

    @property
    def text(self) -> str:
        failed = f"attempt {self.attempt} of token {self.token} ({self.place}) has failed: {self.error}"
        return f"{failed}; the next one is due in {self.delay:.3g} s"


@attrs.frozen
class TransactionStuck:
    """A rollback has left something that it could not undo.

    Attributes:
        name: of the transaction.
        failed: {id of a token: the error of its compensation}.
        running: ids of tokens whose code could not be ended; they are undone when it returns.
    """

    name: str
    failed: Mapping[int, str]
    running: tuple[int, ...] = ()
