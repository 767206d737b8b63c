# MCP: a server of the Model Context Protocol on stdio, over the control sockets.
#
#   _answers.py  answers as bounded JSON, in which nothing is hidden
#   _tools.py    the tools that rights allow, their schemas, and the message of a call
#   _bridge.py   what asks the gates
#   _server.py   the protocol; it alone imports the SDK
"""Tools of MCP for the gates of this user, generated from the registry of kinds."""

from __future__ import annotations

__all__: list[str] = []
