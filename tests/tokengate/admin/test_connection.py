"""Connections: their limits of number, size and time, by raw sockets against a server in a thread."""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import attrs
import pytest
from gated_code import LIMIT
from starlette.types import Message, Receive, Scope, Send
from tiers import in_ci
from uvicorn.server import ServerState

from tokengate.admin._connection import Connection, server_config

pytestmark = in_ci

Until = Callable[[Callable[[], bool]], None]

GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
BIG = b"x" * 16 * 2**20  # more than the kernel's buffers take


class Quick(Connection):
    """One that waits for nothing for long; what is right on it may be cut off on a slow machine."""

    PATIENCE = 0.2
    IDLE = 0.2


class Few(Connection):
    MOST = 4


@attrs.define(eq=False)
class App:
    """An application of the test.

    Attributes:
        begun: how many requests have reached it.
        gone: how many clients have gone before their answer.
    """

    begun: int = 0
    gone: int = 0
    release: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun += 1
        path, size, more, message = scope["path"], 0, True, {}
        while more and path != "/early":
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone += 1
                return
            size, more = size + len(message["body"]), message["more_body"]
        if path == "/wait":
            await self.release.wait()
        headers = [(b"content-type", b"text/event-stream")] if path == "/stream" else []
        body = BIG if path == "/big" else b"%d bytes" % size
        start: Message = {"type": "http.response.start", "status": 200, "headers": headers}
        await send(start)
        if path == "/stream":
            leaving = asyncio.ensure_future(receive())
            while not leaving.done():
                await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
                await asyncio.sleep(0)
            self.gone += 1
            return
        await send({"type": "http.response.body", "body": body})


@attrs.define(eq=False)
class Host:
    """A server in a thread.

    Attributes:
        app: of it.
        state: of uvicorn.
        port: of the loopback interface.
        loop: of the thread.
    """

    app: App
    state: ServerState
    port: int
    loop: asyncio.AbstractEventLoop

    def client(self, sent: bytes = b"", **options: int) -> Client:
        return Client(self.port, sent, **options)

    def serves(self) -> None:
        """See that a new connection is served; one that was cut off on a slow machine is tried again."""
        for _ in range(100):
            with self.client(GET) as client:
                if b"200 OK" in client.answer():
                    return
        pytest.fail("no new connection is served")

    @property
    def connections(self) -> set[Any]:
        return self.state.connections

    def call(self, function: Callable[[], object]) -> None:
        """Call a function on the loop, and wait for it."""
        done = threading.Event()
        self.loop.call_soon_threadsafe(lambda: (function(), done.set()))
        assert done.wait(LIMIT)


