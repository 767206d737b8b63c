"""The verbs for the gate itself."""

from __future__ import annotations

from tokengate.control import messages as m
from tokengate.control.api._question import Asker, Question, verb
from tokengate.control.messages import GateInfo


class GateVerbs(Asker):
    """The verbs for the gate itself."""

    @verb
    def info(self) -> Question[GateInfo]:
        """Return the figures of the gate: its process, its tokens by state, its threads."""
        return Question(m.Info())
