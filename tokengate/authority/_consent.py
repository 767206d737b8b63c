"""Calls that wait for consent. Each has a proposal; the approval of that sends the call to its mailbox."""

from __future__ import annotations

import math
import os
from functools import partial
from typing import Any, ClassVar

import attrs

from actors.lowlevel import Alarm
from tokengate.authority._ports import Door
from tokengate.authority._proposals import Proposal, State
from tokengate.control import messages as m
from tokengate.control._admission import Admission, Caller, admission
from tokengate.control._exceptions import Refused
from tokengate.control.messages import Change
from tokengate.control.steering._outcomes import outcome
from tokengate.policy._consent import WaitingCall

_CLOSING = "its gate closes, so nobody can agree to it any more"


@attrs.frozen
class CallOperation(Change[None]):
    """Call an operation; a proposal only, which no caller sends."""

    right: ClassVar[str] = "approve"
    verb_name: ClassVar[str] = "call"
    unrecorded: ClassVar[tuple[str, ...]] = ("arguments",)
    operation: str
    arguments: dict[str, Any]


class Consents:
    """The calls of a gate that wait for consent, as `policy` asks for it; all but `ask` and `withdraw` on its loop.

    Args:
        door: of the gate.
    """

    def __init__(self, door: Door) -> None:
        self._door = door
        self._process = Caller("process", os.geteuid())
        self._filed: dict[WaitingCall, Proposal] = {}
        self._closed = False
        self._alarm = Alarm("consents", door.system.system_host, door.proposals.now, self._due, door.proposals.expire)

    def ask(self, call: WaitingCall) -> None:
        """Ask for consent to a call: of the caller whose message is answered here, or else of code of the process."""
        here = _answered()
        if here is not None and isinstance(here.message, m.Call) and self._door.system.system_host.on_loop():
            self._file(call, here.caller, here.message)
        else:
            message = CallOperation(call.token.operation, call.arguments)
            self._door.system.later(partial(self._file, call, self._process, message))

    def _file(self, call: WaitingCall, caller: Caller, message: Change[Any]) -> None:
        """Make a proposal of a call, or refuse it."""
        if self._closed:
            call.refuse(_CLOSING)
        if not call.waits:
            return
        token = call.token
        try:
            made = self._door.propose(
                message, caller, (token.id,), needs="approval", consent=partial(self._decided, call)
            )
        except Refused as error:
            call.refuse(f"no consent can be asked for: {error}")
            return
        self._filed[call], call.number = made, made.number
        self._alarm.look()

    def withdraw(self, call: WaitingCall) -> None:
        """End the proposal of a call that has ended otherwise."""
        self._door.system.later(partial(self._withdraw, call))

    def close(self) -> None:
        """Refuse all that wait, and all that come."""
        self._closed = True
        for call in list(self._filed):
            call.refuse(_CLOSING)
            self._withdraw(call)

    def _withdraw(self, call: WaitingCall) -> None:
        made = self._filed.pop(call, None)
        if made is not None:
            self._door.proposals.end(made)

    def _decided(self, call: WaitingCall, state: State) -> None:
        made = self._filed.pop(call, None)
        if made is None:
            return
        token = call.token
        if state == "approved":
            why = call.agree()
            if why:
                made.keep((outcome(token, "changed", why),))
        elif state == "denied":
            by = "somebody" if made.approver is None else f"'{made.approver.principal}'"
            call.refuse(f"{by} has denied its proposal, {made.number}")
        else:
            call.refuse(f"its proposal, {made.number}, has expired before anybody agreed to it")

    def _due(self) -> float:
        return min((made.expires for made in self._filed.values()), default=math.inf)


def _answered() -> Admission | None:
    """Return what the sender of the message may do that is answered here; None if none is."""
    try:
        return admission()
    except LookupError:
        return None
