"""`admin.sock`, as the daemon serves it: the kernel names the user at the other end."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from tokengate.admin._api_tokens import TokenRow
from tokengate.admin._audit import Record
from tokengate.admin._client import (
    CreateToken,
    Login,
    Logout,
    Request,
    RevokeToken,
    Sessions,
    Status,
    Stop,
    Tokens,
)
from tokengate.admin._doors import Doors, SessionRow
from tokengate.admin._principal import Principal
from tokengate.admin._problems import Problem
from tokengate.authority._decide import NOBODY
from tokengate.authority._grants import Rights
from tokengate.control._admission import Caller
from tokengate.control._exceptions import ControlError
from tokengate.control.transport._peer import caller_of, peer_of

R = TypeVar("R", SessionRow, TokenRow)

_SECONDS: Final = 10.0  # for a request
_LONGEST: Final = 64 * 1024  # bytes of it
_MOST: Final = 32  # connections of one user, so that none bars others
_LOOK: Final = 0.2  # seconds between two looks whether a code was used


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
        self._connections: Counter[int | None] = Counter()  # {user: how many there are}

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
            caller = caller_of(peer_of(writer.get_extra_info("socket")))
        except OSError:  # it has gone
            writer.close()
            return
        self._connections[caller.owner] += 1
        try:
            if self._connections[caller.owner] <= _MOST:
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
            self._connections[caller.owner] -= 1
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
