"""The process and the user at the other end of a socket."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from other_users import needs_root, public_directory, run_as

from tokengate.control.transport import _peer
from tokengate.control.transport._peer import Peer, peer_of

pytestmark = pytest.mark.usefixtures("programs")

LIMIT = 60.0  # seconds; reached only when a test fails

CONNECT = "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.recv(1)"


class Played:
    """A socket of another system: {(level, option): its bytes, or the error}."""

    def __init__(self, options: dict[tuple[int, int], bytes | OSError]) -> None:
        self.options = options

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        found = self.options[level, optname]
        if isinstance(found, OSError):
            raise found
        return found[:buflen]


@pytest.fixture
def path() -> Iterator[Path]:
    """A path for a socket that every user can reach."""
    with public_directory() as folder:
        yield folder / "socket"


def connected(path: Path, groups: list[int]) -> Peer:
    """What is known of user 12345, who is in group 54321 and in these, and connects."""
    found: list[Peer | None] = []

    def accept() -> None:
        connection, _ = listening.accept()
        with connection:
            found.append(peer_of(connection))

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(path))
        path.chmod(0o666)
        listening.listen()
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        run_as(12345, 54321, groups, CONNECT, os.fspath(path))
        thread.join(LIMIT)
    [peer] = found
    assert peer is not None
    return peer


@pytest.mark.skipif(sys.platform != "linux", reason="other systems say less")
def test_the_other_end_of_a_pair_is_this_process() -> None:
    """As the system has it, with the groups of this process."""
    one, other = socket.socketpair()
    with one, other:
        assert peer_of(one) == Peer(os.getpid(), os.geteuid(), frozenset((os.getegid(), *os.getgroups())))


@needs_root
@pytest.mark.parametrize("groups", [[], [4711], list(range(5000, 5255))])
def test_another_user_is_known_with_all_groups(groups: list[int], path: Path) -> None:
    """Those that its process had when it connected."""
    peer = connected(path, groups)

    assert peer.uid == 12345
    assert peer.groups == {54321, *groups}
    assert peer.pid not in (None, os.getpid())


@needs_root
def test_of_a_user_in_very_many_groups_only_the_first_is_known(path: Path) -> None:
    """Fewer groups are fewer rights; the connection itself works."""
    assert connected(path, list(range(5000, 5400))).groups == {54321}


def test_an_old_kernel_tells_one_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not know the option for the others."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(_peer.socket, "SO_PEERCRED", 17, raising=False)
    missing = OSError(errno.ENOPROTOOPT, "no such option")
    played = Played({(socket.SOL_SOCKET, 17): struct.pack("iII", 7, 1000, 50), (socket.SOL_SOCKET, 59): missing})

    assert peer_of(played) == Peer(7, 1000, frozenset({50}))


@pytest.mark.parametrize(("platform", "pid"), [("darwin", 77), ("freebsd14", None)])
def test_macos_and_freebsd_tell_it_in_a_structure_of_theirs(
    platform: str, pid: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has room for 16 groups, and says how many there are."""
    monkeypatch.setattr(sys, "platform", platform)
    credentials = struct.pack("=IIhxx16I", 0, 501, 3, 20, 12, 61, *([9] * 13))
    played = Played({(0, 1): credentials, (0, 2): struct.pack("i", 77)})

    assert peer_of(played) == Peer(pid, 501, frozenset({20, 12, 61}))


def test_another_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the mode of the directory has to do."""
    monkeypatch.setattr(sys, "platform", "sunos5")

    assert peer_of(Played({})) is None
