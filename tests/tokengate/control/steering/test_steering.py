"""What the verbs do to tokens, of every kind and wherever they are, and the word that they tell of it."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pykka
import pytest
import trio
from gated_code import LIMIT, Door
from running_tokens import ForeignTurner, IoTurner, Kind, Turner, cpu_operation, io_operation

from actors import Token, TokenState, UnknownActor
from tokengate import CpuActor, Gate, token
from tokengate.control._exceptions import BadRequest, BadSelector
from tokengate.control.messages import OUTCOMES, Outcome
from tokengate.control.steering._outcomes import outcome
from tokengate.errors import TokenInterrupt, TokenTerminated

Doors = Callable[[], Door]
Until = Callable[[Callable[[], bool]], None]

PAUSES_RUNNING_CODE = sys.version_info >= (3, 12)


def one(outcomes: Any) -> Outcome:
    """Return the only outcome."""
    [outcome] = outcomes
    assert isinstance(outcome, Outcome)
    return outcome


def words(outcomes: Any) -> list[str]:
    return [outcome.outcome for outcome in outcomes]


@token
def nothing() -> str:
    return "done"


@token
def block(door: Door) -> str:
    """Wait where nothing can be stopped: in C code that runs no Python code."""
    door.pass_through()
    return "late"


@token
def spin(door: Door) -> str:
    """Run plain Python code that knows nothing of us."""
    door.reached.set()
    while not door.is_open:
        door.rounds += 1
    return "through"


@pytest.fixture
def queued(gate: Gate, doors: Doors) -> Callable[[], Token[str]]:
    """Make tokens that stay in the queue: their operation is suspended."""
    nothing.submit().result(LIMIT)
    gate.control.suspend("nothing")
    return nothing.submit


# --- Pause, resume, step ---------------------------------------------------------------------------------------------


def test_a_running_token_of_each_kind_is_paused_and_goes_on(gate: Gate, door: Door, kind: Kind) -> None:
    """No code of a paused token runs; after `resume` it goes on as if nothing had been."""
    sent = kind.begin(gate, door)
    door.wait_reached()

    assert one(gate.control.pause(sent, wait=LIMIT)).outcome == "paused"
    assert sent.state is TokenState.PAUSED
    rounds = door.rounds
    door.open()
    assert one(gate.control.pause(sent)).outcome == "unchanged"
    assert (sent.state, door.rounds) == (TokenState.PAUSED, rounds)

    assert one(gate.control.resume(sent)).outcome == "resumed"
    assert sent.result(LIMIT) == "through"
    assert one(gate.control.resume(sent)).outcome == "ended"
    assert one(gate.control.pause(sent)).outcome == "ended"


def test_a_paused_token_of_each_kind_takes_a_step_and_is_held_again(gate: Gate, door: Door, kind: Kind) -> None:
    """`step` counts what has been done, and pauses again; one that runs is paused first."""
    sent = kind.begin(gate, door)
    door.wait_reached()

    assert one(gate.control.step(sent, 2, wait=LIMIT)).outcome == "stepped"
    assert sent.state is TokenState.PAUSED
    before = sent.steps
    assert one(gate.control.step(sent, 5, wait=LIMIT)).outcome == "stepped"

    assert sent.steps - before == 5
    door.open()
    outcome = one(gate.control.step(sent, 1_000, wait=LIMIT))
    assert (outcome.outcome, sent.result(LIMIT)) == ("stepped", "through")
    assert "end" in outcome.note


def test_steps_for_those_that_a_selector_means_are_for_running_ones_too(gate: Gate, door: Door) -> None:
    """`step state=running` is for the tokens that ran when it came, although they are paused for it."""
    sent = cpu_operation.submit(door)
    door.wait_reached()

    assert words(gate.control.step("state=running", 1, wait=LIMIT)) == ["stepped"]
    assert sent.state is TokenState.PAUSED


@pytest.mark.skipif(not PAUSES_RUNNING_CODE, reason="needs sys.monitoring")
def test_plain_code_is_paused_and_stepped_where_python_can(gate: Gate, door: Door) -> None:
    """A loop without any checkpoint stops, line by line."""
    sent = spin.submit(door)
    door.wait_reached()

    assert one(gate.control.pause(sent, wait=LIMIT)).outcome == "paused"
    rounds = door.rounds
    assert one(gate.control.step(sent, 4, wait=LIMIT)).outcome == "stepped"
    assert rounds < door.rounds <= rounds + 4
    assert one(gate.control.resume(sent)).outcome == "resumed"
    door.open()
    assert sent.result(LIMIT) == "through"


def test_what_cannot_be_paused_yet_is_said_to_be_asked(gate: Gate, door: Door) -> None:
    """Code that waits in C is `pause_requested`; it is paused, or has ended, when it comes back."""
    sent = block.submit(door)
    door.wait_reached()

    assert one(gate.control.pause(sent, wait=0)).outcome == "pause_requested"
    assert gate.control.describe(sent).row.held == "pause_requested"
    assert sent.state is TokenState.RUNNING
    assert one(gate.control.step(sent, wait=0)).outcome in {"step_requested", "pause_requested"}
    assert one(gate.control.resume(sent)).outcome == "resumed"
    door.open()
    assert sent.result(LIMIT) == "late"


def test_a_queued_token_is_paused_before_it_begins(gate: Gate, queued: Callable[[], Token[str]]) -> None:
    """It stands beside the queue, and the others go past it."""
    held, free = queued(), queued()

    assert one(gate.control.pause(held)).outcome == "paused"
    gate.control.unsuspend("nothing")
    assert free.result(LIMIT) == "done"
    assert (held.state, held.started_at) == (TokenState.PAUSED, None)
    assert one(gate.control.resume(held)).outcome == "resumed"
    assert held.result(LIMIT) == "done"
    assert one(gate.control.resume(held)).outcome == "ended"


def test_a_queued_token_that_is_stepped_waits_for_its_turn(gate: Gate, queued: Callable[[], Token[str]]) -> None:
    """Steps are asked for where nobody can take them yet."""
    sent = queued()

    assert one(gate.control.step(sent, wait=0)).outcome == "step_requested"
    assert one(gate.control.resume(sent)).outcome == "resumed"
    gate.control.unsuspend("nothing")
    assert sent.result(LIMIT) == "done"


def test_resuming_what_nobody_holds_does_nothing(gate: Gate, door: Door) -> None:
    """`unchanged` says so."""
    sent = cpu_operation.submit(door)
    door.wait_reached()

    assert one(gate.control.resume(sent)).outcome == "unchanged"


def test_a_token_whose_sender_waits_for_room_is_paused_as_soon_as_it_is_queued(
    gate: Gate, doors: Doors, until: Until
) -> None:
    """A pause that comes before the queue holds what comes out of it."""

    @token(capacity=1, concurrency=1)
    def narrow(door: Door) -> str:
        door.pass_through()
        return "done"

    first, later = doors(), doors()
    ran = narrow.submit(first)
    first.wait_reached()
    narrow.submit(later)
    sender = threading.Thread(target=_in_gate(gate, lambda: narrow.submit(later)))
    sender.start()
    until(lambda: len(gate.control.tokens("state=created")) == 1)
    created = gate.control.tokens("state=created")[0].id

    assert one(gate.control.pause(created, wait=0)).outcome == "pause_requested"
    first.open()
    sender.join(LIMIT)
    until(lambda: gate.control.describe(created).row.state == "paused")
    later.open()
    until(lambda: gate.control.describe(created).row.state == "paused" and len(gate.control.tokens("*")) == 1)
    assert gate.control.describe(created).row.running is None
    assert ran.result(LIMIT) == "done"
    assert one(gate.control.resume(created)).outcome == "resumed"
    until(lambda: not gate.control.tokens("*"))


def _in_gate(gate: Gate, function: Callable[[], Any]) -> Callable[[], None]:
    def run() -> None:
        with gate.entered():
            try:
                function()
            except TokenTerminated:
                pass

    return run


def test_a_pause_that_stops_the_clock_says_so_and_counts(gate: Gate, door: Door) -> None:
    """`describe` has the seconds that were paused, and of these those that do not count."""
    sent = cpu_operation.submit(door)
    door.wait_reached()

    assert "runs on" in one(gate.control.pause(sent, wait=LIMIT)).note
    plain = gate.control.describe(sent)
    assert plain.paused_for > 0
    assert plain.stopped_clock == 0
    assert "stopped" in one(gate.control.pause(sent, stop_clock=True, wait=LIMIT)).note
    stopped = gate.control.describe(sent)
    assert 0 < stopped.stopped_clock < stopped.paused_for
    gate.control.resume(sent)
    after = gate.control.describe(sent)
    assert after.paused_for >= stopped.paused_for
    assert gate.control.describe(sent).stopped_clock == after.stopped_clock


# --- Terminate -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["cancel", "interrupt", "kill"])
def test_a_running_token_of_each_kind_ends(gate: Gate, doors: Doors, kind: Kind, mode: Any) -> None:
    """Whatever the mode, what comes to a yield point ends as `terminated`, with the reason, exactly once.

    A process does not even have to come to one, unless it is only asked.
    """
    door = doors()
    sent = kind.begin(gate, door)
    door.wait_reached()

    outcome = one(gate.control.terminate(sent, mode, wait=LIMIT, reason="enough"))

    assert outcome.outcome == ("killed" if sent.affinity == "process" and mode != "cancel" else "terminated")
    assert isinstance(sent.exception(LIMIT), TokenTerminated)
    assert "enough" in str(sent.exception())
    assert one(gate.control.terminate(sent, mode)).outcome == "ended"
    again = doors()
    again.open()
    if kind.queues:
        assert kind.begin(gate, again).result(LIMIT) == "through"  # its place is as it was


def test_a_paused_token_of_each_kind_ends(gate: Gate, door: Door, kind: Kind) -> None:
    """Who is paused is let go for its end, and gets no further than to its next yield points."""
    sent = kind.begin(gate, door)
    door.wait_reached()
    assert one(gate.control.pause(sent, wait=LIMIT)).outcome == "paused"
    rounds = door.rounds

    outcome = one(gate.control.terminate(sent, wait=LIMIT))
    assert outcome.outcome == ("killed" if sent.affinity == "process" else "terminated")
    assert door.rounds <= rounds + 3


def test_a_queued_token_never_runs(gate: Gate, queued: Callable[[], Token[str]]) -> None:
    """It ends at once, paused or not."""
    first, second = queued(), queued()
    gate.control.pause(second)

    assert words(gate.control.terminate([first, second], "cancel")) == ["terminated"] * 2
    assert {first.started_at, second.started_at} == {None}


def test_what_knows_no_yield_point_is_asked_and_then_interrupted(gate: Gate, door: Door) -> None:
    """`cancel` tells that nothing has come of it; `interrupt` ends Python code where it runs."""
    sent = spin.submit(door)
    door.wait_reached()

    assert one(gate.control.terminate(sent, "cancel", wait=0)).outcome == "cancel_requested"
    assert one(gate.control.pause(sent)).outcome == "refused"  # it is let go so that it can end
    assert sent.state is TokenState.RUNNING
    assert one(gate.control.terminate(sent, "interrupt", wait=LIMIT)).outcome == "terminated"
    assert isinstance(sent.exception(LIMIT), TokenTerminated)


def test_code_in_c_is_asked_then_left_behind_and_its_late_result_goes_nowhere(
    gate: Gate, door: Door, until: Until
) -> None:
    """The truth: an interrupt has not come yet; a kill ends the token, not its thread, and another thread comes."""
    sent = block.submit(door)
    door.wait_reached()

    assert one(gate.control.terminate(sent, wait=0)).outcome == "interrupt_requested"
    outcome = one(gate.control.terminate(sent, "kill", grace=0))
    assert outcome.outcome == "abandoned"
    assert "control-cpu" in outcome.note
    assert sent.state is TokenState.TERMINATED
    assert len(gate.control.info().abandoned) == 1
    assert [nothing.submit().result(LIMIT) for _ in range(4)] == ["done"] * 4

    door.open()
    until(lambda: not any(thread.name in outcome.note for thread in threading.enumerate()))
    assert isinstance(sent.exception(), TokenTerminated)


def test_code_that_ends_within_its_grace_is_not_left_behind(gate: Gate, door: Door) -> None:
    """A kill gives it that time, whatever `wait` says."""
    sent = spin.submit(door)
    door.wait_reached()

    assert one(gate.control.terminate(sent, "kill", wait=0, grace=LIMIT)).outcome == "terminated"
    assert gate.control.info().abandoned == ()


class Stuck(CpuActor):
    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []

    def block(self, door: Door) -> str:
        door.pass_through()
        self.done.append("block")
        return "late"

    def look(self) -> list[str]:
        return list(self.done)


class PinnedStuck(Stuck):
    dispatcher = "pinned"


@pytest.mark.parametrize("cls", [Stuck, PinnedStuck])
def test_the_actor_of_a_token_that_is_left_behind_is_restarted(
    gate: Gate, door: Door, cls: type[Stuck], until: Until
) -> None:
    """Its state can no longer be trusted; what is queued waits for the new instance, and is not touched."""
    proxy = gate.spawn(cls, name="stuck").proxy()
    sent = proxy.block(door)
    door.wait_reached()
    next_one = proxy.look()

    assert one(gate.control.terminate(sent, "kill", grace=0)).outcome == "abandoned"
    assert next_one.result(LIMIT) == []
    [row] = gate.control.actors("stuck")
    assert (row.row.starts, row.row.status) == (2, "running")
    door.open()
    until(lambda: threading.active_count() >= 1 and proxy.look().result(LIMIT) == [])
    assert sent.state is TokenState.TERMINATED


@token
async def swallow(door: Door) -> str:
    door.reached.set()
    while True:
        try:
            while not door.is_open:
                with trio.CancelScope(shield=True):
                    await trio.lowlevel.checkpoint()
            return "late"
        except TokenInterrupt:
            pass


def test_a_task_that_keeps_its_cancellation_to_itself_is_left_behind(gate: Gate, door: Door, until: Until) -> None:
    """A kill says that the code may run on; the loop and other tokens of the operation go on."""
    sent = swallow.submit(door)
    door.wait_reached()

    assert one(gate.control.terminate(sent, "cancel", wait=0)).outcome == "cancel_requested"
    assert one(gate.control.terminate(sent, wait=0)).outcome == "cancel_requested"
    outcome = one(gate.control.terminate(sent, "kill", grace=0))
    assert outcome.outcome == "abandoned"
    assert sent.state is TokenState.TERMINATED
    other = Door()
    other.open()
    assert swallow.submit(other).result(LIMIT) == "late"


def test_a_direct_call_cannot_be_left_behind(gate: Gate, door: Door) -> None:
    """The thread is its caller's: the verb says so, and the token ends when the code does."""
    threading.Thread(target=_in_gate(gate, lambda: block(door)), daemon=True).start()
    door.wait_reached()
    [row] = gate.control.tokens("operation=block")

    outcome = one(gate.control.terminate(row.id, "kill", grace=0))
    assert (outcome.outcome, "caller" in outcome.note) == ("interrupt_requested", True)
    assert gate.control.info().abandoned == ()
    door.open()


