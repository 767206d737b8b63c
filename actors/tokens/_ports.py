"""Protocols of a token's place and system, as tokens use them.

They let tokens stand below places and systems. Properties here are attributes of the classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Protocol, TypeAlias

from actors.concurrency._blocking import TurnOwner
from actors.concurrency._future import Reply
from actors.tokens._lifecycle import TokenState
from actors.tokens._prediction import Prediction
from actors.tokens._properties import Properties

Listeners: TypeAlias = tuple[tuple[Any, Callable[..., object]], ...]
"""The observers of one kind of event, each with its method for it."""

Ending: TypeAlias = tuple[Any, TokenState, Any, BaseException | None]
"""The end of a token while it is being written: the token, its state, its value, its error."""


class TokenThrottles(Protocol):
    """The throttles of a system, which must know when a token waits."""

    @property
    def grants(self) -> Mapping[Any, object]: ...

    def note_waits(self, token: Any, /) -> None: ...

    def forget(self, tokens: Sequence[Any], /) -> None: ...

    def let_go(self) -> None: ...


class CallAtDoor(Protocol):
    """A call that waits at the door of its place for consent; its token is in no mailbox."""

    @property
    def is_filed(self) -> bool:
        """Whether a proposal says that it waits: its sender has left nothing undone."""
        ...


class TokenPolicy(Protocol):
    """What one token is held to, and what it uses of that.

    A token that waits to begin is asked about by `Throttles`, under the lock there (`rules`, `may_begin`).

    Attributes:
        policy: the data that the token is held to.
        deadline: when its time is over for good, in seconds of the system's clock; None: never.
        due_at: the time before which it does not begin, while it waits for that; else None.
        reason: the rule that decided its end; empty if none did.
        uid: id of the token that runs for it, or that has run for it; 0: none.
        seconds: how long the latest attempt ran.
        good: whether it was good, as for a breaker; None: it does not count.
        estimate: what an attempt costs, as far as that is known before.
        awaits_attempt: whether it waits in its mailbox for an attempt that is not its first one.
        is_between: whether observers were told that an attempt has ended, and none has begun since.
        call: what waits at the door for consent; None: nothing does.
    """

    policy: Any
    due_at: float | None
    reason: str
    uid: int
    seconds: float
    good: bool | None
    estimate: float
    awaits_attempt: bool
    is_between: bool
    call: Any  # a `CallAtDoor`, or None

    @property
    def deadline(self) -> float | None: ...

    @property
    def run(self) -> Any:
        """The token that runs for it, if another one does; else None."""
        ...

    def leave(self) -> bool:
        """Take the token from those that another one runs for, or from the door.

        Returns:
            whether it was there: then the caller is to end it.
        """
        ...

    def attempts_of(self, token: Any, /) -> tuple[Any, ...]:
        """Return records of the attempts of the token that have ended."""
        ...

    def rules(self, token: Any, now: float, /) -> tuple[Any, ...]:
        """Return the `Rule`s of which each attempt of the token needs a grant."""
        ...

    @property
    def fair_key(self) -> str | int | None: ...

    @property
    def is_fair(self) -> bool:
        """Whether keys take turns, by `fair_key`."""
        ...

    def may_begin(self, token: Any, now: float, /) -> bool:
        """Decide at the token's turn whether it may begin; if not, `refused` ends it, without the lock."""
        ...

    def is_shed(self, token: Any, now: float, /) -> bool:
        """Decide whether a token that was kept back is refused now, without a grant; then `refuse` ends it."""
        ...

    def unbegun(self, token: Any, now: float, /) -> None:
        """Undo `may_begin`: the attempt has not begun after all; under the lock of `Throttles`."""
        ...

    def refuse(self, token: Any, /) -> None:
        """End a token that was refused at its turn; the mailbox has let go of it."""
        ...

    def begin(self, token: Any, now: float, /) -> None:
        """Note that an attempt begins."""
        ...

    def end(
        self, token: Any, state: TokenState, value: Any, error: BaseException | None, /
    ) -> tuple[TokenState, Any, BaseException | None] | None:
        """Note that an attempt has ended; return the end of the token, or None if it is queued for another attempt."""
        ...

    def leave_behind(self, token: Any, /) -> None:
        """Note that this thread is about to end the token, and to leave its code behind."""
        ...

    def follow(self, token: Any, place: Any, /) -> None:
        """Hold the token, which is in no mailbox, to the rules of another place from its next decision on."""
        ...

    def spend(self, token: Any, cost: float, /) -> None:
        """Book a cost of the attempt that runs."""
        ...

    def note_return(self, token: Any, state: TokenState, value: Any, /) -> None:
        """Note that code has returned or raised whose token had ended before, with the outcome if it completed."""
        ...

    def inherit(self, token: Any, /) -> None:
        """Have a token that the code of this one makes end at the deadline of this one."""
        ...

    def outlive_sender(self) -> None:
        """Undo that: nobody waits for this token."""
        ...


