# Control: see and steer every token and actor while they run. Its rooms:
#
#   console/     the shell
#   api/         the verbs as methods
#   rendering/   answers for people to read
#   steering/    what is done
#   transport/   the control socket
#   inspection/  what is seen
#   registry/    what follows from the declaration of a verb, a noun, a plugin
#   stream/      records of what has happened, for what reads them
#   messages/    the vocabulary
#
#   _local.py       `gate.control`: the way within the process
#   _actor.py       the control actor, which answers
#   _validation.py  checks of messages
#   _admission.py   what the sender of a message may do
#   _ports.py       what control asks of its gate
#   _safe_text.py   a value in text, made without running user code
#   _units.py       sizes and times
#   _uids.py        uids of durable tokens, and their numbers
#   _version.py     the version of TokenGate
#   _exceptions.py  the errors
"""The control actor, and the ways to it: Python, a socket, the command line, a console.

`gate.control` has the verbs; `tokengate.control.messages` is what they send.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tokengate.control._exceptions import (
    AmbiguousName,
    AuditUnavailable,
    BadRequest,
    BadSelector,
    Busy,
    ControlError,
    NoAnswer,
    NotSteerable,
    ProposalMade,
    Refused,
    RemoteError,
    UnknownProposal,
    UnknownToken,
    UnknownVerb,
    Unreachable,
)
from tokengate.control.inspection._actor_state import NotSent
from tokengate.control.inspection._selector import Selector, parse
from tokengate.control.messages import KEEP
from tokengate.control.transport._client import ControlClient
from tokengate.control.transport._discovery import FoundGate, find_gate, find_gates

if TYPE_CHECKING:
    from tokengate.control.api._control import AsyncControl, Control

__all__ = [
    "KEEP",
    "AmbiguousName",
    "AsyncControl",
    "AuditUnavailable",
    "BadRequest",
    "BadSelector",
    "Busy",
    "Control",
    "ControlClient",
    "ControlError",
    "FoundGate",
    "NoAnswer",
    "NotSent",
    "NotSteerable",
    "ProposalMade",
    "Refused",
    "RemoteError",
    "Selector",
    "UnknownProposal",
    "UnknownToken",
    "UnknownVerb",
    "Unreachable",
    "find_gate",
    "find_gates",
    "parse",
]


def __getattr__(name: str) -> object:
    """Load the verbs when they are asked for: the command line does without."""
    if name in ("AsyncControl", "Control"):
        return getattr(importlib.import_module("tokengate.control.api._control"), name)
    raise AttributeError(f"module 'tokengate.control' has no attribute '{name}'")