def test_pykkas_own_actors_are_never_interrupted(gate: Gate, door: Door) -> None:
    """Code that was not written for that is only asked."""

    class Busy(ForeignTurner):
        def spin(self, door: Door) -> str:
            door.reached.set()
            while not door.is_open:
                pass
            return "through"

    sent = gate.spawn(Busy, name="busy").proxy().spin(door)
    door.wait_reached()

    gate.control.pause(sent, wait=LIMIT if PAUSES_RUNNING_CODE else 0)  # one that is paused is let go, and no more
    outcome = one(gate.control.terminate(sent, wait=0))
    assert (outcome.outcome, "never interrupted" in outcome.note) == ("cancel_requested", True)
    door.open()
    assert sent.exception(LIMIT) is None


@pytest.mark.skipif(not PAUSES_RUNNING_CODE, reason="this Python has no sys.monitoring")
def test_a_step_while_others_are_under_way_begins_from_where_the_token_stands(gate: Gate, doors: Doors) -> None:
    """The steps that are left are dropped, and the new ones are taken."""
    begun = threading.Event()

    @token
    def count() -> None:
        begun.set()
        number = 0
        while True:
            number += 1

    counting = count.submit()
    assert begun.wait(LIMIT)
    assert one(gate.control.pause(counting, wait=LIMIT)).outcome == "paused"
    assert one(gate.control.step(counting, 10**9, wait=0)).outcome == "step_requested"

    assert one(gate.control.step(counting, 1, wait=LIMIT)).outcome == "stepped"
    assert one(gate.control.terminate(counting, wait=LIMIT)).outcome == "terminated"


