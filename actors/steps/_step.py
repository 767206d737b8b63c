"""One step of a token: how user code is entered, continued and left, on threads and in tasks alike."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from types import coroutine
from typing import TYPE_CHECKING, Any

import trio

from actors.steps._interrupt import withdraw_interrupt
from actors.steps._monitoring import monitor
from actors.tokens._token import NO_KWARGS, Token, _current

if TYPE_CHECKING:
    from actors.tokens._hold import Hold

_logger = logging.getLogger("tokengate.actors")

_HERE = str(Path(__file__).parent.parent)  # all of the floor
_set_current = _current.set


def without_runtime_frames(error: BaseException) -> BaseException:
    """Cut the runtime's own frames off the start of a traceback.

    They are of no use to the user, and they reference the token, which references the error: a cycle for each failure.
    """
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_HERE):
        frames = frames.tb_next
    return error.with_traceback(frames)


def enter(token: Token[Any], call: Callable[..., Any]) -> Any:
    """Make the first step of a token; runs in the token's context."""
    _set_current(token)
    args, kwargs = token._args, token.kwargs
    try:
        if token._call is None:
            return call(args) if token._context is not None else None  # else it was ended just now
        return call(*args) if kwargs is NO_KWARGS else call(*args, **kwargs)
    except BaseException:
        del token, call, args, kwargs  # the error references this frame, which must not reference the error's owner
        raise


def run_in(context: contextvars.Context, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function in another context, where the current token of the caller is current during the call."""
    return context.run(_run_as, _current.get(), call, args, kwargs)


def _run_as(token: Token[Any] | None, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    before = _current.set(token)
    try:
        return call(*args, **kwargs)
    finally:
        _current.reset(before)


def close_steps(token: Token[Any], context: contextvars.Context | None, steps: Generator[Any, Any, Any]) -> None:
    """Close the generator of a token that does not go on, in its context; its `finally` blocks run."""
    try:
        if context is None:
            steps.close()
        else:
            context.run(steps.close)
    except BaseException:
        _logger.exception("%r raised while it was closed", token)


def before_step(hold: Hold, call: Callable[..., Any]) -> None:
    """Arm a plain function that is held from its first line on, so that it stops there."""
    code = getattr(call, "__code__", None)
    if monitor is not None and code is not None and hold.word:
        monitor.arm_call(hold, code)


def after_step(hold: Hold) -> None:
    """Disarm and withdraw all that was meant to stop the step that is over."""
    if monitor is not None:
        monitor.disarm(hold)
    withdraw_interrupt(hold)


def between_steps(hold: Hold) -> None:
    """Note that a step is over, and leave nothing armed; only on the loop."""
    after_step(hold)
    hold.note_step()
    share_turn(hold)


async def wait_for_leave(hold: Hold) -> asyncio.CancelledError | None:
    """Wait on the loop until a token that is held may take a step.

    Only the hold's end cancels the wait, so the value or error that the step is to get is not lost.

    Returns:
        in asyncio, a cancellation that came meanwhile: it is for the step.
    """
    cancelled = None
    if not hold.may_step():
        share_turn(hold)
        if trio.lowlevel.in_trio_task():
            with trio.CancelScope(shield=True):
                await _wait_for_release(hold)
        else:
            cancelled = await _wait_for_release(hold)
    share_turn(hold)
    return cancelled


async def _wait_for_release(hold: Hold) -> asyncio.CancelledError | None:
    cancelled = None
    while True:
        try:
            await hold.released.wait()
        except asyncio.CancelledError as error:
            cancelled = error
        if hold.may_step():
            return cancelled


def share_turn(hold: Hold) -> None:
    """Lend the turn of an io token's place while the token is parked, and take it back after that; only on the loop."""
    parked = hold.parked
    if parked is hold.lent:
        return
    hold.lent = parked
    token = hold.token
    if parked:
        token.lend_turn()
    else:
        token.take_turn_back()


@coroutine
def in_context(
    context: contextvars.Context, code: Coroutine[Any, Any, Any], token: Token[Any] | None = None
) -> Generator[Any, Any, Any]:
    """Run a coroutine in its own context; awaiting this drives it.

    Args:
        context: of each of its steps.
        code: the coroutine.
        token: the one that it belongs to, if any; its steps are counted.
    """
    # A generator, and no bound methods in variables: of those that wait, there may be very many.
    value: Any = None
    error: BaseException | None = None
    begun = False  # the first step is counted as the token begins
    try:
        while True:
            if token is not None and token._extras.hold is not None and not isinstance(error, GeneratorExit):
                # The value or error for the step waits with it.
                error = (yield from wait_for_leave(token._extras.hold).__await__()) or error
            if begun and token is not None:
                token.steps += 1
            trap = context.run(code.send, value) if error is None else context.run(code.throw, error)
            if token is not None and token._extras.hold is not None:
                between_steps(token._extras.hold)
            value = error = None
            try:
                value = yield trap
            except BaseException as raised:
                error = raised
            begun = True
    except StopIteration as stop:
        return stop.value
    finally:
        if token is not None and token._extras.hold is not None:
            after_step(token._extras.hold)
        del value, error, token, context  # an error references this frame, which must not reference the error
