"""Calls that need consent, at the door: each waits there, after the rules that may refuse it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

from actors import Token, TokenRejected, TokenState
from actors.lowlevel import place_of, system_of
from tokengate.policy._consent import Asks, WaitingCall, named, refused
from tokengate.policy._governed import Governed
from tokengate.policy._governor import PlaceGovernor
from tokengate.policy._place_rules import PlaceRules
from tokengate.policy._sources import Settings

_UNREAD: Final = object()


class AskingGovernor(PlaceGovernor):
    """The rules of an operation that needs consent to each call.

    Flags do not take the consent away: like batches and routes, it is code.
    """

    _signature: Any = _UNREAD  # of the function, once it is needed

    def change(self, settings: Settings) -> None:
        super().change(settings)
        self.engage()  # from the door a call comes to its mailbox as for another attempt

    @property
    def is_idle(self) -> bool:
        return False

    def is_off(self, *_args: Any, **_kwargs: Any) -> bool:
        """Return False: the plain function would run without consent."""
        return False

    def may_run_here(self, token: Token[Any]) -> bool:  # noqa: ARG002
        """Return False: a direct call waits at the door as well."""
        return False

    def at_door(self, token: Token[Any]) -> Token[Any] | None:
        """Hold a token to the policy, and then at the door; see `PlaceGovernor`. A fallback needs no consent.

        Raises:
            TokenRejected: it is refused.
        """
        run = super().at_door(token)
        if run is None or (isinstance(run._extras.policy, Governed) and run._extras.policy.falls_back):
            return run
        try:
            wait_at_door(run, partial(self._arguments_of, run), run._extras.policy or self.throttled(run))
        except TokenRejected as refusal:
            if run is token:
                raise
            place_of(run).reject(run, refusal)  # which ends those that it runs for
        return None

    def _arguments_of(self, token: Token[Any]) -> dict[str, Any]:
        if self._signature is _UNREAD:
            try:
                self._signature = inspect.signature(self._called(token))
            except (TypeError, ValueError):
                self._signature = None
        return named(self._signature, token.args, token.kwargs)


class AskedCall(Governed):
    """What a single call is held to that needs consent, as few at its place do: a command of an actor.

    Args:
        token: of the call.
        governor: the rules of its place.
        read: see `WaitingCall`.
    """

    asks = True

    def __init__(self, token: Token[Any], governor: PlaceRules, read: Callable[[], dict[str, Any]]) -> None:
        super().__init__(token, governor)
        self._read = read

    def enter(self, token: Token[Any]) -> Token[Any] | None:
        sent = super().enter(token)
        if sent is None or self.falls_back:
            return sent
        wait_at_door(token, self._read, self)
        return None


def wait_at_door(token: Token[Any], read: Callable[[], dict[str, Any]], policy: Any) -> None:
    """Have a token wait for consent, in no mailbox.

    Args:
        token: the token.
        read: see `WaitingCall`.
        policy: what the token is held to.

    Raises:
        TokenRejected: its arguments cannot be shown, or nobody can be asked.
    """
    system = system_of(place_of(token))
    asks = cast("Asks | None", system.consents)
    if asks is None:
        raise refused(token, "its calls need the consent of a person, and nothing here can ask for it")
    policy.call = call = WaitingCall(token, read, asks)
    token._phase, token.queued_at = TokenState.QUEUED, token.created_at
    call.ask()
    if system.on_token_queued is not None:
        system.tell(system.on_token_queued, token)
    if token._extras.cancel_requested:  # before it was at the door
        token._cancel(token._extras.cancel_requested)
