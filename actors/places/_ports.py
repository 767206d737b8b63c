"""Protocols of the system, as places, their drains and the timers of actors use it.

They let places stand below the system. Properties here are attributes of the classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from actors._exit_reason import ExitReason
from actors.concurrency._asyncio_host import AsyncioHosts
from actors.concurrency._dispatcher import Dispatcher
from actors.concurrency._future import Reply
from actors.concurrency._pinned_dispatcher import PinnedThreads
from actors.concurrency._trio_host import TrioHost
from actors.tokens._ports import Listeners, TokenGovernor, TokenSystem
from actors.tokens._token import Token


class PlaceTimers(Protocol):
    """The timers of a system."""

    def arm(self, deadline: float, timer: Any, /) -> None: ...

    def disarm(self, timer: Any, /) -> bool: ...


class Governor(TokenGovernor, Protocol):
    """What the tokens of a place are held to."""

    def at_door(self, token: Token[Any], /) -> Token[Any] | None:
        """Hold a token that is about to be sent to its policy.

        Returns:
            the token to put into the mailbox: this one, or one that runs for it; None if one that is sent already
            runs for it.

        Raises:
            TokenRejected: it is refused.
        """
        ...

    def elsewhere(self, token: Token[Any], error: BaseException, /) -> Any:
        """Have a token that was refused at the door belong to another place; return that, or None if there is none."""
        ...

    def may_run_here(self, token: Token[Any], /) -> bool:
        """Tell whether a direct call may run on its caller's thread: no limit of its own ends it."""
        ...

    def is_off(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], priority: int, tags: Mapping[str, str], /
    ) -> bool:
        """Tell whether a direct call is to be a call of the plain function."""
        ...


class Acceptance(Protocol):
    """The acceptance of durable tokens by a journal: set when it is known of each whether it is on disk."""

    def begin(self) -> None:
        """Have it written.

        Raises:
            TokenGateError: the journal cannot write; nothing was accepted.
        """
        ...

    def add_done_callback(self, fn: Callable[[Any], object], /) -> None: ...

    def result(self, timeout: float | None = None, /) -> None: ...

    async def wait(self) -> None: ...

    def _block(self) -> None: ...


class Journal(Protocol):
    """What keeps durable tokens on disk."""

    @property
    def is_closing(self) -> bool:
        """Whether what has not begun is left to the next opening."""
        ...

    def acceptance(self, tokens: Sequence[Any], /) -> Acceptance:
        """Return the acceptance of new tokens, which is to be begun; they have a `record` then.

        Raises:
            NotDurable: a call cannot be kept; nothing was accepted.
            TokenGateError: the journal cannot write.
        """
        ...

    def join(self, token: Any, /) -> None:
        """Have a token that does not run, since its key is taken, end as the one does which has the key.

        Raises:
            KeyReused: its arguments are others.
        """
        ...

    def leave_behind(self, token: Any, /) -> None:
        """End the object of a token that goes on at the next opening."""
        ...

    def later(self, function: Callable[[], object], /) -> None:
        """Call a function on a thread that may run code of users."""
        ...

    def close_intake(self, *, draining: bool) -> None:
        """Leave what has not begun to the next opening; and, unless `draining`, what does not end by itself."""
        ...

    def abandon(self) -> None:
        """End the objects of tokens whose ends cannot be written."""
        ...

    def disown(self) -> None:
        """Leave the files to the parent, in a forked child."""
        ...

    def find(self, ids: Iterable[int], /) -> Mapping[int, Any]:
        """Return {id: token} of tokens that wait, by their ids or the numbers of their uids; not on a loop."""
        ...

    def entered(self, place: Any, /) -> None:
        """Note that the place of an actor with durable messages was made: those that wait for it are sent."""
        ...

    def saved(self, place: Any, default: Any, kind: Any, /) -> Any:
        """Return the state that the actor of a place has saved, as a value of a type; `default` if there is none."""
        ...

    def save(self, actor: Any, value: Any, /) -> None:
        """Keep a state of an actor: in one commit with the end of the message that runs; else at once.

        Raises:
            NotDurable: it would not come back as it is.
        """
        ...

    def room(self, place: Any, /) -> Reply[None] | None:
        """Return what is set when a new token of a place may wait on disk; None: it may now.

        Raises:
            MailboxFull: so many are on disk that the overflow of the mailbox refuses it.
        """
        ...

    def room_in(self, mailbox: Any, /) -> None:
        """Have rows that wait for a durable mailbox read into it; the call does not wait."""
        ...


class SystemPolicies(Protocol):
    """What the tokens of a system are held to."""

    def entered(self, place: Any, /) -> None:
        """Note that a place was entered into the table of the system."""
        ...


class PlaceSystem(TokenSystem, Protocol):
    """The system of a place."""

    @property
    def name(self) -> str: ...

    @property
    def closed(self) -> bool: ...

    @property
    def opened_by(self) -> int | None: ...  # pid

    @property
    def intake_closed(self) -> bool: ...

    @property
    def policies(self) -> object | None: ...

    @property
    def consents(self) -> object | None: ...

    @property
    def govern(self) -> Callable[[Any], object] | None:
        """Hold the messages of an actor's place to the policy of its class; None without the floor that can."""
        ...

    # Threads, loops, processes

    @property
    def dispatcher(self) -> Dispatcher: ...

    @property
    def pinned(self) -> PinnedThreads: ...

    @property
    def io_host(self) -> TrioHost: ...

    @property
    def asyncio_hosts(self) -> AsyncioHosts: ...

    @property
    def system_host(self) -> TrioHost: ...

    @property
    def processes(self) -> Any:
        """The `ProcessHost`, which is in a room above this one."""
        ...

    @property
    def timers(self) -> PlaceTimers: ...

    # Tokens

    @property
    def guarded(self) -> bool: ...

    @property
    def senders(self) -> set[Token[Any]]: ...

    def check_intake(self, token: Token[Any], /) -> None: ...

    def accepts_here(self, token: Token[Any], /) -> bool: ...

    def dead_letter(self, token: Token[Any], reason: BaseException, /) -> None: ...

    def seal(self, tokens: list[Token[Any]], why: str, /) -> None: ...

    def is_sealed(self, token: Token[Any], /) -> bool: ...

    def note_abandoned(self, path: str, threads: list[str], /) -> None: ...

    # The tree

    @property
    def on_actor_started(self) -> Listeners | None: ...

    @property
    def on_actor_ended(self) -> Listeners | None: ...

    def next_name(self) -> int: ...

    def is_root(self, place: Any, /) -> bool: ...

    def below(self, place: Any, /) -> Sequence[Any]: ...

    def close_below(self, place: Any, reason: ExitReason, /) -> None: ...

    def forget(self, place: Any, /) -> None: ...

    def leave_pykka_registry(self, place: Any, /) -> None: ...
