# Messages: the vocabulary of control, which is all in this file.
"""The vocabulary of control: what the control actor is asked, and what it answers.

Each question is a frozen class whose `answer` says what comes back. Whoever has the control actor's ref may `ask` it
any of them; `gate.control`, the socket, the command line and the REPL only build them. Text that names tokens is a
selector (see `Selector`); names of actors are paths, or the last parts of paths. All times are seconds.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Literal, TypeAlias

import attrs

Mode: TypeAlias = Literal["cancel", "interrupt", "kill"]

WAIT: Final = 0.02
"""Seconds for which a verb waits, unless it is told otherwise, for what it has asked for to come true."""

PATIENT_WAIT: Final = 0.25
"""The same on the command line and in the shell, where people want the last word and not a quick one."""

# --- Answers ---------------------------------------------------------------------------------------------------------


@attrs.frozen
class Outcome:
    """What a verb did to one token.

    Attributes:
        token: its id.
        operation: what it runs; empty when there is no such token.
        outcome: one word, see `OUTCOMES`.
        note: what else is to be known, in words; may be empty.
    """

    token: int
    operation: str
    outcome: str
    note: str = ""


OUTCOMES: Mapping[str, str] = {
    "paused": "no code of it runs until it is resumed, stepped or ended",
    "pause_requested": "it is paused as soon as its code comes to a point where that is possible",
    "resumed": "it goes on",
    "stepped": "it has run the steps that were asked for, and is paused again",
    "step_requested": "it runs, and is paused again after the steps that were asked for",
    "terminated": "it has ended, and its state is `terminated`",
    "cancel_requested": "it was asked to end at its next yield point, and has not come to one yet",
    "interrupt_requested": "its code is interrupted as soon as it runs Python code again; it has not yet",
    "killed": "it has ended, and the process that ran it was killed",
    "abandoned": "it has ended, and its result goes nowhere, but its code could not be ended, and is left to itself",
    "reniced": "it has the new priority",
    "retagged": "it has the new tags",
    "rerouted": "it is queued at the other place",
    "limited": "it has the new limits",
    "noted": "nothing changes now; the next attempt, if there is one, will go by it",
    "unchanged": "it was so already; nothing was done",
    "refused": "nothing was done, for the reason in the note",
    "ended": "it had come to its own end before; nothing was done",
    "unknown": "there has been no such token",
    "would": "a dry run: it is one of those that would be affected",
}
"""{outcome: what it means}."""


@attrs.frozen
class TokenRow:
    """A token in a list.

    Attributes:
        id: its number.
        operation: what it runs.
        actor: path of the place that has it.
        affinity: `io`, `cpu` or `process`.
        state: as in its life cycle; a running token whose pause was asked for is still `running`.
        priority: higher goes first.
        tags: its labels.
        parent: id of the token that made it, or None.
        attempt: 1 for the first run.
        steps: how many of its steps have begun.
        age: seconds since it was made.
        running: seconds since it began to run, or None.
        held: `pause_requested` or `paused` when somebody holds it, `throttled` when a throttle does; else empty.
    """

    id: int
    operation: str
    actor: str
    affinity: str
    state: str
    priority: int
    tags: dict[str, str]
    parent: int | None
    attempt: int
    steps: int
    age: float
    running: float | None
    held: str = ""


@attrs.frozen
class TokenPage:
    """A part of a list of tokens.

    Attributes:
        rows: the tokens.
        matching: how many tokens the selector matches, on this page or not.
        live: how many tokens there are that have not ended.
        offset: how many of the matching ones come before the page.
    """

    rows: tuple[TokenRow, ...]
    matching: int
    live: int
    offset: int


@attrs.frozen
class Argument:
    """An argument of a token; nothing of it is computed that could run a user's code.

    Attributes:
        name: its position (`0`) or its keyword.
        type: name of its class.
        size: its length, for built-in types that have one; else None.
        value: the value in words, if the operation allows that and its type is built in; else None.
        redacted: whether the operation keeps this one to itself.
    """

    name: str
    type: str
    size: int | None = None
    value: str | None = None
    redacted: bool = False


@attrs.frozen
class TokenProcess:
    """The child process that runs a token, at one moment.

    Attributes:
        pid: its number.
        stopped: whether it is stopped, since the token is paused.
        cpu_time: seconds of processor time that it has used, user and system.
        memory: bytes of its resident memory.
        threads: how many it has.
        open_files: paths of the regular files that it has open.
        children: pids of the processes that it has started.
    """

    pid: int
    stopped: bool
    cpu_time: float
    memory: int
    threads: int
    open_files: tuple[str, ...]
    children: tuple[int, ...]


@attrs.frozen
class TokenDescription:
    """All that is known of one token.

    Attributes:
        row: what a list says of it.
        arguments: those that it carries.
        children: ids of live tokens that were made in its steps.
        created_at, queued_at, started_at: seconds of the system's clock; None until then.
        paused_for: seconds for which it has been paused so far.
        stopped_clock: of these, seconds that do not count for its time limits.
        waits_for: what its code waits for just now, in words.
        thread: name of the thread that runs it just now, or None; those of a child process are not told.
        cpu_share: the part of the last moment for which that thread has computed, from 0 to 1, or its process, on all
            cores together, from 0 up; None where unknown.
        memory: bytes that it uses: those of its process; None where unknown, as in every thread.
        protected: whether `pause` and `terminate` need `force`.
        controllable: whether anything can be done to it at all.
        policy: its policy, {name: value in words}.
        process: the child process that runs it just now, or None.
        limits: {name of a limit, as in `Limit`: what it may use, in bytes or seconds}, those that are set.
    """

    row: TokenRow
    arguments: tuple[Argument, ...]
    children: tuple[int, ...]
    created_at: float
    queued_at: float | None
    started_at: float | None
    paused_for: float
    stopped_clock: float
    waits_for: tuple[str, ...]
    thread: str | None
    cpu_share: float | None
    memory: int | None
    protected: bool
    controllable: bool
    policy: dict[str, str]
    process: TokenProcess | None = None
    limits: dict[str, float] = attrs.field(factory=dict)


@attrs.frozen
class Frame:
    """A line of a stack.

    Attributes:
        file: path of the source.
        line: its number in there.
        function: name of the function.
        source: the line's text, if it can be read; else empty.
    """

    file: str
    line: int
    function: str
    source: str = ""


@attrs.frozen
class TokenStack:
    """Where the code of a token is.

    Attributes:
        token: its id.
        operation: what it runs.
        where: `thread` (it runs on one), `task` (a trio task, which waits), `generator` (between two steps),
            `process` (it runs in a child process), or `nowhere` (it has not begun).
        thread: name of the thread, if it runs on one.
        frames: the outermost first; none when it has not begun, or when its process does not tell.
        held: as in `TokenRow`.
        pid: of its process, if it runs in one.
    """

    token: int
    operation: str
    where: Literal["thread", "task", "generator", "process", "nowhere"]
    thread: str | None
    frames: tuple[Frame, ...]
    held: str = ""
    pid: int | None = None


@attrs.frozen
class ActorStatistics:
    """What was counted at one place since its statistics were switched on.

    Attributes:
        seconds: for how long they have been on.
        handled: tokens that have ended after they ran.
        failed: of these, those that failed.
        waited: seconds that a token was queued, on average.
        took: seconds that a token ran, on average.
        longest: seconds that the longest one ran.
        busy_share: the part of the time for which it had a token in hand, from 0 to 1 (above 1 for operations that run
            several at once).
    """

    seconds: float
    handled: int
    failed: int
    waited: float
    took: float
    longest: float
    busy_share: float


@attrs.frozen
class ActorRow:
    """An actor, or an operation, in a list.

    Attributes:
        path: its place in the tree.
        kind: name of its class; `operation` for functions.
        affinity: `io`, `cpu` or `process`.
        status: of the instance (`running`, `starting`, `stopping`, `vacant`); `running` for operations.
        depth: tokens that are queued.
        capacity: how many may be.
        running: ids of the tokens in hand.
        starts: instances so far; the restarts are one less.
        handled: tokens that were taken out of the mailbox so far.
        suspended: whether an operator holds it.
        draining: whether an operator has closed its intake.
        busy_share: the part of the last moment for which it had a token in hand; None if nobody asked.
        statistics: if they are switched on.
        pid: of the child process that is its instance's alone; None if there is none.
    """

    path: str
    kind: str
    affinity: str
    status: str
    depth: int
    capacity: int
    running: tuple[int, ...]
    starts: int
    handled: int
    suspended: bool
    draining: bool
    busy_share: float | None = None
    statistics: ActorStatistics | None = None
    pid: int | None = None


@attrs.frozen
class TreeRow:
    """A node of the supervision tree; rows come in the order in which one reads a tree, each below its supervisor.

    Attributes:
        depth: 0 for the root.
        path: its place.
        id: its name under its supervisor.
        kind: name of its class or function.
        status: what its supervisor does with it (`running`, `restarting`, ...).
        restart: `permanent`, `transient` or `temporary`; empty for the root.
        restarts: how often it has been started again.
        strategy: of a supervisor; empty for workers.
        queued: tokens in its mailbox.
        running: ids of the tokens in hand.
        suspended: whether an operator holds it.
    """

    depth: int
    path: str
    id: str
    kind: str
    status: str
    restart: str
    restarts: int
    strategy: str
    queued: int
    running: tuple[int, ...]
    suspended: bool


@attrs.frozen
class ActorOutcome:
    """What a verb did to one actor: `done`, `unchanged` (it was so already) or `pending` (it goes on), and a note."""

    actor: str
    outcome: Literal["done", "unchanged", "pending"]
    note: str = ""


@attrs.frozen
class Attribute:
    """An attribute of an actor's instance, as the socket shows it: like an argument that may be shown."""

    name: str
    type: str
    size: int | None
    value: str | None
    redacted: bool = False


