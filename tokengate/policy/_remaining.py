"""The time that is left to the code that asks."""

from __future__ import annotations

from actors import current_token


def remaining() -> float | None:
    """Return the seconds until the deadline of the current token, at least 0; None if it has none.

    Outside of a token it is None.
    """
    token = current_token()
    return None if token is None else token._seconds_left()
