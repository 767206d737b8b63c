"""Assistants: clients of `tokengate mcp` that need neither a model nor a process."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actors import TokenGateError
from tokengate.mcp._bridge import Bridge, Call
from tokengate.mcp._tools import CEILING


class Assistant:
    """A client of a bridge of its own.

    Args:
        gate: the only gate of the bridge.
        rights: those that it uses at most.

    Attributes:
        bridge: the bridge.
    """

    def __init__(self, gate: str | None = None, rights: frozenset[str] = CEILING) -> None:
        self.bridge = Bridge(gate, rights)

    def text(self, tool: str, **arguments: Any) -> str:
        """Return the answer of a tool."""
        return self.bridge.call(tool, arguments, Call())

    def ask(self, tool: str, **arguments: Any) -> Any:
        """Return the answer of a tool, read as JSON."""
        return json.loads(self.text(tool, **arguments))

    def error(self, tool: str, **arguments: Any) -> str:
        """Return the error of a tool, which it must have."""
        with pytest.raises(TokenGateError) as caught:
            self.text(tool, **arguments)
        return f"{type(caught.value).__name__}: {caught.value}"

    def apply(self, tool: str, **arguments: Any) -> Any:
        """Have a proposal made, and apply it."""
        row = self.ask(tool, **arguments)["row"]
        return self.ask("apply", number=row["number"], digest=row["digest"][:8])

    @property
    def tools(self) -> dict[str, Any]:
        """The tools that are listed."""
        return {tool["name"]: tool for tool in self.bridge.tools()}