@attrs.frozen
class ActorState:
    """The attributes of an actor's instance, between two of its steps.

    Attributes:
        actor: its path.
        kind: name of its class.
        attributes: in the order in which they were set.
    """

    actor: str
    kind: str
    attributes: tuple[Attribute, ...]


@attrs.frozen
class ThrottleRow:
    """A throttle that holds.

    Attributes:
        selector: whose tokens it is for.
        rate: tokens that may begin in a second; None sets no limit.
        concurrency: tokens that may run at once; None sets no limit.
        running: tokens it has let pass that have not ended.
        waiting: tokens that it holds back just now.
    """

    selector: str
    rate: float | None
    concurrency: int | None
    running: int
    waiting: int


@attrs.frozen
class ChildRow:
    """A child of a supervisor."""

    id: str
    path: str
    status: str
    restart: str
    restarts: int
    significant: bool
    supervisor: bool


@attrs.frozen
class ChildCountsRow:
    """How many children a supervisor has; see `supervisors.ChildCounts`."""

    specs: int
    active: int
    restarting: int
    supervisors: int
    workers: int


@attrs.frozen
class Processes:
    """The child processes of a gate at one moment.

    Attributes:
        workers: how many there are.
        busy: of these, those that run tokens of operations, or are an actor's.
        spares: of these, those that wait for work.
        started: how many were made since the gate was opened.
        died: of these, those that have died, and were not to.
        pids: the numbers of those that live.
    """

    workers: int
    busy: int
    spares: int
    started: int
    died: int
    pids: tuple[int, ...]


