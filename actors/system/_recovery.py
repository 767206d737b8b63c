"""Recovery from interrupted senders: a task that finds and completes what they have left undone.

A signal handler may raise in the main thread between any two instructions, so also in the middle of a `submit`, a
direct call, a `cancel` or a `spawn`. Each of these works in an order in which an early end leaves something undone but
does no other harm: a token without a drainer, a drainer without a thread, an end that is not written, a place without
an instance. What is undone can be seen from outside, and completing it is idempotent. So the system loop looks for it
now and then and completes it. What another thread may just be about to do is completed only after two looks have found
it undone.
"""

from __future__ import annotations

import logging
import time
from inspect import CO_GENERATOR, CO_OPTIMIZED
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from actors._exceptions import TokenRejected
from actors.concurrency._future import Reply
from actors.concurrency._thread_frames import frames_from, note_reads, thread_frames, variables_of
from actors.kinds._operation_place import Turn
from actors.places._durable_place import enter
from actors.places._place import Place, place_of
from actors.places._ports import PlaceSystem
from actors.tokens._lifecycle import TokenState
from actors.tokens._ports import CallAtDoor
from actors.tokens._token import DurableToken

if TYPE_CHECKING:
    from actors.concurrency._daemon_thread import DaemonThread
    from actors.concurrency._dispatcher import Dispatcher
    from actors.concurrency._pinned_dispatcher import PinnedDispatcher
    from actors.places._actor_place import ActorPlace
    from actors.tokens._token import Token

_logger = logging.getLogger("tokengate.actors")

# Seconds between two looks, while tokens are live and while there are none.
_LOOK: Final = 0.2
_IDLE_LOOK: Final = 0.25

# Maximum number of places in one look.
_PLACES_AT_ONCE: Final = 500

# Tokens that are checked before other tasks of the loop run.
_TOKENS_AT_ONCE: Final = 1_000

# Share of the time that looks at the stacks of all threads, and at all tokens, may take.
_SHARE: Final = 0.01

# Prefixes of the names of modules that make and send tokens.
_SENDERS: Final = ("actors.", "supervisors.", "tokengate.gate.", "tokengate.operations.", "tokengate.policy.")

# Functions in which a thread waits for an outcome: they have the token in a local variable, but do not change it.
_WAITING: Final = (Reply._wait_in_thread.__code__, Reply._wait_for.__code__)

_CREATED, _QUEUED, _PAUSED = TokenState.CREATED, TokenState.QUEUED, TokenState.PAUSED


def _locals(*, waiting: bool) -> list[Any]:
    """Return the values of the local variables of the functions that make, send and run tokens, in other threads.

    The elements of those that are lists are returned as well. Generators are left out: CPython 3.13.0 to 3.13.5 can
    crash when it reads the variables of one that has been dropped since its frame was found. What matters is in the
    variables of the function that calls it as well.

    Args:
        waiting: whether to include functions that only wait for an outcome.
    """
    found: list[Any] = []
    note_reads()
    for innermost in thread_frames().values():
        for frame in frames_from(innermost):
            if not waiting and frame.f_code in _WAITING:
                break
            # No frames of users: reading their variables may run code, or undo what a debugger has just set.
            is_function = frame.f_code.co_flags & (CO_OPTIMIZED | CO_GENERATOR) == CO_OPTIMIZED
            if is_function and str(frame.f_globals.get("__name__")).startswith(_SENDERS):
                for value in variables_of(frame).values():
                    found.append(value)
                    if type(value) is list:
                        found += value
    return found


def _is_at_door(token: Token[Any]) -> bool:
    """Tell whether a token waits for consent, for which its sender has asked."""
    policy = token._extras.policy
    call: CallAtDoor | None = None if policy is None else policy.call
    return call is not None and call.is_filed


def _is_kept_elsewhere(token: Token[Any]) -> bool:
    """Tell whether a token is not to be in a mailbox here: a journal has the one that runs, or writes its end."""
    record = token.record if isinstance(token, DurableToken) else None
    return record is not None and (record.follows or record.is_recording)


class RecoveredSystem(PlaceSystem, Protocol):
    """The system that recovery looks after."""

    @property
    def starts(self) -> set[ActorPlace]: ...

    def places(self) -> list[Place]: ...


