"""The protocol of drains, which take tokens out of a mailbox and run them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

from actors.mailboxes._mailbox import Drainer
from actors.mailboxes._signals import Signal
from actors.tokens._token import Token


class Drain(Protocol):
    """Takes tokens out of a place's mailbox and runs them, on CPU threads or as tasks of loops."""

    @property
    def listen_for(self) -> Callable[[Token[Any], float | None], None] | None:
        """Have the calling thread, which waits for a token, read from its child process; None for other drains."""
        ...

    @property
    def call_here(self) -> Callable[[Token[Any]], Awaitable[bool]] | None:
        """Put a token into the mailbox and run it in the calling task, if it may begin there; None for other drains.

        Returns:
            whether the mailbox has accepted it; if not, nothing has changed, and the caller must send it.
        """
        ...

    def new_drainer(self) -> Drainer:
        """Return a drainer to be entered in the mailbox; the caller holds the mailbox's lock."""
        ...

    @property
    def wake(self) -> Callable[[Any], None]:
        """Have an entered drainer, the argument, begin its work; one that is at work already is not disturbed."""
        ...

    def control_arrived(self, signal: Signal, /) -> None:
        """Check the control lane even while a token runs, if possible."""

    def handle_here(self, signal: Signal, here: bool, plain: bool, /) -> bool:
        """Handle a signal on the calling thread, if that is allowed and no drainer is at work.

        Args:
            signal: the signal.
            here: whether code of the actor may run on the calling thread.
            plain: whether the signal runs no code of the actor, so that any thread will do.

        Returns:
            whether it was handled.
        """
        ...

    def dismiss_lost(self) -> bool:
        """Dismiss the drainer of a start that was interrupted on its caller's thread; return whether there was one."""
        ...

    def recover(self, drainers: Iterable[Drainer], /) -> None:
        """Wake the entered drainers that an interrupted sender did not wake."""

    def running(self) -> list[Token[Any]]:
        """Return the tokens that run."""
        ...

    def has_taken(self, token: Token[Any], /) -> bool:
        """Tell whether a drainer has taken a token, whether its code has begun or not."""
        ...

    def cancel(self, token: Token[Any]) -> None:
        """Ask a token to end at its next yield point, if it runs here."""

    def hold_changed(self, token: Token[Any]) -> None:
        """Note that the hold of a token that runs here has changed."""

    def arrest(self, token: Token[Any]) -> bool:
        """Stop the code of a token that is to be ended, if possible.

        Returns:
            whether it is to be ended by force; False when its code is just over, or has not begun: then it ends by
            itself.
        """
        ...

    def seal(self, only: Token[Any] | None = None) -> tuple[list[str], list[Token[Any]]]:
        """Cut all running drainers off from the place; with `only`, the drainer of that token.

        With `only`, the caller has ended the token before. So the drainer that runs it leaves after it, and takes no
        other token that could be hit instead.

        Returns:
            names of the threads that could not be ended, and the tokens that they had; the caller must end these.
        """
        ...

    def close(self) -> None:
        """Free all resources, since the place is closed."""


class NoDrain:
    """The drain of a place that accepts no token and never has."""

    listen_for: None = None
    call_here: None = None

    def new_drainer(self) -> Drainer:
        return Drainer()

    def wake(self, drainer: Any, /) -> None:
        """Do nothing."""

    def control_arrived(self, signal: Signal, /) -> None:
        """Do nothing."""

    def handle_here(self, signal: Signal, here: bool, plain: bool, /) -> bool:  # noqa: ARG002
        return False

    def dismiss_lost(self) -> bool:
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