@attrs.frozen
class GateInfo:
    """A gate at one moment.

    Attributes:
        name: its own.
        pid: of its process.
        version: of TokenGate there.
        python: version of Python there.
        state: `open` or `closing`.
        uptime: seconds since it was opened.
        tokens: {state: how many tokens are in it, or ended in it}.
        actors: how many places of actors there are.
        restarts: of actors, since it was opened.
        threads: CPU threads that actors share.
        blocked: of these, threads that wait, are paused, or block unseen.
        abandoned: names of threads whose code could not be ended.
        pauses_running_code: whether a plain function can be paused while it runs on a thread (Python 3.12 and later).
        processes: its child processes; None if it has needed none yet.
    """

    name: str
    pid: int
    version: str
    python: str
    state: str
    uptime: float
    tokens: dict[str, int]
    actors: int
    restarts: int
    threads: int
    blocked: int
    abandoned: tuple[str, ...]
    pauses_running_code: bool
    processes: Processes | None = None


@attrs.frozen
class StreamItem:
    """One thing that has happened.

    Attributes:
        at: seconds since the epoch.
        kind: `token_queued`, `token_started`, `token_finished`, `dead_letter`, or the name of an event's class
            (`RestartScheduled`).
        actor: path of the place it is about; may be empty.
        token: id of the token it is about, or None.
        text: all of it in words, on one line: `token 7 (resize of '/shop/resize') started`.
        lost: how many items before this one were left out, since whoever listens is too slow.
    """

    at: float
    kind: str
    actor: str
    token: int | None
    text: str
    lost: int = 0


