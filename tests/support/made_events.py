"""Events as a gate would have made them."""

from __future__ import annotations

from tokengate.control.messages import Event


def made_event(at: float, kind: str, actor: str, token: int | None, text: str, lost: int = 0) -> Event:
    """Return an event of a gate called `test`."""
    return Event(
        seq=1, kind=kind, at=at, gate="test", gate_run="7f3a91c2", actor=actor or None, token=token, text=text,
        lost=lost,
    )  # fmt: skip
