"""What the places of durable tokens do otherwise: their tokens are on disk before they are in a mailbox."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, ClassVar, cast

from actors._exceptions import ActorDead, MailboxFull, NotDurable, TokenRejected, WouldBlock
from actors.concurrency._blocking import any_loop_here, blocking
from actors.mailboxes._durable_mailbox import DurableMailbox
from actors.mailboxes._mailbox import Mailbox, Put
from actors.places._actor import BaseActor, checked_class
from actors.places._actor_place import ActorPlace, method_of
from actors.places._place import Place, place_of
from actors.places._ports import Journal
from actors.tokens._lifecycle import TokenState
from actors.tokens._token import NO_KWARGS, NO_TAGS, DurableToken, Token, _current, make_token


class DurablePlace(Place):
    """Base of the places whose tokens, or some of them, are durable."""

    __slots__ = ()

    mailbox_class: ClassVar[type[Mailbox]] = DurableMailbox

    def is_durable(self, call: Any) -> bool:  # noqa: ARG002
        """Tell whether the token of a call is to be durable."""
        return True

    def token(
        self,
        operation: str,
        call: Any,
        args: Any,
        kwargs: Mapping[str, Any] = NO_KWARGS,
        priority: int = 0,
        tags: Mapping[str, str] = NO_TAGS,
        kind: type[Token[Any]] = DurableToken,
    ) -> Token[Any]:
        is_durable = self.is_durable(call)
        token = make_token(self, operation, call, args, kwargs, priority, tags, kind if is_durable else Token)
        if is_durable:
            assert isinstance(token, DurableToken)
            token.record = token.key = None
            policy = token._extras.policy
            if policy is not None:
                policy.outlive_sender()
        return token

    def _wait_for_room(self, token: Token[Any]) -> None:
        gathered = _gathered.get()
        if not isinstance(token, DurableToken):
            super()._wait_for_room(token)
        elif gathered is not None:
            gathered.append(token)
        else:
            self._accept([token])

    def _accept(self, tokens: Sequence[DurableToken[Any]]) -> None:
        """Have tokens accepted, wait for the disk, and put them into their mailboxes; those of an error that are."""
        senders = self.system.senders
        senders.update(tokens)
        try:
            if loop := any_loop_here():
                raise WouldBlock(
                    f"{tokens[0]._describe()} would block the {loop} loop of this thread until it is on disk; "
                    "await 'asubmit'"
                )
            journal = self._journal(tokens[0])
            self._wait_for_disk(journal)
            acceptance = journal.acceptance(tokens)
            with blocking():
                acceptance.begin()
                acceptance._block()
            acceptance.result()
        except BaseException as error:
            if isinstance(error, MailboxFull) and _gathered.get() is None:
                raise  # `send` refuses it
            kept = self._give_up(tokens, str(error) or type(error).__name__)
            if _gathered.get() is not None:
                error.accepted = kept  # type: ignore[attr-defined]
            raise
        finally:
            senders.difference_update(tokens)
        for token in tokens:
            enter(token)

    def _wait_for_disk(self, journal: Journal) -> None:
        """Wait until the journal has room for a token; a loop of its own, as `tests/test_bytecode.py` says."""
        while (room := journal.room(self)) is not None:
            room.result()

    async def _await_disk(self, journal: Journal) -> None:
        while (room := journal.room(self)) is not None:
            await room

    async def _await_room(self, token: Token[Any], put: Put) -> None:
        if not isinstance(token, DurableToken):
            await super()._await_room(token, put)
            return
        self.system.senders.add(token)  # `send_async` takes it out again
        waiter = _current.get()
        try:
            journal = self._journal(token)
            await self._await_disk(journal)
            acceptance = journal.acceptance((token,))
            acceptance.begin()
            if waiter is not None:
                waiter.lend_turn()
            try:
                await acceptance.wait()
            finally:
                if waiter is not None:
                    waiter.take_turn_back()
            acceptance.result()
        except MailboxFull:
            raise  # `send_async` refuses it
        except BaseException as error:
            self._give_up((token,), str(error) or type(error).__name__)
            raise
        enter(token)

    def begin_acceptance(self, token: DurableToken[Any], then: Callable[[], object]) -> None:
        """Have a token accepted, unless that is under way.

        Args:
            token: the token.
            then: called when it is known whether it is on disk, on a thread that must not be blocked.
        """
        acceptance: Any = None if token.record is None else token.record.acceptance
        if acceptance is None:
            acceptance = self._journal(token).acceptance((token,))
            self.system.senders.add(token)
            acceptance.begin()

        def known(_: object) -> None:
            self.system.senders.discard(token)
            then()

        acceptance.add_done_callback(known)

    def _journal(self, token: Token[Any]) -> Journal:
        journal = self.system.journal
        if journal is None:
            raise NotDurable(
                f"{token._describe()} is durable, and gate '{self.system.name}' has no journal; "
                "give it one: Gate(plugins=[Journal(directory)])"
            )
        return journal  # type: ignore[no-any-return]

    def _give_up(self, tokens: Iterable[DurableToken[Any]], why: str) -> tuple[DurableToken[Any], ...]:
        """Reject those tokens that are not on disk, and will not be; the others run, and are returned."""
        kept = []
        for token in tokens:
            record = token.record
            if record is None or record.refusal is not None or record.take_back():
                token.record = None
                super().reject(token, TokenRejected(f"{token._describe()} was not accepted: {why}"))
                continue
            kept.append(token)
            acceptance = record.acceptance
            if acceptance is None:
                enter(token)
            else:
                self.system.senders.add(token)
                acceptance.add_done_callback(partial(_enter_soon, token))
        return tuple(kept)

    def reject(self, token: Token[Any], error: BaseException) -> None:
        if isinstance(token, DurableToken) and token.record is not None and not token.record.is_accepted:
            self._give_up((token,), str(error))
        else:
            super().reject(token, error)

    def give_back(self, token: Token[Any]) -> None:
        if isinstance(token, DurableToken) and token.record is not None:
            token.record.undo_beginning(token.attempt)
        super().give_back(token)


def enter(token: DurableToken[Any]) -> None:
    """Put a token that is on disk into its mailbox."""
    place, record = place_of(token), token.record
    if record is None or token._context is None:
        return  # it has ended
    try:
        journal = place.system.journal
        if journal.is_closing:
            journal.leave_behind(token)
        elif place.mailbox.put(token) is Put.LATER:
            place.system.senders.add(token)
            place.system.later(partial(_enter_late, token))
        elif token._extras.cancel_requested:
            token._cancel(token._extras.cancel_requested)
    except (ActorDead, TokenRejected) as error:
        place.reject(token, error)


def _enter_soon(token: DurableToken[Any], _acceptance: object) -> None:
    """Have that done; this is the thread that writes, which does nothing else."""
    place_of(token).system.journal.later(partial(_enter_late, token))


def _enter_late(token: DurableToken[Any]) -> None:
    """Put a token whose sender is gone into its mailbox; reject it if it is not on disk."""
    place, record = place_of(token), token.record
    if token._phase is TokenState.CREATED and record is not None and token._end is None:
        if record.refusal is None:
            enter(token)
        else:
            place.reject(token, record.refusal)
    place.system.senders.discard(token)


@contextmanager
def accepted_together() -> Generator[None]:
    """Have the durable tokens that this code sends in the block accepted at its end, with one wait.

    Raises:
        BaseException: what a single acceptance raises; its `accepted` has those tokens that are on disk.
    """
    tokens: list[DurableToken[Any]] = []
    before = _gathered.set(tokens)
    try:
        try:
            yield
        except BaseException as error:
            for token in tokens:
                place_of(token).reject(token, TokenRejected(f"{token._describe()} was not accepted: {error}"))
            raise
        if tokens:
            cast("DurablePlace", tokens[0]._place)._accept(tokens)
    finally:
        _gathered.reset(before)


_gathered: ContextVar[list[DurableToken[Any]] | None] = ContextVar("gathered", default=None)


class DurableActorPlace(DurablePlace, ActorPlace):
    """The place of an actor some of whose messages are durable."""

    __slots__ = ()

    def is_durable(self, call: Any) -> bool:
        method, names = method_of(call), self.properties.durable
        return method is not None and (names == "*" or method in names)

    def failed(self, token: Token[Any], error: BaseException) -> BaseException | None:
        if isinstance(token, DurableToken) and token.record is not None and self.crashes(token, error):
            token.record.saved = None  # the next instance begins with what was saved before
        return super().failed(token, error)


def place_class(actor_class: type[BaseActor]) -> type[ActorPlace]:
    """Return the class of the places of an actor class."""
    durable = actor_class.durable and checked_class(actor_class).durable  # it may be a method of that name
    return DurableActorPlace if durable else ActorPlace