# --- Questions -------------------------------------------------------------------------------------------------------


@attrs.frozen
class Message:
    """Base of all that the control actor is asked."""

    answer: ClassVar[Any]  # the type of what comes back
    local: ClassVar[bool] = False  # whether it can only be asked within the process


@attrs.frozen
class Info(Message):
    """Tell how the gate is."""

    answer: ClassVar[Any] = GateInfo


@attrs.frozen
class Tokens(Message):
    """List live tokens.

    Attributes:
        selector: which; empty for all.
        sort: one of `COLUMNS`; a `-` before it turns the order around.
        limit: rows at most, up to 10,000.
        offset: rows to skip.
    """

    answer: ClassVar[Any] = TokenPage
    selector: str = ""
    sort: str = "id"
    limit: int = 100
    offset: int = 0


COLUMNS: Final = ("id", "age", "running", "priority", "operation", "actor", "state", "steps")
"""What tokens can be sorted by."""


@attrs.frozen
class Describe(Message):
    """Tell all of one token."""

    answer: ClassVar[Any] = TokenDescription
    token: int


@attrs.frozen
class Stack(Message):
    """Tell where the code of a token is."""

    answer: ClassVar[Any] = TokenStack
    token: int


@attrs.frozen(kw_only=True)
class OnTokens(Message):
    """Base of the verbs that do something to tokens; the answer has one outcome for each.

    Attributes:
        selector: which tokens; `*` for all. Either this or `ids`.
        ids: which tokens, by number.
        dry_run: only tell which they are.
        force: do it to protected ones, too.
    """

    answer: ClassVar[Any] = tuple[Outcome, ...]
    selector: str = ""
    ids: tuple[int, ...] = ()
    dry_run: bool = False
    force: bool = False


@attrs.frozen(kw_only=True)
class Pause(OnTokens):
    """Hold tokens, queued or running.

    Attributes:
        stop_clock: let the time not count for their time limits.
        wait: seconds to wait for running ones to be paused before answering `pause_requested`; they are paused
            after that all the same.
    """

    stop_clock: bool = False
    wait: float = WAIT


@attrs.frozen(kw_only=True)
class Resume(OnTokens):
    """Let tokens that are held go on."""


@attrs.frozen(kw_only=True)
class Step(OnTokens):
    """Let paused tokens run some steps and hold them again; one that runs is paused first.

    Attributes:
        n: how many; at least 1.
        wait: seconds to wait for that before answering `step_requested`; it goes on after that.
    """

    n: int = 1
    wait: float = WAIT


@attrs.frozen(kw_only=True)
class Terminate(OnTokens):
    """End tokens.

    Attributes:
        mode: how far to go: ask (`cancel`), also raise in Python code that runs (`interrupt`), also leave behind what
            cannot be ended (`kill`). A token in a child process is ended by killing that, at once, in both.
        wait: seconds to wait for the end before telling what was asked for, which goes on after that.
        reason: what the token's error says.
        grace: seconds that code gets to end after `kill` has asked, before it is left behind. With this mode the answer
            comes after the longer one of `wait` and `grace`, or at the end of the last token. Processes get none.
    """

    mode: Mode = "interrupt"
    wait: float = WAIT
    reason: str = "an operator ended it"
    grace: float = 1.0


