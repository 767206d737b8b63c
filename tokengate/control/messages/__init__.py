# Messages: the vocabulary of control, one file a noun.
#
#   _bases.py        the bases of messages; outcomes
#   _tokens.py       tokens: rows, descriptions, verbs
#   _stacks.py       where a token's code is
#   _limits.py       limits of child processes
#   _throttles.py    throttles
#   _actors.py       actors, operations and their state
#   _supervisors.py  the tree, and children of supervisors
#   _gate.py         the gate's figures
#   _streams.py      streams of what happens
"""The vocabulary of control: the messages that the control actor answers, and its answers.

Each message is a frozen class; its `answer` is the type of the answer. Send one with `ask` of the control actor's ref;
`gate.control`, the socket, the command line and the console build them. A text that chooses tokens is a selector (see
`Selector`); an actor's name is its path, or the last parts of it. All times are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping

from tokengate.control.messages._actors import (
    ActorRow,
    Actors,
    ActorState,
    ActorStatistics,
    Attribute,
    Drain,
    GetState,
    Restart,
    SetState,
    Statistics,
    Stop,
    Suspend,
    Unsuspend,
    Visit,
)
from tokengate.control.messages._bases import (
    OUTCOMES,
    PATIENT_WAIT,
    WAIT,
    ActorOutcome,
    Message,
    OnActor,
    OnTokens,
    Outcome,
    verb_of,
)
from tokengate.control.messages._gate import GateInfo, Info, Processes
from tokengate.control.messages._limits import KEEP, NO_LIMIT, Keep, Limit
from tokengate.control.messages._stacks import Frame, Stack, TokenStack
from tokengate.control.messages._streams import Events, Stream, StreamItem, Trace, Watch
from tokengate.control.messages._supervisors import (
    ChildCountsRow,
    ChildRow,
    CountChildren,
    DeleteChild,
    OnSupervisor,
    RestartChild,
    TerminateChild,
    Tree,
    TreeRow,
    WhichChildren,
)
from tokengate.control.messages._throttles import Lift, Throttle, ThrottleRow, Throttles
from tokengate.control.messages._tokens import (
    COLUMNS,
    Argument,
    Describe,
    Mode,
    Pause,
    Renice,
    Reroute,
    Resume,
    Retag,
    Step,
    Terminate,
    TokenDescription,
    TokenPage,
    TokenProcess,
    TokenRow,
    Tokens,
)

__all__ = [
    "COLUMNS",
    "KEEP",
    "NO_LIMIT",
    "OUTCOMES",
    "PATIENT_WAIT",
    "VERBS",
    "WAIT",
    "ActorOutcome",
    "ActorRow",
    "ActorState",
    "ActorStatistics",
    "Actors",
    "Argument",
    "Attribute",
    "ChildCountsRow",
    "ChildRow",
    "CountChildren",
    "DeleteChild",
    "Describe",
    "Drain",
    "Events",
    "Frame",
    "GateInfo",
    "GetState",
    "Info",
    "Keep",
    "Lift",
    "Limit",
    "Message",
    "Mode",
    "OnActor",
    "OnSupervisor",
    "OnTokens",
    "Outcome",
    "Pause",
    "Processes",
    "Renice",
    "Reroute",
    "Restart",
    "RestartChild",
    "Resume",
    "Retag",
    "SetState",
    "Stack",
    "Statistics",
    "Step",
    "Stop",
    "Stream",
    "StreamItem",
    "Suspend",
    "Terminate",
    "TerminateChild",
    "Throttle",
    "ThrottleRow",
    "Throttles",
    "TokenDescription",
    "TokenPage",
    "TokenProcess",
    "TokenRow",
    "TokenStack",
    "Tokens",
    "Trace",
    "Tree",
    "TreeRow",
    "Unsuspend",
    "Visit",
    "Watch",
    "WhichChildren",
    "verb_of",
]

_BASES = (Message, OnTokens, OnActor, OnSupervisor, Stream)

VERBS: Mapping[str, type[Message]] = {
    verb_of(found): found
    for found in tuple(globals().values())
    if isinstance(found, type) and issubclass(found, Message) and found not in _BASES
}
"""{verb: its message}."""
