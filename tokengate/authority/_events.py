"""What the door publishes to the subscribers of a gate."""

from __future__ import annotations

from typing import ClassVar

import attrs

from tokengate.control._safe_text import printable
from tokengate.policy._events import PolicyEvent


@attrs.frozen
class BreakGlassUsed(PolicyEvent):
    """A caller acts at once where another person's approval is needed.

    Attributes:
        place: path of the actor that it acts on; empty for tokens.
        principal: the caller.
        verb: what it does.
        targets: number of the tokens.
        on_fire: what it says is on fire.
    """

    kind: ClassVar[str] = "control.glass_broken"
    principal: str
    verb: str
    targets: int
    on_fire: str

    @property
    def text(self) -> str:
        """What has happened, in one line: it is in the log of the process, where others could begin one."""
        what = f"'{self.place}'" if self.place else f"{self.targets:,} token{'s' * (self.targets != 1)}"
        said = f"{self.principal} breaks the glass for '{self.verb}' of {what}: {self.on_fire}"
        return printable(said)


@attrs.frozen
class InterventionsFrozen(PolicyEvent):
    """What rules ask for is refused from now on.

    Attributes:
        place: empty.
        principal: the caller that has frozen them.
        reason: why.
        revert: whether what they have done is to be undone.
    """

    kind: ClassVar[str] = "rule.frozen"
    principal: str
    reason: str
    revert: bool

    @property
    def text(self) -> str:
        """What has happened, in one line."""
        undone = ", and undoes what they did" if self.revert else ""
        return printable(f"{self.principal} freezes the interventions of rules{undone}: {self.reason}")
