"""`admin.sock`, as clients see it: what can be asked for, and the way to the daemon.

A connection carries one request, a line of JSON, and its answer. Some answers have a second line, when something ends.
"""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

import msgspec

from tokengate.admin._start import LOCK
from tokengate.control._exceptions import ControlError, NoAnswer, Unreachable
from tokengate.control.transport._discovery import check_directory, runtime_directory

SOCKET: Final = "admin.sock"

_SECONDS: Final = 10.0  # for an answer
_STARTS: Final = 5.0  # seconds from the lock to the socket


class _Request(msgspec.Struct, forbid_unknown_fields=True, tag_field="verb", tag=str.lower):
    pass


class Status(_Request):
    """Where the daemon is."""


class Login(_Request):
    """A code for the browser. A second line tells whether it was used, when it was, or is too old."""


class Sessions(_Request):
    """The sessions of this user; of all users, for those that may end them."""


class Logout(_Request):
    """End a session by its id; without one, all sessions of this user."""

    id: str = ""


class Tokens(_Request):
    """The API tokens of this user; of all users, for those that may revoke them."""


class CreateToken(_Request):
    """Make an API token of this user; no other answer has it."""

    name: str
    role: str = ""
    seconds: float | None = None


class RevokeToken(_Request):
    """End an API token."""

    name: str


class Stop(_Request):
    """End the daemon, and with it the connection."""


Request: TypeAlias = Status | Login | Sessions | Logout | Tokens | CreateToken | RevokeToken | Stop


class Conversation:
    """A request to the daemon of this user, or of the one whose directory TOKENGATE_RUNTIME_DIR names.

    Args:
        request: what is asked for.

    Attributes:
        answer: to it.

    Raises:
        Unreachable: no daemon runs, or it does not answer.
        ControlError: it cannot do that; the text names the remedy.
    """

    def __init__(self, request: Request) -> None:
        with ExitStack() as opened:
            try:
                check_directory(place := runtime_directory(), enters=True)
                self._socket = opened.enter_context(_connected(place))
                self._socket.sendall(msgspec.json.encode(request) + b"\n")
                self._lines = opened.enter_context(self._socket.makefile("rb"))
                line = self._lines.readline()
            except (TimeoutError, BlockingIOError):
                raise NoAnswer("the admin daemon does not answer; its process may be stopped (SIGSTOP)") from None
            except OSError:
                raise Unreachable("no admin daemon runs here; start it with 'tokengate admin'") from None
            self.answer: Any = msgspec.json.decode(line) if line else {"error": "the admin daemon has just ended"}
            if isinstance(self.answer, dict) and (why := self.answer.get("error")):
                raise ControlError(why)
            self._opened = opened.pop_all()

    def wait(self, seconds: float) -> bool:
        """Wait until what follows the answer comes, or the daemon ends; tell whether it came in time."""
        self._socket.settimeout(seconds)
        try:
            self._lines.readline()
        except TimeoutError:
            return False
        except OSError:  # it was killed
            pass
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._opened.close()


def _connected(place: Path) -> socket.socket:
    """Return a connection to the daemon of a directory; one that has its lock is about to listen.

    Raises:
        OSError: there is none.
    """
    until = time.monotonic() + _STARTS
    while True:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(_SECONDS)
        try:
            made.connect(str(place / SOCKET))
            return made
        except BaseException as error:
            made.close()
            is_new = isinstance(error, FileNotFoundError | ConnectionRefusedError) and (place / LOCK).exists()
            if not is_new or time.monotonic() > until:
                raise
        time.sleep(0.05)


def ask(request: Request) -> Any:
    """Return the daemon's answer to a request; errors as of `Conversation`."""
    with Conversation(request) as conversation:
        return conversation.answer


def runs() -> bool:
    """Tell whether a daemon listens, without waiting for it: its process may be stopped."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(runtime_directory() / SOCKET))
        except BlockingIOError:  # it has not accepted many others yet
            return True
        except OSError:
            return False
    return True
