# The first example: an indexer of Python sources, as a service hierarchy.
#
#   what is computed    _measure.py (plain code, no actors)
#   the actors          _actors.py (Reader, Parser, Index, Coordinator), _files.py (reads files that are in memory)
#   what goes wrong     _crash_plan.py (faults on purpose)
#   how it is run       _indexer.py (the tree, the gate, the serial loop to compare with)
#   how it is shown     _screen.py (progress, tables, JSON)
"""The demo behind `tokengate demo`, written to be read."""

from tokengate.demo._indexer import (
    Outcome,
    Serial,
    differences,
    find_sources,
    run_indexer,
    run_serially,
    standard_library,
)
from tokengate.demo._screen import LineScreen, LiveScreen, as_json, make_screen, print_outcome

__all__ = [
    "LineScreen",
    "LiveScreen",
    "Outcome",
    "Serial",
    "as_json",
    "differences",
    "find_sources",
    "make_screen",
    "print_outcome",
    "run_indexer",
    "run_serially",
    "standard_library",
]
