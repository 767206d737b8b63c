"""`admin.sock`: the way from the command line to the daemon; the kernel names the user at the other end.

A connection carries one request, a line of JSON, and its answer. Some answers have a second line, when something ends.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, TypeVar

import msgspec

from tokengate.admin._principal import Principal
from tokengate.admin._problems import Problem
from tokengate.admin._site import Record, SessionRow, TokenRow
from tokengate.authority._decide import NOBODY
from tokengate.authority._grants import Rights
from tokengate.control._admission import Caller
from tokengate.control._exceptions import ControlError, NoAnswer, Unreachable
from tokengate.control.transport._discovery import check_directory, runtime_directory
from tokengate.control.transport._peer import peer_of

if TYPE_CHECKING:  # here, so that clients and gates import less
    from tokengate.admin._doors import Doors

R = TypeVar("R", SessionRow, TokenRow)

SOCKET: Final = "admin.sock"

_SECONDS: Final = 10.0  # for a line
_LONGEST: Final = 64 * 1024  # bytes of a line
_MOST: Final = 64  # connections
_LOOK: Final = 0.2  # seconds between two looks whether a code was used


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


class LocalServer:
    """Serves `admin.sock`.

    Args:
        doors: what lets people and scripts in.
        rights: the right `administer` is asked for what belongs to others.
        record: writes into the audit log.
        status: of the daemon; its `url` is what browsers open.
        stop: ends it.
    """

    def __init__(
        self, doors: Doors, rights: Rights, record: Record, status: Mapping[str, object], stop: Callable[[], object]
    ) -> None:
        self._doors = doors
        self._rights = rights
        self._record = record
        self._status = status
        self._stop = stop
        self._clients: set[asyncio.Task[None]] = set()

    async def serve(self, listening: socket.socket) -> asyncio.Server:
        """Serve a socket that listens, until the server that is returned is closed."""

        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            client = asyncio.create_task(self._client(reader, writer))
            self._clients.add(client)
            client.add_done_callback(self._clients.discard)

        return await asyncio.start_unix_server(begin, sock=listening, limit=_LONGEST)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def reply(line: object) -> None:
            writer.write(msgspec.json.encode(line) + b"\n")

        try:
            if len(self._clients) <= _MOST:
                caller = _caller_of(writer.get_extra_info("socket"))
                async with asyncio.timeout(_SECONDS):
                    line = await reader.readline()
                async for answer in self._answers(msgspec.json.decode(line, type=Request), caller, reader.at_eof):
                    reply(answer)
        except (ControlError, Problem) as error:
            remedy = getattr(error, "remedy", "")
            reply({"error": f"{error}; {remedy}" if remedy else str(error)})
        except (OSError, ValueError, msgspec.DecodeError):  # of a client that is slow, or none of ours
            pass
        finally:
            writer.close()

    async def _answers(self, request: Request, caller: Caller, has_gone: Callable[[], bool]) -> AsyncIterator[object]:
        """Yield the answer to a request, and what follows it, unless the client has gone."""
        doors, owner = self._doors, caller.owner
        assert owner is not None
        if owner == NOBODY:
            raise ControlError(f"user {NOBODY} stands for users without a number here, and has no rights")
        user = Principal(caller.principal, owner, tuple(sorted(caller.groups)))
        scope = self._rights.scope(caller, "administer")
        may_all = scope is not None and scope.everywhere

        def seen(rows: Sequence[R]) -> list[R]:
            return [row for row in rows if may_all or row.owner == owner]

        def note(kind: str, **fields: str) -> None:
            self._record(kind, caller.principal, owner, via="socket", pid=caller.peer, **fields)

        match request:
            case Status():
                yield self._status
            case Login():
                code = doors.code(user)
                yield {"url": f"{self._status['url']}/#{code}"}
                while doors.waits(code) and not has_gone():
                    await asyncio.sleep(_LOOK)
                yield {}
            case Sessions():
                yield seen(doors.sessions())
            case Logout(id):
                rows = [row for row in seen(doors.sessions()) if row.name == id or (not id and row.owner == owner)]
                if id and not rows:
                    raise ControlError(f"there is no session '{id}' of yours; see 'tokengate admin sessions'")
                for row in rows:
                    doors.end(row.name, row.owner)
                    note("logout", session=row.name)
                yield [row.name for row in rows]
            case Tokens():
                yield seen(doors.tokens())
            case CreateToken(name, role, seconds):
                token = await asyncio.to_thread(doors.create_token, user, name, role, seconds)
                note("token_created", token=name, role=role)
                yield {"token": token}
            case RevokeToken(name):
                if all(row.name != name for row in seen(doors.tokens())):
                    raise ControlError(f"there is no API token '{name}' of yours; see 'tokengate admin token list'")
                await asyncio.to_thread(doors.revoke_token, name)
                note("token_revoked", token=name)
                yield {}
            case Stop():
                if not self._rights.are_own(caller):
                    raise ControlError("only the daemon's own user and root may stop it")
                self._stop()
                yield {}
                await asyncio.Event().wait()  # the connection ends with the daemon


def _caller_of(connection: Any) -> Caller:
    """Return a client as a caller; if the system does not say who it is, the mode of the directory has let it in."""
    peer = peer_of(connection)
    if peer is None:
        return Caller(f"uid:{os.geteuid()}", os.geteuid(), via="socket")
    return Caller(f"uid:{peer.uid}", peer.uid, peer.groups, "socket", peer.pid)


# --- Clients ----------------------------------------------------------------------------------------------------------


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
                self._socket = opened.enter_context(socket.socket(socket.AF_UNIX))
                self._socket.settimeout(_SECONDS)
                self._socket.connect(str(place / SOCKET))
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
