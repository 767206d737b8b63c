"""What the places of durable tokens do otherwise: their tokens are on disk before they are in a mailbox."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from actors._exceptions import NotDurable
from actors.mailboxes._durable_mailbox import DurableMailbox
from actors.mailboxes._mailbox import Mailbox, Put
from actors.places._actor import BaseActor, checked_class
from actors.places._actor_place import ActorPlace, method_of
from actors.places._place import Place
from actors.places._ports import Journal
from actors.tokens._token import NO_KWARGS, NO_TAGS, DurableToken, Token, make_token


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
        if not self.is_durable(call):
            return make_token(self, operation, call, args, kwargs, priority, tags)
        token = make_token(self, operation, call, args, kwargs, priority, tags, kind)
        assert isinstance(token, DurableToken)
        token.record = None
        return token

    def _wait_for_room(self, token: Token[Any]) -> None:
        if not isinstance(token, DurableToken):
            super()._wait_for_room(token)
            return
        try:
            if self._journal(token).accept(token):
                self._enter(token)
        except BaseException:
            self._give_up(token)
            raise

    async def _await_room(self, token: Token[Any], put: Put) -> None:
        if not isinstance(token, DurableToken):
            await super()._await_room(token, put)
            return
        try:
            if await self._journal(token).accept_async(token):
                self._enter(token)
        except BaseException:
            self._give_up(token)
            raise

    def _journal(self, token: Token[Any]) -> Journal:
        journal = self.system.journal
        if journal is None:
            raise NotDurable(
                f"{token._describe()} is durable, and gate '{self.system.name}' has no journal; "
                "give it one: Gate(plugins=[Journal(directory)])"
            )
        return journal  # type: ignore[no-any-return]

    def _enter(self, token: Token[Any]) -> None:
        """Put a token into the mailbox that is on disk."""
        if self.mailbox.put(token) is Put.LATER:
            self.system.senders.add(token)
            self.system.later(partial(self._send_late, token))

    def _give_up(self, token: DurableToken[Any]) -> None:
        """Forget a token that was not accepted."""
        if token.record is None:
            self.system.live.pop(token.id, None)


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