def test_asking_again_and_again_for_what_cannot_be_done_yet_leaves_nothing_behind(gate: Gate, door: Door) -> None:
    """However often a token is to be paused, let go and ended that cannot react, nothing gathers on it."""

    @token
    def deaf(door: Door) -> None:
        door.pass_through()

    sent = deaf.submit(door)
    door.wait_reached()
    for _ in range(20):
        gate.control.pause(sent, wait=0)
        gate.control.resume(sent)
    for _ in range(20):
        gate.control.terminate(sent, "cancel", wait=0)

    assert not sent._callbacks
    assert sent._extras.hold is not None
    assert sent._extras.hold._reached is None


def test_a_token_whose_sender_waits_for_room_ends_when_it_is_queued(gate: Gate, doors: Doors, until: Until) -> None:
    """It is asked before it is anywhere, and never runs."""

    @token(capacity=1, concurrency=1)
    def narrow(door: Door) -> None:
        door.pass_through()

    first, later = doors(), doors()
    narrow.submit(first)
    first.wait_reached()
    narrow.submit(later)
    sender = threading.Thread(target=_in_gate(gate, lambda: narrow.submit(later)))
    sender.start()
    until(lambda: len(gate.control.tokens("state=created")) == 1)
    created = gate._system.live[gate.control.tokens("state=created")[0].id]

    assert one(gate.control.terminate(created, "kill", grace=0)).outcome == "cancel_requested"
    first.open()
    sender.join(LIMIT)
    later.wait_reached()
    until(created.done)
    assert (created.state, created.started_at) == (TokenState.TERMINATED, None)


