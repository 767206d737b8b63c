"""Rules of what a child process may ask of its gate. The child is the test itself, and so is the host's thread."""

from __future__ import annotations

import contextvars
import logging
import math
import os
import pickle
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from gated_code import LIMIT, Door

import actors._child as child_package
from actors import ActorSystem, CpuActor, ProcessPool, Token, TokenState, current_token
from actors._child import _exceptions as errors
from actors._child import _failures, _pickling, _shared_page, _wire
from actors._child._payload import Payload, open_payload
from actors._child._wire import Frame
from actors.mailboxes._mailbox import Drainer
from actors.processes._operation_drain import OperationDrain, OperationSlot
from actors.processes._process_host import ProcessHost
from actors.processes.pickling import _carrier
from actors.processes.pickling._exports import KnownTokens, id_of, path_of, place_of, token_of
from actors.processes.requests._requests import Requests
from actors.processes.workers._deadlines import Deadline, Deadlines
from actors.processes.workers._worker import Worker

MEBIBYTE = 1 << 20

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="none")


class Host:
    """The process host, as far as requests need it; the test itself runs the calls on its thread."""

    def __init__(self) -> None:
        self._soon: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self.deadlines = Deadlines()
        self.on_outcome = None
        self.lent = 0
        self.reclaimed: list[Worker] = []
        self.pool = SimpleNamespace(
            tokens_left=lambda _worker: math.inf,
            has_waiting=False,
            forget=lambda _holder: False,
            acquire_once=lambda _holder: None,
            is_short=False,
        )  # there is no other worker

    def call_soon(self, fn: Callable[[], object]) -> None:
        self._soon.put(fn)

    def call_later(self, seconds: float, fn: Callable[[], object]) -> Deadline:
        return self.deadlines.add(seconds, fn)

    def lend(self, *, paused: bool) -> None:
        self.lent += 1

    def end_lend(self) -> None:
        self.lent -= 1

    def start(self) -> None:
        """It has begun."""

    def fill(self) -> None:
        """None is made."""

    def recover(self) -> None:
        """Nothing here is interrupted."""

    def reclaim(self, worker: Worker) -> None:
        self.reclaimed.append(worker)

    def want_room(self, worker: Worker) -> None:
        """Nothing that a test sends is too much for a socket."""
        raise AssertionError("the stream has no room")

    def acquire(self, holder: Any) -> None:
        """None: there is no other worker."""

    def release(self, worker: Worker) -> None:
        """Do nothing: there is no pool that would have it back."""

    def note_batch(self, worker: Worker) -> None:
        """Do nothing: the test knows the calls of the worker."""

    def statistics(self) -> None:
        """None: no process was ever needed."""

    def close(self, deadline: float) -> list[str]:
        return []

    def work_until(self, condition: Callable[[], bool]) -> None:
        """Do what there is to do, and wait for more, until a condition holds."""
        while not condition():
            self._soon.get(timeout=LIMIT)()

    def work(self) -> None:
        """Do what there is to do now."""
        while not self._soon.empty():
            self._soon.get()()

    def work_for(self, seconds: float) -> None:
        """Do what there is to do as if some time had passed."""
        self.work()
        while (call := self.deadlines.pop_due(time.monotonic() + seconds)) is not None:
            call()
        self.work()


@attrs.define
class Reply:
    """What a child has got for a request."""

    value: Any
    error: BaseException | None
    large: bool


class Child:
    """A child process that is none: the other ends of its sockets, and what it would do with them."""

    def __init__(self, system: ActorSystem, host: Host, requests: Requests) -> None:
        self.host = host
        self.worker = Worker(system, 1)
        self.worker.pid = os.getpid()
        self._requests = requests
        stream, files, *others = self.worker.descriptors
        self.worker.descriptors = []
        for descriptor in others:
            os.close(descriptor)
        self.stream = socket.socket(fileno=stream)
        self.stream.settimeout(0)
        self.files = socket.socket(fileno=files)
        self._frames = _wire.Frames()
        self._replies: dict[int, Reply] = {}
        self._number = 0

    def run(self, waits: Any) -> int:
        """Begin a call that something waits for; return its number."""
        number = self.worker.next_number(waits)
        self.worker.page.word[_shared_page.BEGUN] = number
        return number

    def begin(self, *item: Any, payload: bytes | None = None) -> int:
        """Ask for something; return the number of the request."""
        self._number += 1
        self._send(_wire.REQUEST, self._number, _pickling.dumps(item) if payload is None else payload)
        return self._number

    def begin_large(self, *item: Any) -> int:
        """Ask for something, with a file."""
        payload = Payload()
        payload.write(pickle.dumps(item))
        descriptor, table = payload.to_file()
        socket.send_fds(self.files, [b"f"], [descriptor])
        os.close(descriptor)
        self._number += 1
        self._send(_wire.REQUEST, self._number, table, _wire.LARGE)
        return self._number

    def log(self, number: int, **attributes: Any) -> None:
        """Send a log record of a call."""
        self._send(_wire.LOG, number, pickle.dumps(attributes))

    def _send(self, kind: int, number: int, payload: bytes, flags: int = 0) -> None:
        self._requests.take(self.worker, Frame(kind, flags, number, 0, memoryview(payload)))

    def answered(self, number: int) -> bool:
        """Tell whether a request has its answer."""
        for frame in self.read():
            assert frame.kind == _wire.REPLY
            loaded: Any
            if frame.flags & _wire.LARGE:
                _, descriptors, _, _ = socket.recv_fds(self.files, 1, 1)
                stream, buffers = open_payload(descriptors[0], frame.payload)
                loaded = pickle.loads(stream, buffers=buffers)
            else:
                loaded = pickle.loads(frame.payload)
            error = _failures.error_of(loaded) if frame.extra else None
            value = None if frame.extra else loaded
            self._replies[frame.number] = Reply(value, error, bool(frame.flags & _wire.LARGE))
        return number in self._replies

    def read(self) -> list[Frame]:
        try:
            return list(self._frames.feed(self.stream.recv(MEBIBYTE)))
        except BlockingIOError:
            return []

    def reply(self, number: int) -> Reply:
        """Wait for an answer."""
        self.host.work_until(lambda: self.answered(number))
        return self._replies.pop(number)

    def ask(self, *item: Any) -> Any:
        """Ask for something, and wait for the answer."""
        reply = self.reply(self.begin(*item))
        if reply.error is not None:
            raise reply.error
        return reply.value

    def close(self) -> None:
        self._requests.forget(self.worker)
        self.host.work()
        self.worker.close()
        self.stream.close()
        self.files.close()


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[ActorSystem]:
    monkeypatch.setitem(sys.modules, "tokengate_worker", child_package)
    opened = ActorSystem("test", threads=2)
    opened.processes = Host()  # type: ignore[assignment]
    opened.open()
    _carrier.loading_for(opened)  # the test is the host's thread
    yield opened
    del _carrier._loading.system
    late = opened.close(LIMIT)

    assert late == ()


