# MCP: a server of the Model Context Protocol on stdio, over the control sockets.
"""Tools of MCP for the gates of this user, generated from the registry of kinds."""

from __future__ import annotations

__all__: list[str] = []