class Client:
    """A raw connection; reading it ends at what a client would see."""

    def __init__(self, port: int, sent: bytes = b"", receives: int = 0) -> None:
        self.socket = socket.socket()
        if receives:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        self.socket.settimeout(LIMIT)
        self.socket.connect(("127.0.0.1", port))
        self.send(sent)

    def send(self, data: bytes) -> bool:
        """Send bytes; tell whether the server still takes them."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def answer(self) -> bytes:
        """Return what comes until an answer is whole, or the connection ends."""
        found, more = bytearray(), b"."
        while more and not found.endswith((b"0\r\n\r\n", b"}")):
            try:
                more = self.socket.recv(65_536)
            except OSError:
                break
            found += more
        return bytes(found)

    def has_ended(self) -> bool:
        """Read what there is, and tell whether the server has closed it."""
        self.socket.setblocking(False)
        try:
            while self.socket.recv(65_536):
                pass
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def hosted(connection: type[Connection] = Connection) -> Iterator[Host]:
    """Serve an application until the block ends."""
    made = socket.create_server(("127.0.0.1", 0))
    stops: list[tuple[Host, asyncio.Event]] = []
    started = threading.Event()

    async def serve() -> None:
        app, state, loop, stop = App(), ServerState(), asyncio.get_running_loop(), asyncio.Event()
        config = server_config(app, http=connection)
        config.load()
        server = await loop.create_server(
            lambda: connection(config=config, server_state=state, app_state={}, _loop=loop), sock=made, backlog=1_100
        )
        host = Host(app, state, made.getsockname()[1], loop)
        stops.append((host, stop))
        started.set()
        await stop.wait()
        server.close()
        app.release.set()
        for one in [*state.connections]:
            one.transport.abort()
        await asyncio.gather(*state.tasks)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="host")
    thread.start()
    assert started.wait(LIMIT)
    ((host, stop),) = stops
    try:
        yield host
    finally:
        host.loop.call_soon_threadsafe(stop.set)
        thread.join(LIMIT)
        made.close()


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with hosted() as served:
        yield served


def post(length: object, body: bytes = b"", path: bytes = b"/", more: bytes = b"") -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: here\r\n%sContent-Length: %s\r\n\r\n%s" % (
        path,
        more,
        str(length).encode(),
        body,
    )


CHUNKED = b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"


# What is no request


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(post(3, b"abc", more=b"Content-Length: 3\r\n"), 400, id="two lengths"),
        pytest.param(post(3, b"abc", more=b"Content-Length: 4\r\n"), 400, id="two other lengths"),
        pytest.param(post("3, 3", b"abc"), 400, id="a list of lengths"),
        pytest.param(post("+3", b"abc"), 400, id="a signed length"),
        pytest.param(post("0x3", b"abc"), 400, id="a hexadecimal length"),
        pytest.param(post("9" * 30), 400, id="a length that overflows"),
        pytest.param(post(3, b"abc", more=b"Transfer-Encoding: chunked\r\n"), 400, id="length and chunks"),
        pytest.param(GET.replace(b"/ ", b"http://there/ "), 400, id="absolute form"),
        pytest.param(GET.replace(b"/ ", b"* "), 400, id="asterisk form"),
        pytest.param(b"CONNECT there:80 HTTP/1.1\r\nHost: here\r\n\r\n", 400, id="CONNECT"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, id="HTTP/2"),
        pytest.param(b"GET / HTTP/3.0\r\n\r\n", 400, id="HTTP/3"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 405, id="TLS"),
        pytest.param(b"SSH-2.0-x\r\n", 405, id="SSH"),
        pytest.param(GET.replace(b"\r\n", b"\n"), 400, id="LF only"),
        pytest.param(GET.replace(b"here\r\n", b"here\nX: y\r\n"), 400, id="one LF"),
        pytest.param(GET.replace(b"here\r\n", b"here\rX: y\r\n"), 400, id="one CR"),
        pytest.param(GET.replace(b"/ ", b"/\0 "), 400, id="NUL in a path"),
        pytest.param(GET.replace(b"/ ", b"/\xff "), 400, id="bytes in a path"),
        pytest.param(GET.replace(b"/ ", b"/\t "), 400, id="a tab in a path"),
        pytest.param(GET.replace(b"here", b"he\0re"), 400, id="NUL in a header"),
        pytest.param(GET.replace(b"here", b"he\x1bre"), 400, id="ESC in a header"),
        pytest.param(GET.replace(b"here", b"here\r\n there"), 400, id="a folded header"),
        pytest.param(GET.replace(b"Host:", b"Host :"), 400, id="a space before a colon"),
        pytest.param(b"FOO / HTTP/1.1\r\nHost: here\r\n\r\n", 405, id="an unknown method"),
        pytest.param(b"get / HTTP/1.1\r\nHost: here\r\n\r\n", 405, id="a method in small letters"),
        pytest.param(GET.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 2**14 + b"\r\n\r\n"), 431, id="a large header"),
        pytest.param(GET.replace(b"\r\n\r\n", b"\r\nX: y" * 3_000 + b"\r\n\r\n"), 431, id="many headers"),
        pytest.param(GET.replace(b"/ ", b"/" + b"x" * 2**14 + b" "), 431, id="a large path"),
        pytest.param(GET[:-2] + b"X: " + b"x" * 2**14, 431, id="a large header without an end"),
        pytest.param(b"GET /" + b"x" * 2**20, 431, id="a large path without an end"),
    ],
)
def test_what_is_no_request_is_refused_and_closed(host: Host, sent: bytes, status: int) -> None:
    """The application sees nothing of it; the answer has the headers of all answers, and tells nothing back."""
    begun = host.app.begun

    with host.client(sent) as client:
        answer = client.answer()
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        for header in (b"connection: close", b"x-request-id:", b"content-security-policy:", b"x-content-type-options:"):
            assert header in answer.lower()
        assert b"there" not in answer
        assert client.answer() == b""  # it has ended

    assert host.app.begun == begun
    host.serves()


@pytest.mark.parametrize("size", [b"zz", b"-1", b"f" * 17, b"0x1", b" 1"])
def test_a_chunk_with_a_wrong_size_is_never_a_body(host: Host, size: bytes) -> None:
    """The request ends without one."""
    gone = host.app.gone

    with host.client(CHUNKED + size + b"\r\nabc\r\n0\r\n\r\n") as client:
        assert b"bytes" not in client.answer()

    assert host.app.gone <= gone + 1
    host.serves()


def test_an_upgrade_is_ignored_and_what_follows_is_not_read(host: Host) -> None:
    """h2c and websockets get the answer to their first request, in HTTP/1.1, and the connection ends."""
    for kind in (b"h2c", b"websocket"):
        head = b"\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: " + kind + b"\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
        begun = host.app.begun
        with host.client(GET.replace(b"\r\n\r\n", head) + GET) as client:
            answer = client.answer()
            assert answer.startswith(b"HTTP/1.1 200 OK")
            assert b"connection: close" in answer
            assert client.answer() == b""
        assert host.app.begun == begun + 1


def test_a_request_before_the_answer_to_the_last_is_not_taken(host: Host) -> None:
    """The first is answered, whole, and the connection ends; nothing is written between its parts."""
    begun = host.app.begun

    with host.client(GET * 1_000) as client:
        answer = client.answer()
        assert answer.count(b"HTTP/1.1") == 1
        assert answer.endswith(b"7\r\n0 bytes\r\n0\r\n\r\n")
        assert client.answer() == b""

    assert host.app.begun == begun + 1


# Sizes


def test_no_more_of_a_body_is_kept_than_may_be_there(until: Until) -> None:
    """A body that its client says is larger, or of chunks, is dropped as it comes, and the connection ends."""
    with hosted() as host, host.client(post(len(BIG), path=b"/wait")) as large, host.client(CHUNKED) as chunked:
        until(lambda: host.app.begun == 2)
        for _ in range(32):
            large.send(b"x" * 65_536)
            chunked.send(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        assert all(len(one.cycle.body) <= Connection.BODY for one in host.connections)
        assert not any(one.cycle.keep_alive for one in host.connections)
        host.serves()


def test_a_body_of_64_kib_and_a_head_of_almost_16_are_taken(host: Host) -> None:
    """In one piece, and byte by byte at the borders; then the next request on the same connection."""
    pad = b"X: " + b"x" * (Connection.HEAD - 200) + b"\r\n"

    with host.client(post(Connection.BODY, b"x" * Connection.BODY, more=pad)) as client:
        assert b"65536 bytes" in client.answer()
        for byte in post(2, b"ab"):
            client.send(bytes([byte]))
        assert b"2 bytes" in client.answer()


def test_answers_do_not_wait_for_receipts_of_their_heads(host: Host) -> None:
    """A connection has TCP_NODELAY, though its server's socket was made elsewhere."""
    with host.client(GET) as client:
        client.answer()
        options = [
            one.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for one in host.connections
        ]

    assert set(options) == {1}