# --- Ids, selectors, protection --------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["pause", "resume", "step", "terminate"])
def test_ids_of_no_live_token_are_told_apart(gate: Gate, verb: str) -> None:
    """`ended` for those that have been, with what is known of their end; `unknown` for those that have not."""

    @token
    def fail() -> None:
        raise LookupError("it was")

    ended, failed = nothing.submit(), fail.submit()
    ended.result(LIMIT)
    failed.exception(LIMIT)
    first, second, third = getattr(gate.control, verb)([ended.id, failed.id, 10**9])

    assert (first.outcome, second.outcome, third.outcome) == ("ended", "ended", "unknown")
    assert "failed (LookupError)" in second.note
    assert second.operation == "fail"


def test_thousands_of_unknown_ids_hold_nothing_up(gate: Gate) -> None:
    """The memory of ended tokens is looked through once for a message."""
    for _ in range(1_000):
        nothing.submit().cancel()
    outcomes = gate.control.resume(range(10**9, 10**9 + 20_000))

    assert set(words(outcomes)) == {"unknown"}


def test_a_dry_run_lists_exactly_those_that_would_be_affected(gate: Gate, queued: Callable[[], Token[str]]) -> None:
    """Same selector, same ids, and nothing is done."""
    mine = [nothing.with_options(tags={"tenant": "acme"}).submit() for _ in range(5)]
    others = [queued() for _ in range(5)]

    for verb in ("pause", "resume", "step", "terminate"):
        outcomes = getattr(gate.control, verb)("tenant=acme", dry_run=True)
        assert words(outcomes) == ["would"] * 5
        assert [outcome.token for outcome in outcomes] == [sent.id for sent in mine]
    assert {sent.state for sent in (*mine, *others)} == {TokenState.QUEUED}
    done = gate.control.terminate("tenant=acme")
    assert [outcome.token for outcome in done] == [sent.id for sent in mine]
    assert {sent.state for sent in others} == {TokenState.QUEUED}


