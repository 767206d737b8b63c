"""What `tokengate top` shows and what keys do to it; no terminal and no gate is needed to know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import attrs

from tokengate.control.messages import (
    ActorOutcome,
    GateInfo,
    Message,
    Outcome,
    Pause,
    Resume,
    Step,
    Terminate,
    TokenPage,
    TokenRow,
    Tokens,
)

SORTS = ("-running", "-age", "id", "-priority", "operation", "actor", "state", "-steps")

# Rows that are asked for; the window moves over them.
_LIMIT = 500

_PAGE = 10

# Seconds without an answer after which the gate is said to give none.
_LATE = 1.0

HELP = "j k select  p pause  t step  K kill  F force kill  s sort  / filter  space refresh  q quit"


@attrs.define
class TopState:
    """The list, the row that is selected, and what the user is about to say.

    Attributes:
        selector: which tokens are listed.
        mode: what keys mean: `list`; `filter` (a selector is typed); `reason` (why the selected token is ended, which
            Enter then does).
        typed: the selector or the reason, as far as it is typed.
        forces: whether it is ended by force.
        position: of the selected row.
        note: what there is to say of the last key.
        help: whether the keys are explained.
        stale: whether the gate is to be asked anew.
        closed: whether the user has had enough.
        info, page: what the gate has said.
        silence: the seconds for which it has left a question without an answer; None without a question.
    """

    selector: str = ""
    mode: Literal["list", "filter", "reason"] = "list"
    typed: str = ""
    forces: bool = False
    position: int = 0
    note: str = ""
    help: bool = False
    stale: bool = True
    closed: bool = False
    info: GateInfo | None = None
    page: TokenPage = attrs.field(factory=lambda: TokenPage((), 0, 0, 0))
    silence: float | None = None
    _sort: int = 0
    _good: str = ""  # the last selector that the gate could read

    @property
    def sort(self) -> str:
        """The column by which rows are sorted."""
        return SORTS[self._sort]

    @property
    def rows(self) -> Sequence[TokenRow]:
        """The tokens."""
        return self.page.rows

    @property
    def selected(self) -> TokenRow | None:
        """The token that keys are for."""
        return self.rows[self.position] if self.rows else None

    @property
    def question(self) -> Tokens:
        """What to ask the gate for."""
        return Tokens(self.selector, sort=self.sort, limit=_LIMIT)

    @property
    def late(self) -> bool:
        """Whether the gate does not answer."""
        return self.silence is not None and self.silence >= _LATE

    def window(self, height: int) -> Sequence[TokenRow]:
        """Return the rows that fit, the selected one among them."""
        first = max(0, min(self.position - height // 2, len(self.rows) - height))
        return self.rows[first : first + height]

    def show(self, info: GateInfo, page: TokenPage) -> None:
        """Take over what the gate has said; the selected token stays selected, wherever its row goes."""
        before = self.selected
        self.info, self.page, self.stale, self._good = info, page, False, self.selector
        ids = [row.id for row in page.rows]
        if before is not None and before.id in ids:
            self.position = ids.index(before.id)
        else:
            if self.mode == "reason":
                self.mode, self.note = "list", "the token has ended"
            self.position = max(0, min(self.position, len(ids) - 1))

    def refuse(self, reason: str) -> None:
        """Say that the gate has not done it; a selector that it cannot read is given up."""
        self.note = reason
        self.selector = self._good

    def answer(self, answer: Sequence[Outcome] | ActorOutcome) -> None:
        """Say what the gate has done."""
        outcomes = [answer] if isinstance(answer, ActorOutcome) else answer
        self.note = "; ".join(
            f"{outcome.outcome.replace('_', ' ')}{f' ({outcome.note})' if outcome.note else ''}" for outcome in outcomes
        )
        self.stale = True

    def press(self, key: str) -> Message[Any] | None:
        """Do what a key means, and return what the gate is to be asked for it."""
        self.note = ""
        if self.mode == "filter":
            self._type(key)
            return None
        if self.mode == "reason":
            return self._unless_late(self._end(key))
        return self._unless_late(self._list(key))

    def _unless_late(self, question: Message[Any] | None) -> Message[Any] | None:
        """Return what may be asked: nothing that a gate which does not answer would do at some other time."""
        if question is not None and self.late:
            self.note = "the gate does not answer; nothing was asked for"
            return None
        return question

    def _type(self, key: str) -> None:
        if key == "enter":
            self.mode, self.selector, self.stale = "list", self.typed.strip(), True
        elif key == "escape":
            self.mode = "list"
        else:
            self._edit(key)

    def _edit(self, key: str) -> None:
        if key == "backspace":
            self.typed = self.typed[:-1]
        elif len(key) == 1 and key.isprintable():
            self.typed += key

    def _end(self, key: str) -> Message[Any] | None:
        """Type why the selected token is ended; Enter ends it."""
        if key == "escape" or self.selected is None:
            self.mode, self.note = "list", "nothing was done"
        elif key != "enter":
            self._edit(key)
        elif self.forces and not self.typed.strip():
            self.note = "force needs a reason"
        else:
            self.mode = "list"
            return Terminate(self.selected.id, reason=self.typed.strip(), force=self.forces)
        return None

    def _list(self, key: str) -> Message[Any] | None:
        token = self.selected
        moves = {"down": 1, "j": 1, "up": -1, "k": -1, "page down": _PAGE, "page up": -_PAGE}
        if key in moves:
            self.position = max(0, min(self.position + moves[key], len(self.rows) - 1))
        elif key == "s":
            self._sort, self.stale = (self._sort + 1) % len(SORTS), True
        elif key == "/":
            self.mode, self.typed = "filter", self.selector
        elif key == " ":
            self.stale = True
        elif key == "h":
            self.help = not self.help
        elif key == "q":
            self.closed = True
        elif key in ("p", "t", "K", "F"):
            if token is None:
                self.note = "no token is selected"
            elif key == "t":
                return Step(token.id)
            elif key in ("K", "F"):
                self.mode, self.typed, self.forces = "reason", "", key == "F"
            elif token.state == "paused" or token.held in ("paused", "pause_requested"):
                return Resume(token.id)
            else:
                return Pause(token.id)
        return None
