# Telemetry: what tokens do, in numbers and for other systems.
#   _plugin.py  the optional part of a gate, which is the Python interface
"""Figures of the tokens of a gate, and what passes records on: `Gate("shop", plugins=[Telemetry()])`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tokengate.telemetry._plugin import Telemetry

__all__ = ["Telemetry"]

_HOMES: Final = {"Telemetry": "_plugin"}
"""{public name: the file that it is loaded from when it is asked for}."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
