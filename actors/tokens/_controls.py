"""What operators may do to the tokens of a place, and what they are shown of them."""

from __future__ import annotations

import attrs


@attrs.frozen
class Controls:
    """What is allowed to whoever controls a system.

    Attributes:
        protected: whether pausing or ending its tokens must be forced.
        controllable: whether anything can be done to them at all.
        show_arguments: whether their values are shown, as far as they are of built-in types; else types and sizes are.
        redact: names of parameters of which nothing is shown.
        interruptible: whether code of its tokens may be interrupted where it runs.
    """

    protected: bool = False
    controllable: bool = True
    show_arguments: bool = False
    redact: frozenset[str] = frozenset()
    interruptible: bool = True

    def __attrs_post_init__(self) -> None:
        for name in ("protected", "controllable", "show_arguments"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise ValueError(f"{name} is {value!r}; it must be True or False")
        if not all(isinstance(name, str) for name in self.redact):
            raise ValueError(f"redact is {self.redact!r}; it must hold names of parameters")