def test_a_message_that_names_no_token_is_refused(gate: Gate) -> None:
    """Nothing means nothing: an empty selector is never every token."""
    from tokengate.control import messages as m

    ref = gate.find("$system/control")
    for target in ("  ", "a=b,,", [True], [1, "x"], 1.5):
        with pytest.raises(BadRequest):
            ref.ask(m.Pause(target))  # type: ignore[arg-type]
    with pytest.raises(BadSelector):
        gate.control.pause("state=nonsense")
    for wait in (-1, float("nan"), 1e9):
        with pytest.raises(BadRequest, match="wait"):
            gate.control.pause("*", wait=wait)
    with pytest.raises(BadRequest, match="mode"):
        gate.control.terminate("*", "murder")  # type: ignore[arg-type]


def test_the_runtimes_own_tokens_are_neither_listed_nor_steered(gate: Gate) -> None:
    """A question to control is a token, too, but it cannot stop its own answer."""
    assert not gate.control.tokens("*")
    assert words(gate.control.terminate("*", "kill", grace=0, force=True, reason="a test")) == []


# --- Renice, retag, reroute ------------------------------------------------------------------------------------------


def test_a_new_priority_moves_a_queued_token_at_once(gate: Gate, doors: Doors) -> None:
    """It stands at the end of its new lane; one that runs only notes it."""
    ran: list[str] = []

    class Recorder(CpuActor):
        def note(self, name: str) -> None:
            ran.append(name)

        def wait(self, door: Door) -> None:
            door.pass_through()

    door = doors()
    proxy = gate.spawn(Recorder, name="recorder").proxy()
    busy = proxy.wait(door)
    door.wait_reached()
    sent = {name: proxy.note(name) for name in "abcd"}

    assert one(gate.control.renice(sent["c"], 5)).outcome == "reniced"
    assert one(gate.control.renice(sent["d"], 5)).outcome == "reniced"
    assert one(gate.control.renice(sent["a"], -1)).outcome == "reniced"
    assert one(gate.control.renice(sent["b"], 0)).outcome == "unchanged"
    assert one(gate.control.renice(busy, 5)).outcome == "noted"
    door.open()
    assert all(token.exception(LIMIT) is None for token in sent.values())
    assert ran == ["c", "d", "b", "a"]
    assert one(gate.control.renice(busy, 7)).outcome == "ended"