# Number


def test_one_connection_more_closes_the_one_that_has_waited_longest(until: Until) -> None:
    """What counts is how long it has had no request: not its age, and not one whose request is at work."""
    with hosted(Few) as host, ExitStack() as opened:
        clients = [opened.enter_context(host.client(GET)) for _ in range(4)]
        for client in clients:  # in this order
            client.answer()
        clients[0].send(GET)  # the first waits for a shorter time now than the others
        clients[0].answer()
        clients[1].send(GET.replace(b"/ ", b"/wait "))  # and the second not at all
        until(lambda: host.app.begun == 6)

        new = opened.enter_context(host.client(GET))
        assert b"200 OK" in new.answer()

        assert clients[2].answer() == b""
        until(lambda: len(host.connections) == 4)
        for client in (clients[0], clients[3], new):
            client.send(GET)
            assert b"200 OK" in client.answer()
        host.call(host.app.release.set)
        assert b"200 OK" in clients[1].answer()


def test_half_requests_make_room_and_those_at_work_do_not(until: Until) -> None:
    """Half heads and half bodies are closed before the requests that are answered; if all are, the new one is."""
    with hosted(Few) as host, ExitStack() as opened:
        at_work = [opened.enter_context(host.client(GET.replace(b"/ ", b"/wait "))) for _ in range(2)]
        head = opened.enter_context(host.client(GET[:-2]))
        body = opened.enter_context(host.client(post(3, b"ab")))
        until(lambda: host.app.begun == 3)

        more = [opened.enter_context(host.client(GET.replace(b"/ ", b"/wait "))) for _ in range(2)]
        assert (head.answer(), body.answer()) == (b"", b"")
        until(lambda: host.app.begun == 5)
        with host.client(GET) as one_more:
            assert one_more.answer() == b""

        host.call(host.app.release.set)
        for client in at_work + more:
            assert b"200 OK" in client.answer()


