"""The drain of a place, as its place sees it: what takes tokens out of a mailbox and runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from actors.mailboxes._mailbox import Drainer
from actors.mailboxes._signals import Signal
from actors.tokens._token import Token


class Drain(Protocol):
    """What takes the tokens out of a place's mailbox and runs them: CPU threads, or trio tasks."""

    @property
    def listen_for(self) -> Callable[[Token[Any], float | None], None] | None:
        """Have the calling thread, which waits for a token, hear its child process; None where there is none."""
        ...

    def new_drainer(self) -> Drainer:
        """Return a drainer that is to be entered in the mailbox, whose lock the caller has."""
        ...

    def wake(self, drainer: Any, /) -> None:
        """Send a drainer that has been entered to the mailbox; one that is there already goes on undisturbed."""

    def control_arrived(self, signal: Signal, /) -> None:
        """Look at the control lane even while a token runs, if that is possible."""

    def handle_here(self, signal: Signal, /) -> bool:
        """Handle a signal on the calling thread, if any thread will do and nobody is at work; tell whether it was."""
        ...

    def recover(self, drainers: Iterable[Drainer], /) -> None:
        """Send those of the entered drainers that were not, since a sender was interrupted."""

    def running(self) -> list[Token[Any]]:
        """Return the tokens that drainers run."""
        ...

    def has_taken(self, token: Token[Any], /) -> bool:
        """Tell whether a drainer has a token that it took, whether it runs or not."""
        ...

    def cancel(self, token: Token[Any]) -> None:
        """Ask a token that runs here to end at its next yield point; do nothing if it does not run."""

    def hold_changed(self, token: Token[Any]) -> None:
        """Take note that a token that runs here is held, or no longer."""

    def arrest(self, token: Token[Any]) -> bool:
        """Stop the code of a token that is to be ended, where that is possible.

        Returns:
            whether it is to be ended by force; False when its code is just over, or has not begun after all: then it
            comes to its end by itself.
        """
        ...

    def seal(self, only: Token[Any] | None = None) -> tuple[list[str], list[Token[Any]]]:
        """Let nothing that still runs do any more here; with `only`, nothing of that token.

        With `only`, the caller has ended the token before: so whoever runs it leaves after it, and takes no other that
        could be hit instead.

        Returns:
            names of the threads that could not be ended, and the tokens in hand, which are the caller's to end.
        """
        ...

    def close(self) -> None:
        """Keep nothing ready any longer: the place is given up."""


class NoDrain:
    """The drain of a place that accepts no token and never has."""

    listen_for: None = None

    def new_drainer(self) -> Drainer:
        return Drainer()

    def wake(self, drainer: Any, /) -> None:
        """Do nothing."""

    def control_arrived(self, signal: Signal, /) -> None:
        """Do nothing."""

    def handle_here(self, signal: Signal, /) -> bool:  # noqa: ARG002
        return False

    def recover(self, drainers: Iterable[Drainer], /) -> None:
        """Do nothing."""

    def running(self) -> list[Token[Any]]:
        return []

    def has_taken(self, token: Token[Any], /) -> bool:  # noqa: ARG002
        return False

    def cancel(self, token: Token[Any]) -> None:
        """Do nothing."""

    def hold_changed(self, token: Token[Any]) -> None:
        """Do nothing."""

    def arrest(self, token: Token[Any]) -> bool:  # noqa: ARG002
        return False

    def seal(self, only: Token[Any] | None = None) -> tuple[list[str], list[Token[Any]]]:  # noqa: ARG002
        return [], []

    def close(self) -> None:
        """Do nothing."""
