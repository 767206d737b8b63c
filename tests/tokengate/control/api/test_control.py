"""The verbs in Python: what they ask, what they make of the answer, blocking and awaited."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Generator, Iterator
from typing import Any

import pytest
import trio
import trio.testing
from made_events import made_event
from tiers import IN_CI

from actors import Token, UnknownActor
from tokengate import Gate, token
from tokengate.control import messages as m
from tokengate.control._exceptions import BadRequest, BadSelector, NotSteerable
from tokengate.control.api._answers import Outcomes
from tokengate.control.api._control import AsyncControl, Control
from tokengate.control.api._handles import ActorHandle, TokenHandle, TokenList
from tokengate.control.inspection._actor_state import public_attributes, received_after, replace_attributes
from tokengate.control.messages import (
    VERBS,
    ActorRow,
    Event,
    Message,
    Outcome,
    Stream,
    TokenPage,
    TokenRow,
    selected,
)
from tokengate.control.steering import _outcomes
from tokengate.control.transport._client import ControlClient
from tokengate.control.transport._discovery import find_gate


def row(id: int) -> TokenRow:
    return TokenRow(id, "resize", "/operations/resize", "cpu", "queued", 0, {}, None, 1, 0, 1.0, None)


def actor_row(path: str) -> ActorRow:
    return ActorRow(path, "Counter", "cpu", "running", 0, 10, (), 1, 0, False, False)


def item(text: str) -> Event:
    return made_event(0.0, "token.queued", "/counter", 1, text)


class FakeGate:
    """Remembers what it is asked, and answers as it was told to."""

    def __init__(self, answer: Any = ()) -> None:
        self.answer = answer
        self.asked: list[Message] = []
        self.left = False

    def ask(self, message: Message) -> Any:
        self.asked.append(message)
        return self.answer

    async def ask_async(self, message: Message) -> Any:
        return self.ask(message)

    def follow(self, stream: Stream) -> Generator[Event]:
        self.asked.append(stream)
        return self._items()

    def _items(self) -> Generator[Event]:
        try:
            yield from self.answer
        finally:
            self.left = True


@pytest.fixture
def gate() -> FakeGate:
    return FakeGate()


@pytest.fixture
def control(gate: FakeGate) -> Control:
    return Control(gate.ask, gate.follow)


CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any], Message]] = [
    ("info", (), {}, m.Info()),
    ("tokens", (), {}, m.Tokens()),
    (
        "tokens",
        ("state=queued",),
        {"sort": "-age", "offset": 2},
        m.Tokens("state=queued", sort="-age", offset=2),
    ),
    ("describe", (7,), {}, m.Describe(7)),
    ("describe_actor", ("counter",), {}, m.DescribeActor("counter")),
    ("stack", ("7",), {}, m.Stack(7)),
    ("pause", (7,), {"stop_clock": True, "wait": 1.0}, m.Pause((7,), stop_clock=True, wait=1.0)),
    ("resume", ("*",), {"force": True}, m.Resume("*", force=True)),
    ("step", ([7, 8], 2), {}, m.Step((7, 8), n=2)),
    (
        "terminate",
        ("tenant=acme", "kill"),
        {"reason": "late", "grace": 3.0},
        m.Terminate("tenant=acme", mode="kill", reason="late", grace=3.0),
    ),
    ("renice", (7, 5), {"dry_run": True}, m.Renice((7,), priority=5, dry_run=True)),
    ("retag", (7, {"a": "b"}, "c"), {}, m.Retag((7,), set={"a": "b"}, remove=("c",))),
    ("reroute", (7,), {"affinity": "io"}, m.Reroute((7,), affinity="io")),
    (
        "limit",
        (7,),
        {"memory": "2GiB", "cpu_time": None, "wall_time": 5, "address_space": m.KEEP},
        m.Limit((7,), memory="2GiB", cpu_time="none", wall_time=5),
    ),
    ("estimate", (7,), {"run": 600, "memory": None}, m.Estimate((7,), run=600, memory="none")),
    ("throttle", ("*",), {"rate": 2.0}, m.SetThrottle("*", rate=2.0)),
    ("lift", ("*",), {}, m.Lift("*")),
    ("throttles", (), {}, m.Throttles()),
    ("actors", ("count*",), {"sample": 0.5}, m.Actors("count*", sample=0.5)),
    ("tree", ("/user",), {"system": True}, m.Tree("/user", system=True)),
    ("statistics", ("counter", "on"), {}, m.Statistics("counter", "on")),
    ("suspend", ("counter",), {}, m.Suspend("counter")),
    ("unsuspend", ("counter",), {}, m.Unsuspend("counter")),
    ("drain", ("counter", 1.0), {"reopen": True}, m.Drain("counter", 1.0, reopen=True)),
    ("restart", ("counter",), {}, m.Restart("counter")),
    ("stop", ("counter",), {"drain": False, "wait": 1.0}, m.Stop("counter", drain=False, wait=1.0)),
    ("get_state", ("counter", 1.0), {}, m.GetState("counter", 1.0)),
    ("set_state", ("counter",), {"name": 3, "wait": 1}, m.SetState("counter", {"name": 3, "wait": 1})),
    ("which_children", ("shop",), {}, m.WhichChildren("shop")),
    ("count_children", ("shop",), {}, m.CountChildren("shop")),
    ("terminate_child", ("shop", "c1"), {}, m.TerminateChild("shop", "c1")),
    ("restart_child", ("shop", "c1"), {}, m.RestartChild("shop", "c1")),
    ("delete_child", ("shop", "c1"), {}, m.DeleteChild("shop", "c1")),
]


@pytest.mark.parametrize(("verb", "args", "kwargs", "message"), CALLS, ids=[call[0] for call in CALLS])
def test_a_verb_asks_its_message(
    control: Control, gate: FakeGate, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any], message: Message
) -> None:
    """A method builds the message of its name, and asks nothing else; the awaited one builds the same."""
    getattr(control, verb)(*args, **kwargs)
    trio.run(lambda: getattr(control.aio, verb)(*args, **kwargs))

    assert gate.asked == [message, message]


@pytest.mark.parametrize(("made_with", "wait"), [({}, 0.02), ({"wait": 0.25}, 0.25)])
def test_a_control_can_be_made_to_wait_longer(gate: FakeGate, made_with: dict[str, Any], wait: float) -> None:
    """By all verbs that wait, awaited ones and those of handles as well, unless they are told."""
    control = Control(gate.ask, gate.follow, **made_with)
    control.pause(7)
    control.step(7)
    control.terminate(7)
    trio.run(control.aio.pause, 7)
    TokenHandle(control, row(7)).pause()
    control.pause(7, wait=0)

    assert [message.wait for message in gate.asked] == [*[wait] * 5, 0]  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [Control, AsyncControl])
def test_every_verb_is_a_method_with_a_docstring(kind: type[object]) -> None:
    """The vocabulary and the Python interface have the same verbs."""
    for verb in [*VERBS, "token", "actor", "replace_state"]:
        assert (inspect.getdoc(getattr(kind, verb)) or "").endswith((".", "here.")), verb


def test_the_signature_of_a_verb_tells_its_result(control: Control) -> None:
    """help() shows what the caller gets."""
    assert str(inspect.signature(control.pause)).startswith("(select: Target, *, stop_clock: bool = False")
    assert inspect.signature(control.pause).return_annotation == "Outcomes"


def test_what_names_tokens_is_an_id_a_token_a_selector_or_several() -> None:
    """Each way of naming tokens ends as ids, but for selectors."""

    @token
    def nothing() -> None: ...

    with Gate("control-selected"):
        real: Token[None] = nothing.submit()
        real.result(60)
    handle = TokenHandle(Control(lambda _: None, FakeGate().follow), row(7))

    assert selected(7) == (7,)
    assert selected(" 7 ") == (7,)
    assert selected("*") == "*"
    assert selected("state=queued") == "state=queued"
    assert selected(real) == (real.id,)
    assert selected(handle) == selected(row(7)) == (7,)
    assert selected(n for n in (1, 2)) == (1, 2)
    assert selected([handle, row(8), real, 9]) == (7, 8, real.id, 9)


@pytest.mark.parametrize("target", ["", "  ", True, 1.5, None, ["state=queued"], [None]])
def test_what_names_no_token_is_refused_before_anything_is_asked(control: Control, gate: FakeGate, target: Any) -> None:
    """The empty selector would be all tokens, and is surely none that was meant."""
    with pytest.raises(BadRequest, match=r"selector would|expected a token"):
        control.pause(target)

    assert gate.asked == []


def test_no_tokens_are_no_question(control: Control, gate: FakeGate) -> None:
    """A verb for an empty list does nothing; in particular it is not one for all tokens."""
    assert control.terminate([]) == Outcomes(())
    assert trio.run(control.aio.terminate, ()) == Outcomes(())
    assert gate.asked == []


def test_lists_of_tokens_come_as_handles(control: Control, gate: FakeGate) -> None:
    """`tokens` gives a sequence of handles with the gate's rows."""
    gate.answer = TokenPage((row(1), row(2)), matching=5, live=9, offset=0)

    found = control.tokens()

    assert found == TokenList(control, gate.answer)
    assert [each.id for each in found] == [1, 2]


