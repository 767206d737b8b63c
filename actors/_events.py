"""Events of the actors floor, for those who subscribe to a system."""

from __future__ import annotations

from typing import Any

import attrs

from actors._token import Token


@attrs.frozen
class DeadLetter:
    """A token that nobody handled: refused, dropped, or queued when its actor stopped."""

    token: Token[Any]
    reason: BaseException
