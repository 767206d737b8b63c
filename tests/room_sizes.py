"""Prints the size of each room beside its budget: `python tests/room_sizes.py`.

A size is the number of lines of all Python files in the room and the rooms below it. `words` are those
for people (who, whose, nobody) in 1,000 of these lines; prose on objects rarely needs them, 3 are enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
FLOORS: Final = ("actors", "supervisors", "tokengate")

BUDGETS: Final[dict[tuple[str, ...], int]] = {
    ("tokengate/admin",): 1_700,
    ("tokengate/authority", "tokengate/audit"): 1_500,
    ("tokengate/control", "tokengate/cli"): 11_500,
    ("tokengate/durable",): 2_200,
    ("tokengate/history",): 600,
    ("tokengate/integrations",): 500,
    ("tokengate/policy",): 2_600,
    ("tokengate/predict",): 1_400,
    ("tokengate/telemetry",): 1_400,
    ("tokengate/testing",): 1_000,
}
"""{rooms: their lines together, at most}; some are still to be built, and the others have none."""

_WORDS: Final = re.compile(r"\b(?:who|whoever|whose|whom|somebody|nobody)\b", re.IGNORECASE)


def _files(room: Path) -> Iterator[str]:
    for path in sorted(room.rglob("*.py")):
        yield path.read_text()


def lines_of(room: Path) -> int:
    """Return the number of lines of a room."""
    return sum(len(text.splitlines()) for text in _files(room))


def words_of(room: Path) -> float:
    """Return how many words in 1,000 lines of a room are for people."""
    return 1_000 * sum(len(_WORDS.findall(text)) for text in _files(room)) / max(lines_of(room), 1)


def main() -> None:
    """Print a line for each room, and one for each group of rooms with a budget."""
    print(f"{'room':40} {'lines':>7} {'words':>6} {'budget':>7}")
    for room in sorted(path.parent for floor in FLOORS for path in (ROOT / floor).rglob("__init__.py")):
        print(f"{room.relative_to(ROOT).as_posix():40} {lines_of(room):7,} {words_of(room):6.1f}")
    for rooms, budget in BUDGETS.items():
        size = sum(lines_of(ROOT / room) for room in rooms)
        note = "  over its budget" if size > budget else ""
        print(f"{' + '.join(rooms):40} {size:7,} {'':6} {budget:7,}{note}")


if __name__ == "__main__":
    main()
