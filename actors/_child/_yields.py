"""The check of the values that a generator yields step by step: only None is allowed, since a yield ends a step."""

from __future__ import annotations

import reprlib
from collections.abc import Generator
from typing import Any, NoReturn, cast


def refuse_yield(steps: Generator[Any, Any, Any], value: object) -> NoReturn:
    """Raise an error within a generator, at the yield of a value that nothing receives, and end the generator.

    Raises:
        TypeError: always, unless the generator raises another error in its place.
    """
    name = cast("Any", steps).__name__
    error = TypeError(
        f"'{name}' yielded {reprlib.repr(value)}, which nothing receives: a yield only ends a step. "
        "Write 'yield' alone there, and return the values in a list, or send each to an actor"
    )
    try:
        steps.throw(error)
    except StopIteration:
        pass  # it has caught the error, and returned
    else:
        steps.close()  # it has caught the error, and goes on
    raise error