class Recovery:
    """The recovery of one system, on its system loop.

    Args:
        system: the owner of the tokens, places, threads and loops.
    """

    def __init__(self, system: RecoveredSystem) -> None:
        self._system = system
        self._unstarted: list[DaemonThread] = []  # threads that had not been started at the latest look
        self._endings: list[Any] = []  # ends that were being written at the latest look
        self._starts: set[ActorPlace] = set()  # places whose start was being requested at the latest look
        self._suspects: set[Token[Any]] = set()  # tokens that were nowhere at the latest full look
        self._turns: set[Turn] = set()  # turns of direct calls that were seen since the latest full look
        self._overdue: set[Turn] = set()  # turns that no thread was in at the latest full look
        self._unseen: list[Place] = []  # places that are left of the present round
        self._look_at_all_at = 0.0  # in seconds of time.monotonic

    def open(self) -> None:
        """Begin to look."""
        self._system.system_host.start_daemon(self._run, "recovery")

    async def _run(self) -> None:
        while True:
            await trio.sleep(_LOOK if self._system.live else _IDLE_LOOK)
            try:
                self.look()
                now = time.monotonic()
                if now >= self._look_at_all_at:
                    used = time.thread_time()
                    await self.look_at_all()
                    used = time.thread_time() - used
                    self._look_at_all_at = now + max(_LOOK, used / _SHARE)
            except Exception:  # nothing may escape: it would cancel the whole loop
                _logger.exception("recovery of '%s' failed; it looks again", self._system.name)

    def look(self) -> None:
        """Look once at the loops, the threads and some of the places."""
        system = self._system
        for host in (system.system_host, system.io_host, *system.asyncio_hosts.all()):
            host.recover()
        dispatchers: list[Dispatcher | PinnedDispatcher] = [system.dispatcher, *system.pinned.dispatchers()]
        for dispatcher in dispatchers:
            dispatcher.recover()
        self._start_threads([thread for one in dispatchers for thread in one.unstarted()])
        system.processes.recover()
        self._write_endings()
        self._recover_starts()
        self._look_at_places()

    def _start_threads(self, unstarted: list[DaemonThread]) -> None:
        """Start the threads that were unstarted at the latest look, too."""
        for thread in unstarted:
            if thread in self._unstarted:
                try:
                    thread.begin()
                except RuntimeError as error:
                    _logger.warning("%s could not be started: %s", thread.name, error)
        self._unstarted = unstarted

    def _write_endings(self) -> None:
        """Complete ends of tokens that were begun before the latest look, by code that no longer runs."""
        system = self._system
        stuck = [ending for ending in self._endings if any(ending is one for one in system.endings)]
        if stuck:
            held = {id(value) for value in _locals(waiting=False)}
            stuck = [ending for ending in stuck if id(ending) not in held]
        self._endings = list(system.endings)
        for ending in stuck:
            token, state, value, error = ending
            token._finish_after_all(state, value, error)
            system.endings.remove(ending)

    def _recover_starts(self) -> None:
        """Complete or undo the starts that were being requested at the latest look, by code that no longer runs."""
        starts = self._system.starts
        stuck = [place for place in self._starts if place in starts]
        if stuck:
            held = {id(value) for value in _locals(waiting=True)}
            stuck = [place for place in stuck if id(place) not in held]
        for place in stuck:
            place.recover_start()
            starts.discard(place)
        self._starts = set(starts)

    def _look_at_places(self) -> None:
        if not self._unseen:
            self._unseen = self._system.places()
        for _ in range(min(len(self._unseen), _PLACES_AT_ONCE)):
            self._turns.update(one for one in self._unseen.pop().recover() if isinstance(one, Turn))

    def _look_at_turns(self) -> None:
        """Find the turns of direct calls that no thread is in, and end them."""
        turns = {turn for turn in self._turns if turn.at_work}
        self._turns.clear()
        held = {id(value) for value in _locals(waiting=True)} if turns else set()
        overdue = {turn for turn in turns if id(turn) not in held}
        for turn in overdue & self._overdue:
            turn.give_up()
        self._overdue = overdue

    async def look_at_all(self) -> None:
        """Look once at the direct calls and at all tokens; other tasks of the loop run in between."""
        self._look_at_turns()
        nowhere = await self._nowhere()
        for token in nowhere & self._suspects:
            self._end_lost(token)
        self._suspects = nowhere

    async def _nowhere(self) -> set[Token[Any]]:
        """Return the tokens that no sender, mailbox or drainer has."""
        system = self._system
        suspects: list[Token[Any]] = []
        queued: dict[Place, list[Token[Any]]] = {}
        for number, token in enumerate(list(system.live.values())):
            run = token._run
            if run is not None:
                if run._done:  # an end of the others that was interrupted goes on
                    run._run_callbacks()
            elif token._phase is _QUEUED or (token._phase is _PAUSED and token.started_at is None):
                queued.setdefault(place_of(token), []).append(token)
            elif token._phase is _CREATED and token not in system.senders:
                suspects.append(token)
            if number % _TOKENS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        for place, tokens in queued.items():
            if len(tokens) > place.mailbox.size:
                there = place.mailbox.tokens()
                suspects += (
                    token
                    for token in tokens
                    if token not in there
                    and not (place.drain.has_taken(token) or _is_at_door(token) or _is_kept_elsewhere(token))
                )
                await trio.lowlevel.checkpoint()
        held = {id(value) for value in _locals(waiting=False)} if suspects else set()
        return {token for token in suspects if id(token) not in held and token.started_at is None and not token._done}

    @staticmethod
    def _end_lost(token: Token[Any]) -> None:
        """End a token that an interrupted call has left nowhere: running it now might be too late."""
        if isinstance(token, DurableToken) and token.record is not None and token.record.is_accepted:
            enter(token)  # its acceptance is on disk
        elif token._phase is _CREATED:
            error = TokenRejected(f"{token._describe()} was not sent: its sender was interrupted by a signal handler")
            place_of(token).reject(token, error)
        else:
            token._terminate(token._extras.cancel_requested or "its sender was interrupted by a signal handler")
