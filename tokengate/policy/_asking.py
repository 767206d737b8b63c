"""The governor of an operation whose calls need consent: each waits at the door, after the rules that may refuse it."""

from __future__ import annotations

import inspect
from inspect import Signature
from typing import Any, Final, cast

from actors import Token, TokenRejected, TokenState
from actors.lowlevel import place_of, system_of
from tokengate.policy._consent import Asks, WaitingCall, refused
from tokengate.policy._governed import Governed
from tokengate.policy._governor import PlaceGovernor
from tokengate.policy._sources import Settings
from tokengate.policy._throttled import Throttled

_UNREAD: Final = object()


class AskingGovernor(PlaceGovernor):
    """The rules of such an operation. Flags do not take the consent away: like batches and routes, it is code."""

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
            self._ask(run)
        except TokenRejected as refusal:
            if run is token:
                raise
            place_of(run).reject(run, refusal)  # which ends those that it runs for
        return None

    def _ask(self, token: Token[Any]) -> None:
        """Have a token wait at the door.

        Raises:
            TokenRejected: its arguments cannot be shown, or nobody can be asked.
        """
        system = system_of(self.place)
        asks = cast("Asks | None", system.consents)
        policy = cast("Governed | Throttled", token._extras.policy or self.throttled(token))
        if asks is None:
            raise refused(token, "its calls need the consent of a person, and nothing here can ask for it")
        policy.call = call = WaitingCall(token, self._signature_of(token), asks)
        token._phase, token.queued_at = TokenState.QUEUED, token.created_at
        call.ask()
        if system.on_token_queued is not None:
            system.tell(system.on_token_queued, token)
        if token._extras.cancel_requested:  # before it was at the door
            token._cancel(token._extras.cancel_requested)

    def _signature_of(self, token: Token[Any]) -> Signature | None:
        if self._signature is _UNREAD:
            try:
                self._signature = inspect.signature(self._called(token))
            except (TypeError, ValueError):
                self._signature = None
        return cast("Signature | None", self._signature)
