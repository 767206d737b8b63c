"""Users and groups of the system: their numbers, looked up by their names."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

_SECONDS: Final = 5.0


def uid_of(name: str) -> int:
    """Return the number of a user.

    Raises:
        LookupError: there is none of this name, or the system does not say in time; the text says which.
    """
    import pwd  # here and below: few programs name users

    return _in_time("user", lambda: pwd.getpwnam(name).pw_uid)


def gid_of(name: str) -> int:
    """Return the number of a group.

    Raises:
        LookupError: as `uid_of`.
    """
    import grp

    return _in_time("group", lambda: grp.getgrnam(name).gr_gid)


def _in_time(what: str, look: Callable[[], int]) -> int:
    """Call a function in a thread, which is left behind if it takes too long: a directory service may hang."""
    found: list[int | Exception] = []

    def run() -> None:
        try:
            found.append(look())
        except Exception as error:  # raised by the caller; `KeyError`, or `ValueError` for a name with a null byte
            found.append(error)

    thread = threading.Thread(target=run, name=f"tokengate-{what}", daemon=True)
    thread.start()
    thread.join(_SECONDS)
    if not found:
        raise LookupError(f"the system did not say within {_SECONDS:g} s which {what} this is; write its number")
    [number] = found
    if isinstance(number, Exception):
        raise LookupError(f"there is no {what} of this name; write another one, or a number")
    return number