@pytest.fixture
def host(system: ActorSystem) -> Host:
    return system.processes  # type: ignore[return-value]


@pytest.fixture
def requests(system: ActorSystem, host: Host) -> Iterator[Requests]:
    made = Requests(system, host)
    yield made
    made.close()
    late = made.join(time.monotonic() + LIMIT)

    assert late == []


@pytest.fixture
def child(system: ActorSystem, host: Host, requests: Requests) -> Iterator[Child]:
    made = Child(system, host, requests)
    yield made
    made.close()


@pytest.fixture
def running(system: ActorSystem, child: Child) -> Iterator[Token[Any]]:
    """The token that the child runs, of an operation, with one turn of its place."""
    place = system.operation_place("crunch", "process", generator=False, concurrency=2)
    variables = contextvars.copy_context()
    variables.run(request_id.set, "r-17")
    token: Token[Any] = variables.run(place.token, "crunch", int, (), {}, 3, {"tenant": "acme"})
    token._phase = TokenState.QUEUED
    token._begin(system.clock())
    assert place.mailbox.try_enter(Drainer())
    child.run(token)
    yield token
    token._terminate("the test is over")


class Counter(CpuActor):
    expected = (ValueError,)

    def __init__(self) -> None:
        self.count = 0
        self.got: list[Any] = []

    def increment(self, by: int = 1) -> int:
        self.count += by
        return self.count

    def asks(self) -> tuple[int | None, str]:
        token = current_token()
        return token.parent if token is not None else None, request_id.get()

    def fails(self) -> None:
        raise ValueError("not today")

    def leaves(self) -> None:
        raise SystemExit(3)

    def lock(self) -> Any:
        return threading.Lock()

    def bytes(self, count: int) -> bytes:
        return bytes(count)

    def me(self) -> Any:
        return self.actor_ref

    def wait_for(self, token: Token[Any]) -> Any:
        return token.result()

    def through(self, door: Door) -> str:
        door.pass_through()
        return "through"

    def on_receive(self, message: Any) -> Any:
        self.got.append(message)
        return "got", message


class Small(Counter):
    capacity = 1


class Forgetful(Small):
    overflow = "drop_newest"


class Strict(Small):
    overflow = "reject"


@pytest.fixture
def counter(start: Callable[..., Any]) -> Any:
    return start(Counter)


@attrs.define
class Spec:
    """An operation as the floor above has them, as far as this floor knows."""

    place: Any
    function: Callable[..., Any]

    def _token_for(
        self, system: ActorSystem, args: Any, kwargs: Any, priority: Any, tags: Any, key: Any, when: Any = None
    ) -> tuple[Any, Any]:
        token = self.place.token("double", self.function, args, kwargs, priority or 0, tags or {})
        return self.place, token


@pytest.fixture
def operation(system: ActorSystem) -> Callable[[Callable[..., Any]], int]:
    """Make an operation of a function; return its key."""

    def make(function: Callable[..., Any]) -> int:
        key = system.next_name()
        place = system.operation_place(f"operation-{key}", "cpu", generator=False, concurrency=1)
        system.carried_operations[key] = Spec(place, function)
        return key

    return make


# The code that asks


def test_the_running_token_is_described(child: Child, running: Token[Any]) -> None:
    """`current` is the token that the child has begun."""
    facts = child.ask("current")

    assert facts == {
        "id": running.id,
        "operation": "crunch",
        "actor": "crunch",
        "priority": 3,
        "tags": {"tenant": "acme"},
        "parent": None,
        "attempt": 1,
        "affinity": "process",
        "seconds_left": None,
    }


def test_outside_of_any_token_there_is_no_current_one(child: Child) -> None:
    """A hook of an actor has no token."""
    assert child.ask("current") is None


def test_tokens_of_a_child_have_the_running_token_as_parent_and_its_context(
    child: Child, running: Token[Any], counter: Any
) -> None:
    """What code in a child sends is sent as its token would send it from a thread."""
    id = child.ask("call", counter.path, ("asks",), (), {})

    assert child.ask("result", id, None) == (running.id, "r-17")


def test_a_token_that_the_child_has_begun_unseen_counts_as_running(
    system: ActorSystem, child: Child, running: Token[Any]
) -> None:
    """Results of earlier calls may be in the outbox; code that makes a request has begun all the same."""
    second: Token[Any] = running._place.token("crunch", int, ())
    second._phase = TokenState.QUEUED
    child.run(second)

    assert child.ask("current")["id"] == second.id
    assert second.state is TokenState.RUNNING
    second._terminate("the test is over")


def test_a_token_that_was_ended_does_nothing_any_more(child: Child, running: Token[Any], counter: Any) -> None:
    """What the code of a token asks for after its end has no effect."""
    running._terminate("it was killed")

    for item in (("tell", counter.path, "late"), ("stop", counter.path, False, None)):
        with pytest.raises(errors.ActorDead, match="has ended"):
            child.ask(*item)

    assert counter.proxy().got.get(timeout=LIMIT) == []


def test_nothing_is_done_for_a_child_that_is_doomed(child: Child, running: Token[Any], counter: Any) -> None:
    """Nothing that it says counts any more, and it is answered nothing."""
    child.worker.doomed = True
    child.begin("tell", counter.path, "late")
    child.begin_large("tell", counter.path, "late")
    child.host.work()

    assert counter.proxy().got.get(timeout=LIMIT) == []
    assert child.read() == []


def test_what_is_not_known_is_refused(child: Child) -> None:
    """A request that no gate knows is answered with an error that names it."""
    with pytest.raises(LookupError, match="'fly'"):
        child.ask("fly", 3)


def test_what_cannot_be_rebuilt_is_refused(child: Child) -> None:
    """A request that cannot be unpickled is answered with an error, and the next one is handled."""
    number = child.begin(payload=b"c_nowhere_\nthing\n.")

    assert isinstance(child.reply(number).error, errors.NotPicklable)
    assert child.ask("current") is None


def test_a_large_request_is_read_from_its_file(child: Child, running: Token[Any], counter: Any) -> None:
    """What does not go into a frame comes beside the stream."""
    message = b"x" * MEBIBYTE
    number = child.begin_large("ask", counter.path, message, None)

    assert child.reply(number).value == ("got", message)