@pytest.mark.parametrize("number", [pytest.param(1_000, marks=in_ci), 140])
def test_a_thousand_bad_connections_keep_no_good_one_from_its_answer(number: int, until: Until) -> None:
    """Half heads, half bodies, silent ones, and requests without a reader: 128 are kept at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * number:
        pytest.skip("this machine lets a process have too few files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * number)), hard))
    kinds = [b"", b"GET / HT", GET[:-2], post(60_000, b"x" * 100), GET.replace(b"/ ", b"/big ")]
    try:
        with hosted() as host, ExitStack() as opened:
            for n in range(number):
                opened.enter_context(host.client(kinds[n % len(kinds)]))
                if n % 50 == 0:
                    host.serves()
            host.serves()
            until(lambda: len(host.connections) <= Connection.MOST)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Times


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\r\n", id="an empty line"),
        pytest.param(b"GET / HTTP/1.1\r\nHost:", id="half a head"),
        pytest.param(post(3, b"ab"), id="half a body"),
        pytest.param(post(3, b"ab", path=b"/early"), id="half a body that is answered"),
        pytest.param(GET, id="an answer and then nothing"),
    ],
)
def test_a_connection_on_which_nothing_comes_is_closed(until: Until, sent: bytes) -> None:
    """Others are served meanwhile; a body that is missing is a client that has gone."""
    with hosted(Quick) as host, host.client(sent) as client:
        host.serves()
        until(client.has_ended)
        until(lambda: not host.connections)
        until(lambda: host.app.gone == (1 if sent == post(3, b"ab") else 0))


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nX: ", post(60_000), b""], ids=["head", "body", "empty lines"])
def test_bytes_that_drip_do_not_prolong_a_request(sent: bytes) -> None:
    """The time is that of the whole head, and of the whole body; empty lines are no first byte of a request."""
    with hosted(Quick) as host, host.client(sent) as client:
        client.socket.settimeout(0.02)
        for _ in range(1_000):
            if not client.send(b"x" if sent else b"\r\n"):
                break
            try:
                if client.socket.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            pytest.fail("it was never closed")


@pytest.mark.parametrize("path", [b"/big ", b"/stream "])
def test_a_client_that_does_not_read_its_answer_is_closed(until: Until, path: bytes) -> None:
    """A stream alike; the application is told that the client has gone, and others are served meanwhile."""
    with hosted(Quick) as host, host.client(GET.replace(b"/ ", path), receives=4_096):
        until(lambda: host.app.begun >= 1)
        host.serves()
        until(lambda: not host.connections)
        if path == b"/stream ":
            until(lambda: host.app.gone == 1)


def test_a_request_at_work_has_no_limit(until: Until) -> None:
    """A verb may wait: the timer is off from the end of the request to the answer."""
    with hosted() as host, host.client(post(2, b"ab", path=b"/wait")) as client:
        until(lambda: host.app.begun == 1 and all(not one._in_body for one in host.connections))
        (connection,) = host.connections
        until(lambda: connection._due == float("inf"))
        host.call(host.app.release.set)
        assert b"2 bytes" in client.answer()
        until(lambda: connection._due < float("inf"))


def test_a_stream_is_not_closed_while_it_is_read(until: Until) -> None:
    """However long it takes; its timer is off when nothing is left to be read."""
    with hosted() as host, host.client(GET.replace(b"/ ", b"/stream ")) as client:
        for _ in range(200):
            assert client.socket.recv(65_536)
        (connection,) = host.connections
        until(lambda: connection._due == float("inf") or not client.socket.recv(65_536))
        host.call(connection._late)
        assert client.socket.recv(65_536)


def test_an_answer_that_was_taken_late_leaves_the_connection_its_idle_time(until: Until) -> None:
    """The time for the answer is over, but nothing is left of it: the next request is served."""
    with hosted() as host, host.client(GET.replace(b"/ ", b"/big ")) as client:
        until(lambda: any(one._due - host.loop.time() < Connection.PATIENCE for one in host.connections))
        assert client.answer().endswith(b"0\r\n\r\n")
        (connection,) = host.connections
        until(lambda: connection.cycle.response_complete and not connection.transport.get_write_buffer_size())

        def be_late() -> None:
            connection._due = host.loop.time()
            connection._late()

        host.call(be_late)
        client.send(GET)
        assert b"0 bytes" in client.answer()


def test_a_request_sets_one_timer_at_most(until: Until) -> None:
    """A connection has one, which is set again when it is over."""
    with hosted() as host, host.client(GET) as client:
        client.answer()
        (connection,) = host.connections
        made = []
        call_at = host.loop.call_at

        def counted(*args: Any, **options: Any) -> asyncio.TimerHandle:
            if args[1] == connection._late:
                made.append(args[0])
            return call_at(*args, **options)

        host.loop.call_at = counted  # type: ignore[method-assign]
        for _ in range(100):
            client.send(GET)
            client.answer()
        assert len(made) <= 100


# The end


def test_a_server_that_stops_ends_streams_and_idle_connections_at_once(until: Until) -> None:
    """A request at work is answered first."""
    with hosted() as host, ExitStack() as opened:
        stream = opened.enter_context(host.client(GET.replace(b"/ ", b"/stream ")))
        idle = opened.enter_context(host.client(GET))
        at_work = opened.enter_context(host.client(GET.replace(b"/ ", b"/wait ")))
        until(lambda: host.app.begun == 3)
        assert b"200 OK" in stream.socket.recv(65_536)
        idle.answer()

        host.call(lambda: [one.shutdown() for one in [*host.connections]])
        until(stream.has_ended)
        until(lambda: host.app.gone == 1)
        assert idle.answer() == b""
        host.call(host.app.release.set)
        assert b"200 OK" in at_work.answer()


def test_a_server_takes_no_word_of_proxies_and_names_no_software(host: Host) -> None:
    """X-Forwarded-For is a header like others; no answer has `server`."""
    config = server_config(host.app)
    config.load()

    with host.client(GET) as client:
        assert b"server:" not in client.answer().lower()
    assert (config.proxy_headers, config.ws_protocol_class, config.access_log) == (False, None, False)
    assert config.http_protocol_class is Connection
