"""Controls: what operators may do to the tokens of a place, and what they may see of them."""

from __future__ import annotations

import attrs


@attrs.frozen
class Controls:
    """The rights of operators on the tokens of a place.

    Attributes:
        protected: whether pausing or ending a token needs `force`.
        controllable: whether operators can do anything to the tokens.
        show_arguments: whether values of arguments are shown, if they are of built-in types; else types and sizes are.
        redact: names of parameters that are never shown.
        interruptible: whether running code of the tokens may be interrupted.
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
