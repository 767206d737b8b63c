"""Keys, one at a time, from a terminal that is restored at the end."""

from __future__ import annotations

import codecs
import os
import re
import select
import termios
import tty
from typing import Any, Protocol, Self

_NAMES = {
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
}
"""{what a terminal sends: the key}; other sequences are no key, other characters are themselves."""

_SEQUENCE = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Za-z]|.", re.DOTALL)

# Seconds within which a terminal sends the rest of a sequence, also over a slow line.
_REST = 0.05


def keys_in(text: str) -> list[str]:
    """Return the keys behind what a terminal has sent."""
    keys = (_NAMES.get(part, part if len(part) == 1 else "") for part in _SEQUENCE.findall(text))
    return [key for key in keys if key]


class HasFileno(Protocol):
    """What can be waited for: a file, or what has one."""

    def fileno(self) -> int: ...


class Keys:
    """Keys from a terminal, which tells them at once and does not show them, for the length of a block.

    Ctrl-C stays what it is; Ctrl-Z does nothing, since a shell could not undo what the screen looks like.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._before: list[Any] = []
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor)
        changed = termios.tcgetattr(self._descriptor)
        changed[6][termios.VSUSP] = os.fpathconf(self._descriptor, "PC_VDISABLE").to_bytes(1, "little")
        termios.tcsetattr(self._descriptor, termios.TCSANOW, changed)
        return self

    def __exit__(self, *_exc: object) -> None:
        termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, self._before)

    def read(self, timeout: float, *others: HasFileno) -> list[str]:
        """Return the keys that were pressed, as soon as there is one; none after a timeout.

        Args:
            timeout: the seconds.
            others: what else ends the waiting, once it can be read.

        Raises:
            EOFError: the terminal is gone.
        """
        text = self._receive(timeout, *others)
        if text.endswith(("\x1b", "\x1b[", "\x1bO")):
            text += self._receive(_REST)
        return keys_in(text)

    def _receive(self, timeout: float, *others: HasFileno) -> str:
        watched: list[int | HasFileno] = [self._descriptor, *others]
        if self._descriptor not in select.select(watched, [], [], timeout)[0]:
            return ""
        received = os.read(self._descriptor, 1024)
        if not received:
            raise EOFError("the terminal is gone")
        return self._decoder.decode(received)
