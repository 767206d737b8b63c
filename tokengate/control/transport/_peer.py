"""The other end of a unix socket: its process, its user and that user's groups, as the system knows them."""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import Final, Protocol

import attrs

from tokengate.control._admission import Caller

# Numbers of options for which `socket` has no names.
_SO_PEERGROUPS: Final = 59  # Linux 4.13
_SOL_LOCAL, _LOCAL_PEERCRED, _LOCAL_PEERPID = 0, 1, 2  # macOS, and the first two FreeBSD

_LONGEST: Final = 1024  # bytes of an option that Python reads: 256 groups
_XUCRED: Final = struct.Struct("=IIhxx16I")  # version, user, number of groups, groups


@attrs.frozen
class Peer:
    """The other end of a connection, at the time when it was made.

    Attributes:
        pid: of its process; None if the system does not say.
        uid: its effective user.
        groups: its effective group, and the others that it was in. If it was in more than 256, only the first one.
    """

    pid: int | None
    uid: int
    groups: frozenset[int]


def caller_of(peer: Peer | None) -> Caller:
    """Return a peer as a caller; if the system does not say who it is, the mode of the directory has let it in."""
    if peer is None:
        return Caller(f"uid:{os.geteuid()}", os.geteuid(), via="socket")
    return Caller(f"uid:{peer.uid}", peer.uid, peer.groups, "socket", peer.pid)


class _Socket(Protocol):
    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


def peer_of(connection: _Socket) -> Peer | None:
    """Return the other end of a unix socket; None if the system does not say: only the directory's mode protects then.

    Raises:
        OSError: it is no such socket, or not connected.
    """
    if sys.platform == "linux":
        return _on_linux(connection)
    if sys.platform == "darwin" or sys.platform.startswith("freebsd"):
        return _on_bsd(connection)
    return None


def _on_linux(connection: _Socket) -> Peer:
    layout = "iII"
    pid, uid, gid = struct.unpack(
        layout, connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(layout))
    )
    try:
        others = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _LONGEST)
    except OSError:  # more groups, or an old kernel
        others = b""
    return Peer(pid or None, uid, frozenset((gid, *struct.unpack(f"{len(others) // 4}I", others))))


def _on_bsd(connection: _Socket) -> Peer:
    found = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size)
    _version, uid, count, *groups = _XUCRED.unpack(found)
    pid = None
    if sys.platform == "darwin":
        pid = int.from_bytes(connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID, 4), sys.byteorder)
    return Peer(pid, uid, frozenset(groups[:count]))
