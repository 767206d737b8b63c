"""Tokens: rows and descriptions, and the verbs for them."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal, TypeAlias

import attrs

from tokengate.control.messages._bases import WAIT, Message, OnTokens


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


COLUMNS: Final = ("id", "age", "running", "priority", "operation", "actor", "state", "steps")
"""What tokens can be sorted by."""


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


@attrs.frozen
class Describe(Message):
    """Tell all of one token."""

    answer: ClassVar[Any] = TokenDescription
    token: int


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


Mode: TypeAlias = Literal["cancel", "interrupt", "kill"]


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
