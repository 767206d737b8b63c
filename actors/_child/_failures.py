"""Errors that are sent between processes: pickled if possible, and always as text."""

from __future__ import annotations

import os
import pickle
import traceback
from typing import Final

from ._exceptions import WorkerError
from ._pickling import dumps, rebuild
from ._wire import Failure

_HERE: Final = os.path.dirname(__file__)
_PLAIN: Final = (str, int, float, bool, bytes, type(None))


def without_runtime_frames(error: BaseException) -> BaseException:
    """Remove the runtime's frames from the start of a traceback."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_HERE):
        frames = frames.tb_next
    return error.with_traceback(frames)


def failure_of(error: BaseException, *, expected: bool = False) -> Failure:
    """Return an error in the form in which it is sent, whatever the methods of its class do."""
    pickled = _pickled(error)
    return pickled, type(error).__qualname__, text_of(error), traceback_of(error, pickled), expected


def error_of(failure: Failure) -> BaseException:
    """Return the error that the gate has answered with."""
    pickled, name, text, remote_traceback, expected = failure
    error: BaseException | None = None
    if pickled is not None:
        try:
            error = pickle.loads(pickled)
        except Exception as problem:
            text = f"{text} (it could not be rebuilt here: {type(problem).__name__}: {problem})"
    if not isinstance(error, BaseException):
        error = WorkerError(f"{name}: {text}", name, expected)
    if remote_traceback:
        error.add_note(remote_traceback.rstrip())
    return error


def _pickled(error: BaseException) -> bytes | None:
    """Return an error, pickled; None if it could not be unpickled again."""
    try:
        data = dumps(error)
        if _is_plain(error) or type(rebuild(data)) is type(error):
            return data
    except BaseException:
        pass  # then only its text and traceback are sent
    return None


def _is_plain(error: BaseException) -> bool:
    """Tell whether an error can be unpickled for certain: a built-in one with plain arguments."""
    return (
        type(error).__module__ == "builtins"
        and not getattr(error, "__dict__", None)
        and all(type(arg) in _PLAIN for arg in error.args)
    )


def text_of(error: BaseException) -> str:
    """Return the text of an error, whatever its `__str__` does."""
    try:
        return str(error)
    except BaseException as problem:
        return f"<its text raised {type(problem).__name__}>"


def traceback_of(error: BaseException, pickled: bytes | None) -> str:
    """Return an error with its traceback as text, whatever the methods of its class do.

    Args:
        error: the error.
        pickled: what is sent beside the text. Notes that it contains are not repeated in the text: an error that passes
            through several processes gets such a text as a note in each, and would double in length each time.
    """
    try:
        shown = traceback.TracebackException.from_exception(error, compact=True)
        if pickled is not None and shown.__notes__ and _keeps_notes(error):
            shown.__notes__ = None
        return "".join(shown.format())
    except BaseException as problem:
        return f"<its traceback raised {type(problem).__name__}>\n"


def _keeps_notes(error: BaseException) -> bool:
    """Tell whether the notes of an error are pickled with it, which the `__reduce__` of its class decides."""
    reduced = error.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    return isinstance(reduced, tuple) and len(reduced) > 2 and "__notes__" in (reduced[2] or ())
