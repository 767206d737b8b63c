# History: what tokens did, on disk.
#   _plugin.py      the optional part of a gate, which is the Python interface
#   _writer.py      what writes: rows, exact counts of minutes, gaps; a disk that fails
#   _rows.py        the tables, and records as rows
#   _files.py       files: names, retention, connections
#   _reader.py      what is read back, of all runs and gates of a directory
#   _verbs.py       the answers of a gate
#   _kinds.py       the noun
#   _postmortem.py  one zip with all that is known of a token
#   _context.py     log lines of tokens, and what a gate was opened with
"""The history of a gate, which it keeps on disk: `Gate("shop", plugins=[History("/var/lib/shop")])`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokengate.history._plugin import History

__all__ = ["History"]


def __getattr__(name: str) -> Any:
    if name != "History":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tokengate.history._plugin import History  # here, since commands import the noun only

    return History