def test_tags_are_set_and_removed(gate: Gate, queued: Callable[[], Token[str]]) -> None:
    """Selectors go by the new ones at once; what was so already is said."""
    sent = nothing.with_options(tags={"tenant": "acme", "old": "x"}).submit()

    assert one(gate.control.retag(sent, {"tenant": "bell"}, "old")).outcome == "retagged"
    assert dict(sent.tags) == {"tenant": "bell"}
    assert one(gate.control.retag(sent, {"tenant": "bell"})).outcome == "unchanged"
    assert [row.id for row in gate.control.tokens("tenant=bell")] == [sent.id]
    assert not gate.control.tokens("tenant=acme")
    with pytest.raises(BadRequest, match="tags"):
        gate.control.retag(sent)
    gate.control.unsuspend("nothing")
    sent.result(LIMIT)
    assert one(gate.control.retag(sent, {"a": "b"})).outcome == "ended"


def test_a_queued_token_is_rerouted_to_another_affinity_and_back(gate: Gate, queued: Callable[[], Token[str]]) -> None:
    """A plain function may run in the loop as well as on a thread; a coroutine function only in the loop."""
    there, back = queued(), queued()

    assert one(gate.control.reroute(there, affinity="cpu")).outcome == "unchanged"
    outcome = one(gate.control.reroute(there, affinity="io"))
    assert (outcome.outcome, "nothing@io" in outcome.note) == ("rerouted", True)
    assert there.result(LIMIT) == "done"
    assert there.affinity == "io"
    gate.control.suspend("nothing@io")
    assert one(gate.control.reroute(back, affinity="io")).outcome == "rerouted"
    assert one(gate.control.reroute(back, affinity="cpu")).outcome == "rerouted"
    assert (back.actor, back.state) == ("operations/nothing", TokenState.QUEUED)
    gate.control.unsuspend("nothing")
    assert back.result(LIMIT) == "done"
    assert one(gate.control.reroute(back, affinity="io")).outcome == "ended"


class NotAwaiting(CpuActor):
    async def turn(self, door: Door) -> None: ...