@attrs.frozen(kw_only=True)
class Renice(OnTokens):
    """Give tokens another priority; higher goes first. A queued one moves at once, to the end of its new lane."""

    priority: int


@attrs.frozen(kw_only=True)
class Retag(OnTokens):
    """Change tags of tokens.

    Attributes:
        set: {tag: its new value}.
        remove: tags to take away.
    """

    set: dict[str, str] = attrs.field(factory=dict)
    remove: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Reroute(OnTokens):
    """Send queued tokens elsewhere, at once; running ones stay where they are.

    Attributes:
        affinity: `io`, `cpu` or `process`, for tokens of operations. Either this or `actor`.
        actor: the path of an actor that has what the token calls.
    """

    affinity: str = ""
    actor: str = ""


NO_LIMIT: Final = "none"
"""What stands for no limit where one could be."""


class Keep(enum.Enum):
    """Stands for a limit that stays as it is, where None would lift it."""

    KEEP = "keep"

    def __repr__(self) -> str:
        return "KEEP"


KEEP: Final = Keep.KEEP


@attrs.frozen(kw_only=True)
class Limit(OnTokens):
    """Set what tokens may use of their child processes, queued or running; what uses more already is ended for it.

    Each limit is a number (bytes, or seconds), or text such as `2GiB` or `5m`; `none` lifts it, and None leaves it as
    it is. See `actors.Limits` for what they mean.

    Attributes:
        memory: bytes of resident memory.
        address_space: bytes of address space.
        cpu_time: seconds of processor time, from the token's beginning.
        wall_time: seconds from the token's beginning.
    """

    memory: float | str | None = None
    address_space: float | str | None = None
    cpu_time: float | str | None = None
    wall_time: float | str | None = None


@attrs.frozen
class Throttle(Message):
    """Let tokens begin only so fast, or only so many at once, until `lift`.

    A second one for a selector replaces the first.

    Attributes:
        selector: whose tokens; `*` for all.
        rate: tokens that may begin in a second; above 0.
        concurrency: tokens that may run at once; at least 1.
    """

    answer: ClassVar[Any] = ThrottleRow
    selector: str
    rate: float | None = None
    concurrency: int | None = None


@attrs.frozen
class Lift(Message):
    """End throttles: of this selector, or all of them (`*`); the answer has those that were ended."""

    answer: ClassVar[Any] = tuple[ThrottleRow, ...]
    selector: str


@attrs.frozen
class Throttles(Message):
    """List the throttles that hold."""

    answer: ClassVar[Any] = tuple[ThrottleRow, ...]


@attrs.frozen
class Actors(Message):
    """List actors and operations.

    Attributes:
        name: a path, the last part of one, or a pattern with `*`; empty for all.
        sample: seconds to watch them for, to learn how busy they are; 0 does not.
    """

    answer: ClassVar[Any] = tuple[ActorRow, ...]
    name: str = ""
    sample: float = 0.0


@attrs.frozen
class Tree(Message):
    """Show the supervision tree, from a path down; the runtime's own part of it only if asked for."""

    answer: ClassVar[Any] = tuple[TreeRow, ...]
    root: str = "/"
    system: bool = False


@attrs.frozen
class Statistics(Message):
    """Count what an actor does, or stop that.

    Attributes:
        name: a path, the last part of one, or a pattern with `*`.
        switch: `on` (counts from nothing), `off`, or `show`.
    """

    answer: ClassVar[Any] = tuple[ActorRow, ...]
    name: str
    switch: Literal["on", "off", "show"] = "show"


@attrs.frozen
class OnActor(Message):
    """Base of the verbs that do something to one actor."""

    answer: ClassVar[Any] = ActorOutcome
    name: str


@attrs.frozen
class Suspend(OnActor):
    """Let an actor, or an operation, begin no more tokens; its control lane is answered."""


@attrs.frozen
class Unsuspend(OnActor):
    """Undo `suspend`."""