class TokenRecord(Protocol):
    """What a journal keeps of one token.

    Attributes:
        saved: the state of its actor that is kept with its end; None if its code has saved nothing.
    """

    saved: Any

    @property
    def uid(self) -> str:
        """Run and id, such as `17.4242`; the same in every run."""
        ...

    @property
    def number(self) -> int:
        """The same as a number, by which rows are in order."""
        ...

    @property
    def recoveries(self) -> int:
        """Deaths of processes in which it had begun."""
        ...

    @property
    def is_accepted(self) -> bool:
        """Whether it is on disk that the token was accepted."""
        ...

    @property
    def refusal(self) -> BaseException | None:
        """Why it was not accepted; None if it was, or that is not known yet."""
        ...

    @property
    def acceptance(self) -> Reply[None] | None:
        """Set when that is known; None before it is asked for, and afterwards."""
        ...

    @property
    def is_recording(self) -> bool:
        """Whether its end is on its way to the disk."""
        ...

    @property
    def follows(self) -> bool:
        """Whether the token does not run, and ends as that does which has this uid."""
        ...

    @property
    def is_on_disk(self) -> bool:
        """Whether it waits on disk only: in no mailbox, and not in the system's table of live tokens."""
        ...

    def leave(self, token: Any, /) -> None:
        """Leave the queued token on disk only; under the lock of its mailbox."""
        ...

    def keep(self, token: Any, /) -> None:
        """Keep the token in memory as long as it waits on disk only."""
        ...

    def come(self, token: Any, /) -> None:
        """Note that the token is in memory again; under the lock of its mailbox."""
        ...

    def beginning(self, token: Any, /) -> Reply[None] | None:
        """Have the beginning written, or end the object of a token that is left to the next opening.

        Returns:
            what is set after the commit; None if there is nothing to wait for.
        """
        ...

    def begin(self, token: Any, /) -> None:
        """Note that the code begins now; it is not to wait."""
        ...

    def undo_beginning(self, attempt: int, /) -> None:
        """Have it written that an attempt has not begun after all, or is over and another one follows."""
        ...

    def take_back(self) -> bool:
        """Take it out of what is to be written; return False if that is too late: it is on disk, or will be."""
        ...

    def changed(self, token: Any, /) -> None:
        """Note that the priority, the tags or the place of the token have changed."""
        ...

    def encode(self, token: Any, value: Any, /) -> bytes:
        """Return a result as it is kept.

        Raises:
            NotDurable: it cannot be kept.
        """
        ...

    def end(self, token: Any, state: TokenState, value: Any, error: BaseException | None, result: bytes, /) -> bool:
        """Have the end of the token written, unless another one is; `_end_as` is called when it is on disk.

        Returns:
            whether this is its end.
        """
        ...

    def complete_end(self, token: Any, /) -> None:
        """Have the end written, after `end` was interrupted by a signal handler."""
        ...

    @property
    def due(self) -> float | None:
        """The wall time before which it is not to be in a mailbox; None: now."""
        ...

    def try_again(self, token: Any, at: float, /) -> bool:
        """Write that a further attempt follows, at a time of the clock; return whether the token waits on disk."""
        ...

    def puts_off(self, token: Any, error: BaseException, /) -> bool:
        """Tell whether an error of its code asks to call it again later; then the token is queued until then."""
        ...

    def find_step(self, path: str, /) -> tuple[int, Any]:
        """Return the count of a step that the token's code begins, and a `Reply` with its value, or None."""
        ...

    def add_step(self, path: str, nth: int, value: bytes, /) -> Any:
        """Have the value of a step written; return a `Reply`, which is set when it is on disk."""
        ...


class TokenGovernor(Protocol):
    """What the tokens of a place are held to."""

    def found(self, token: Any, /) -> TokenPolicy | None:
        """Return what a token is held to that has passed the door as if it were held to nothing; under the lock."""
        ...