def test_a_file_that_does_not_arrive_is_an_error(
    child: Child, running: Token[Any], counter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process may have too many open; the child is not left waiting."""

    def no_room(*_: Any) -> Any:
        raise OSError("too many open files")

    monkeypatch.setattr(child.worker, "receive_file", no_room)

    with pytest.raises(OSError, match="too many"):
        raise child.reply(child.begin_large("tell", counter.path, "hello")).error or AssertionError


def test_an_answer_for_which_there_is_no_file_is_an_error(
    child: Child, running: Token[Any], counter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long its text is."""

    def no_room(_name: str) -> int:
        raise OSError("too many open files" * 100_000)

    monkeypatch.setattr("actors._child._payload.unnamed_file", no_room)
    id = child.ask("call", counter.path, ("bytes",), (MEBIBYTE,), {})

    with pytest.raises(errors.WorkerError, match="too many open files"):
        child.ask("result", id, None)


# Actors


def test_tell_puts_a_message_into_the_mailbox(child: Child, running: Token[Any], counter: Any) -> None:
    """It is answered when the message is there."""
    assert child.ask("tell", counter.path, "hello") is None
    assert counter.proxy().got.get(timeout=LIMIT) == ["hello"]


def test_ask_is_answered_with_what_the_actor_returns(child: Child, running: Token[Any], counter: Any) -> None:
    """The answer comes when it is there; meanwhile the host's thread does other things."""
    assert child.ask("ask", counter.path, "hello", None) == ("got", "hello")


def test_send_returns_the_id_of_a_token(child: Child, running: Token[Any], counter: Any) -> None:
    """Its result can be asked for later."""
    id = child.ask("send", counter.path, "hello")

    assert child.ask("result", id, LIMIT) == ("got", "hello")
    assert child.ask("done", id) is True


def test_methods_are_called_read_and_set(child: Child, running: Token[Any], counter: Any) -> None:
    """`call`, `defer`, `get` and `set` are what a proxy does."""
    path = counter.path
    child.ask("defer", path, ("increment",), (), {"by": 5})
    child.ask("set", path, ("count",), 40)
    called = child.ask("call", path, ("increment",), (2,), {})
    read = child.ask("get", path, ("count",))

    assert child.ask("result", called, None) == 42
    assert child.ask("result", read, None) == 42


def test_an_answer_that_does_not_come_in_time_is_a_wait_timeout(
    child: Child, running: Token[Any], counter: Any, door: Door
) -> None:
    """The child has the error, which names the actor, and the token goes on."""
    busy = counter.proxy().through(door)

    number = child.begin("ask", counter.path, "hello", 2000.0)
    child.host.work_for(1000.0)
    assert not child.answered(number)
    child.host.work_for(2000.0)
    error = child.reply(number).error
    assert isinstance(error, errors.WaitTimeout)
    assert f"actor '{counter.path}' did not answer Counter.on_receive within 2000.0 s" in str(error)
    door.open()

    assert busy.result(LIMIT) == "through"
    assert counter.proxy().got.get(timeout=LIMIT) == ["hello"]
    assert len(child.host.deadlines) == 0


def test_a_timeout_of_no_time_is_over_at_once(child: Child, running: Token[Any], counter: Any, door: Door) -> None:
    """Zero seconds are a look, and no timer is set for it."""
    id = counter.proxy().through(door).id
    child._requests.system.carried_tokens[id] = child._requests.system.live[id]

    with pytest.raises(errors.WaitTimeout, match=f"token {id} .* after 0 s"):
        child.ask("result", id, 0)


def test_an_answer_in_time_ends_the_timer(child: Child, running: Token[Any], counter: Any) -> None:
    """A wait that is over leaves no timer behind."""
    assert child.ask("ask", counter.path, "hello", 1e6) == ("got", "hello")
    assert len(child.host.deadlines) == 0


def test_an_error_of_the_actor_is_raised_in_the_child(child: Child, running: Token[Any], counter: Any) -> None:
    """It keeps its type, and has the traceback of the gate as a note."""
    id = child.ask("call", counter.path, ("fails",), (), {})

    with pytest.raises(ValueError, match="not today") as caught:
        child.ask("result", id, None)

    assert "in fails" in caught.value.__notes__[0]
    assert "actors/_" not in caught.value.__notes__[0]


def test_an_actor_that_is_not_there_is_dead(child: Child, running: Token[Any]) -> None:
    """A child's ref of one that has ended for good behaves as the ref of a dead actor."""
    dead = errors.ActorDead

    assert child.ask("alive", "nobody") is False
    assert child.ask("stop", "nobody", True, None) is False
    with pytest.raises(dead, match="nobody"):
        child.ask("tell", "nobody", "hello")
    with pytest.raises(dead, match="nobody"):
        child.ask("ask", "nobody", "hello", None)
    token = child.ask("send", "nobody", "hello")
    with pytest.raises(dead, match="nobody"):
        child.ask("result", token, None)


def test_a_path_is_not_taken_for_the_end_of_another_one(system: ActorSystem, child: Child) -> None:
    """A ref means one place: another one whose path ends alike does not answer in its stead."""
    system.place("tree/counter", Counter)

    assert child.ask("alive", "tree/counter") is True
    assert child.ask("alive", "counter") is False


def test_stop_waits_for_the_end(child: Child, running: Token[Any], counter: Any, door: Door) -> None:
    """It is answered when the actor has handled what it had accepted; True, since it was alive."""
    busy = counter.proxy().through(door)
    number = child.begin("stop", counter.path, True, None)
    child.host.work()

    assert not child.answered(number)
    door.open()
    assert child.reply(number).value is True
    assert busy.done()
    assert child.ask("alive", counter.path) is False


def test_stop_without_waiting_returns_at_once(child: Child, running: Token[Any], counter: Any, door: Door) -> None:
    """The actor goes on stopping."""
    counter.proxy().through(door)

    assert child.ask("stop", counter.path, False, None) is True
    assert child.ask("alive", counter.path) is False


def test_a_ref_arrives_as_the_childs_ref(child: Child, running: Token[Any], counter: Any) -> None:
    """Objects of the runtime are exchanged for what the child has of that name."""
    id = child.ask("call", counter.path, ("me",), (), {})

    assert child.ask("result", id, None) == child_package.Ref(counter.path)


def test_an_answer_that_cannot_be_pickled_is_an_error_that_names_it(
    child: Child, running: Token[Any], counter: Any
) -> None:
    """The child is not left waiting."""
    id = child.ask("call", counter.path, ("lock",), (), {})

    with pytest.raises(errors.NotPicklable, match=r"_thread\.lock"):
        child.ask("result", id, None)


def test_a_large_answer_goes_through_a_file(child: Child, running: Token[Any], counter: Any) -> None:
    """So the stream is never filled with it."""
    id = child.ask("call", counter.path, ("bytes",), (MEBIBYTE,), {})
    reply = child.reply(child.begin("result", id, None))

    assert reply.large
    assert reply.value == bytes(MEBIBYTE)


def test_what_is_no_exception_is_wrapped(child: Child, running: Token[Any], counter: Any) -> None:
    """`SystemExit` in an actor does not end the child that waits for it."""
    id = child.ask("call", counter.path, ("leaves",), (), {})

    with pytest.raises(errors.TokenFailed, match="SystemExit"):
        child.ask("result", id, None)


# Full mailboxes


def fill(ref: Any, door: Door) -> None:
    """Have an actor at work behind a door, and its mailbox full."""
    ref.proxy().through(door)
    door.wait_reached()
    ref.tell("first")


def test_a_full_mailbox_is_waited_for(child: Child, running: Token[Any], start: Callable[..., Any], door: Door) -> None:
    """Meanwhile the token is known to wait, and its turn and its place in the pool are lent."""
    small = start(Small)
    fill(small, door)
    number = child.begin("tell", small.path, "second")
    child.host.work_for(1.0)

    assert not child.answered(number)
    assert running._extras.waits == [small._place]
    assert child.host.lent == 1
    assert running._place.mailbox.active == 0
    door.open()
    assert child.reply(number).value is None
    assert running._extras.waits == []
    assert child.host.lent == 0
    assert running._place.mailbox.active == 1
    assert small.proxy().got.get(timeout=LIMIT) == ["first", "second"]


def test_a_child_that_dies_while_it_waits_for_room_lets_the_next_sender_in(
    child: Child, running: Token[Any], start: Callable[..., Any], door: Door, until: Any
) -> None:
    """Its message is rejected, its wait is over, and senders behind it still get room."""
    small = start(Small)
    fill(small, door)
    child.begin("tell", small.path, "second")
    (unsent,) = [token for token in child._requests.system.live.values() if token.state is TokenState.CREATED]
    sender = threading.Thread(target=small.tell, args=("third",))
    sender.start()
    until(lambda: small._place.mailbox.statistics().senders_waiting == 2)
    child._requests.forget(child.worker)
    child.host.work()

    assert small._place.mailbox.statistics().senders_waiting == 1
    assert unsent.state is TokenState.REJECTED
    assert running._extras.waits == []
    assert child.host.lent == 0
    door.open()
    sender.join(LIMIT)
    assert small.proxy().got.get(timeout=LIMIT) == ["first", "third"]


def test_a_full_mailbox_that_refuses_is_an_error_for_tell(
    child: Child, running: Token[Any], start: Callable[..., Any], door: Door
) -> None:
    """As from a thread; a sent token is returned all the same, rejected."""
    strict = start(Strict)
    fill(strict, door)

    with pytest.raises(errors.MailboxFull, match=strict.path):
        child.ask("tell", strict.path, "second")
    id = child.ask("send", strict.path, "third")
    with pytest.raises(errors.MailboxFull):
        child.ask("result", id, None)


def test_a_full_mailbox_that_drops_the_newest_is_none(
    child: Child, running: Token[Any], start: Callable[..., Any], door: Door
) -> None:
    """The overflow policy of its class says that."""
    forgetful = start(Forgetful)
    fill(forgetful, door)

    assert child.ask("tell", forgetful.path, "second") is None


def test_an_actor_does_not_wait_for_room_in_its_own_mailbox(
    child: Child, start: Callable[..., Any], door: Door
) -> None:
    """Only the actor itself could make room."""
    small = start(Small)
    fill(small, door)
    child.worker.own = True
    child.worker.holder = SimpleNamespace(place=small._place, worker=child.worker)

    with pytest.raises(errors.MailboxFull, match="cannot wait for itself"):
        child.ask("tell", small.path, "second")


# Operations and tokens


def test_submit_returns_the_id_of_a_token_with_its_options(
    system: ActorSystem, child: Child, running: Token[Any], operation: Any
) -> None:
    """Priority and tags are those that the child says."""
    gone = threading.Event()
    id = child.ask("submit", operation(gone.wait), (LIMIT,), {}, 7, {"tenant": "acme"})
    token = system.live[id]
    gone.set()

    assert child.ask("result", id, None) is True
    assert (token.priority, token.tags, token.parent) == (7, {"tenant": "acme"}, running.id)


def test_a_direct_call_is_answered_with_the_value(child: Child, running: Token[Any], operation: Any) -> None:
    """Options that are not given are the operation's."""
    assert child.ask("direct", operation(str.upper), ("loud",), {}, None, None) == "LOUD"


def test_a_direct_call_raises_what_the_function_raises(child: Child, running: Token[Any], operation: Any) -> None:
    """Even what is no `Exception`, as the plain function would."""

    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit) as caught:
        child.ask("direct", operation(leave), (), {}, None, None)

    assert caught.value.code == 3


