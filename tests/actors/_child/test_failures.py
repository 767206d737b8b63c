"""Errors on their way out of a child: as themselves if they can be rebuilt, and always as text."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from actors import WorkerError
from actors._child._exceptions import ActorDead
from actors._child._failures import failure_of
from actors._child._proxies import Ref
from actors.processes.pickling import _carrier as gate


class TwoArguments(Exception):
    """Is pickled as its text, and cannot be made of that."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")


class AnotherOne(Exception):
    """Is unpickled as something else."""

    def __reduce__(self) -> Any:
        return ValueError, self.args


class Unwilling(Exception):
    """Raises whatever is done to it."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __reduce__(self) -> Any:
        raise SystemExit("no pickle")


class Fine(Exception):
    """Can be rebuilt."""


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        ValueError("no", 1, None),
        KeyError(("a", 1)),
        OSError(2, "No such file", "name"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        StopIteration(3),
        SystemExit(3),
        ExceptionGroup("both", [ValueError("a"), Fine("b")]),
        Fine("fine"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_that_can_be_rebuilt_is_sent_as_itself(error: BaseException) -> None:
    """With its type, arguments and notes."""
    error.add_note("noted")
    pickled, name, text, _, _ = failure_of(error)
    assert pickled is not None
    back = pickle.loads(pickled)

    assert type(back) is type(error)
    assert str(back) == str(error) == text
    assert back.__notes__ == ["noted"]
    assert name == type(error).__qualname__


@pytest.mark.parametrize(
    "error", [TwoArguments(3, "no"), AnotherOne("x"), ExceptionGroup("g", [TwoArguments(3, "no")])]
)
def test_an_error_that_cannot_be_rebuilt_is_sent_as_text(error: BaseException) -> None:
    """That is found out here, and the gate makes a `WorkerError` of it."""
    failure = failure_of(raised(error))
    there = gate.load_failure(failure, 12)

    assert failure[0] is None
    assert isinstance(there, WorkerError)
    assert str(error) in str(there)
    assert there.type_name == type(error).__qualname__


def test_nothing_that_an_error_does_is_in_the_way() -> None:
    """Its text and its pickle may raise anything."""
    pickled, name, text, traceback, expected = failure_of(raised(Unwilling()), expected=True)

    assert (pickled, name, text, expected) == (None, "Unwilling", "<its text raised RuntimeError>", True)
    assert "in raised\n    raise error\n" in traceback


def test_builtin_errors_with_objects_of_the_users_are_looked_at_as_well() -> None:
    """An argument may be what cannot be rebuilt."""
    assert failure_of(ValueError(TwoArguments(3, "no")))[0] is None
    assert failure_of(ValueError(lambda: 1))[0] is not None


def test_the_traceback_has_the_causes() -> None:
    """As Python would print it."""
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error
    except ValueError as error:
        traceback = failure_of(error)[3]

    assert "KeyError: 'first'" in traceback
    assert "The above exception was the direct cause" in traceback


def test_an_error_of_the_runtime_is_looked_at_without_the_gate() -> None:
    """It becomes the gate's only there."""
    pickled = failure_of(ActorDead(Ref("a/b")))[0]

    assert pickled is not None
    assert b"actors" in pickled


class Forgetful(Exception):
    """Is pickled without its notes."""

    def __reduce__(self) -> Any:
        return Forgetful, self.args


@pytest.mark.parametrize(("error", "repeated"), [(Fine("fine"), False), (Forgetful("what?"), True)])
def test_the_text_of_an_error_repeats_its_notes_only_if_they_are_not_pickled(
    error: BaseException, repeated: bool
) -> None:
    """Else the text, which becomes a note, would be twice as long after each process that the error passes through."""
    error.add_note("noted")
    pickled, _, _, traceback, _ = failure_of(raised(error))

    assert pickled is not None
    assert ("noted" in traceback) is repeated
    assert hasattr(pickle.loads(pickled), "__notes__") is not repeated