def test_an_actor_must_be_one(control: Control, gate: FakeGate) -> None:
    """A handle is for one actor; a name that several have is an error that names them."""
    gate.answer = (actor_row("/a/counter"),)

    assert control.actor("counter") == ActorHandle(control, actor_row("/a/counter"))

    gate.answer += (actor_row("/b/counter"),)
    with pytest.raises(UnknownActor, match=r"2 actors are called 'counter' \(/a/counter, /b/counter\); give the path"):
        control.actor("counter")

    gate.answer = ()
    with pytest.raises(UnknownActor, match=r"no actor is called 'counter'; actors\(\) lists them"):
        control.actor("counter")


class Instance:
    def __init__(self) -> None:
        self._secret = 1
        self.count = 2
        self.names = ["a"]


class Visited(FakeGate):
    """A gate of this process, with one actor."""

    def __init__(self) -> None:
        super().__init__()
        self.instance = Instance()

    def ask(self, message: Message) -> Any:
        assert isinstance(message, m.Visit)
        return message.function(self.instance)


def test_state_within_the_process_is_the_real_one() -> None:
    """`get_state` gives the actor's own objects in a new dict, without what is private."""
    gate = Visited()
    control = Control(gate.ask, gate.follow, local=True)

    state = control.get_state("counter")

    assert state == {"count": 2, "names": ["a"]}
    assert state["names"] is gate.instance.names
    assert state is not vars(gate.instance)