class TokenForecast(Protocol):
    """What is known and expected of one token.

    Attributes:
        features: {name: a finite number}, computed of its arguments at submit.
    """

    features: Mapping[str, float]

    @property
    def said(self) -> Mapping[str, float] | None:
        """What was predicted before it ran, {field of a selector: number}; None if nothing has asked."""
        ...


class Predictor(Protocol):
    """Predicts what tokens need, by what it has learned of others."""

    def predicted(self, token: Any, /) -> Prediction | None:
        """Return what is expected of a token; code of users may run."""
        ...

    def predict(
        self,
        place: Any,
        operation: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        priority: int,
        tags: Mapping[str, str],
        /,
    ) -> Prediction | None:
        """Return what would be expected of a call; code of users may run."""
        ...

    def shown(self, token: Any, now: float, /) -> Prediction | None:
        """Return what is expected of a token, as far as that is known without code of users."""
        ...

    def expected(self, token: Any, /) -> Prediction | None:
        """Return what was expected of a token before it ran, as far as that is known without code of users."""
        ...

    def field(self, token: Any, name: str, now: float, /) -> Any:
        """Return the value of a field of selectors; None: not known. No code of users runs.

        It is a number (of seconds, of bytes, or a share, where 1 is the whole); of `retry_loop` and `leak` a text.
        """
        ...

    def estimate(self, token: Any, changes: Mapping[str, float | None], /) -> Mapping[str, float | None]:
        """Set the p95 of a token until its end.

        Args:
            token: the token.
            changes: `run` in seconds, `memory` in bytes, or both; None: as predicted again.

        Returns:
            the values before, of those that are others now; None: it was as predicted.
        """
        ...


class TokenSystem(Protocol):
    """The system of a token."""

    @property
    def run(self) -> str:
        """This run of it, 8 hexadecimal digits."""
        ...

    @property
    def ids(self) -> Iterator[int]: ...

    @property
    def live(self) -> MutableMapping[int, Any]: ...

    @property
    def clock(self) -> Callable[[], float]: ...

    @property
    def throttles(self) -> TokenThrottles: ...

    @property
    def journal(self) -> Any:
        """The `Journal` that keeps durable tokens (`places/_ports.py`); None without one."""
        ...

    @property
    def predictor(self) -> Predictor | None:
        """What predicts what its tokens need; None without it."""
        ...

    @property
    def endings(self) -> list[Ending]: ...

    @property
    def on_token_queued(self) -> Listeners | None: ...

    @property
    def on_token_started(self) -> Listeners | None: ...

    @property
    def on_token_sent(self) -> Listeners | None: ...

    @property
    def on_token_failing(self) -> Listeners | None: ...

    @property
    def on_token_finished(self) -> Listeners | None: ...

    @property
    def on_token_retried(self) -> Listeners | None: ...

    @property
    def on_token_paused(self) -> Listeners | None: ...

    @property
    def on_token_resumed(self) -> Listeners | None: ...

    def tell(self, listeners: Listeners | None, /, *args: Any) -> None: ...

    def note_uncompleted(self, token: Any, /) -> None: ...

    @property
    def later(self) -> Callable[[Callable[[], object]], None]: ...

    def remembers(self, token: Any, /) -> bool: ...


class TokenMailbox(Protocol):
    """The mailbox that a token is queued in."""

    @property
    def changes_here(self) -> bool: ...

    def withdraw(self, token: Any, /) -> bool: ...


class TokenDrain(Protocol):
    """The drain that runs a token."""

    @property
    def listen_for(self) -> Callable[[Any, float | None], None] | None:
        """Have the calling thread, which waits for a token, read from its child process; None for other drains."""
        ...

    def cancel(self, token: Any, /) -> None: ...


class Awaited(Protocol):
    """What a step can wait for: a token's end, or room in a place's mailbox."""

    def held_up_by(self) -> Sequence[Any]:
        """Return the running tokens that must progress before the wait can end."""
        ...


class Receiver(Awaited, TurnOwner, Protocol):
    """The place of a token."""

    @property
    def affinity(self) -> str: ...

    @property
    def serves_operators(self) -> bool: ...

    @property
    def properties(self) -> Properties: ...

    @property
    def system(self) -> TokenSystem: ...

    @property
    def mailbox(self) -> TokenMailbox: ...

    @property
    def drain(self) -> TokenDrain: ...

    @property
    def governor(self) -> TokenGovernor | None: ...
