# Control: see and steer every token and actor while they run.
#
#   what is said       messages.py (the vocabulary), _exceptions.py, _selector.py (which tokens are meant)
#   who answers        _actor.py (the control actor), _checks.py (of what it is asked), _token_verbs.py, _steering.py
#                      and _limiting.py (what is done to tokens), _pursuit.py (for as long as it takes), _outcomes.py
#                      (what came of it), _actor_verbs.py, _supervisor_verbs.py, _throttling.py (what is done to
#                      actors, supervisors, throttles), _looking.py (what is seen), _views.py (a token, and what it
#                      carries, as it is shown), _words.py (a value in words), _stacks.py (where its code is),
#                      _processes.py (and its process), _turns.py (long work, bit by bit), _aside.py (looks that may
#                      take long), _counting.py (statistics), _streams.py (what happens, as it happens)
#   how it is reached  _access.py (within the process), _verbs.py (each verb: its message and what comes of the answer),
#                      _control.py (the verbs as methods, blocking and awaited), _state.py (an actor's attributes),
#                      _handles.py (tokens and actors as objects), _protocol.py (the wire), _server.py and _client.py
#                      (its two ends), _discovery.py (which gates run here)
#   how it looks       _tables.py, _cells.py (what stands in one), _amounts.py (sizes and times), _repl.py (the shell),
#                      _completer.py (what Tab offers)
"""The control actor, and the ways to it: Python, a socket, a command line, a REPL.

`gate.control` has the verbs; `tokengate.control.messages` is what they send.
"""

from tokengate.control._exceptions import (
    AmbiguousName,
    BadRequest,
    BadSelector,
    Busy,
    ControlError,
    NotSteerable,
    RemoteError,
    UnknownToken,
    Unreachable,
)
from tokengate.control.api._control import AsyncControl, Control
from tokengate.control.inspection._actor_state import NotSent
from tokengate.control.inspection._selector import Selector, parse
from tokengate.control.messages import KEEP
from tokengate.control.transport._client import ControlClient
from tokengate.control.transport._discovery import FoundGate, find_gate, find_gates

__all__ = [
    "KEEP",
    "AmbiguousName",
    "AsyncControl",
    "BadRequest",
    "BadSelector",
    "Busy",
    "Control",
    "ControlClient",
    "ControlError",
    "FoundGate",
    "NotSent",
    "NotSteerable",
    "RemoteError",
    "Selector",
    "UnknownToken",
    "Unreachable",
    "find_gate",
    "find_gates",
    "parse",
]
