"""The requests that child processes may make of their gate, and how each is answered."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import pykka.messages

from actors._child import _wire
from actors._child._failures import traceback_of
from actors._exceptions import DeadlockError, MailboxFull, NotPicklable, TokenGateError
from actors.processes.pickling import _carrier
from actors.processes.pickling._exports import id_of, place_of, token_of
from actors.processes.requests._remote_log import RemoteLog
from actors.processes.requests._remote_timers import RemoteTimers
from actors.processes.requests._request import Request, RequestHost
from actors.steps._step import without_runtime_frames
from actors.tokens._lifecycle import TokenState
from actors.tokens._token import Token

if TYPE_CHECKING:
    from actors.concurrency._future import Reply
    from actors.places._actor import BaseActor
    from actors.places._ref import ActorRef
    from actors.places._timers import Timer
    from actors.places._watch import Watch
    from actors.processes.pickling._ports import ProcessSystem
    from actors.processes.workers._worker import Worker

_NOTHING: Final = object()
_SHORT: Final = 1_000  # characters of an error's text that certainly go into a frame


class Requests:
    """Answers the requests of all workers of a system; only on the host's thread.

    Args:
        system: the actor system of the workers.
        host: the process host.
    """

    def __init__(self, system: ProcessSystem, host: RequestHost) -> None:
        self.system = system
        self.host = host
        self._log = RemoteLog(system)
        self._values = _carrier.Carrier(system)
        self._errors = _carrier.Carrier(system, in_band=True)
        self._open: dict[Worker, set[Request]] = {}  # requests that are not answered yet
        self._timers: dict[Worker, RemoteTimers] = {}
        self._answers: dict[str, Callable[..., object]] = {
            "current": self._current,
            "tell": self._tell,
            "ask": self._ask,
            "send": self._send,
            "call": self._call,
            "defer": self._defer,
            "get": self._get,
            "set": self._set,
            "stop": self._stop,
            "alive": self._alive,
            "submit": self._submit,
            "direct": self._direct,
            "result": self._result,
            "done": self._done,
            "cancel": self._cancel,
            "self_stop": self._self_stop,
            "spend": self._spend,
            "step": self._step,
            "step_done": self._step_done,
            "send_after": self._send_after,
            "send_every": self._send_every,
            "cancel_timer": self._cancel_timer_or_watch,
            "receive_timeout": self._receive_timeout,
            "watch": self._watch,
            "unwatch": self._cancel_timer_or_watch,
            "saved": self._saved,
            "save": self._save,
        }

    def take(self, worker: Worker, frame: _wire.Frame) -> None:
        """Begin to answer a request, or pass on a log record."""
        descriptor: int | None = None
        problem: Exception | None = None
        if frame.flags & _wire.LARGE:
            try:
                descriptor = worker.receive_file()
            except (OSError, EOFError) as error:  # such as too many open files in this process
                problem = error
        if frame.kind == _wire.LOG:
            if problem is None:
                self._log.take(worker, frame, descriptor)
            return
        if worker.doomed or worker.dead:
            if descriptor is not None:
                os.close(descriptor)
            return
        call = worker.begun
        waits = worker.inflight.get(call)
        token = waits if isinstance(waits, Token) else None
        request = Request(self, worker, frame.number, call, token)
        self._open.setdefault(worker, set()).add(request)
        if problem is not None:
            request.fail(problem)
            return
        self.guard(request, lambda: self._begin(request, frame, descriptor))

    def forget(self, worker: Worker) -> None:
        """Drop the requests, timers and watches of a dead worker, and the tokens that were kept for it."""
        for request in list(self._open.pop(worker, ())):
            request.give_up()
        self._timers.pop(worker, None)
        worker.tokens.clear()

    def close(self) -> None:
        """Stop answering, and accept no more log records; those that have come are still handled."""
        for worker in [*self._open, *self._timers]:
            self.forget(worker)
        self._log.close()

    def join(self, deadline: float) -> list[str]:
        """Wait until the log records that have come are handled. Any thread may call this.

        Args:
            deadline: when to stop waiting, in seconds of `time.monotonic`.

        Returns:
            the name of the thread that handles them, if it has not ended by then.
        """
        return self._log.join(deadline)

    # For requests

    def guard(self, request: Request, fn: Callable[[], object]) -> None:
        """Call a function; what it raises is the answer to a request."""
        try:
            fn()
        except BaseException as error:  # unpickling may raise anything
            if isinstance(error, TokenGateError):  # its traceback in the runtime would tell users nothing
                error = error.with_traceback(None)
            request.fail(error)

    def over(self, request: Request) -> None:
        """Remove a request: it is answered, or given up."""
        requests = self._open.get(request.worker)
        if requests is not None:
            requests.discard(request)
            if not requests:
                del self._open[request.worker]

    def reply(self, request: Request, value: Any) -> bool:
        """Send a value to the child; tell whether the child gets it."""
        try:
            return self._post(request, self._values, 0, value)
        except Exception as error:
            kind = type(value)
            problem = NotPicklable(
                f"the answer, a {kind.__module__}.{kind.__qualname__}, cannot be sent to a child process: "
                f"{type(error).__name__}: {_carrier.safe_text(error)}"
            )
            self.reply_error(request, problem)
            return False

    def reply_error(self, request: Request, error: BaseException) -> None:
        """Send an error to the child."""
        try:
            self._post(request, self._values, 1, self._failure_of(error))
        except Exception:  # such as no file for a large one: send a short text
            text = _carrier.safe_text(error)[:_SHORT]
            self._post(request, self._values, 1, (None, type(error).__qualname__, text, "", False))

    def _post(self, request: Request, carrier: _carrier.Carrier, extra: int, item: Any) -> bool:
        worker = request.worker
        if worker.doomed or worker.dead:
            return False
        carrier.keep = partial(worker.tokens.keep, request.call)
        if worker.stream.send(worker.frame(_wire.REPLY, request.number, extra, item, carrier)):
            self.host.want_room(worker)
        return True

    def _failure_of(self, error: BaseException) -> _wire.Failure:
        """Return an error in the form in which it is sent."""
        pickled: bytes | None = None
        try:
            if _carrier.may_travel(type(error)):
                pickled = b"".join(self._errors.pack(error).pieces)
        except Exception:
            pass  # then only its text is sent
        return pickled, type(error).__qualname__, _carrier.safe_text(error), _traceback_in_gate(error, pickled), False

    # Calls, messages and tokens

    def _begin(self, request: Request, frame: _wire.Frame, descriptor: int | None) -> None:
        token, worker = request.token, request.worker
        try:
            name, *args = _carrier.load(frame.payload, descriptor)
        except Exception as error:
            raise NotPicklable(
                f"what a child process asks for cannot be rebuilt here: {type(error).__name__}: "
                f"{_carrier.safe_text(error)}"
            ) from error
        answer = self._answers.get(name)
        if answer is None:
            raise LookupError(f"a child process asks for {name!r}, which this gate does not know")
        if token is not None and token.started_at is None and not token.done():
            # The child has started it, and has not sent the results of earlier calls yet.
            cast("Any", token._place.drain).begin(token, worker, request.call, self.system.clock())
        request.check_token()
        answer(request, *args)

    def _current(self, request: Request) -> None:
        token = request.token
        if token is None:
            request.answer(None)
            return
        request.answer(
            {
                "id": token.id,
                "operation": token.operation,
                "actor": token.actor,
                "priority": token.priority,
                "tags": dict(token.tags),
                "parent": token.parent,
                "attempt": token.attempt,
                "affinity": token.affinity,
                "seconds_left": token._seconds_left(),
            }
        )

    def _spend(self, request: Request, cost: float) -> None:
        if request.token is not None:
            request.token._spend(cost)
        request.answer()

    def _step(self, request: Request, path: str) -> None:
        record = getattr(request.token, "record", None)
        if record is None:
            request.answer()
            return
        nth, reply = record.find_step(path)
        request.wait_for(reply, None, lambda: request.answer_with(reply, lambda value: (nth, value)))

    def _step_done(self, request: Request, path: str, nth: int, value: bytes) -> None:
        reply: Reply[None] = cast("Any", request.token).record.add_step(path, nth, value)
        request.wait_for(reply, None, lambda: request.answer_with(reply, lambda _: None))

    def _tell(self, request: Request, path: str, message: Any) -> None:
        self._tell_ref(request, self._ref(path), message)

    def _tell_ref(self, request: Request, ref: ActorRef[Any], message: Any) -> None:
        token: Token[Any] = request.run(ref._token_of_tell, message)

        def on_queued() -> None:
            error = token._error
            if error is None or token._end is not TokenState.REJECTED:
                request.answer()
            elif isinstance(error, MailboxFull) and ref._place.mailbox.overflow == "drop_newest":
                request.answer()  # dropped by the mailbox's policy, which has made a dead letter of it
            else:
                request.fail(error)

        request.send(token, on_queued)

    def _ask(self, request: Request, path: str, message: Any, timeout: float | None = None) -> None:
        self._ask_ref(request, self._ref(path), message, timeout)

    def _ask_ref(self, request: Request, ref: ActorRef[Any], message: Any, timeout: float | None = None) -> None:
        token: Token[Any] = request.run(ref._token, message)

        def late() -> str:
            return f"actor '{ref.path}' did not answer {token.operation} within {timeout} s"

        request.send(token, lambda: _wait_or_cancel(request, token, timeout, late))

    def _send(self, request: Request, path: str, message: Any) -> None:
        token: Token[Any] = request.run(self._ref(path)._token, message)
        request.send(token, lambda: self._answer_id(request, token))

    def _call(
        self, request: Request, path: str, attr_path: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._send(request, path, pykka.messages.ProxyCall(tuple(attr_path), tuple(args), kwargs))

    def _defer(
        self, request: Request, path: str, attr_path: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._tell(request, path, pykka.messages.ProxyCall(tuple(attr_path), tuple(args), kwargs))

    def _get(self, request: Request, path: str, attr_path: tuple[str, ...]) -> None:
        self._send(request, path, pykka.messages.ProxyGetAttr(tuple(attr_path)))

    def _set(self, request: Request, path: str, attr_path: tuple[str, ...], value: Any) -> None:
        self._ask(request, path, pykka.messages.ProxySetAttr(tuple(attr_path), value))

    def _stop(self, request: Request, path: str, block: bool = True, timeout: float | None = None) -> None:
        place = place_of(path, self.system)
        alive = place.is_alive()
        reply = place.stop(drain=True, administrative=True)
        if not block or request.is_of(place):  # an actor cannot wait for its own end
            request.answer(alive)
        else:
            request.wait_for(reply, timeout, lambda: request.answer(alive))

    def _alive(self, request: Request, path: str) -> None:
        request.answer(place_of(path, self.system).is_alive())

    def _submit(self, request: Request, *call: Any) -> None:
        token = self._token_of(request, *call)
        request.send(token, lambda: self._answer_id(request, token))

    def _direct(self, request: Request, *call: Any) -> None:
        token = self._token_of(request, *call)
        request.send(token, lambda: _wait_or_cancel(request, token, None, None, plainly=True))

    def _token_of(
        self,
        request: Request,
        key: int | str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        priority: int | None = None,
        tags: Mapping[str, str] | None = None,
        identity: str | int | None = None,
        when: float | datetime | None = None,
    ) -> Token[Any]:
        operation = _carrier.operation_with(key, self.system)
        _, token = request.run(operation._token_for, self.system, args, kwargs, priority, tags, identity, when)
        return cast("Token[Any]", token)

    def _result(self, request: Request, id: int, timeout: float | None = None) -> None:
        token = token_of(id, self.system)
        if token is None:
            raise LookupError(f"token {id} has ended, and its outcome is not kept any more")

        def there() -> None:
            if request.answer_as(token):
                request.worker.tokens.note_delivered(id)

        request.wait_for(token, timeout, there)

    def _done(self, request: Request, id: int) -> None:
        token = token_of(id, self.system)
        request.answer(token is None or token.done())

    def _cancel(self, request: Request, id: int) -> None:
        token = token_of(id, self.system)
        request.answer(token is not None and token.cancel())

    def _answer_id(self, request: Request, token: Token[Any]) -> None:
        id = id_of(token, self.system)
        request.worker.tokens.keep(request.call, id, token)
        request.answer(id)

    # What the instance of an actor asks for: its own timers and watches, and to be stopped

    def _self_stop(self, request: Request) -> None:
        self._instance(request).stop()
        request.answer()

    def _send_after(self, request: Request, seconds: float, message: Any) -> None:
        self._add_timer(request, request.run(self._instance(request).send_after, seconds, message))

    def _send_every(self, request: Request, seconds: float, message: Any) -> None:
        self._add_timer(request, request.run(self._instance(request).send_every, seconds, message))

    def _receive_timeout(self, request: Request, seconds: float | None) -> None:
        request.run(self._instance(request).receive_timeout, seconds)
        request.answer()

    def _watch(self, request: Request, path: str) -> None:
        self._add_timer(request, request.run(self._instance(request).watch, self._ref(path)))

    def _add_timer(self, request: Request, one: Timer | Watch) -> None:
        request.answer(self._timers.setdefault(request.worker, RemoteTimers()).add(one))

    def _cancel_timer_or_watch(self, request: Request, number: int) -> None:
        timers = self._timers.get(request.worker)
        request.answer(timers is not None and timers.cancel(number))

    def _saved(self, request: Request, type: Any) -> None:
        found: Any = self._instance(request).saved(_NOTHING, type=type)
        request.answer(() if found is _NOTHING else (found,))

    def _save(self, request: Request, value: Any) -> None:
        request.run(self._instance(request).save, value)
        request.answer()

    def _instance(self, request: Request) -> BaseActor:
        """Return the object that represents the instance in the gate."""
        worker, drain = request.worker, request.worker.holder
        if not worker.own or drain is None:
            raise RuntimeError("only an actor has timers and watches, and can stop itself")
        instance: BaseActor | None = drain.place.instance if drain.worker is worker else None
        if instance is None:
            raise RuntimeError(f"this instance of actor '{drain.place.path}' does not run (any more, or yet)")
        return instance

    def _ref(self, path: str) -> ActorRef[Any]:
        return place_of(path, self.system).ref


def _wait_or_cancel(
    request: Request,
    token: Token[Any],
    timeout: float | None,
    late: Callable[[], str] | None,
    *,
    plainly: bool = False,
) -> None:
    """Answer with the outcome of a token that was sent for this request; cancel it if waiting would be a deadlock."""
    try:
        request.wait_for(token, timeout, lambda: request.answer_as(token, plainly=plainly), late)
    except DeadlockError:
        token.cancel()
        raise


def _traceback_in_gate(error: BaseException, pickled: bytes | None) -> str:
    """Return the traceback of an error in the gate, as text; empty if only code of the runtime is in it."""
    error = without_runtime_frames(error)
    if error.__traceback__ is None and error.__cause__ is None:
        return ""
    return f"In the gate:\n{traceback_of(error, pickled)}"