def test_what_does_not_fit_is_not_rerouted(gate: Gate, doors: Doors, queued: Callable[[], Token[str]]) -> None:
    """Each refusal says why, and the token is where it was."""
    plain = queued()
    door = doors()
    io_operation.submit(door).cancel()
    gate.control.suspend("turn_and_await")
    coroutine = io_operation.submit(door)
    source, target = gate.spawn(Turner, name="source"), gate.spawn(IoTurner, name="target")
    gate.control.suspend("source")
    steps, wrong = source.proxy().turn_in_steps(door), source.proxy().turn(door)
    gate.control.suspend("target")
    awaited = target.proxy().turn(door)

    def why(outcome: Outcome) -> str:
        assert outcome.outcome == "refused"
        return outcome.note

    assert "coroutine" in why(one(gate.control.reroute(coroutine, affinity="cpu")))
    assert "affinity" in why(one(gate.control.reroute(steps, affinity="io")))
    assert "operation and an actor" in why(one(gate.control.reroute(plain, actor="target")))
    assert "has no 'turn_in_steps'" in why(one(gate.control.reroute(steps, actor="target")))
    gate.spawn(NotAwaiting, name="thread")
    assert "cannot await" in why(one(gate.control.reroute(awaited, actor="thread")))
    assert "guard of 'spawned' is 'never'" in why(one(gate.control.reroute(wrong, actor="spawned")))
    with pytest.raises(UnknownActor):
        gate.control.reroute(wrong, actor="nobody")
    with pytest.raises(BadRequest):
        gate.control.reroute(wrong, affinity="gpu")
    with pytest.raises(BadRequest):
        gate.control.reroute(wrong)
    assert one(gate.control.reroute(wrong, actor="source")).outcome == "unchanged"
    assert {one.state for one in (plain, coroutine, steps, wrong, awaited)} == {TokenState.QUEUED}


class Inbox(CpuActor):
    capacity = 2

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Any] = []

    def on_receive(self, message: Any) -> None:
        self.got.append(message)

    def wait(self, door: Door) -> None:
        door.pass_through()


def test_messages_are_rerouted_to_an_actor_that_has_room(gate: Gate, door: Door) -> None:
    """Those that were asked, and those that were told; to a full one nothing goes, and nothing is lost."""
    source = gate.spawn(Inbox, name="source")
    gate.spawn(Inbox, name="target")
    gate.control.suspend("source")
    gate.control.suspend("target")
    asked = source.ask("asked", block=False)
    source.tell("told")

    assert words(gate.control.reroute("actor=source", actor="target")) == ["rerouted"] * 2
    late = gate.find("source").ask("late", block=False)
    outcome = one(gate.control.reroute("actor=source", actor="target"))
    assert (outcome.outcome, "full" in outcome.note) == ("refused", True)
    gate.control.unsuspend("target")
    asked.get(timeout=LIMIT)
    assert gate.control.get_state("target")["got"] == ["asked", "told"]
    gate.control.unsuspend("source")
    late.get(timeout=LIMIT)
    assert gate.control.get_state("source")["got"] == ["late"]


class ForeignInbox(pykka.ThreadingActor):
    def __init__(self) -> None:
        super().__init__()
        self.got: list[Any] = []

    def on_receive(self, message: Any) -> None:
        self.got.append(message)


def test_what_was_told_to_a_foreign_actor_is_rerouted_too(gate: Gate) -> None:
    """It is a plain message as well, although its sender expects no answer."""
    source = gate.spawn(ForeignInbox, name="source")  # type: ignore[type-var]
    gate.spawn(ForeignInbox, name="target")  # type: ignore[type-var]
    gate.control.suspend("source")
    source.tell("told")

    assert words(gate.control.reroute("actor=source", actor="target")) == ["rerouted"]
    assert gate.find("target").proxy().got.get(timeout=LIMIT) == ["told"]


def test_what_has_begun_is_not_rerouted(gate: Gate, door: Door) -> None:
    """It stays where it is, and the verb says so."""
    gate.spawn(Inbox, name="target")
    sent = gate.spawn(Inbox, name="source").proxy().wait(door)
    door.wait_reached()

    assert one(gate.control.reroute(sent, actor="target")).outcome == "refused"
    assert sent.actor == "spawned/source"


# --- Throttles -------------------------------------------------------------------------------------------------------


def test_a_throttle_holds_the_concurrency_of_its_selector_on_live_traffic(gate: Gate) -> None:
    """An oracle counts who runs: never more than allowed of those, and all of the others."""
    lock = threading.Lock()
    now: Counter[str] = Counter()
    most: Counter[str] = Counter()

    @token(concurrency=8)
    def work(tenant: str) -> None:
        with lock:
            now[tenant] += 1
            most[tenant] = max(most[tenant], now[tenant])
        time.sleep(0)
        with lock:
            now[tenant] -= 1

    row = gate.control.throttle("tenant=acme", concurrency=1)
    assert (row.selector, row.concurrency, row.rate) == ("tenant=acme", 1, None)
    sent = [
        work.with_options(tags={"tenant": tenant}).submit(tenant) for _ in range(200) for tenant in ("acme", "bell")
    ]
    for one_of in sent:
        one_of.result(LIMIT)

    assert most["acme"] == 1
    assert [row.selector for row in gate.control.throttles()] == ["tenant=acme"]
    assert gate.control.throttles()[0].waiting == 0