def test_state_is_replaced_by_what_a_function_returns() -> None:
    """What is missing is deleted, what is new is set, what is private stays; the new state is returned."""
    gate = Visited()
    control = Control(gate.ask, gate.follow, local=True)

    new = control.replace_state("counter", lambda state: {"count": state["count"] + 1, "more": 0})

    assert new == {"count": 3, "more": 0}
    assert vars(gate.instance) == {"_secret": 1, "count": 3, "more": 0}
    assert control.visit("counter", lambda instance: instance.count) == 3


@pytest.mark.parametrize("bad", [None, [("count", 1)], {"_secret": 2}, {"not a name": 1}, {3: 1}])
def test_a_bad_state_changes_nothing(bad: Any) -> None:
    """A state that is none, or that has private names, is refused before anything is set or deleted."""
    instance = Instance()

    with pytest.raises(BadRequest, match="the function returned"):
        received_after(None, replace_attributes(instance, lambda _: bad))
    with pytest.raises(ZeroDivisionError):
        replace_attributes(instance, lambda _: {"count": 1 // 0})

    assert public_attributes(instance) == {"count": 2, "names": ["a"]}


@pytest.mark.parametrize("verb", ["replace_state", "visit"])
def test_no_function_goes_through_a_socket(control: Control, gate: FakeGate, verb: str) -> None:
    """The error names what to use instead."""
    with pytest.raises(NotSteerable, match=rf"{verb}\('counter', ...\) takes a function.*use set_state\('counter'"):
        getattr(control, verb)("counter", dict)

    assert gate.asked == []


@pytest.mark.parametrize(
    ("verb", "args", "message"),
    [
        ("watch", (), m.Watch()),
        ("watch", ("a=b",), m.Watch("a=b")),
    ],
)
def test_streams_are_iterators_that_can_be_left(
    control: Control, gate: FakeGate, verb: str, args: tuple[Any, ...], message: Message
) -> None:
    """At the end of its block a stream is left, and gives nothing more."""
    gate.answer = (item("one"), item("two"))

    with getattr(control, verb)(*args) as following:
        assert next(following) == item("one")

    assert gate.left
    assert list(following) == []
    assert gate.asked == [message]
    following.close()


def test_a_message_with_one_answer_is_not_followed(control: Control, gate: FakeGate) -> None:
    """Its reader would wait for items for ever."""
    with pytest.raises(BadRequest, match=r"Info is no message with many answers; use ask\(\)"):
        control.follow(m.Info())  # type: ignore[arg-type]

    assert gate.asked == []


def test_streams_can_be_awaited(control: Control, gate: FakeGate) -> None:
    """`async for` gives what happens; the stream ends when the gate goes."""
    gate.answer = (item("one"), item("two"))

    async def main() -> list[str]:
        async with control.aio.watch() as following:
            return [each.text async for each in following]

    assert trio.run(main) == ["one", "two"]
    assert gate.left


def test_verbs_are_awaited_on_trio_and_asyncio_by_either_way_to_ask(gate: FakeGate) -> None:
    """With `ask_async` that is awaited; without it the blocking one runs in a thread."""
    gate.answer = (Outcome(7, "resize", "paused"),)

    async def main(control: Control) -> Outcomes:
        return await control.aio.pause(7)

    for control in (Control(gate.ask, gate.follow), Control(gate.ask, gate.follow, gate.ask_async)):
        assert trio.run(main, control) == Outcomes(gate.answer)
        assert asyncio.run(main(control)) == Outcomes(gate.answer)

    assert gate.asked == [m.Pause((7,))] * 4


@pytest.fixture
def open_gate(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    monkeypatch.setenv("TOKENGATE_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    with Gate("control-follow") as opened:
        yield opened


@pytest.fixture(params=["locally", "through its socket"])
def real_control(open_gate: Gate, request: pytest.FixtureRequest) -> Iterator[Control]:
    """The verbs of a gate that runs, by each way to it."""
    if request.param == "locally":
        yield open_gate.control
        return
    with ControlClient(find_gate(open_gate.name).path) as client:
        yield Control(client.ask, client.follow)


@token
def one() -> int:
    return 1


def test_what_happens_after_watch_has_returned_is_not_missed(real_control: Control) -> None:
    """Though nobody has asked for an item yet."""
    for _ in range(20 if IN_CI else 5):
        with real_control.watch("operation=one") as following:
            sent = one.submit()
            first = next(following)
        sent.result(60)

        # A thread that has just ended the token before may tell of its start before this one tells that it is queued.
        word = first.kind.removeprefix("token.")
        assert word in {"queued", "started"}
        assert (first.token, first.text) == (sent.id, f"token {sent.id} (one of '{sent.actor}') {word}")


def test_what_happens_after_an_awaited_watch_has_begun_is_not_missed(real_control: Control) -> None:
    """From the start of its block."""

    async def main() -> tuple[int, int | None]:
        async with real_control.aio.watch("operation=one") as following:
            sent = one.submit()
            first = await anext(following)
            await sent
            return sent.id, first.token

    sent, seen = trio.run(main)

    assert sent == seen


def test_a_bad_selector_is_told_by_watch_itself(real_control: Control) -> None:
    """Not by the first item."""
    with pytest.raises(BadSelector):
        real_control.watch("operation")


def test_a_thread_that_waits_for_what_happens_is_woken_by_close(real_control: Control) -> None:
    """It gets to the end."""
    following = real_control.watch("operation=one")
    seen: list[Event] = []
    at_first = threading.Event()

    def read() -> None:
        for each in following:
            seen.append(each)
            if each.kind == "token.finished":
                at_first.set()

    thread = threading.Thread(target=read)
    thread.start()
    one.submit().result(60)
    assert at_first.wait(60)
    following.close()
    thread.join(60)

    assert not thread.is_alive()
    assert [each.kind for each in seen] == ["token.queued", "token.started", "token.finished"]


def test_an_awaited_stream_that_is_closed_wakes_its_waiter(real_control: Control) -> None:
    """It ends there; one that is closed before it has begun never does."""

    async def main() -> None:
        following = real_control.aio.watch("operation=one")
        async with following, trio.open_nursery() as nursery:

            async def close() -> None:
                await trio.testing.wait_all_tasks_blocked()
                following.close()

            nursery.start_soon(close)
            assert [each async for each in following] == []
        never = real_control.aio.watch()
        never.close()
        assert [each async for each in never] == []

    trio.run(main)


@pytest.mark.parametrize(
    ("mode", "wait", "grace", "waited"),
    [("kill", 0.0, 3.0, 3.0), ("kill", 5.0, 3.0, 5.0), ("kill", 0.0, 0.0, 0.0), ("interrupt", 0.5, 3.0, 0.5)],
)
def test_kill_gives_code_its_grace_before_it_is_left_behind(
    open_gate: Gate, monkeypatch: pytest.MonkeyPatch, mode: m.Mode, wait: float, grace: float, waited: float
) -> None:
    """However little the verb is to wait; other modes leave nothing behind, and know no grace."""
    seen: list[float] = []

    async def settle(steps: list[Any], seconds: float) -> tuple[Outcome, ...]:
        seen.append(seconds)
        return ()

    monkeypatch.setattr(_outcomes, "settle", settle)
    open_gate.control.terminate("operation=none", mode, wait=wait, grace=grace)

    assert seen == [waited]


@pytest.mark.parametrize("grace", [-1.0, float("inf"), float("nan")])
def test_a_grace_that_cannot_be_meant_is_refused(open_gate: Gate, grace: float) -> None:
    """As every number of seconds is."""
    with pytest.raises(BadRequest, match="grace is"):
        open_gate.control.terminate("operation=none", "kill", grace=grace)