def test_a_token_that_waits_for_another_one_lends_its_turn(
    child: Child, running: Token[Any], operation: Any, door: Door
) -> None:
    """Its place, and the pool, let another token run as long as it waits, and no longer."""
    id = child.ask("submit", operation(door.pass_through), (), {}, None, None)
    number = child.begin("result", id, None)
    child.host.work_for(1.0)

    assert running._extras.waits is not None
    assert [token.id for token in running._extras.waits] == [id]
    assert (child.host.lent, running._place.mailbox.active) == (1, 0)
    door.open()
    assert child.reply(number).value is None
    assert (child.host.lent, running._place.mailbox.active) == (0, 1)


def test_a_child_that_asks_all_the_time_is_reclaimed_all_the_same(system: ActorSystem, child: Child) -> None:
    """Only a result shows that its other calls do not wait for too long; a request does not."""
    host = ProcessHost(system, ProcessPool(), 2)
    host.results._batched[child.worker] = 17.0, 0
    host.results.handle(child.worker, [Frame(_wire.REQUEST, 0, 1, 0, memoryview(pickle.dumps(("current",))))])

    assert host.results._batched == {child.worker: (17.0, 0)}


def test_a_child_is_reclaimed_if_it_has_begun_no_other_call_for_a_while(
    system: ActorSystem, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that goes on with its calls is not stopped, however late its results come."""
    host = ProcessHost(system, ProcessPool(), 2)
    reclaimed: list[Worker] = []
    monkeypatch.setattr(host.results, "reclaim", reclaimed.append)
    for _ in range(3):
        child.worker.next_number(None)
    host.results.note_batch(child.worker)
    child.worker.page.word[_shared_page.BEGUN] += 1
    host.results.check(time.monotonic() + 1)

    assert reclaimed == []
    host.results.check(time.monotonic() + 1)
    assert reclaimed == [child.worker]


def test_what_a_call_knew_is_let_go_when_it_comes_back(
    system: ActorSystem, child: Child, running: Token[Any], operation: Any
) -> None:
    """The host sees to that."""
    child.ask("submit", operation(str.upper), ("loud",), {}, None, None)
    host = ProcessHost(system, ProcessPool(), 2)
    child.worker.holder = SimpleNamespace(settle_call=lambda *_: None)

    child.worker.page.word[_shared_page.ENDED] = child.worker.begun

    assert len(child.worker.tokens) == 1
    host.results.handle(child.worker, [Frame(_wire.RESULT, 0, child.worker.begun, 0, memoryview(b""))])
    assert len(child.worker.tokens) == 0


@pytest.fixture
def slot(child: Child, running: Token[Any]) -> OperationSlot:
    """The slot of the worker that runs the token."""
    drain = running._place.drain
    assert isinstance(drain, OperationDrain)
    made = OperationSlot(drain)
    made.worker = child.worker
    child.worker.holder = made
    return made


def test_a_child_with_far_more_calls_than_it_would_be_sent_now_is_reclaimed(
    child: Child, running: Token[Any], slot: OperationSlot
) -> None:
    """They take longer than those before them did, and another process may be idle."""
    waiting = [running._place.token("crunch", int, ()) for _ in range(10)]
    for token in waiting:
        child.worker.next_number(token)
    slot._drain.note_seconds(1.0)
    slot.feed()
    child.host.work()

    assert child.host.reclaimed == [child.worker]
    for token in waiting:
        token._terminate("the test is over")


@pytest.fixture
def others(system: ActorSystem, running: Token[Any]) -> Iterator[tuple[OperationSlot, Token[Any]]]:
    """The slot of another operation, and a token of it."""
    place = system.operation_place("other", "process", generator=False, concurrency=1)
    assert isinstance(place.drain, OperationDrain)
    token: Token[Any] = place.token("other", int, ())
    token._phase = TokenState.QUEUED
    place.mailbox.suspend()
    yield OperationSlot(place.drain), token
    token._terminate("the test is over")
    place.mailbox.resume()


def test_a_worker_that_passes_to_another_operation_before_its_calls_are_taken_back(
    system: ActorSystem,
    child: Child,
    slot: OperationSlot,
    others: tuple[OperationSlot, Token[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its calls go back to the operation that they are of, and never run as another one."""
    host, worker, (other, token) = ProcessHost(system, ProcessPool(), 2), child.worker, others

    def pass_on(*_seconds: float) -> bool:
        worker.holder, other.worker = other, worker
        worker.inflight.clear()
        worker.next_number(token)
        return True

    monkeypatch.setattr(worker, "halt", pass_on)
    monkeypatch.setattr(worker, "go_on", bool)
    host.results.reclaim(worker)

    assert list(token._place.mailbox.tokens()) == [token]
    assert slot._drain.place.mailbox.size == 0


def test_a_token_that_is_over_when_its_process_is_to_be_stopped_leaves_the_worker_alone(
    child: Child,
    running: Token[Any],
    slot: OperationSlot,
    others: tuple[OperationSlot, Token[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worker may have the calls of another operation by then."""
    worker, (_, token) = child.worker, others
    number = worker.begun
    monkeypatch.setattr(slot._drain, "find", lambda _token: (worker, number))
    monkeypatch.setattr(worker, "halt", lambda: pytest.fail("it was stopped"))
    worker.inflight.clear()
    worker.next_number(token)

    assert slot._drain.arrested(running) is None
    assert list(worker.inflight.values()) == [token]


@pytest.mark.parametrize(
    "run",
    [
        (),
        (1, 5),
        (1, 5, "one", 2),
        (0, 5, "none"),
        (2, 5, "later"),
        (1, -5, "one"),
        ("1", 5, "one"),
        [[1, 5, "one"]],
        7,
    ],
)
def test_a_run_of_results_that_no_child_sends_ends_the_child(
    system: ActorSystem, child: Child, running: Token[Any], slot: OperationSlot, run: Any
) -> None:
    """Code in it has written to what is the runtime's; no call is settled by that."""
    host = ProcessHost(system, ProcessPool(), 2)
    child.worker.page.word[_shared_page.ENDED] = child.worker.page.word[_shared_page.BEGUN] = child.worker.sent
    host.results.handle(child.worker, [Frame(_wire.RESULTS, 0, 0, 0, memoryview(pickle.dumps(run)))])

    assert child.worker.protocol_error
    assert not running.done()


def test_calls_that_are_too_large_for_one_frame_are_sent_in_several(child: Child, slot: OperationSlot) -> None:
    """One that is too large for a frame of its own goes into a file, as others do."""
    sizes = (300_000, 8, 300_000, 8, 900_000)
    pieces = slot._drain.plain_frames(5, [(2**bits,) for bits in sizes], child.worker, 7)
    child.worker.stream.send(pieces)
    frames = [(one.number, one.flags) for one in _wire.Frames().feed(b"".join(pieces))]

    assert frames == [(7, _wire.PLAIN), (9, _wire.PLAIN), (10, _wire.PLAIN), (11, _wire.LARGE)]


def test_a_result_that_lies_in_the_outbox_and_was_sent_settles_its_call_once(
    system: ActorSystem, child: Child, running: Token[Any], slot: OperationSlot
) -> None:
    """The gate sees it twice if the child was stopped between sending it and emptying the outbox."""
    host = ProcessHost(system, ProcessPool(), 2)
    number = child.worker.begun
    child.worker.page.word[_shared_page.ENDED] = number
    frame = Frame(_wire.RESULTS, 0, 0, 0, memoryview(pickle.dumps((number, 5, "done"))))
    host.results.handle(child.worker, [frame, frame])

    assert running.result() == "done"
    assert child.worker.handled == 1
    assert child.worker.protocol_error == ""


def test_a_result_that_comes_late_leaves_the_turn_lent(
    child: Child, running: Token[Any], operation: Any, door: Door, slot: OperationSlot
) -> None:
    """It may be that of the call before the one that waits."""
    second: Token[Any] = running._place.token("crunch", int, ())
    second._phase = TokenState.QUEUED
    child.run(second)
    id = child.ask("submit", operation(door.pass_through), (), {}, None, None)
    number = child.begin("result", id, None)
    child.host.work_for(1.0)
    slot.settle_call(child.worker, running, Frame(_wire.CANCELLED, 0, 1, 0, memoryview(b"")), None)

    assert running.done()
    assert child.host.lent == 1
    door.open()
    assert child.reply(number).value is None
    assert child.host.lent == 0
    second._terminate("the test is over")


def test_a_worker_that_waits_is_sent_nothing_until_its_token_is_over(
    child: Child, running: Token[Any], operation: Any, door: Door, slot: OperationSlot
) -> None:
    """Queued tokens go to other workers, which have its turn; afterwards it is sent more."""
    drain = slot._drain
    drain._longest = 1e-6  # so that it would be sent several at once
    child.worker.known.add(drain.current_function().key)
    child.begin("result", child.ask("submit", operation(door.pass_through), (), {}, None, None), None)
    child.host.work_for(1.0)
    queued: Token[Any] = running._place.token("crunch", int, ())
    running._place.send(queued)
    slot.feed()

    assert list(child.worker.inflight.values()) == [running]
    running._terminate("it was cancelled")
    child.host.work()
    assert list(child.worker.inflight.values()) == [running, queued]
    queued._terminate("the test is over")


def test_a_token_that_waits_for_a_short_time_only_keeps_its_turn(
    child: Child, running: Token[Any], operation: Any, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn that is lent may cost a process, which is not made for a question that is answered at once."""
    monkeypatch.setattr("actors.processes.requests._request._GRACE_SECONDS", 1000.0)
    id = child.ask("submit", operation(door.pass_through), (), {}, None, None)
    number = child.begin("result", id, None)
    child.host.work_for(0.001)

    assert (child.host.lent, running._place.mailbox.active) == (0, 1)
    door.open()
    assert child.reply(number).value is None
    assert len(child.host.deadlines) == 0


def test_a_token_that_waits_for_one_of_the_pool_lends_its_turn_at_once(child: Child, running: Token[Any]) -> None:
    """The awaited token cannot begin before a turn is lent."""
    other: Token[Any] = running._place.token("crunch", int, ())
    number = child.begin("result", other.id, None)

    assert (child.host.lent, running._place.mailbox.active) == (1, 0)
    other._terminate("it was killed")
    assert isinstance(child.reply(number).error, errors.TokenTerminated)
    assert (child.host.lent, running._place.mailbox.active) == (0, 1)


def test_two_threads_of_a_child_that_wait_lend_one_turn(
    child: Child, running: Token[Any], operation: Any, door: Door
) -> None:
    """A worker has one turn to lend, however many of its threads wait."""
    id = child.ask("submit", operation(door.pass_through), (), {}, None, None)
    numbers = [child.begin("result", id, None) for _ in range(2)]
    child.host.work_for(1.0)

    assert (child.host.lent, running._place.mailbox.active) == (1, 0)
    door.open()
    assert [child.reply(number).value for number in numbers] == [None, None]
    assert (child.host.lent, running._place.mailbox.active) == (0, 1)


def test_other_calls_of_a_child_do_not_wait_with_it(
    child: Child, running: Token[Any], operation: Any, door: Door
) -> None:
    """Calls that it was sent and has not begun are taken back."""
    not_started: Token[Any] = running._place.token("crunch", int, ())
    child.worker.next_number(not_started)
    id = child.ask("submit", operation(door.pass_through), (), {}, None, None)
    number = child.begin("result", id, None)
    child.host.work_for(1.0)

    assert child.host.reclaimed == [child.worker]
    door.open()
    assert child.reply(number).value is None
    not_started._terminate("the test is over")


def test_a_wait_that_would_never_end_is_a_deadlock(
    system: ActorSystem, child: Child, running: Token[Any], counter: Any, until: Any
) -> None:
    """A child that asks an actor that waits for its token gets a DeadlockError, and its message is withdrawn."""
    waiting = counter.proxy().wait_for(running)
    until(lambda: bool(waiting._extras.waits))

    with pytest.raises(errors.DeadlockError, match="crunch"):
        child.ask("ask", counter.path, "hello", None)

    assert running._extras.waits == []
    assert child.host.lent == 0
    running._finish(TokenState.COMPLETED, 5)
    assert waiting.result(LIMIT) == 5
    assert counter.proxy().got.get(timeout=LIMIT) == []


def test_a_child_that_waits_closes_a_circle_for_others(
    child: Child, running: Token[Any], counter: Any, door: Door, until: Any
) -> None:
    """An actor gets a DeadlockError if it waits for a token in a child that waits for the actor."""
    number = child.begin("result", counter.proxy().through(door).id, None)
    child.host.work()
    id = child.ask("call", counter.path, ("wait_for",), (child_package.RemoteToken(running.id),), {})
    number = child.begin("result", id, None)
    child.host.work()
    door.open()
    error = child.reply(number).error

    assert isinstance(error, errors.DeadlockError)


def test_a_wait_is_over_when_its_token_is_ended(child: Child, running: Token[Any], operation: Any, door: Door) -> None:
    """The turn is given back, and nothing is left that waits."""
    id = child.ask("submit", operation(door.pass_through), (), {}, None, None)
    number = child.begin("result", id, None)
    child.host.work_for(1.0)
    assert child.host.lent == 1
    running._terminate("it was killed")
    child.host.work()

    assert child.host.lent == 0
    assert running._extras.waits == []
    assert isinstance(child.reply(number).error, errors.ActorDead)


def test_a_dead_child_waits_for_nothing(child: Child, running: Token[Any], operation: Any, door: Door) -> None:
    """What it has waited for goes on, and its turn is given back."""
    id = child.ask("submit", operation(door.pass_through), (), {}, None, None)
    token = child._requests.system.live[id]
    child.begin("result", id, 1e6)
    child.host.work_for(1.0)
    assert child.host.lent == 1
    child._requests.forget(child.worker)

    assert child.host.lent == 0
    assert running._extras.waits == []
    assert len(child.host.deadlines) == 0
    assert len(child.worker.tokens) == 0
    door.open()
    assert token.result(LIMIT) is None
    child.host.work()
    assert child.read() == []


def test_a_queued_token_is_cancelled(child: Child, running: Token[Any], operation: Any, door: Door) -> None:
    """True when that has ended it."""
    key = operation(door.pass_through)
    first = child.ask("submit", key, (), {}, None, None)
    door.wait_reached()
    second = child.ask("submit", key, (), {}, None, None)

    assert child.ask("cancel", second) is True
    assert child.ask("done", second) is True
    assert child.ask("done", first) is False
    with pytest.raises(errors.TokenTerminated):
        child.ask("result", second, None)


def test_the_error_for_an_unknown_token_names_it(child: Child, running: Token[Any]) -> None:
    """An id that was never carried, or was let go."""
    with pytest.raises(LookupError, match="token 123456 "):
        child.ask("result", 123456, None)


# Which tokens are kept


def tokens(desk: Any, count: int) -> list[Token[Any]]:
    return [desk.token() for _ in range(count)]


def test_the_result_of_a_token_is_kept_as_long_as_the_call_that_knows_it(
    system: ActorSystem, child: Child, running: Token[Any], operation: Any, until: Any
) -> None:
    """There is no other reference to it; when the call is over it is freed."""
    id = child.ask("submit", operation(str.upper), ("loud",), {}, None, None)
    until(lambda: id not in system.live)

    assert child.ask("result", id, None) == "LOUD"
    assert child.ask("result", id, None) == "LOUD"
    child.worker.tokens.call_over(child.worker.begun, keep=False)
    with pytest.raises(LookupError, match=f"token {id} "):
        child.ask("result", id, None)
    assert child.ask("done", id) is True
    assert child.ask("cancel", id) is False


def test_a_token_among_the_arguments_is_kept_with_its_call(child: Child, running: Token[Any]) -> None:
    """It is known from the moment on in which it is pickled."""
    number = child.worker.next_number(running)
    child.worker.frame(_wire.CALL, number, 1, ((running,), {}))

    assert child.worker.tokens.by_call == {number: {running.id: running}}


def test_a_token_in_an_answer_is_kept_with_the_call_that_asks(
    child: Child, running: Token[Any], operation: Any
) -> None:
    """It arrives as what the child has for tokens."""
    answer = child.ask("direct", operation(lambda: running), (), {}, None, None)

    assert answer == child_package.RemoteToken(running.id)
    assert running.id in child.worker.tokens.by_call[child.worker.begun]


def test_an_actor_keeps_tokens_over_calls_until_it_has_their_values(desk: Any) -> None:
    """Its instance may have put them away."""
    first, second = tokens(desk, 2)
    known = KnownTokens()
    known.keep(1, first.id, first)
    known.keep(2, second.id, second)
    known.call_over(1, keep=True)

    assert known.changed
    assert list(known.by_call) == [2]
    assert len(known) == 2
    known.note_delivered(first.id)
    known.note_delivered(second.id)
    assert len(known) == 2
    known.call_over(2, keep=True)
    assert len(known) == 0
    assert not known.changed
    known.keep(3, first.id, first)
    known.call_over(3, keep=True)
    assert len(known) == 1  # the instance may have got it once more


def test_a_call_that_has_many_values_keeps_the_latest_tokens_of_these(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those whose value the child has are only kept so that it can send them on."""
    monkeypatch.setattr("actors.processes.pickling._exports._MOST_DELIVERED", 2)
    known = KnownTokens()
    made = tokens(desk, 4)
    for token in made:
        known.keep(1, token.id, token)
    for token in made[:3]:
        known.note_delivered(token.id)

    assert list(known.by_call[1].values()) == made[1:]


def test_an_actor_keeps_the_latest_tokens_only(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it never asks for does not pile up."""
    monkeypatch.setattr("actors.processes.pickling._exports._MOST_KEPT", 3)
    known = KnownTokens()
    for number, token in enumerate(tokens(desk, 5)):
        known.keep(number, token.id, token)
        known.call_over(number, keep=True)

    assert len(known) == 3
    known.clear()
    assert len(known) == 0


# Timers and watches of an actor


@pytest.fixture
def instance(start: Callable[..., Any], child: Child) -> Any:
    """The ref of an actor whose instance is in the child; its stand-in takes what is sent to it."""
    ref = start(Counter)
    child.worker.own = True
    child.worker.holder = SimpleNamespace(place=ref._place, worker=child.worker)
    return ref


def test_a_timer_sends_its_message_to_the_actor(child: Child, instance: Any, until: Any) -> None:
    """`send_after` is the stand-in's."""
    child.ask("send_after", 0.0, "tick")

    until(lambda: instance.proxy().got.get(timeout=LIMIT) == ["tick"])


def test_a_timer_is_cancelled_by_its_number(child: Child, instance: Any) -> None:
    """True when that kept a message from coming; once."""
    once = child.ask("send_after", 1e6, "tick")
    often = child.ask("send_every", 1e6, "tick")

    assert child.ask("cancel_timer", once) is True
    assert child.ask("cancel_timer", often) is True
    assert child.ask("cancel_timer", often) is False
    assert len(child._requests.system.timers) == 0


def test_timers_that_have_gone_off_are_let_go(
    child: Child, instance: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An actor may set as many as it likes."""
    monkeypatch.setattr("actors.processes.requests._remote_timers._CLEAN_AT", 4)
    for _ in range(4):
        child.ask("send_after", 0.0, "tick")
    until(lambda: instance.proxy().got.get(timeout=LIMIT) == ["tick"] * 4)
    number = child.ask("send_after", 1e6, "tock")

    assert list(child._requests._timers[child.worker]._all) == [number]


def test_what_a_dead_child_has_set_is_let_go(child: Child, instance: Any) -> None:
    """Timers end with the instance, which alone knows their numbers."""
    child.ask("send_every", 1e6, "tick")
    child._requests.forget(child.worker)

    assert child._requests._timers == {}
    assert child._requests._open == {}


def test_wrong_seconds_are_refused(child: Child, instance: Any) -> None:
    """With the words that an actor on a thread gets."""
    with pytest.raises(ValueError, match="send_every"):
        child.ask("send_every", 0, "tick")


def test_a_receive_timeout_is_set_and_unset(child: Child, instance: Any) -> None:
    """It is the stand-in's."""
    child.ask("receive_timeout", 1e6)
    assert len(child._requests.system.timers) == 1
    child.ask("receive_timeout", None)
    assert len(child._requests.system.timers) == 0


def test_a_watch_tells_the_actor_of_an_end(child: Child, instance: Any, counter: Any, until: Any) -> None:
    """The `Down` is a message to it; a watch that was ended tells nothing."""
    ended = child.ask("watch", counter.path)
    child.ask("watch", counter.path)

    assert child.ask("unwatch", ended) is True
    counter.stop()
    until(lambda: len(instance.proxy().got.get(timeout=LIMIT)) == 1)
    (down,) = instance.proxy().got.get(timeout=LIMIT)
    assert (down.path, down.closed) == (counter.path, True)


def test_a_watch_of_a_dead_actor_is_answered_at_once(child: Child, instance: Any, until: Any) -> None:
    """Even of one of which only the path is known."""
    child.ask("watch", "nobody")
    until(lambda: len(instance.proxy().got.get(timeout=LIMIT)) == 1)
    (down,) = instance.proxy().got.get(timeout=LIMIT)

    assert (down.path, down.reason.kind, down.closed) == ("nobody", "noproc", True)


def test_an_actor_stops_itself(child: Child, instance: Any, until: Any) -> None:
    """After all that is in its mailbox."""
    child.ask("self_stop")

    until(lambda: not instance.is_alive())


def test_an_actor_cannot_wait_for_its_own_end(child: Child, instance: Any, door: Door) -> None:
    """A stop of itself through its ref returns at once."""
    instance.proxy().through(door)
    number = child.begin("stop", instance.path, True, None)

    assert child.answered(number)
    assert child.reply(number).value is True


@pytest.mark.parametrize(
    "item", [("self_stop",), ("send_after", 1.0, "tick"), ("watch", "x")], ids=lambda item: item[0]
)
def test_an_operation_has_no_timers(child: Child, running: Token[Any], item: Any) -> None:
    """Nor watches, nor an end of its own."""
    with pytest.raises(RuntimeError, match="only an actor"):
        child.ask(*item)


def test_an_instance_that_has_ended_sets_no_timers(child: Child, instance: Any) -> None:
    """The next instance at its place is another one."""
    child.worker.holder = SimpleNamespace(place=instance._place, worker=None)

    with pytest.raises(RuntimeError, match="does not run"):
        child.ask("send_after", 1.0, "tick")


# Answers on their way


def test_descriptors_have_the_order_of_their_frames(child: Child) -> None:
    """Whichever thread sends large payloads: a call, or an answer."""
    worker = child.worker
    carriers = [worker.carrier, child._requests._values]

    def send(kind: int) -> None:
        for number in range(20):
            frame = worker.frame(kind, number, 0, bytes([kind, number]) * MEBIBYTE, carriers[kind])
            assert not worker.stream.send(frame)

    threads = [threading.Thread(target=send, args=(kind,)) for kind in range(2)]
    for thread in threads:
        thread.start()
    seen = []
    while len(seen) < 40:
        for frame in child.read():
            _, descriptors, _, _ = socket.recv_fds(child.files, 1, 1)
            stream, buffers = open_payload(descriptors[0], frame.payload)
            value = pickle.loads(stream, buffers=buffers)
            seen.append((frame.kind, frame.number))
            assert bytes(value[:2]) == bytes([frame.kind, frame.number])
    for thread in threads:
        thread.join(LIMIT)

    assert sorted(seen) == [(kind, number) for kind in range(2) for number in range(20)]


def test_a_frame_that_is_never_sent_leaves_no_file_open(child: Child) -> None:
    """Its descriptor goes with it: the check after each test would find it."""
    child.worker.frame(_wire.REPLY, 1, 0, bytes(MEBIBYTE))


# Log records


class Recorder(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.threads: set[str] = set()
        self.door = Door()
        self.door.open()

    def emit(self, record: logging.LogRecord) -> None:
        self.door.pass_through()
        self.threads.add(threading.current_thread().name)
        self.records.append(record)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    logger = logging.getLogger("users.own")
    handler = Recorder()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield handler
    logger.removeHandler(handler)


RECORD = {"name": "users.own", "msg": "hello", "args": None, "levelno": logging.INFO, "levelname": "INFO"}


def test_a_log_record_is_handled_by_the_gates_loggers(
    child: Child, running: Token[Any], recorder: Recorder, until: Any
) -> None:
    """With the token and the actor that it comes from, on a thread that is there for that alone."""
    child.log(child.worker.begun, **RECORD, process=4711)
    until(lambda: bool(recorder.records))
    (record,) = recorder.records

    assert record.getMessage() == "hello"
    assert (record.token, record.actor, record.process) == (running.id, "crunch", 4711)  # type: ignore[attr-defined]
    assert recorder.threads == {"test-process-log"}


def test_a_log_record_of_no_token_says_so(child: Child, instance: Any, recorder: Recorder, until: Any) -> None:
    """One of an actor's hook has its path."""
    child.log(0, **RECORD)
    until(lambda: bool(recorder.records))
    (record,) = recorder.records

    assert (record.token, record.actor) == (None, instance.path)  # type: ignore[attr-defined]


def test_a_log_record_keeps_a_field_of_the_users_own(
    child: Child, running: Token[Any], recorder: Recorder, until: Any
) -> None:
    """What came as `extra` is not written over."""
    child.log(child.worker.begun, **RECORD, token="mine")
    until(lambda: bool(recorder.records))

    assert recorder.records[0].token == "mine"  # type: ignore[attr-defined]


def test_a_log_record_below_the_level_is_not_handled(
    child: Child, running: Token[Any], recorder: Recorder, until: Any
) -> None:
    """The gate's loggers decide."""
    child.log(child.worker.begun, **{**RECORD, "levelno": logging.DEBUG})
    child.log(child.worker.begun, **RECORD)
    until(lambda: bool(recorder.records))

    assert [record.levelno for record in recorder.records] == [logging.INFO]


def test_the_level_of_records_is_the_lowest_that_a_logger_has() -> None:
    """A child sends the records that any logger here accepts; a change of levels is noticed."""
    logger = logging.getLogger("users.own.level")
    before = _carrier.log_level()
    logger.setLevel(before - 1)
    assert _carrier.log_level() == before - 1
    logging.disable(before + 1)
    assert _carrier.log_level() == before + 2
    logging.disable(logging.NOTSET)
    logger.setLevel(logging.NOTSET)
    assert _carrier.log_level() == before


def test_a_level_that_changes_while_the_lowest_one_is_looked_up_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lookup holds the lock under which `logging` has all of them looked up anew."""
    held: list[bool] = []

    class Observed(logging.Logger):
        def __getattribute__(self, name: str) -> Any:
            if name == "level":
                held.append(logging._lock._is_owned())  # type: ignore[attr-defined]
            return super().__getattribute__(name)

    observed = Observed("users.own.observed")
    monkeypatch.setitem(logging.root.manager.loggerDict, observed.name, observed)
    logging.disable(logging.root.manager.disable)  # has them looked up anew
    held.clear()
    _carrier.log_level()

    assert held
    assert all(held)


def test_a_slow_handler_delays_nothing_else(child: Child, running: Token[Any], recorder: Recorder) -> None:
    """Requests are answered meanwhile, and the records are handled in order before the end."""
    recorder.door = Door()
    for number in range(3):
        child.log(child.worker.begun, **{**RECORD, "msg": str(number)})
    recorder.door.wait_reached()

    assert child.ask("current")["id"] == running.id
    recorder.door.open()
    child._requests.close()
    late = child._requests.join(time.monotonic() + LIMIT)
    assert late == []
    assert [record.getMessage() for record in recorder.records] == ["0", "1", "2"]


def test_a_handler_that_does_not_return_is_named(child: Child, running: Token[Any], recorder: Recorder) -> None:
    """Closing waits for it until its deadline, and no longer."""
    recorder.door = Door()
    child.log(child.worker.begun, **RECORD)
    recorder.door.wait_reached()
    child._requests.close()

    assert child._requests.join(0.0) == ["test-process-log"]
    recorder.door.open()


def test_a_log_record_of_a_doomed_child_is_handled(
    child: Child, running: Token[Any], recorder: Recorder, until: Any
) -> None:
    """It was written before the child was killed."""
    child.worker.doomed = True
    child.log(child.worker.begun, **RECORD)

    until(lambda: bool(recorder.records))


def test_a_record_that_cannot_be_handled_does_not_end_the_thread(
    child: Child, running: Token[Any], recorder: Recorder, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the next one is handled."""
    child.log(child.worker.begun, msg="a record with neither a name nor a level")
    child.log(child.worker.begun, **RECORD)
    until(lambda: bool(recorder.records))


def test_the_place_of_a_path_is_the_one_that_is_there(system: ActorSystem, counter: Any) -> None:
    """And nothing that is asked for leaves a place behind."""
    before = len(system.places())

    assert place_of(counter.path, system) is counter._place
    assert place_of("nobody", system).closed
    assert len(system.places()) == before


def test_a_ref_of_one_that_has_ended_comes_back_as_itself(system: ActorSystem, counter: Any) -> None:
    """As long as it is referenced."""
    path = path_of(counter._place, system)
    counter.stop()

    assert place_of(path, system).ref is counter


def test_tokens_and_actors_of_another_gate_are_not_taken_for_ones_own(system: ActorSystem, desk: Any) -> None:
    """They have ids and paths that nothing else has here."""
    own, foreign = system.place("counter", Counter), desk.system.place("counter", Counter)
    token = desk.token()
    path = path_of(foreign, system)

    assert path != path_of(own, system)
    assert place_of(path, system) is foreign
    assert place_of("counter", system) is own
    assert id_of(token, system) < 0
    assert token_of(id_of(token, system), system) is token
    assert token_of(token.id, system) is None


def test_actors_of_several_other_gates_have_different_paths(system: ActorSystem) -> None:
    """Even if these have the same name."""
    others = [ActorSystem("other").place("counter", Counter) for _ in range(3)]
    paths = [path_of(place, system) for place in others]

    assert [place_of(path, system) for path in paths] == others
    assert [path_of(place, system) for place in others] == paths
