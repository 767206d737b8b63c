"""The control actor: receives the vocabulary of `messages.py`, and answers while everything else is on fire.

It lives on the system loop, in the runtime's own tree. Each question is a task of its own beside the mailbox, so one that
takes its time (a pause that waits, a long list) holds up no other. It runs no code of users: whatever could do so (a `repr`,
a comparison, a hook) is left out or done elsewhere.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import trio

from actors import (
    SYSTEM,
    ActorDead,
    ActorPlace,
    ActorRef,
    Drain as PlaceDrain,
    IoActor,
    IoDrain,
    Later,
    OperationPlace,
    Place,
    Reply,
    Throttle,
    Token,
    TokenGateError,
    Visit as VisitSignal,
)
from supervisors import DynamicSupervisor, Supervisor
from tokengate.control import _looking, _steering, messages as m
from tokengate.control._counting import Counts
from tokengate.control._exceptions import BadRequest, Busy, ControlError, NotSteerable
from tokengate.control._selector import Selector, parse
from tokengate.control._server import ControlServer
from tokengate.control._stacks import stack_of
from tokengate.control._steering import Outcome, Pending
from tokengate.control._streams import Feed, Feeds
from tokengate.control._views import attributes_of, class_name, page_of

if TYPE_CHECKING:
    from tokengate._gate import Gate

_logger = logging.getLogger("tokengate.control")

# Seconds that an answer may be made to wait for, by whoever asks.
_LONGEST_WAIT = 3600.0


class ControlActor(IoActor):
    """Answers questions about a gate, and does what operators ask.

    Args:
        gate: which.
        socket: whether it also answers on a unix socket.
    """

    expected: ClassVar[tuple[type[BaseException], ...]] = (TokenGateError,)
    controllable: ClassVar[bool] = False
    serves_operators: ClassVar[bool] = True

    def __init__(self, gate: Gate, socket: bool) -> None:
        super().__init__()
        self._gate = gate
        self._system = gate.system
        self._jobs: set[trio.CancelScope] = set()
        self._counts = Counts(self._system)
        self._feeds = Feeds(self._system)
        self._throttles: dict[str, Throttle] = {}  # {selector in its normal form: throttle}
        self._pursuit = _steering.Pursuit(self._system.system_host.start_task)
        self._server = ControlServer(gate.name, self) if socket else None
        self._serving = trio.CancelScope()
        self._served: Reply[None] = Reply()

    @classmethod
    def _make_drain(cls, place: ActorPlace) -> PlaceDrain:
        return IoDrain(place, place.system.system_host, cls.throughput, cls.throughput_deadline)

    # Hooks

    async def on_start(self) -> None:  # type: ignore[override]
        for throttle in self._system.throttles.all():  # of an instance before this one
            self._throttles[throttle.name] = throttle
        if self._server is not None:
            self._gate.control_server = self._server
            listening: Reply[None] = Reply()
            self._system.system_host.start_task(lambda: self._serve(listening), "control socket")
            await listening.wait()

    async def on_stop(self) -> None:  # type: ignore[override]
        self._counts.close()
        self._feeds.close()
        for job in list(self._jobs):
            job.cancel()
        self._serving.cancel()
        if self._server is not None:
            await self._served.wait()

    async def on_failure(self, *_error: object) -> None:  # type: ignore[override]
        await self.on_stop()

    async def _serve(self, listening: Reply[None]) -> None:
        """Serve the socket; without one, the gate goes on, and says why."""
        assert self._server is not None
        try:
            with self._serving:
                await self._server.serve(task_status=_Status(listening))
        except (OSError, ControlError, ValueError) as error:
            _logger.warning("gate '%s' has no control socket: %s", self._gate.name, error)
        finally:
            listening._set()
            self._served._set()

    # The ways in

    def on_receive(self, message: object) -> Any:
        """Answer a message of the vocabulary."""
        handler = _HANDLERS.get(type(message))
        if handler is None:
            raise BadRequest(
                f"control knows no message of class {class_name(type(message))}; see tokengate.control.messages"
            )
        return self._begin(lambda: handler(self, message))

    async def ask(self, message: m.Message) -> Any:
        """Answer a question that came by the socket."""
        return await self.actor_ref.call(message)

    @asynccontextmanager
    async def follow(self, stream: m.Stream) -> AsyncGenerator[Feed]:
        """Answer one with many answers."""
        feed: Feed = await self.actor_ref.call(stream)
        try:
            yield feed
        finally:
            feed.close()

    def _begin(self, job: Callable[[], Awaitable[Any]]) -> Later[Any]:
        answer: Later[Any] = Later()
        scope = trio.CancelScope()

        async def do() -> None:
            try:
                with scope:
                    answer._set(await job())
                if not answer.done():
                    answer._set(error=ActorDead("control is stopping"))
            except TokenGateError as error:
                answer._set(error=error)
            except Exception as error:
                _logger.exception("control could not answer")
                answer._set(
                    error=ControlError(f"control could not answer, by a fault of its own: {class_name(type(error))}")
                )
            finally:
                self._jobs.discard(scope)
                answer._set(error=ActorDead("control was stopped before it answered"))

        self._jobs.add(scope)
        self._system.system_host.start_task(do, "answer of control")
        return answer

    # Looking

    async def _info(self, _message: m.Info) -> m.GateInfo:
        return _looking.gate_info(self._system, self._gate.state, self._gate.uptime, lambda: self._gate.restarts)

    async def _tokens(self, message: m.Tokens) -> m.TokenPage:
        return await page_of(
            lambda: _looking.live_tokens(self._system),
            parse(message.selector),
            message.sort,
            message.limit,
            message.offset,
            self._system.clock(),
        )

    async def _describe(self, message: m.Describe) -> m.TokenDescription:
        return await _looking.describe(self._system, _looking.find_token(self._system, message.token))

    async def _stack(self, message: m.Stack) -> m.TokenStack:
        return await stack_of(_looking.find_token(self._system, message.token))

    async def _actors(self, message: m.Actors) -> tuple[m.ActorRow, ...]:
        places = _looking.places_called(self._system, message.name)
        return await _looking.actor_rows(places, self._counts, _seconds("sample", message.sample))

    async def _tree(self, message: m.Tree) -> tuple[m.TreeRow, ...]:
        return _looking.tree_rows(self._system, message.root, own=message.system)

    async def _statistics(self, message: m.Statistics) -> tuple[m.ActorRow, ...]:
        places = _looking.places_called(self._system, message.name)
        for place in places:
            if message.switch == "on":
                self._counts.switch_on(place)
            elif message.switch == "off":
                self._counts.switch_off(place)
        return await _looking.actor_rows(places, self._counts, 0.0)

    # Following

    async def _events(self, _message: m.Events) -> Feed:
        return self._feeds.events()

    async def _trace(self, message: m.Trace) -> Feed:
        return self._feeds.trace(set(_looking.places_called(self._system, message.name)))

    async def _watch(self, message: m.Watch) -> Feed:
        selector, clock = parse(message.selector), self._system.clock
        return self._feeds.tokens(lambda token: selector.matches(token, clock()))

    # Steering tokens

    async def _on_tokens(
        self, message: m.OnTokens, verb: str, act: Callable[[Token[Any]], Outcome | Pending], *, guarded: bool = False
    ) -> tuple[Outcome, ...]:
        """Do something to each token that a message is for, and tell what came of it."""
        wait = _seconds("wait", getattr(message, "wait", 0.0))
        steps: list[Outcome | Pending] = []
        for token in await self._select(message):
            if isinstance(token, Outcome):
                steps.append(token)
                continue
            refusal = _steering.forbidden(token, verb, force=message.force, guarded=guarded)
            if refusal is not None:
                steps.append(refusal)
            elif message.dry_run:
                steps.append(_steering.outcome(token, "would"))
            else:
                steps.append(act(token))
            if len(steps) % 500 == 0:
                await trio.lowlevel.checkpoint()
        return await _steering.settle(steps, wait)

    async def _select(self, message: m.OnTokens) -> list[Token[Any] | Outcome]:
        if bool(message.selector) == bool(message.ids):
            raise BadRequest("give either ids of tokens or a selector; '*' is the selector for all")
        if message.ids:
            live = self._system.live
            return [live.get(id) or _steering.unknown(self._system, id) for id in dict.fromkeys(message.ids)]
        selector, now = parse(message.selector), self._system.clock()
        found: list[Token[Any] | Outcome] = []
        for chunk in _steering.chunks(_looking.live_tokens(self._system)):
            found.extend(token for token in chunk if selector.matches(token, now))
            await trio.lowlevel.checkpoint()
        return found

    async def _pause(self, message: m.Pause) -> tuple[Outcome, ...]:
        return await self._on_tokens(
            message,
            "pause",
            lambda token: _steering.pause(self._pursuit, token, stop_clock=message.stop_clock),
            guarded=True,
        )

    async def _resume(self, message: m.Resume) -> tuple[Outcome, ...]:
        return await self._on_tokens(message, "resume", _steering.resume)

    async def _step(self, message: m.Step) -> tuple[Outcome, ...]:
        if message.n < 1:
            raise BadRequest(f"n is {message.n}; it must be an int of at least 1")
        # One that runs is paused first, so that its steps are counted from where it stands.
        running = [token.id for token in await self._select(message) if isinstance(token, Token) and _runs_free(token)]
        if running and not message.dry_run:
            await self._pause(m.Pause(ids=tuple(running), force=message.force, wait=message.wait))
        return await self._on_tokens(
            message, "step", lambda token: _steering.step(self._pursuit, token, message.n), guarded=True
        )

    async def _terminate(self, message: m.Terminate) -> tuple[Outcome, ...]:
        return await self._on_tokens(
            message,
            "end",
            lambda token: _steering.terminate(self._pursuit, token, message.mode, message.reason),
            guarded=True,
        )

    async def _renice(self, message: m.Renice) -> tuple[Outcome, ...]:
        return await self._on_tokens(message, "renice", lambda token: _steering.renice(token, message.priority))

    async def _retag(self, message: m.Retag) -> tuple[Outcome, ...]:
        if not message.set and not message.remove:
            raise BadRequest("retag needs tags to set or to remove")
        return await self._on_tokens(
            message, "retag", lambda token: _steering.retag(token, message.set, message.remove)
        )

    async def _reroute(self, message: m.Reroute) -> tuple[Outcome, ...]:
        if bool(message.affinity) == bool(message.actor):
            raise BadRequest("reroute needs either an affinity ('io', 'cpu') or an actor")
        if message.affinity not in ("", "io", "cpu"):
            raise BadRequest(f"affinity is '{message.affinity}'; choose 'io' or 'cpu'")
        target = _looking.actor_called(self._system, message.actor) if message.actor else None

        def act(token: Token[Any]) -> Outcome:
            if target is not None:
                return _steering.reroute(token, target)
            place = token._place
            if not isinstance(place, OperationPlace):
                return _steering.outcome(token, "refused", "only tokens of operations have a choice of affinity")
            try:
                return _steering.reroute(token, self._gate.place_with(place, message.affinity))
            except TokenGateError as error:
                return _steering.outcome(token, "refused", str(error))

        return await self._on_tokens(message, "reroute", act)

    # Throttles

    async def _throttle(self, message: m.Throttle) -> m.ThrottleRow:
        selector = _for_throttle(message.selector)
        rate, most = message.rate, message.concurrency
        if rate is None and most is None:
            raise BadRequest("a throttle needs a rate (tokens per second) or a concurrency; 'lift' ends one")
        if rate is not None and not 0 < rate < math.inf:
            raise BadRequest(f"rate is {rate}; it must be a number above 0; 'suspend' holds an actor altogether")
        if most is not None and most < 1:
            raise BadRequest(f"concurrency is {most}; it must be an int of at least 1")
        clock = self._system.clock
        new = Throttle(selector.text, lambda token: selector.matches(token, clock()), rate, most)
        self._system.throttle(new)  # first the new one, so that nothing slips through
        old = self._throttles.pop(selector.text, None)
        if old is not None:
            self._system.unthrottle(old)
        self._throttles[selector.text] = new
        return _throttle_row(new)

    async def _lift(self, message: m.Lift) -> tuple[m.ThrottleRow, ...]:
        every = message.selector.strip() == "*"
        text = "" if every else _for_throttle(message.selector).text
        lifted = []
        for name, throttle in list(self._throttles.items()):
            if every or name == text:
                del self._throttles[name]
                lifted.append(_throttle_row(throttle))
                self._system.unthrottle(throttle)
        if not lifted and not every:
            known = ", ".join(f"'{name}'" for name in self._throttles) or "none"
            raise BadRequest(f"there is no throttle for '{text}'; those that hold: {known}")
        return tuple(lifted)

    async def _throttle_rows(self, _message: m.Throttles) -> tuple[m.ThrottleRow, ...]:
        return tuple(_throttle_row(throttle) for throttle in self._throttles.values())

    # Steering actors

    async def _suspend(self, message: m.Suspend) -> m.ActorOutcome:
        place = self._steerable(message.name)
        return _done(place, place.suspend(), "it was suspended already")

    async def _unsuspend(self, message: m.Unsuspend) -> m.ActorOutcome:
        place = self._steerable(message.name)
        return _done(place, place.unsuspend(), "nobody had suspended it")

    async def _drain(self, message: m.Drain) -> m.ActorOutcome:
        place = self._steerable(message.name)
        wait = _seconds("wait", message.wait)
        if message.reopen:
            return _done(place, place.accept_again(), "it was not drained")
        if not place.drain_off() and not place.drained:
            return m.ActorOutcome(place.path, "unchanged", "it accepts nothing anyway: it has stopped")
        with trio.move_on_after(wait):
            while left := place.mailbox.size + len(place.drain.running()):
                await trio.sleep(0.005)
            return m.ActorOutcome(place.path, "done", "it has handled all, and accepts nothing; 'reopen' undoes that")
        return m.ActorOutcome(place.path, "pending", f"{left} tokens are left, and nothing new is accepted")

    async def _restart(self, message: m.Restart) -> m.ActorOutcome:
        place = self._actor(message.name)
        above = place.system.find(place.path.rpartition("/")[0] or "/") if place.path != "/" else None
        supervisor = above.instance if isinstance(above, ActorPlace) else None
        if not isinstance(above, ActorPlace) or not isinstance(supervisor, (Supervisor, DynamicSupervisor)):
            raise NotSteerable(f"'{place.path}' has no supervisor that could restart it")
        before = place.starts
        await _call(above.ref, "renew_child", place.ref)
        if place.starts == before:
            return m.ActorOutcome(place.path, "unchanged", "it declined to start")
        return m.ActorOutcome(place.path, "done", f"its instance is number {place.starts}")

    async def _stop(self, message: m.Stop) -> m.ActorOutcome:
        place = self._actor(message.name)
        if place.path == "/":
            raise NotSteerable("the root of the tree stops with its gate; use gate.request_stop(), or a signal")
        wait = _seconds("wait", message.wait)
        if place.without_instance() or place.closed:
            return m.ActorOutcome(place.path, "unchanged", "it had stopped before")
        supervisor = isinstance(place.instance, (Supervisor, DynamicSupervisor))
        stopped = place.stop(drain=message.drain and not supervisor, administrative=True)
        with trio.move_on_after(wait):
            reason = await stopped
            return m.ActorOutcome(place.path, "done", f"it has ended: {reason}")
        return m.ActorOutcome(place.path, "pending", f"it is stopping; {place.mailbox.size} tokens are left")

    async def _visit(self, message: m.Visit) -> Any:
        return await self._visited(self._actor(message.name), message.function, message.wait)

    async def _get_state(self, message: m.GetState) -> m.ActorState:
        place = self._actor(message.name)
        # A copy, made where the actor's code runs: the attributes themselves are only looked at.
        values = await self._visited(place, _attributes, message.wait)
        return m.ActorState(place.path, _looking.kind_of(place.actor_class), attributes_of(values))

    async def _set_state(self, message: m.SetState) -> m.ActorOutcome:
        place = self._actor(message.name)
        values = message.values
        if not values:
            raise BadRequest("set_state needs attributes to set")
        private = [name for name in values if name.startswith("_")]
        if private:
            raise NotSteerable(f"'{private[0]}' is private to '{place.path}'; only its own code may set it")

        def put(instance: Any) -> None:
            for name, value in values.items():
                setattr(instance, name, value)

        await self._visited(place, put, message.wait)
        return m.ActorOutcome(place.path, "done", ", ".join(sorted(values)))

    async def _visited(self, place: ActorPlace, function: Callable[[Any], Any], wait: float) -> Any:
        reply: Reply[Any] = Reply()
        seconds = _seconds("wait", wait)
        place.signal(VisitSignal(function, reply))
        with trio.move_on_after(seconds):
            await reply.wait()
        if not reply.done():
            names = ", ".join(f"token {token.id} ({token.operation})" for token in place.drain.running())
            busy = f"it is at work on {names}" if names else f"it is {place.status}"
            reply._set(error=Busy(f"actor '{place.path}' had no time within {seconds:g} s: {busy}"))
        error = reply.exception()
        if error is not None and not isinstance(error, TokenGateError):
            kind = class_name(type(error))
            raise ControlError(f"what was to be done in actor '{place.path}' raised {kind}") from error
        return reply.result()

    # Supervisors

    async def _which_children(self, message: m.WhichChildren) -> tuple[m.ChildRow, ...]:
        return tuple(
            m.ChildRow(
                child.id,
                child.path,
                str(child.status),
                child.restart,
                child.restarts,
                child.significant,
                child.supervisor,
            )
            for child in self._supervisor(message.name)[1].which_children()
        )

    async def _count_children(self, message: m.CountChildren) -> m.ChildCountsRow:
        counts = self._supervisor(message.name)[1].count_children()
        return m.ChildCountsRow(counts.specs, counts.active, counts.restarting, counts.supervisors, counts.workers)

    async def _terminate_child(self, message: m.TerminateChild) -> m.ActorOutcome:
        place, _ = self._supervisor(message.name)
        await _call(place.ref, "terminate_child", message.id)
        return m.ActorOutcome(f"{place.path}/{message.id}", "done", "it has stopped")

    async def _restart_child(self, message: m.RestartChild) -> m.ActorOutcome:
        place, supervisor = self._supervisor(message.name)
        if isinstance(supervisor, DynamicSupervisor):
            raise NotSteerable(f"'{place.path}' is dynamic: a child that has stopped is forgotten")
        await _call(place.ref, "restart_child", message.id)
        return m.ActorOutcome(f"{place.path}/{message.id}", "done", "it has started")

    async def _delete_child(self, message: m.DeleteChild) -> m.ActorOutcome:
        place, supervisor = self._supervisor(message.name)
        if isinstance(supervisor, DynamicSupervisor):
            raise NotSteerable(f"'{place.path}' is dynamic: a child that has stopped is forgotten")
        await _call(place.ref, "delete_child", message.id)
        return m.ActorOutcome(f"{place.path}/{message.id}", "done", "it is forgotten")

    def _supervisor(self, name: str) -> tuple[ActorPlace, Supervisor | DynamicSupervisor]:
        place = self._actor(name)
        instance = place.instance
        if not isinstance(instance, (Supervisor, DynamicSupervisor)):
            raise NotSteerable(f"'{place.path}' is no supervisor that runs; it is {place.status}")
        return place, instance

    def _steerable(self, name: str) -> Place:
        """Return the place of an actor or an operation that operators may hold up."""
        place = self._system.find(name)
        if not place.controls.controllable:
            raise NotSteerable(
                f"'{place.path}' is not controllable: it is a supervisor, or its class does not allow it"
            )
        return place

    def _actor(self, name: str) -> ActorPlace:
        place = _looking.actor_called(self._system, name)
        if place.path.startswith(SYSTEM):
            raise NotSteerable(f"'{place.path}' is the runtime's own")
        return place


_HANDLERS: Mapping[type, Callable[[ControlActor, Any], Awaitable[Any]]] = {
    m.Info: ControlActor._info,
    m.Tokens: ControlActor._tokens,
    m.Describe: ControlActor._describe,
    m.Stack: ControlActor._stack,
    m.Pause: ControlActor._pause,
    m.Resume: ControlActor._resume,
    m.Step: ControlActor._step,
    m.Terminate: ControlActor._terminate,
    m.Renice: ControlActor._renice,
    m.Retag: ControlActor._retag,
    m.Reroute: ControlActor._reroute,
    m.Throttle: ControlActor._throttle,
    m.Lift: ControlActor._lift,
    m.Throttles: ControlActor._throttle_rows,
    m.Actors: ControlActor._actors,
    m.Tree: ControlActor._tree,
    m.Statistics: ControlActor._statistics,
    m.Suspend: ControlActor._suspend,
    m.Unsuspend: ControlActor._unsuspend,
    m.Drain: ControlActor._drain,
    m.Restart: ControlActor._restart,
    m.Stop: ControlActor._stop,
    m.GetState: ControlActor._get_state,
    m.SetState: ControlActor._set_state,
    m.Visit: ControlActor._visit,
    m.WhichChildren: ControlActor._which_children,
    m.CountChildren: ControlActor._count_children,
    m.TerminateChild: ControlActor._terminate_child,
    m.RestartChild: ControlActor._restart_child,
    m.DeleteChild: ControlActor._delete_child,
    m.Events: ControlActor._events,
    m.Trace: ControlActor._trace,
    m.Watch: ControlActor._watch,
}


class _Status:
    """What the server tells that it listens."""

    def __init__(self, listening: Reply[None]) -> None:
        self._listening = listening

    def started(self, _value: object = None) -> None:
        self._listening._set()


async def _call(supervisor: ActorRef[Any], method: str, *args: object) -> Any:
    """Have a supervisor do something, as a token like everybody's."""
    token: Token[Any] = getattr(supervisor.proxy(), method)(*args)
    return await token


def _runs_free(token: Token[Any]) -> bool:
    """Tell whether a token runs and nobody holds it."""
    return token.started_at is not None and (token._hold is None or not token._hold.word)


def _attributes(instance: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(instance).items() if not name.startswith("_")}


def _seconds(field: str, value: float) -> float:
    if not 0 <= value <= _LONGEST_WAIT:
        raise BadRequest(f"{field} is {value}; it must be a number of seconds from 0 to {_LONGEST_WAIT:g}")
    return value


def _for_throttle(text: str) -> Selector:
    """Read the selector of a throttle, which is asked at the moment at which a token begins."""
    if not text.strip():
        raise BadRequest("a throttle needs a selector; '*' is the one for all tokens")
    return parse(text)


def _throttle_row(throttle: Throttle) -> m.ThrottleRow:
    running, waiting = len(throttle.let), len(throttle.waiting)
    return m.ThrottleRow(throttle.name, throttle.rate, throttle.concurrency, running, waiting)


def _done(place: Place, done: bool, otherwise: str) -> m.ActorOutcome:
    return m.ActorOutcome(place.path, "done") if done else m.ActorOutcome(place.path, "unchanged", otherwise)