def test_a_rate_lets_so_many_begin_in_a_second(gate: Gate) -> None:
    """The oracle is the tokens' own times: in no second do more begin than allowed, but for what it may catch up."""
    asked = gate._system.clock()
    gate.control.throttle("*", rate=200)
    sent = [nothing.submit() for _ in range(60)]
    begun = [one_of.started_at for one_of in sent if one_of.result(LIMIT) and one_of.started_at is not None]

    assert len(begun) == 60
    assert max(begun) - asked >= 59 / 200 - 0.1 - 0.01


def test_a_throttle_is_replaced_and_lifted(gate: Gate, doors: Doors, until: Until) -> None:
    """The second one for a selector replaces the first; after `lift` all that waited goes on."""
    opened = [doors() for _ in range(3)]
    gate.control.throttle("operation=turn", concurrency=1)
    sent = [cpu_operation.submit(one_door) for one_door in opened]
    opened[0].wait_reached()
    until(lambda: gate.control.throttles()[0].waiting == 2)
    assert len(gate.control.tokens("held=throttled")) == 2

    row = gate.control.throttle(" operation = turn ", concurrency=2)
    assert (row.selector, row.concurrency) == ("operation=turn", 2)
    opened[1].wait_reached()
    assert len(gate.control.throttles()) == 1
    assert not opened[2].reached.is_set()
    [lifted] = gate.control.lift("operation=turn")
    assert lifted.waiting == 1
    for one_door in opened:
        one_door.open()
    assert [one_of.result(LIMIT) for one_of in sent] == ["through"] * 3
    assert tuple(gate.control.lift("operation=turn")) == ()  # nothing was done
    assert tuple(gate.control.lift("*")) == ()


def test_a_token_that_a_throttle_keeps_back_goes_when_its_tags_say_so(gate: Gate, doors: Doors, until: Until) -> None:
    """Retagging is seen by throttles at once."""
    first, second = doors(), doors()
    gate.control.throttle("tenant=acme", concurrency=1)
    acme = cpu_operation.with_options(tags={"tenant": "acme"})
    acme.submit(first)
    first.wait_reached()
    kept = acme.submit(second)
    until(lambda: gate.control.describe(kept).row.held == "throttled")

    assert one(gate.control.retag(kept, {"tenant": "bell"})).outcome == "retagged"
    second.open()
    assert kept.result(LIMIT) == "through"


@pytest.mark.parametrize(
    ("selector", "limits"),
    [("", {"rate": 1}), ("*", {}), ("*", {"rate": 0}), ("*", {"rate": float("inf")}), ("*", {"rate": float("nan")}),
     ("*", {"concurrency": 0}), ("*", {"concurrency": 1.5})],
)  # fmt: skip
def test_a_throttle_that_cannot_be_meant_is_refused(gate: Gate, selector: str, limits: dict[str, Any]) -> None:
    """And none is set."""
    with pytest.raises(BadRequest):
        gate.control.throttle(selector, **limits)
    assert tuple(gate.control.throttles()) == ()


def test_every_word_is_told_in_some_test() -> None:
    """`OUTCOMES` promises nothing that does not come about; others are in the files beside this one."""
    here = Path(__file__).parent
    files = [*here.glob("test_*.py"), *(here.parents[1] / "authority").glob("test_*.py")]
    sources = "".join(file.read_text() for file in files)
    lines = [line for line in sources.splitlines() if line.lstrip().startswith("assert ") and " in {" not in line]

    assert [word for word in OUTCOMES if not any(f'"{word}"' in line for line in lines)] == []


def test_the_word_of_an_outcome_is_in_the_table() -> None:
    """A new verb adds its words there, and to the page."""
    with pytest.raises(ValueError, match=r"'scribbled' is no outcome; write one of paused, .* or add it to OUTCOMES"):
        outcome(cast("Token[Any]", None), "scribbled")
