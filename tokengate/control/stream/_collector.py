"""The observers that make records, on the threads where tokens and actors run.

Making a record takes less than a microsecond and waits for nothing: it is appended to a deque, from which the thread of
the stream takes it. Nothing of the token is kept, so that its result is freed as soon as its caller drops it.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import math
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from threading import get_ident
from typing import Any, Final

from actors import ActorRef, ActorSystem, ExitReason, Observer, Token, TokenState
from actors.lowlevel import NO_EXTRAS, NO_TAGS, DurableToken
from tokengate.control._safe_text import class_name, plain
from tokengate.control.stream._kinds import Said, said_by, why_of, words_of
from tokengate.control.stream._record import ENDS, FINISHED, NO_MORE, RETRIED, Happening, Measured, More, Raw, Record

_logger = logging.getLogger("tokengate.stream")

KEPT: Final = 8_192
"""Records that wait for the thread of the stream; then the oldest are lost."""

_HALF: Final = KEPT // 2
OPERATIONS: Final = 200
"""Operations that are counted apart; the rest are counted as `OTHER`."""
OTHER: Final = "_other"

_FEWEST: Final = 4_096  # the largest `every` of a collector whose reader is late

_COMPLETED: Final = TokenState.COMPLETED
_STATES: Final = {"token.queued": "queued", "token.started": "running", "token.paused": "paused"}


class Tally:
    """The exact counts of an operation.

    Attributes:
        completed: is advanced with each token that completes.
        ends: {state: the same}; that of `completed` among them.
        retried: is advanced with each attempt that another one follows.
        ordinary: is advanced with each ordinary record that thinning looks at.
        kept: how far it was advanced when the latest of these was kept.
        slow: the run, in seconds, above which an attempt is not ordinary; written by what knows the operation's p95.
    """

    __slots__ = ("completed", "ends", "kept", "ordinary", "retried", "slow")

    def __init__(self) -> None:
        self.ends = {state: itertools.count() for state in ENDS}
        self.completed = self.ends["completed"]
        self.retried = itertools.count()
        self.ordinary = itertools.count()
        self.kept = 0
        self.slow = math.inf

    def counts(self) -> dict[str, int]:
        """Return how many tokens ended in each state, and how many attempts were `retried`."""
        return {state: read(count) for state, count in self.ends.items()} | {"retried": read(self.retried)}


def read(count: itertools.count[int]) -> int:
    """Return how often a count was advanced, without advancing it."""
    return int(repr(count)[6:-1])  # its pickled form says it, too, but that goes away in Python 3.14


class Collector(Observer):
    """Makes a record at the end of each attempt; `Moments` and `Happenings` have it make others.

    Args:
        system: of the gate.
        run: the opening of the gate.

    Attributes:
        pending: the records that the thread of the stream has not taken yet.
        every: of so many ordinary records one is kept; 1: all.
        thins: whether fewer ordinary records are kept while the thread of the stream is late, so that none of the
            others is lost.
        internal: whether tokens of the runtime itself are recorded.
        trace_of: returns (trace id, span id) of a token that ends, or None; None: there are no traces.
        is_read: whether anything reads what is recorded.
        measured: {token id: what was measured of it}; taken at its end.
    """

    def __init__(self, system: ActorSystem, run: str) -> None:
        self.pending: deque[Raw | Happening] = deque(maxlen=KEPT)
        self.every = 1
        self.thins = False
        self.internal = False
        self.is_read = False
        self.trace_of: Callable[[Token[Any]], tuple[str, str] | None] | None = None
        self.measured: dict[int, Measured] = {}
        self.tallies: dict[str, Tally] = {}
        self._system = system
        self._run = run
        self._numbers = itertools.count(1)
        self._appended = itertools.count()  # apart, so that a record that is on its way is not taken for a lost one
        self._errors = itertools.count()
        self._append = self.pending.append
        self._digests: dict[int, str] = {}  # {id of a token that is failing: digest of its arguments}
        self._sleep = threading.Lock()  # held but for a moment, in which the thread of the stream is to come
        self._sleep.acquire()

    @property
    def made(self) -> int:
        """How many records were made; those that could not be, since that raised, are among them."""
        return self.appended + self.errors

    @property
    def appended(self) -> int:
        """How many records were appended to those that wait."""
        return read(self._appended)

    @property
    def errors(self) -> int:
        """How many records could not be made."""
        return read(self._errors)

    @property
    def latest(self) -> int:
        """The number of the latest record."""
        return read(self._numbers) - 1

    def hurry(self) -> None:
        """Have the thread of the stream come now; it waits for nothing, so any code may call it at any moment."""
        with contextlib.suppress(RuntimeError):  # it is to come already
            self._sleep.release()

    def wait(self, seconds: float) -> None:
        """Wait, on the thread of the stream, until it is to come, for at most so many seconds."""
        self._sleep.acquire(timeout=seconds)

    # Tokens

    def token_failing(self, token: Token[Any], /) -> None:
        if len(self._digests) < KEPT:  # a bound for whatever ends without having been told of that
            self._digests[token.id] = digest_of(token)

    def token_finished(self, token: Token[Any], /) -> None:
        try:
            place, operation, extras = token._place, token.operation, token._extras
            if place.serves_operators and not self.internal:
                self._forget(token)
                return
            try:
                tally = self.tallies[operation]
            except KeyError:
                tally = self.tally(operation)
            queued, started, ended = token.queued_at, token.started_at, token.finished_at
            weight, more, attempt = 1, None, 1
            if token._end is _COMPLETED:
                state = "completed"
                next(tally.completed)
                if (
                    self.every > 1
                    and started is not None
                    and not extras.steered_by
                    and extras.attempt == 1
                    and ended - started < tally.slow  # type: ignore[operator]
                ):
                    looked_at = next(tally.ordinary) + 1
                    if looked_at % self.every:
                        self._forget(token)
                        return
                    # It stands for those since the one before, so that the weights add up while `every` changes. No
                    # other thread comes in between, since nothing is called there.
                    since = looked_at - tally.kept
                    if since > 0:
                        tally.kept = looked_at
                        weight = since
            else:
                state = token.state.value
                next(tally.ends[state])
            trace = None if self.trace_of is None else self.trace_of(token)
            if (
                extras is not NO_EXTRAS
                or token._error is not None
                or type(token) is DurableToken
                or trace is not None
                or (self.measured and token.id in self.measured)
            ):
                more = self._more(token, token._error, token.reason, trace)
                policy, attempt = extras.policy, extras.attempt
                if policy is not None and policy.is_between and started is not None:  # it could not be queued again
                    queued, started = ended, None
            if started is None:
                attempt = 0
            tags = token.tags
            number = next(self._numbers)
            self._append(
                (
                    number, token.id, operation, place.path, place.affinity, token.parent, token.priority,
                    None if tags is NO_TAGS else tags, token.steps, attempt, state, token.created_at, queued,
                    started, ended, get_ident(), weight, FINISHED, more,
                )
            )  # fmt: skip
            next(self._appended)
            if not number & 255 and len(self.pending) > _HALF:
                if self.thins:
                    self.every = min(2 * self.every, _FEWEST)
                self.hurry()
        except Exception:
            self.note_error()

    def token_retried(self, token: Token[Any], error: BaseException, reason: str, /) -> None:
        try:
            next(self.tally(token.operation).retried)
            trace = None if self.trace_of is None else self.trace_of(token)
            more = self._more(token, error, reason, trace)._replace(key=digest_of(token))
            self._put(RETRIED, token, "queued", more)
        except Exception:
            self.note_error()

    def put_moment(self, kind: str, token: Token[Any]) -> None:
        """Record a moment of a token that is no end: `token.queued`, say."""
        try:
            state = _STATES.get(kind) or token.state.value  # others may have changed it meanwhile
            number = token._number
            self._put(kind, token, state, None if number == token.id else More(uid=number))
        except Exception:
            self.note_error()

    def _put(self, kind: str, token: Token[Any], state: str, more: More | None) -> None:
        place, started = token._place, token.started_at
        if place.serves_operators and not self.internal:
            return
        self._keep(
            (
                next(self._numbers), token.id, token.operation, place.path, place.affinity, token.parent,
                token.priority, token.tags, token.steps, 0 if kind == RETRIED and started is None else token.attempt,
                state, token.created_at, token.queued_at, started, self._system.clock(), get_ident(), 1, kind, more,
            )
        )  # fmt: skip

    def _keep(self, item: Raw | Happening) -> None:
        self._append(item)
        next(self._appended)
        if not item[0] & 255 and len(self.pending) > _HALF:
            self.hurry()

    def _forget(self, token: Token[Any]) -> None:
        """Forget what was noted about a token that leaves no record."""
        if self._digests or self.measured:
            self._digests.pop(token.id, None)
            self.measured.pop(token.id, None)

    def _more(self, token: Token[Any], error: BaseException | None, reason: str, trace: tuple[str, str] | None) -> More:
        extras = token._extras
        hold, key = extras.hold, getattr(token, "key", None)
        measured = self.measured.pop(token.id, None)
        cpu, memory, memory_end = (None, None, None) if measured is None else measured.values()
        deadline, forecast = token.deadline, extras.forecast
        return More(
            "" if error is None else class_name(type(error)),
            plain(reason),
            self._digests.pop(token.id, "") if key is None else str(key),
            *(trace or ("", "")),
            *((0.0, 0.0) if hold is None else hold.in_attempt()),
            bool(extras.steered_by),
            0 if (number := token._number) == token.id else number,
            None if deadline is None else deadline - token.created_at,
            cpu, memory, memory_end,
            None,
            *((None, None) if forecast is None else (forecast.features or None, forecast.said)),
        )  # fmt: skip

    def tally(self, operation: str) -> Tally:
        """Return the counts of an operation."""
        found = self.tallies.get(operation)
        if found is None:  # without a lock: two that come at once may make one more than there should be
            name = operation if len(self.tallies) < OPERATIONS else OTHER
            found = self.tallies.setdefault(name, Tally())
        return found

    # What else happens

    def put(
        self,
        kind: str,
        text: str,
        *,
        actor: str = "",
        token: Token[Any] | None = None,
        details: Mapping[str, Any] | None = None,
        about: str = "gate",
    ) -> None:
        """Record something else that has happened, now; nothing is while nobody reads.

        Args:
            kind: `telemetry.lost`, say.
            text: a line that says it.
            actor: path of the actor or operation that it is about.
            token: the one that it is about.
            details: values of the kind, of types that JSON has.
            about: `place` if a caller must be allowed to see the actor, `gate` if the whole gate.
        """
        if not self.is_read:
            return
        now = self._system.clock()
        seen: Record | str = about
        if token is not None:
            place = token._place
            seen = Record(
                0, kind, token.id, token.operation, place.path, place.affinity, token.parent, token.priority,
                token.tags, token.steps, token.attempt, str(token.state.value), token.created_at, token.queued_at,
                token.started_at, now, "", 1, NO_MORE, self._run,
            )  # fmt: skip
            actor = actor or place.path
        self._keep(
            Happening(
                next(self._numbers), kind, now, plain(actor), None if token is None else token.id,
                "" if token is None else plain(token.operation), text, details or {}, seen, self._run,
            )
        )  # fmt: skip

    def put_said(self, said: Said) -> None:
        """Record what a published event says."""
        try:
            token = self._system.live.get(said.token) if isinstance(said.token, int) else said.token
            about = "place" if said.actor else "gate"
            self.put(said.kind, said.text, actor=said.actor, token=token, details=said.details, about=about)
        except Exception:
            self.note_error()

    def note_error(self) -> None:
        if not next(self._errors):  # once, or a log would fill the disk
            _logger.exception("a record could not be made, and counts as lost; this is told once")


class Moments(Observer):
    """Records also that tokens are queued, begin, are paused and resumed; it is there while a reader asks for that.

    Args:
        collector: makes the records.
    """

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def token_queued(self, token: Token[Any], /) -> None:
        self._collector.put_moment("token.queued", token)

    def token_started(self, token: Token[Any], /) -> None:
        self._collector.put_moment("token.started", token)

    def token_paused(self, token: Token[Any], /) -> None:
        self._collector.put_moment("token.paused", token)

    def token_resumed(self, token: Token[Any], /) -> None:
        self._collector.put_moment("token.resumed", token)


class Happenings(Observer):
    """Records what else happens: to actors, with messages that nobody handles, and what is published.

    Args:
        collector: makes the records.
    """

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def actor_started(self, ref: ActorRef[Any], /) -> None:
        path = plain(ref._place.path)
        self._collector.put_said(Said("actor.started", f"actor '{path}' has started", path))

    def actor_ended(self, ref: ActorRef[Any], reason: ExitReason, /) -> None:
        path, why = plain(ref._place.path), why_of(reason)
        self._collector.put_said(Said("actor.ended", f"actor '{path}' has ended: {why}", path, None, {"reason": why}))

    def dead_letter(self, token: Token[Any], reason: BaseException, /) -> None:
        if token.serves_operators and not self._collector.internal:
            return
        why = class_name(type(reason))
        text = f"{words_of(token)} was not handled: {why}"
        self._collector.put_said(Said("token.dead_letter", text, token=token, details={"reason": why}))

    def event(self, event: object, /) -> None:
        try:
            said = said_by(event)
        except Exception:  # a text or a field of an unknown class, say
            self._collector.note_error()
        else:
            self._collector.put_said(said)


_PLAIN: Final = (int, float, bool, str, bytes, type(None))
_LONGEST: Final = 4_096  # characters or bytes of a text, bits of a number
_MOST: Final = 32  # values in an argument


# Of the digests, which would otherwise tell a secret with few possible values to those that try them all.
_KEY: Final = os.urandom(16)


def digest_of(token: Token[Any]) -> str:
    """Return a digest of a token's arguments; empty unless all are of built-in types, and short.

    Equal arguments have equal digests within one process.
    """
    digest = hashlib.blake2b(digest_size=8, key=_KEY)
    left: list[Any] = [token.args, *token.kwargs.items()]
    while left:
        value = left.pop()
        kind = type(value)  # compared by identity, since a metaclass may have an `==` of its own
        if (kind is tuple or kind is list) and len(value) <= _MOST and len(left) <= _MOST:
            digest.update(b"%d:" % len(value))
            left.extend(value)
        elif any(kind is one for one in _PLAIN) and _size(value) <= _LONGEST:
            digest.update(f"{kind.__name__}={value!r};".encode())
        else:
            return ""
    return digest.hexdigest()


def _size(value: Any) -> int:
    return value.bit_length() if type(value) is int else len(value) if type(value) in (str, bytes) else 0
