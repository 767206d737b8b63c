"""A connection of a client: uvicorn's, with limits of time and size, so that a bad one harms no other."""

from __future__ import annotations

import asyncio
import secrets
import socket
from math import inf
from typing import Any, ClassVar

import uvicorn
from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from tokengate.admin._answers import answer_to, headers_of
from tokengate.admin._problems import Problem


class Connection(HttpToolsProtocol):
    """A connection, which takes one request after the other.

    It has one timer, which is set again when it is over, so that a request costs none.

    Attributes:
        MOST: connections; one more closes the one that has waited longest for a request.
        HEAD: bytes of a request's line and headers.
        BODY: bytes of a body; more are not kept.
        PATIENCE: seconds to the first byte, for the head, for the body, and for the client to take an answer, or what
            is buffered of a stream.
        IDLE: seconds between an answer and the next request.
    """

    MOST: ClassVar = 128
    HEAD: ClassVar = 16 * 1024
    BODY: ClassVar = 64 * 1024
    PATIENCE: ClassVar = 10.0
    IDLE: ClassVar = 30.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head = self._in_body = False
        self._head = 0  # bytes received since it began
        self._since = self._due = 0.0  # when its wait for a request began; when it is closed
        self._timer: asyncio.TimerHandle | None = None

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _has_request(self) -> bool:
        return self._answering and not self._in_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer = transport.get_extra_info("socket")  # asyncio sets this for sockets that it has made itself
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else a body waits 40 ms for the head's receipt
        self._since = self.loop.time()
        self._wait(self.PATIENCE)
        if len(self.connections) > self.MOST:
            waiting = [one for one in self.connections if isinstance(one, Connection) and not one._has_request]
            longest = min(waiting, key=lambda one: one._since, default=self)
            self.connections.discard(longest)
            longest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        assert self.parser is not None
        try:
            self.parser.feed_data(data)
            if self._in_head:
                self._head += len(data)
                self._check_head(self._head)
        except HttpParserUpgrade:
            self._take_no_more()  # no upgrade is made: the request is answered, and what follows it is not read
        except HttpParserInvalidMethodError:
            self._refuse(
                Problem(405, "BadMethod", "this is no method of the daemon", headers={"Allow": "GET, HEAD, POST"})
            )
        except HttpParserError as error:  # an error of a method below is its context
            text = "this is no request of HTTP/1.1 that is taken here"
            known = isinstance(error.__context__, Problem)
            self._refuse(error.__context__ if known else Problem(400, "BadRequest", text))  # type: ignore[arg-type]
        except Problem as problem:
            self._refuse(problem)

    # Called by the parser

    def on_message_begin(self) -> None:
        if self._answering:
            raise Problem(400, "BadRequest", "a request came before the answer to the last one")
        super().on_message_begin()
        self._in_head, self._head = True, 0
        self._wait(self.PATIENCE)

    def on_headers_complete(self) -> None:
        self._check_head(len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers))
        if not self.url.startswith(b"/"):
            raise Problem(400, "BadRequest", "a request names a path, which begins with /")
        super().on_headers_complete()
        self._in_head, self._in_body = False, True
        self._wait(self.PATIENCE)
        sizes = dict(self.headers)
        if b"transfer-encoding" in sizes or int(sizes.get(b"content-length", b"0")) > self.BODY:
            self.cycle.keep_alive = False  # the guard refuses it

    def on_body(self, body: bytes) -> None:
        if len(self.cycle.body) + len(body) <= self.BODY:
            super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_body = False
        self._wait(inf if self._answering else self.IDLE)

    # Called when an answer is written

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unset_keepalive_if_required()
        self._since = self.loop.time()
        if not self._in_body:
            self._wait(self.PATIENCE if self.transport.get_write_buffer_size() else self.IDLE)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait(self.PATIENCE)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._answering:
            self._wait(inf)

    def shutdown(self) -> None:
        """End it; an answer that has not begun is still sent."""
        super().shutdown()
        if self._answering and self.cycle.response_started:
            self.transport.close()

    def _wait(self, seconds: float) -> None:
        """Close the connection after some seconds, unless it is told to wait again before."""
        self._due = self.loop.time() + seconds
        if self._timer is not None and self._due < self._timer.when():
            self._timer.cancel()
            self._timer = None
        if self._timer is None and seconds < inf:
            self._timer = self.loop.call_at(self._due, self._late)

    def _late(self) -> None:
        self._timer = None
        idle_until = self._since + self.IDLE
        if self.loop.time() < self._due:
            self._wait(self._due - self.loop.time())
        elif self._answering or self._in_head or self._in_body or self.transport.get_write_buffer_size():
            self.transport.abort()
        elif self.cycle is not None and self.loop.time() < idle_until:  # the client has taken the answer meanwhile
            self._wait(idle_until - self.loop.time())
        else:
            self.transport.abort()

    def _check_head(self, size: int) -> None:
        if size > self.HEAD:
            raise Problem(431, "TooManyHeaders", f"a request has at most {self.HEAD} bytes before its body")

    def _take_no_more(self) -> None:
        self.cycle.keep_alive = False
        self.flow.pause_reading()

    def _refuse(self, problem: Problem) -> None:
        """Answer what is no request, and close the connection; after the answer to the one before, if there is one."""
        if self._answering and (self.cycle.response_started or not self._in_body):
            self._take_no_more()
            return
        if self._answering:  # the application waits for a body that will not come
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        id = secrets.token_hex(8)
        answer = answer_to(problem, id)
        answer.headers.update({**headers_of(""), "X-Request-Id": id, "Connection": "close"})
        lines = b"".join(b"%s: %s\r\n" % header for header in answer.raw_headers)
        self.transport.write(STATUS_LINE[problem.status] + lines + b"\r\n" + bytes(answer.body))
        self.transport.close()


def server_config(app: ASGIApp, **options: Any) -> uvicorn.Config:
    """Return the configuration of a server for an application: connections with limits, and no more than HTTP/1.1.

    Args:
        app: the application.
        options: further ones of `uvicorn.Config`.
    """
    settings: dict[str, Any] = {
        "http": Connection,
        "ws": "none",
        "loop": "asyncio",
        "interface": "asgi3",
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,  # a client could say that it is another one
        "server_header": False,
        "timeout_keep_alive": int(Connection.IDLE),
        "timeout_graceful_shutdown": 2,
        "backlog": Connection.MOST,
    }
    return uvicorn.Config(app, **{**settings, **options})
