"""What a journal publishes to the subscribers of a gate."""

from __future__ import annotations

from typing import ClassVar

import attrs

from tokengate.policy._events import PolicyEvent


@attrs.frozen
class JournalChanged(PolicyEvent):
    """The journal cannot write, or accepts nothing; or this is over.

    Attributes:
        place: empty: it is about the whole gate.
        directory: of the journal.
        why: what is wrong; empty: nothing is any more.
    """

    kind: ClassVar[str] = "journal.changed"
    directory: str
    why: str

    @property
    def text(self) -> str:
        return f"the journal in {self.directory}: {self.why or 'it writes and accepts again'}"
