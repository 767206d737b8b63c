"""One step of a token: how user code is entered, continued and left, on threads and in tasks alike."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

from actors._token import NO_KWARGS, Token, _current

_logger = logging.getLogger("tokengate.actors")

_HERE = str(Path(__file__).parent)
_set_current = _current.set


def without_runtime_frames(error: BaseException) -> BaseException:
    """Cut the runtime's own frames off the start of a traceback.

    They say nothing to the user, and hold the token, which holds the error: a cycle for each failure.
    """
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_HERE):
        frames = frames.tb_next
    return error.with_traceback(frames)


def enter(token: Token[Any], call: Callable[..., Any]) -> Any:
    """Make the first step of a token; runs in the token's context."""
    _set_current(token)
    kwargs = token.kwargs
    try:
        return call(*token.args) if kwargs is NO_KWARGS else call(*token.args, **kwargs)
    except BaseException:
        del token, call, kwargs  # the error keeps this frame, which must not keep what holds the error
        raise


def close_steps(token: Token[Any], context: contextvars.Context | None, steps: Generator[Any, Any, Any]) -> None:
    """Close the generator of a token that does not go on, in its context; its `finally` blocks run."""
    try:
        if context is None:
            steps.close()
        else:
            context.run(steps.close)
    except BaseException:
        _logger.exception("%r raised while it was closed", token)


class InContext:
    """A coroutine that runs in a context of its own; awaiting it drives it.

    Args:
        context: where each of its steps runs.
        coroutine: what to drive.
        token: whose steps are counted, if it is a token's.
    """

    __slots__ = ("_context", "_coroutine", "_token")

    def __init__(
        self, context: contextvars.Context, coroutine: Coroutine[Any, Any, Any], token: Token[Any] | None = None
    ) -> None:
        self._context = context
        self._coroutine = coroutine
        self._token = token

    def __await__(self) -> Generator[Any, Any, Any]:
        run, coroutine, token = self._context.run, self._coroutine, self._token
        try:
            trap = run(coroutine.send, None)
            while True:
                try:
                    value = yield trap
                except BaseException as error:
                    trap = run(coroutine.throw, error)
                else:
                    if token is not None:
                        token.steps += 1
                    trap = run(coroutine.send, value)
        except StopIteration as stop:
            return stop.value