@attrs.frozen
class Drain(OnActor):
    """Close the intake of an actor, or an operation, and let it handle the rest; it is not stopped.

    Attributes:
        wait: seconds to wait until the rest has been handled before answering `pending`.
        reopen: undo it instead.
    """

    wait: float = 5.0
    reopen: bool = False


@attrs.frozen
class Restart(OnActor):
    """Have an actor's supervisor end its instance in order and start another.

    Its queue stays, and it counts for no intensity.
    """


@attrs.frozen
class Stop(OnActor):
    """Stop an actor for good, in order.

    Attributes:
        drain: whether it handles all that it has accepted first.
        wait: seconds to wait for its end before answering `pending`.
    """

    drain: bool = True
    wait: float = 5.0


@attrs.frozen
class GetState(Message):
    """Look at the attributes of an actor's instance between two of its steps, as types, sizes and built-in values.

    Attributes:
        name: the actor's.
        wait: seconds after which a busy actor is given up on (`Busy`).
    """

    answer: ClassVar[Any] = ActorState
    name: str
    wait: float = 5.0


@attrs.frozen
class SetState(Message):
    """Set attributes of an actor's instance, between two of its steps, to values of JSON's types."""

    answer: ClassVar[Any] = ActorOutcome
    name: str
    values: dict[str, Any]
    wait: float = 5.0


@attrs.frozen
class Visit(Message):
    """Call a function with an actor's instance, on its own thread or loop, between two of its steps.

    What it returns is the answer, what it raises is the asker's; it is the base of `get_state` and `replace_state` in
    Python, and cannot come through a socket.

    Attributes:
        name: the actor's.
        function: gets the instance.
        wait: seconds after which a busy actor is given up on (`Busy`).
        in_process: called instead of it where the instance is in a child process, if that needs another function.
    """

    answer: ClassVar[Any] = Any
    local: ClassVar[bool] = True
    name: str
    function: Callable[[Any], Any]
    wait: float = 5.0
    in_process: Callable[[Any], Any] | None = None


@attrs.frozen
class OnSupervisor(Message):
    """Base of the verbs for one supervisor."""

    name: str


@attrs.frozen
class WhichChildren(OnSupervisor):
    """List the children of a supervisor, the newest first."""

    answer: ClassVar[Any] = tuple[ChildRow, ...]


@attrs.frozen
class CountChildren(OnSupervisor):
    """Count the children of a supervisor."""

    answer: ClassVar[Any] = ChildCountsRow


@attrs.frozen
class TerminateChild(OnSupervisor):
    """Stop a child of a supervisor, by its id; it stays stopped."""

    answer: ClassVar[Any] = ActorOutcome
    id: str


@attrs.frozen
class RestartChild(OnSupervisor):
    """Start a child of a supervisor that has no instance."""

    answer: ClassVar[Any] = ActorOutcome
    id: str


@attrs.frozen
class DeleteChild(OnSupervisor):
    """Forget a child of a supervisor that has no instance."""

    answer: ClassVar[Any] = ActorOutcome
    id: str


@attrs.frozen
class Stream(Message):
    """Base of what is answered by one `StreamItem` after the other until whoever listens goes."""

    answer: ClassVar[Any] = StreamItem


@attrs.frozen
class Events(Stream):
    """Follow what is published: reports of supervisors, dead letters, blocked loops."""


@attrs.frozen
class Trace(Stream):
    """Follow the tokens of one actor: queued, started, finished; off again when nobody listens.

    Attributes:
        name: a path, the last part of one, or a pattern with `*`.
    """

    name: str


@attrs.frozen
class Watch(Stream):
    """Follow tokens that a selector matches: queued, started, finished."""

    selector: str = ""


def verb_of(message: type[Message]) -> str:
    """Return what a message is called on the wire and as a function: `which_children` for `WhichChildren`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", message.__name__).lower()


_BASES = (Message, OnTokens, OnActor, OnSupervisor, Stream)

VERBS: Mapping[str, type[Message]] = {
    verb_of(found): found
    for found in tuple(globals().values())
    if isinstance(found, type) and issubclass(found, Message) and found not in _BASES
}
"""{verb: its message}."""
