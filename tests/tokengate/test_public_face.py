"""The names of `tokengate` are few, and each has one place and one meaning."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import actors
import supervisors
import tokengate
from tokengate import errors, events, types


def python(code: str) -> list[str]:
    """Run a program; return the lines that it prints, and those of its errors."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120, check=False
    )
    return (done.stdout + done.stderr).splitlines()


def test_there_are_at_most_thirty_names_at_the_top() -> None:
    """Those of everyday use."""
    assert len(tokengate.__all__) <= 30


def test_each_name_has_one_place() -> None:
    """What is at the top is in no other public module, and no name is in two of them."""
    names = [*tokengate.__all__, *errors.__all__, *events.__all__, *types.__all__]

    assert sorted(names) == sorted(set(names))


def test_errors_are_errors_and_nothing_else_is_named_like_one() -> None:
    """No event ends in `Error`."""
    raised = [getattr(errors, name) for name in errors.__all__]
    others = [getattr(module, name) for module in (events, types) for name in module.__all__]

    assert all(issubclass(one, BaseException) for one in raised)
    assert not [one for one in others if isinstance(one, type) and issubclass(one, BaseException)]
    assert not [name for name in (*events.__all__, *types.__all__) if name.endswith("Error")]


def test_every_error_of_the_lower_floors_is_in_the_module_of_errors() -> None:
    """But for `IllegalTransition`, which would be a mistake of the runtime's own code."""
    found = {
        name
        for floor in (actors, supervisors)
        for name in floor.__all__
        if isinstance(getattr(floor, name), type) and issubclass(getattr(floor, name), BaseException)
    }

    assert found - set(errors.__all__) == {"IllegalTransition"}


def test_a_missed_time_is_a_timeout_error() -> None:
    """So that code that knows nothing of TokenGate can handle it."""
    for error in (errors.TokenExpired, errors.WaitTimeout):
        assert issubclass(error, TimeoutError)
        assert issubclass(error, errors.TokenGateError)


def test_a_public_module_is_loaded_when_it_is_asked_for() -> None:
    """It needs no import of its own; a name that is not there is an `AttributeError`."""
    code = """
        import sys, tokengate
        print([name for name in ("control", "errors", "events", "types") if f"tokengate.{name}" in sys.modules])
        print(tokengate.errors.ActorDead.__name__, tokengate.events.GaveUp.__name__, tokengate.types.Timer.__name__)
        print(tokengate.control.ControlClient.__name__, {"errors", "types", "Gate"} <= set(dir(tokengate)))
        tokengate.Gates
    """
    *lines, error = python(code)

    assert lines[:3] == ["[]", "ActorDead GaveUp Timer", "ControlClient True"]
    assert error.startswith("AttributeError: module 'tokengate' has no attribute 'Gates'")


def test_control_is_loaded_when_a_gate_opens() -> None:
    """What a program does not use yet does not slow down its start: control, its serializer, the command line."""
    code = """
        import sys
        from tokengate import Gate
        print([name for name in ("tokengate.control", "msgspec", "click", "rich") if name in sys.modules])
        with Gate():
            print("tokengate.control" in sys.modules)
    """

    assert python(code) == ["[]", "True"]


def test_the_verbs_of_python_are_loaded_when_they_are_asked_for() -> None:
    """The command line does without them, and without what holds tokens to policies, so it starts faster."""
    code = """
        import sys, tokengate.cli, tokengate.control
        print([name for name in sys.modules if name.startswith(("tokengate.control.api.", "tokengate.policy._gov"))])
        print(tokengate.control.Control.__name__, tokengate.control.AsyncControl.__name__)
        tokengate.control.Controls
    """
    *lines, error = python(code)

    assert lines[:2] == ["[]", "Control AsyncControl"]
    assert error.startswith("AttributeError: module 'tokengate.control' has no attribute 'Controls'")
