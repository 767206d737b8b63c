"""What the guard of an operation or an actor class lets operators do, for tokens of every kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from gated_code import LIMIT, Door
from running_tokens import Kind, Turner, cpu_operation

from actors import Guard
from supervisors import ChildSpec, Supervisor
from tokengate import Gate, token
from tokengate.control import messages as m
from tokengate.control._exceptions import NotSteerable

Doors = Callable[[], Door]

_NEVER = r"guard of '.*' is 'never'"


def outcomes(answer: Any) -> list[str]:
    return [outcome.outcome for outcome in answer]


def test_ending_and_pausing_what_is_guarded_needs_force(gate: Gate, door: Door, kind: Kind) -> None:
    """All else goes without."""
    needs_force(gate, door, kind, "force")


def needs_force(gate: Gate, door: Door, kind: Kind, guard: Guard) -> None:
    sent = kind.begin(gate, door, guard=guard)
    door.wait_reached()
    control = gate.control

    for verb in (control.pause, control.step, control.terminate):
        [refused] = verb(sent)
        assert (refused.outcome, f"its guard is '{guard}'; use force" in refused.note) == ("refused", True)
    assert control.describe(sent).guard == guard
    assert outcomes(control.renice(sent, 3)) == ["noted"]
    assert outcomes(control.retag(sent, {"a": "b"})) == ["retagged"]
    assert outcomes(control.pause(sent, force=True, reason="a test", dry_run=True)) == ["would"]
    assert "refused" not in outcomes(control.pause(sent, force=True, reason="a test", wait=LIMIT))
    assert "refused" not in outcomes(control.resume(sent))
    assert "refused" not in outcomes(
        control.terminate(sent, force=True, reason="a test", wait=LIMIT if kind.interruptible else 0)
    )


def test_no_verb_changes_what_is_never_to_be_changed(gate: Gate, door: Door, kind: Kind) -> None:
    """With force or without. It can be looked at, and ends as if nothing had been."""
    sent = kind.begin(gate, door, guard="never")
    door.wait_reached()
    control = gate.control
    forced: Any = {"force": True, "reason": "a test"}

    for answer in (
        control.pause(sent, **forced), control.resume(sent, **forced), control.step(sent, **forced),
        control.terminate(sent, "kill", grace=0, **forced), control.renice(sent, 5), control.retag(sent, {"a": "b"}),
        control.reroute(sent, affinity="io"), control.limit(sent, memory="1GiB", **forced),
    ):  # fmt: skip
        assert outcomes(answer) == ["refused"]
    assert control.describe(sent).guard == "never"
    assert control.throttle(f"id={sent.id}", concurrency=1).running == 0
    for hold in (control.suspend, control.unsuspend, control.drain):
        with pytest.raises(NotSteerable, match=_NEVER):
            hold(sent.actor)
    if kind.actor:
        for change in (
            control.restart, control.stop, lambda name: control.set_state(name, total=1),
            lambda name: control.replace_state(name, dict), lambda name: control.visit(name, vars),
        ):  # fmt: skip
            with pytest.raises(NotSteerable, match=_NEVER):
                change(sent.actor)
        with pytest.raises(NotSteerable, match=_NEVER):
            control.terminate_child("spawned", sent.actor.rpartition("/")[2])
    door.open()
    assert sent.result(LIMIT) == "through"


def test_no_throttle_keeps_back_what_is_never_to_be_changed(gate: Gate, doors: Doors) -> None:
    """As many run as the operation allows, whatever the throttle allows."""
    alone = token(guard="never")(cpu_operation.__wrapped__)
    first, second = doors(), doors()
    gate.control.throttle("operation=turn", concurrency=1)

    alone.submit(first)
    alone.submit(second)
    first.wait_reached()
    second.wait_reached()


def test_a_token_is_not_moved_to_what_is_never_to_be_changed(gate: Gate, doors: Doors) -> None:
    """The note names the place and its guard."""

    class Alone(Turner):
        guard = "never"

    gate.spawn(Alone, name="alone")
    gate.spawn(Turner, name="turner")
    gate.control.suspend("turner")
    sent = gate.find("spawned/turner").proxy().turn(doors())

    [refused] = gate.control.reroute(sent, actor="alone")
    assert (refused.outcome, "the guard of 'spawned/alone' is 'never'" in refused.note) == ("refused", True)
    sent.cancel()


def test_the_guard_of_a_supervisor_is_for_its_own_tokens(doors: Doors) -> None:
    """It is restarted and stopped as any actor, and its children have guards of their own."""
    shop = Supervisor.child_spec("shop", (ChildSpec("one", Turner),))
    with Gate("tree", control_socket=False, children=[shop]) as gate:
        assert gate.control.restart("shop").outcome == "done"
        with pytest.raises(NotSteerable, match="guard"):
            gate.control.suspend("shop")
        assert gate.control.suspend("shop/one").outcome == "done"
        assert gate.control.stop("shop").outcome == "done"


def test_a_supervisor_above_what_is_never_to_be_changed_is_not_ended() -> None:
    """Its end would be that of the actor, at any depth."""

    class Alone(Turner):
        guard = "never"

    shop = Supervisor.child_spec("shop", (Supervisor.child_spec("desk", (ChildSpec("one", Alone),)),))
    with Gate("tree", control_socket=False, children=[shop]) as gate:
        control = gate.control
        for end in (control.restart, control.stop, lambda name: control.terminate_child("/", name)):
            with pytest.raises(NotSteerable, match="the guard of 'shop/desk/one' is 'never': only look at it"):
                end("shop")
        assert control.actor("one").row.starts == 1


def test_a_token_that_may_run_twice_is_described_so(gate: Gate, door: Door, kind: Kind) -> None:
    """Nothing else asks for it yet."""
    sent = kind.begin(gate, door, idempotent=True)
    door.wait_reached()

    described = gate.control.describe(sent)
    assert (described.guard, described.idempotent) == ("none", True)


@pytest.mark.parametrize("affinity", ["io", "process"])
def test_an_operation_that_moved_has_the_properties_that_it_had(affinity: str) -> None:
    """They belong to the operation, wherever it runs."""
    spec = token(guard="force", show="*", idempotent=True)(cpu_operation.__wrapped__)._spec

    assert spec.with_affinity(affinity).properties == spec.properties


def test_the_root_and_the_runtimes_own_actors_are_never_changed(gate: Gate) -> None:
    """Control cannot be made deaf."""
    control = gate.find("$system/control")

    assert control.ask(m.Info()).state == "open"
    assert gate._system.find("$system/control").properties.guard == "never"  # type: ignore[attr-defined]
    assert gate._system.find("spawned").properties.guard == "never"  # type: ignore[attr-defined]
