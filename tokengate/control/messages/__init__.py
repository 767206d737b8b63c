# Messages: the vocabulary of control, one file a noun.
#
#   _bases.py        the bases of messages; outcomes
#   _targets.py      how callers name tokens
#   _token_rows.py   tokens as they are listed and described
#   _stacks.py       where a token's code is
#   _tokens.py       the verbs for tokens
#   _limits.py       limits of child processes
#   _preempt.py      another attempt of a token
#   _throttles.py    throttles
#   _policies.py     policies, breakers, budgets, flags
#   _transactions.py transactions
#   _actors.py       actors, operations and their state
#   _recycle.py      processes that are replaced
#   _supervisors.py  the tree, and children of supervisors
#   _authority.py    who may do what; proposals
#   _audit.py        records of the audit log
#   _gate.py         the gate's figures and health
#   _streams.py      streams of what happens
"""The vocabulary of control: the messages that the control actor answers, and its answers.

Each message is a frozen class; the type of its answer stands in the brackets of its base. Send one with
`gate.control.ask`; the verbs of `gate.control`, the socket, the command line and the console build them. A text that
chooses tokens is a selector (see `Selector`); an actor's name is its path, or the last parts of it. All times are
seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.lowlevel import Share
from tokengate.control.messages._actors import (
    ActorDescription,
    ActorRow,
    Actors,
    ActorState,
    ActorStatistics,
    Attribute,
    Call,
    Called,
    CommandRow,
    DescribeActor,
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
from tokengate.control.messages._audit import AuditRecord, AuditRecordRow, AuditRecords, FollowAudit, ShowAuditRecord
from tokengate.control.messages._authority import (
    Applied,
    Apply,
    Approve,
    Deny,
    Freeze,
    Identity,
    ProposalDetails,
    ProposalRow,
    Proposals,
    Propose,
    ShowProposal,
    Unfreeze,
    WaitApproval,
    Whoami,
)
from tokengate.control.messages._bases import (
    ENVELOPE,
    OUTCOMES,
    PATIENT_WAIT,
    RIGHTS,
    WAIT,
    ActorOutcome,
    Change,
    Listing,
    Message,
    OnActor,
    OnOne,
    OnTokens,
    Outcome,
    Proposed,
    Seconds,
    Waiting,
    answer_of,
    by_verb,
    verb_of,
)
from tokengate.control.messages._gate import (
    ANSWER_SECONDS,
    GateInfo,
    GateOverview,
    Health,
    HealthPart,
    HealthReport,
    Info,
    LargeRow,
    Overview,
    Processes,
    RestartRow,
    WaitRow,
)
from tokengate.control.messages._limits import KEEP, NO_LIMIT, Limit
from tokengate.control.messages._policies import (
    AutoBreaker,
    BreakerRow,
    Breakers,
    BudgetRow,
    Budgets,
    CloseBreaker,
    Extend,
    FlagRow,
    Flags,
    OpenBreaker,
    Policies,
    PolicyRow,
    Reload,
    Reloaded,
    ResetBreaker,
    ResetBudget,
    ResetFlag,
    ResetPolicy,
    RetryNow,
    SetFlag,
    SetPolicy,
)
from tokengate.control.messages._preempt import Preempt
from tokengate.control.messages._recycle import Recycle
from tokengate.control.messages._stacks import Frame, TokenStack
from tokengate.control.messages._streams import KINDS, Event, Stream, Watch
from tokengate.control.messages._supervisors import (
    ChildCountsRow,
    ChildRow,
    CountChildren,
    DeleteChild,
    EndRow,
    OnChild,
    RestartChild,
    TerminateChild,
    Tree,
    TreeRow,
    WhichChildren,
    WindowRow,
)
from tokengate.control.messages._targets import Identified, OneToken, Target, id_of, selected
from tokengate.control.messages._throttles import Lift, ResetThrottle, SetThrottle, ThrottleRow, Throttles
from tokengate.control.messages._token_rows import (
    HELD,
    Argument,
    PredictionRow,
    TokenDescription,
    TokenPage,
    TokenProcess,
    TokenRow,
)
from tokengate.control.messages._tokens import (
    COLUMNS,
    Describe,
    Estimate,
    Mode,
    Pause,
    Renice,
    Reroute,
    Resume,
    Retag,
    Stack,
    Step,
    Terminate,
    Tokens,
)
from tokengate.control.messages._transactions import (
    Compensate,
    CompensateTransaction,
    SkipTransaction,
    TransactionRow,
    Transactions,
)

__all__ = [
    "ANSWER_SECONDS",
    "COLUMNS",
    "ENVELOPE",
    "HELD",
    "KEEP",
    "KINDS",
    "NO_LIMIT",
    "OUTCOMES",
    "PATIENT_WAIT",
    "RIGHTS",
    "VERBS",
    "WAIT",
    "ActorDescription",
    "ActorOutcome",
    "ActorRow",
    "ActorState",
    "ActorStatistics",
    "Actors",
    "Applied",
    "Apply",
    "Approve",
    "Argument",
    "Attribute",
    "AuditRecord",
    "AuditRecordRow",
    "AuditRecords",
    "AutoBreaker",
    "BreakerRow",
    "Breakers",
    "BudgetRow",
    "Budgets",
    "Call",
    "Called",
    "Change",
    "ChildCountsRow",
    "ChildRow",
    "CloseBreaker",
    "CommandRow",
    "Compensate",
    "CompensateTransaction",
    "CountChildren",
    "DeleteChild",
    "Deny",
    "Describe",
    "DescribeActor",
    "Drain",
    "EndRow",
    "Estimate",
    "Event",
    "Extend",
    "FlagRow",
    "Flags",
    "FollowAudit",
    "Frame",
    "Freeze",
    "GateInfo",
    "GateOverview",
    "GetState",
    "Health",
    "HealthPart",
    "HealthReport",
    "Identified",
    "Identity",
    "Info",
    "LargeRow",
    "Lift",
    "Limit",
    "Listing",
    "Message",
    "Mode",
    "OnActor",
    "OnChild",
    "OnOne",
    "OnTokens",
    "OneToken",
    "OpenBreaker",
    "Outcome",
    "Overview",
    "Pause",
    "Policies",
    "PolicyRow",
    "PredictionRow",
    "Preempt",
    "Processes",
    "ProposalDetails",
    "ProposalRow",
    "Proposals",
    "Propose",
    "Proposed",
    "Recycle",
    "Reload",
    "Reloaded",
    "Renice",
    "Reroute",
    "ResetBreaker",
    "ResetBudget",
    "ResetFlag",
    "ResetPolicy",
    "ResetThrottle",
    "Restart",
    "RestartChild",
    "RestartRow",
    "Resume",
    "Retag",
    "RetryNow",
    "Seconds",
    "SetFlag",
    "SetPolicy",
    "SetState",
    "SetThrottle",
    "Share",
    "ShowAuditRecord",
    "ShowProposal",
    "SkipTransaction",
    "Stack",
    "Statistics",
    "Step",
    "Stop",
    "Stream",
    "Suspend",
    "Target",
    "Terminate",
    "TerminateChild",
    "ThrottleRow",
    "Throttles",
    "TokenDescription",
    "TokenPage",
    "TokenProcess",
    "TokenRow",
    "TokenStack",
    "Tokens",
    "TransactionRow",
    "Transactions",
    "Tree",
    "TreeRow",
    "Unfreeze",
    "Unsuspend",
    "Visit",
    "WaitApproval",
    "WaitRow",
    "Waiting",
    "Watch",
    "WhichChildren",
    "Whoami",
    "WindowRow",
    "answer_of",
    "id_of",
    "selected",
    "verb_of",
]

_BASES = (Message, Change, Listing, OnOne, OnTokens, Waiting, OnActor, OnChild, Stream)

VERBS: Mapping[str, type[Message[Any]]] = by_verb(
    found
    for found in tuple(globals().values())
    if isinstance(found, type) and issubclass(found, Message) and found not in _BASES
)
"""{verb: its message}."""
