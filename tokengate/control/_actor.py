"""The control actor: receives the messages of control, and keeps answering while user code blocks or spins.

It lives on the system loop, in the runtime's own tree. Each message is answered by a task of its own beside the
mailbox, so a slow one (a pause that waits, a long list) delays no other, and long ones take turns (`_turns.py`). It
runs no user code: anything that could do so (a `repr`, a comparison, a hook) is left out or done elsewhere.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ClassVar, Final, cast

import attrs
import trio

from actors import ActorDead, ActorRef, Guard, IoActor, Later, Reply, TokenGateError
from actors.lowlevel import ActorPlace, Drain, IoDrain, Jobs
from tokengate.control import messages as m
from tokengate.control._admission import Admission, Authorizer, Caller
from tokengate.control._exceptions import ControlError
from tokengate.control._ports import ControlledGate
from tokengate.control._safe_text import class_name
from tokengate.control._validation import checked
from tokengate.control.inspection._counters import Counts
from tokengate.control.inspection._feeds import Feed, Feeds
from tokengate.control.inspection._health import HealthVerb
from tokengate.control.inspection._turns import Job, Turns, job_at_work
from tokengate.control.inspection._verbs import QueryVerbs
from tokengate.control.registry._kinds import answers_of, unanswered
from tokengate.control.registry._plugin import Plugin
from tokengate.control.steering._actors import ActorVerbs
from tokengate.control.steering._policies import PolicyVerbs
from tokengate.control.steering._supervisors import SupervisorVerbs
from tokengate.control.steering._throttles import ThrottleVerbs
from tokengate.control.steering._tokens import TokenVerbs
from tokengate.control.steering._transactions import TransactionVerbs
from tokengate.control.transport._server import ControlServer

_logger = logging.getLogger("tokengate.control")


@attrs.frozen(eq=False)
class _Asked:
    """A message, the job that answers it, and its sender."""

    message: object
    job: Job | None  # None: one of the program
    caller: Caller


class ControlActor(IoActor):
    """Answers the messages of control for one gate.

    Args:
        gate: the gate.
        socket: whether it also serves a unix socket.
        authorizer: decides about each message.
        plugins: of the gate; each may answer messages of its own.
        answering: returns the objects that answer these.
    """

    expected: ClassVar[tuple[type[BaseException], ...]] = (TokenGateError,)
    guard: ClassVar[Guard] = "never"
    serves_operators: ClassVar[bool] = True

    def __init__(
        self,
        gate: ControlledGate,
        socket: bool,
        authorizer: Authorizer,
        plugins: Sequence[Plugin] = (),
        answering: Callable[[], Iterable[object]] = tuple,
    ) -> None:
        super().__init__()
        self._gate = gate
        self._system = gate._open_system
        self._authorizer = authorizer
        self._process = Caller("process", os.geteuid())
        self._jobs = Jobs(self._system.system_host)
        self._turns = Turns()
        self._program = self._turns.lane()
        self._counts = Counts(self._system)
        assert gate._stream is not None  # it is open
        self._stream = gate._stream
        self._feeds = Feeds(self._stream, self._system)
        rooms = (
            QueryVerbs(gate, self._counts, self._feeds),
            HealthVerb(gate, authorizer.health, plugins),
            TokenVerbs(gate),
            ThrottleVerbs(self._system),
            PolicyVerbs(gate, authorizer.prepare),
            TransactionVerbs(gate),
            ActorVerbs(self._system),
            SupervisorVerbs(self._system),
            *authorizer.answers(self._perform, self._answer),
            *answering(),
        )
        self._answers = answers_of(rooms, plugins)
        self._server = (
            ControlServer(gate.name, self, refusal=authorizer.refusal, turns=self._turns, group=gate._socket_group)
            if socket
            else None
        )
        self._serving = trio.CancelScope()
        self._served: Reply[None] = Reply()

    @classmethod
    def _make_drain(cls, place: ActorPlace) -> Drain:
        return IoDrain(place, place.system.system_host, cls.throughput, cls.throughput_deadline)

    # Hooks

    async def on_start(self) -> None:  # type: ignore[override]
        if self._server is not None:
            self._gate._control_server = self._server
            listening: Reply[None] = Reply()
            self._system.system_host.start_task(lambda: self._serve(listening), "control socket")
            await listening.wait()

    async def on_stop(self) -> None:  # type: ignore[override]
        self._counts.close()
        self._feeds.close()
        self._jobs.cancel_here()
        self._serving.cancel()
        if self._server is not None:
            await self._served.wait()

    async def on_failure(self, *_error: object) -> None:  # type: ignore[override]
        await self.on_stop()

    async def _serve(self, listening: Reply[None]) -> None:
        """Serve the socket; if that fails, log why, and the gate works without."""
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
        """Answer a message of control."""
        # No attribute of the message is used before the check: its class may be a user's.
        asked = message if type(message) is _Asked else _Asked(message, None, self._process)
        question = checked(asked.message)
        job = asked.job or self._program.job()
        return self._begin(job, partial(self._answer, question, asked.caller), theirs=type(question) is m.Visit)

    async def _answer(
        self, message: m.Message[Any], caller: Caller, admitted: Callable[[Admission], None] | None = None
    ) -> Any:
        """Answer a message, if its sender may send it; the function is called with its admission."""
        if type(message) not in self._answers:
            raise unanswered(type(message))
        admission = await self._authorizer.admit(message, caller)
        if admitted is not None:
            admitted(admission)
        return await self._perform(admission.message, admission)

    async def _perform(self, message: m.Message[Any], admission: Admission) -> Any:
        """Answer a message that was admitted."""
        if admission.answer is not None:
            return admission.answer
        answer, error = None, None
        before = admission.enter()
        try:
            answer = await self._answers[type(message)](message)
            if isinstance(message, m.Stream):
                admission.on_change(answer)
            elif message.changes:
                self._note_act(message, answer, admission.caller)
        except BaseException as raised:
            error = raised
            raise
        finally:
            admission.leave(before)
            admission.done(answer, error)
        return answer

    def _note_act(self, message: m.Message[Any], answer: object, caller: Caller) -> None:
        """Record that a verb has changed something, if it has."""
        number, actor = (0, "") if getattr(message, "dry_run", False) else _changed_by(answer)
        if number:
            verb = m.verb_of(type(message))
            details = {"verb": verb, "caller": caller.principal, "via": caller.via, "targets": number}
            what = f" of '{actor}'" if actor else f" of {number:,} token{'s' * (number != 1)}"
            text = f"{caller.principal} has done '{verb}'{what if actor or isinstance(message, m.OnTokens) else ''}"
            about = "place" if actor else "gate"
            self._stream.collector.put("control.acted", text, actor=actor, details=details, about=about)

    async def ask(self, message: m.Message[Any], caller: Caller) -> Any:
        """Answer a message that came through the socket; when this is cancelled, stop the job."""
        job = job_at_work() or self._program.job()
        try:
            return await self.actor_ref.call(_Asked(message, job, caller))
        except trio.Cancelled:
            job.scope.cancel()
            raise

    @asynccontextmanager
    async def follow(self, stream: m.Stream, caller: Caller) -> AsyncGenerator[Feed[Any]]:
        """Answer a message with many answers."""
        feed: Feed[Any] = await self.ask(stream, caller)
        try:
            yield feed
        finally:
            feed.close()

    def _begin(self, job: Job, work: Callable[[], Awaitable[Any]], *, theirs: bool) -> Later[Any]:
        """Answer a message in a task beside the mailbox.

        Args:
            job: has the turns of this answer.
            work: returns the answer.
            theirs: whether an error that is not one of ours comes from the caller's function, and is raised there.
        """
        answer: Later[Any] = Later()

        async def do() -> None:
            try:
                with job.scope, job.at_work():
                    if not job.begun:
                        await job.turn()
                    if not job.scope.cancel_called:
                        answer._set(await work())
            except trio.Cancelled:  # the loop ends
                raise
            except TokenGateError as error:
                answer._set(error=error)
            except BaseException as error:
                if theirs:
                    answer._set(error=error)
                    return
                _logger.exception("control could not answer")
                kind = class_name(type(error))
                answer._set(error=ControlError(f"control could not answer: a bug ({kind}); see the log of the gate"))
            finally:
                answer._set(error=ActorDead("control was stopped before it answered, or its client has disconnected"))

        self._jobs.begin(job.scope, do, "answer of control")
        return answer


async def ask_as(control: ActorRef[Any], message: m.Message[Any], caller: Caller) -> Any:
    """Ask a control actor as another caller than code of the process: as rules are."""
    return await control.call(_Asked(message, None, caller))


class _Status:
    """Told by the server when it listens."""

    def __init__(self, listening: Reply[None]) -> None:
        self._listening = listening

    def started(self, value: object = None) -> None:  # noqa: ARG002  # the name is trio's
        self._listening._set()


_NOTHING_DONE: Final = ("unchanged", "refused", "ended", "unknown", "would", "awaiting", "changed")


def _changed_by(answer: object) -> tuple[int, str]:
    """Return how many things a verb has changed, by its answer, and the path of the actor if it is one."""
    kind = type(answer)  # the answer may be a value of the program
    if kind is m.ActorOutcome:
        outcome = cast("m.ActorOutcome", answer)
        return int(outcome.outcome not in _NOTHING_DONE), outcome.actor
    if kind is tuple:
        rows = cast("tuple[Any, ...]", answer)
        return sum(type(one) is not m.Outcome or one.outcome not in _NOTHING_DONE for one in rows), ""
    return 1, ""
