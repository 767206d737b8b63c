"""The guard: each rule over each route of the application, those of other files and of the test."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import random
import re
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, ClassVar, Final

import attrs
import pytest
from admin_site import HOST, served
from asgi_calls import Answer, Headers, ask, paths_of
from callers import ANN, OWN
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from tiers import IN_CI

from tokengate.admin._app import application
from tokengate.admin._bodies import form_of
from tokengate.admin._doors import Doors
from tokengate.admin._gates import Gates
from tokengate.admin._guard import Bucket, Guard, principal_of
from tokengate.admin._principal import Principal
from tokengate.admin._site import Site

USER: Final = Principal(f"uid:{OWN}", OWN)
COOKIE: Final = HOST.partition(".")[0]
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND")
JSON: Final = {"Content-Type": "application/json"}
ORIGIN: Final = f"http://{HOST}:8787"
WRONG_HOSTS: Final = (
    "evil.example",
    f"evil.{HOST}",
    f"{HOST}.evil.example",
    f"{HOST}.",
    f"user@{HOST}",
    f"{HOST}:",
    f"{HOST}:x",
    f"{HOST}:1:2",
    f"{HOST}:8787, evil.example",
    f"{HOST}/static/?",  # CVE-2026-48710: a URL made of this has another path
    f"{HOST}#",
    f" {HOST}",
    "127.0.0.2",
    "[::1]:8787",
    "",
)


class Leak(Exception):
    """An error with what must not be told."""


async def _shell(request: Request) -> Response:
    return PlainTextResponse("shell")


async def _echo(request: Request) -> Response:
    who = principal_of(request)
    rights = None if who.rights is None else sorted(who.rights)
    return JSONResponse({"name": who.name, "rights": rights, "body": (await request.body()).decode()})


async def _form(request: Request) -> Response:
    return JSONResponse(await form_of(request))


async def _fails(request: Request) -> Response:
    raise Leak("secret-of-the-inside")


async def _stream(request: Request) -> Response:
    async def items() -> Any:
        yield "data: 1\n\n"
        raise Leak("secret-of-the-inside")

    return StreamingResponse(items(), media_type="text/event-stream")


@attrs.define(eq=False)
class House:
    """An application with real doors, and the time of the test."""

    directory: Path
    chance: random.Random
    ceiling: frozenset[str] | None = None
    rates: tuple[float, float] = (1e9, 1e9)
    now: float = 1_000.0
    records: list[tuple[str, str, dict[str, Any]]] = attrs.field(factory=list)
    doors: Doors = attrs.field(init=False)
    app: Guard = attrs.field(init=False)
    run: ClassVar[Callable[[Coroutine[Any, Any, None]], None]] = asyncio.run
    cookie: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.doors = Doors(self.record, self.directory / "tokens.json", self.ceiling, lambda: self.now)
        hosts = frozenset({HOST, "127.0.0.1", "localhost"})
        site = Site(
            Gates(self.directory, self.record),
            self.doors,
            self.record,
            HOST,
            hosts,
            "test",
            self.rates,
            lambda: self.now,
        )
        self.app = application(site)
        routes = self.app.app.routes
        if "/" not in {path for path, _ in paths_of(routes)}:
            routes.append(Route("/", _shell))
            routes.append(Mount("/static", StaticFiles(directory=self.directory)))
        routes += [
            Route("/api/v1/test", _echo, methods=["GET", "POST"]),
            Route("/api/v1/test/{name}", _echo, methods=["POST"]),
            Route("/ui/test", _form, methods=["POST"]),
            Route("/api/v1/fails", _fails, methods=["GET", "POST"]),
            Route("/ui/stream", _stream),
            Mount("/ui/mounted", routes=[Route("/x", _echo, methods=["POST"])]),
        ]
        self.cookie = self.login()

    def record(self, kind: str, principal: str, owner: int | None, why: str = "", **fields: Any) -> None:
        self.records.append((kind, principal, {"why": why, **fields}))

    def call(self, *args: Any, **options: Any) -> Answer:
        """Ask with these headers only."""
        return ask(self.app, *args, run=House.run, **options)

    def login(self, user: Principal = USER) -> str:
        found = self.doors.redeem(self.doors.code(user), "here")
        assert found is not None
        return found[0]

    def ask(self, method: str, path: str, headers: Headers = (), body: bytes = b"", **options: Any) -> Answer:
        """Ask as the page does: with a session, from the same origin; headers of the test replace or end these."""
        given = dict(headers)
        own = {"Host": f"{HOST}:8787", "Cookie": f"{COOKIE}={self.cookie}", "Sec-Fetch-Site": "same-origin"}
        pairs = {**own, **given}
        return self.call(method, path, {n: v for n, v in pairs.items() if v is not None}, body, **options)

    def script(self, method: str, path: str, token: str, headers: Headers = (), body: bytes = b"") -> Answer:
        """Ask as a script does: with an API token, and no more."""
        own = {"Host": "127.0.0.1:8787", "Authorization": f"Bearer {token}"}
        return self.call(method, path, {**own, **dict(headers)}, body)

    @property
    def paths(self) -> list[tuple[str, frozenset[str]]]:
        """All; by default, six that are drawn and those of the test."""
        found = [*paths_of(self.app.app.routes)]
        return found if IN_CI else [*self.chance.sample(found[:-7], 6), *found[-7:]]

    @property
    def each(self) -> Iterator[tuple[str, str]]:
        """Each path with each of its methods."""
        for path, methods in self.paths:
            for method in sorted(methods):
                yield path, method


@pytest.fixture(scope="module", autouse=True)
def _one_loop() -> Iterator[None]:
    """All calls are on one loop: to make one takes longer than a call."""
    with asyncio.Runner() as runner:
        House.run = runner.run
        yield


@pytest.fixture
def chance(seed: int) -> random.Random:
    return random.Random(seed)


@pytest.fixture
def house(tmp_path: Path, chance: random.Random) -> House:
    return House(tmp_path, chance)


def is_public(path: str) -> bool:
    return path in ("/", "/login") or path.startswith("/static/")


# Rule 1: a principal


def test_no_route_but_three_is_reached_without_a_principal(house: House) -> None:
    """No cookie, a wrong or ended one, one of another name, odd headers: 401; also for paths without a route."""
    ended, _ = house.login(), house.doors
    for row in house.doors.sessions()[1:]:
        assert house.doors.end(row.name, row.owner)
    nobody: list[dict[str, str | None]] = [
        {"Cookie": None},
        {"Cookie": f"{COOKIE}=x"},
        {"Cookie": f"{COOKIE}={ended}"},
        {"Cookie": f"{COOKIE}="},
        {"Cookie": f"session={house.cookie}"},
        {"Cookie": None, "X-Forwarded-User": "root", "Remote-User": "root", "X-Forwarded-For": "127.0.0.1"},
    ]
    for headers in nobody:
        for path, method in [*house.each, ("/nothing", "GET"), ("/api/v1/nothing", "POST"), ("//login", "POST")]:
            answer = house.ask(method, path, headers)  # type: ignore[arg-type]
            assert (answer.status == 401) == (not is_public(path)), (method, path, headers, answer)
    assert house.ask("GET", "/api/v1/test").status == 200


def test_a_wrong_api_token_is_refused_on_each_route(house: House) -> None:
    """Also where none is needed, also beside a good cookie; counted, on record, and after ten 429."""
    wrong = ["Bearer tgk_x", "Bearer", "Basic eDp5", "tgk_x", "Bearer \xe9", "Bearer " + house.cookie]
    statuses = []
    for path, method in house.each:
        for value in wrong:
            statuses.append(house.ask(method, path, {"Authorization": value}).status)

    assert statuses[:10] == [401] * 10
    assert set(statuses[10:]) == {429}
    assert {kind for kind, *_ in house.records} == {"login", "login_failed"}
    token = house.doors.create_token(USER, "ci")
    assert house.script("GET", "/api/v1/test", token).status == 200


# Rule 2: the host


@pytest.mark.parametrize("host", WRONG_HOSTS)
def test_no_route_is_reached_by_another_name(house: House, host: str) -> None:
    """Rebinding: 421 with a session and without one, streams and static files too."""
    for path, method in house.each:
        assert house.ask(method, path, {"Host": host}).status == 421, (method, path)
        assert house.ask(method, path, {"Host": host, "Cookie": None}).status == 421, (method, path)


def test_there_is_exactly_one_host_header_and_its_port_does_not_matter(house: House) -> None:
    """None and two are 421; ports that are forwarded work, and capital letters."""
    for path, method in house.each:
        assert house.call(method, path).status == 421
        assert house.call(method, path, [("Host", HOST), ("Host", HOST)]).status == 421
        assert house.call(method, path, [("Host", HOST), ("Host", "evil.example")]).status == 421
    for host in (HOST, f"{HOST}:1", f"{HOST}:65535", HOST.upper()):
        assert house.ask("GET", "/api/v1/test", {"Host": host}).status == 200
    assert house.ask("GET", "/api/v1/test", {"X-Forwarded-Host": "evil.example"}).status == 200


def test_a_session_has_the_name_of_the_daemon_only(house: House) -> None:
    """By `127.0.0.1`, whose cookies other servers get, there is no session and no login; API tokens work."""
    token, code = house.doors.create_token(USER, "ci"), house.doors.code(USER)
    local = {"Host": "127.0.0.1:8787"}

    assert house.ask("GET", "/api/v1/test", local).status == 401
    assert house.ask("POST", "/login", {**local, **JSON}, json.dumps({"code": code}).encode()).status == 421
    assert house.doors.waits(code)
    assert house.script("GET", "/api/v1/test", token).status == 200


# Rules 3 and 4: origins and methods


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "Same-Origin"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": ""},
        {"Sec-Fetch-Site": None},
        {"Sec-Fetch-Site": "cross-site", "Origin": ORIGIN},
        {"Sec-Fetch-Site": None, "Origin": "null"},
        {"Sec-Fetch-Site": None, "Origin": ""},
        {"Sec-Fetch-Site": None, "Origin": f"http://{HOST}:8788"},
        {"Sec-Fetch-Site": None, "Origin": f"http://{HOST}"},
        {"Sec-Fetch-Site": None, "Origin": f"https://{HOST}:8787"},
        {"Sec-Fetch-Site": None, "Origin": "http://127.0.0.1:8787"},
        {"Sec-Fetch-Site": None, "Origin": f"{ORIGIN}.evil.example"},
        {"Sec-Fetch-Site": None, "Referer": ORIGIN},
    ],
    ids=str,
)
def test_nothing_is_changed_by_a_request_that_is_not_of_the_page(house: House, headers: dict[str, str | None]) -> None:
    """Each route that takes more than GET and HEAD: 403, with a good session."""
    for path, method in house.each:
        if method not in ("GET", "HEAD"):
            for sent in (JSON, {"Content-Type": "application/x-www-form-urlencoded"}):
                answer = house.ask(method, path, {**headers, **sent}, b"{}")  # type: ignore[dict-item]
                assert (answer.status, answer.problem) == (403, "ForeignOrigin"), (method, path)


def test_a_refusal_of_the_guard_is_on_record_without_what_was_sent(house: House) -> None:
    """The method, the path of the route, the peer; no query, name or body."""
    house.records.clear()
    house.ask("POST", "/api/v1/test/secret?secret=1", {"Sec-Fetch-Site": "cross-site", **JSON}, b'{"secret": 1}')

    ((kind, principal, fields),) = house.records
    assert (kind, principal) == ("refused", "")
    assert fields["why"] == "foreign origin: POST /api/v1/test/{name}"
    assert "secret" not in str(fields)


def test_the_page_and_scripts_may_change_things(house: House) -> None:
    """From the same origin, by either header; or with an API token and no cookie, which no browser adds by itself."""
    token = house.doors.create_token(USER, "ci")
    own = {"Sec-Fetch-Site": None, "Origin": ORIGIN, **JSON}

    assert house.ask("POST", "/api/v1/test", JSON, b"{}").status == 200
    assert house.ask("POST", "/api/v1/test", own, b"{}").status == 200  # type: ignore[arg-type]
    assert house.script("POST", "/api/v1/test", token, JSON, b"{}").status == 200
    with_cookie = {**JSON, "Cookie": "a=b"}
    assert house.script("POST", "/api/v1/test", token, with_cookie, b"{}").status == 403
    foreign = {**JSON, "Origin": "http://evil.example"}
    assert house.script("POST", "/api/v1/test", token, foreign, b"{}").status == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site", "x"])
def test_nothing_is_read_by_another_site(house: House, site: str) -> None:
    """Each route: 403; but navigations to the shell, which has no data, are let in."""
    token = house.doors.create_token(USER, "ci")
    for path, method in house.each:
        for mode in ("no-cors", "cors", "navigate", "same-origin", "websocket"):
            headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": "document"}
            answer = house.ask(method, path, headers)
            allowed = path == "/" and mode == "navigate" and method in ("GET", "HEAD")
            assert answer.status == (200 if allowed else 403), (method, path, mode)
            if not is_public(path):
                assert house.script(method, path, token, headers).status == 403
    frame = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    assert house.ask("GET", "/", frame).status == 403


def test_other_methods_are_refused_with_those_that_there_are(house: House) -> None:
    """405 on each route, with `Allow`; a header that names another method changes nothing."""
    for path, methods in house.paths:
        for method in METHODS:
            if method not in methods:
                answer = house.ask(method, path, {"X-HTTP-Method-Override": sorted(methods)[-1], "X-Method": "GET"})
                assert (answer.status, answer.problem) == (405, "BadMethod"), (method, path)
                allowed = set(answer.header("allow").split(", "))
                assert allowed == methods, (method, path)


def test_a_method_may_have_a_route_of_its_own(house: House) -> None:
    """Two routes of one path: both are found, and `Allow` has the methods of both."""
    house.app.app.routes.append(Route("/api/v1/test", _shell, methods=["DELETE"]))

    assert house.ask("DELETE", "/api/v1/test").body == b"shell"
    assert house.ask("PUT", "/api/v1/test").header("allow") == "DELETE, GET, HEAD, POST"


def test_a_path_is_matched_as_it_is(house: House) -> None:
    """No redirect of slashes, no case, no dots: 404 for what is no route; control characters are refused."""
    for path in ("/api/v1/test/", "/API/v1/test", "/static/../api/v1/test", "/api/v1/../v1/test", "//api/v1/test"):
        assert house.ask("GET", path).status in (404, 405), path
    for path in ("/static/a\0b", "/static/a\x1bb", "/api/v1/test/\n"):
        assert house.ask("GET", path).status in (400, 404, 405), path


# Rule 5: bodies


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Transfer-Encoding": "chunked"}, b"{}", 411),
        ({"Transfer-Encoding": "chunked", "Content-Length": "2"}, b"{}", 411),
        ({"Content-Length": "65537"}, b"{}", 413),
        ({"Content-Length": "99999999999999999999"}, b"{}", 413),
        ({"Content-Type": None}, b"{}", 415),
        ({"Content-Type": ""}, b"{}", 415),
        ({"Content-Type": "text/plain"}, b"{}", 415),
        ({"Content-Type": "application/jsonp"}, b"{}", 415),
        ({"Content-Type": "text/plain; application/json"}, b"{}", 415),
        ({"Content-Type": "application/json, text/plain"}, b"{}", 415),
        ({"Content-Type": "application/json; charset=utf-16"}, b"{}", 415),
        ({"Content-Type": "application/json; charset=utf-7"}, b"{}", 415),
        ({"Content-Type": "application/x-pickle"}, b"{}", 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x--", 415),
        ({"Content-Encoding": "gzip"}, b"{}", 415),
        ({"Content-Length": "3"}, b"{}", 400),
        ({"Content-Length": "1"}, b"{}", 400),
        ({}, b"{", 400),
        ({}, b'{"a": 1, "a": 2}', 400),
        ({}, b'{"a": {"b": [{"c": 1, "c": 2}]}}', 400),
        ({}, b'{"a": NaN}', 400),
        ({}, b'{"a": -Infinity}', 400),
        ({}, b'{"a": "\xff"}', 400),
        ({}, b'\xef\xbb\xbf{"a": 1}', 400),
        ({}, '{"a": 1}'.encode("utf-16"), 400),
        ({}, b'{"a": "' + b"x\0" + b'"}', 400),
        ({}, b"[" * 33 + b"]" * 33, 400),
        ({}, b'{"a":' * 33 + b"1" + b"}" * 33, 400),
        ({}, b"[" * 65_536, 400),
        ({}, b'"' + b'\\"' * 32_000, 400),
        ({}, b'"a' * 32_000, 400),
        ({}, b"1" * 60_000, 400),
    ],
)
def test_a_body_that_is_no_json_reaches_no_route(
    house: House, headers: dict[str, str | None], body: bytes, status: int
) -> None:
    """Size, type, and what could be read in two ways; nothing of the body is told back."""
    for path, method in house.each:
        if method not in ("GET", "HEAD"):
            answer = house.ask(method, path, {**JSON, **headers}, body)  # type: ignore[dict-item]
            assert answer.status == status, (method, path, answer)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("Application/JSON ;Charset=UTF-8", b"{}"),
        ('application/json; charset="utf-8"', '{"a": "é\u202e"}'.encode()),
        ("application/json", b"[" * 32 + b"]" * 32),
        ("application/json", b"[[],[]" + b",[{}]" * 1_000 + b"]"),
        ("application/json", b'{"a": "' + b"[{" * 100 + b'\\"[[["}'),
        ("application/json", b'{"a": "' + b"x" * 65_527 + b'"}'),
    ],
)
def test_a_body_that_is_json_reaches_its_route_unchanged(house: House, kind: str, body: bytes) -> None:
    """Depth 32, brackets in texts, any size up to 64 KiB."""
    answer = house.ask("POST", "/api/v1/test", {"Content-Type": kind}, body)

    assert answer.status == 200
    assert json.loads(answer.body)["body"] == body.decode()


def test_forms_are_for_the_page_only(house: House) -> None:
    """Below `/ui/`, and the login; in UTF-8."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for path, method in house.each:
        if method not in ("GET", "HEAD") and not path.startswith(("/ui/", "/login")):
            assert house.ask(method, path, form, b"a=1").status == 415, path

    assert json.loads(house.ask("POST", "/ui/test", form, b"a=1&b=%C3%A9&a=").body) == {"a": ["1", ""], "b": ["é"]}
    assert json.loads(house.ask("POST", "/ui/test", form).body) == {}
    for wrong in (b"a", b"a=%FF", b"a=\xff", b"a=1&" * 2_000):
        assert house.ask("POST", "/ui/test", form, wrong).problem == "BadForm"


def test_get_has_no_body(house: House) -> None:
    """Each route."""
    for path, method in house.each:
        if method in ("GET", "HEAD"):
            assert house.ask(method, path, {"Content-Length": "2", **JSON}, b"{}").status == 400, path
            assert house.ask(method, path, {"Transfer-Encoding": "chunked"}).status == 400, path


def test_a_client_that_leaves_before_its_body_has_ended_is_no_error(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """There is no answer, and no line in the log."""
    answer = house.ask("POST", "/api/v1/test", {**JSON, "Content-Length": "9"}, b"{", leaves=True)

    assert answer.status == 0
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["Origin", "Cookie", "Authorization", "Content-Type", "Sec-Fetch-Site"])
def test_a_header_that_decides_is_there_once(house: House, name: str) -> None:
    """Two are refused on each route, whichever of them is right."""
    for path, method in house.each:
        pairs = [("Host", HOST), ("Sec-Fetch-Site", "same-origin"), ("Cookie", f"{COOKIE}={house.cookie}")]
        pairs += [(name, "x"), (name, "y")]
        assert house.call(method, path, pairs).status == 400, (method, path)


# Rule 6: headers; `ask` checks them on each answer


def test_the_policy_has_a_nonce_of_its_own_for_each_answer(house: House) -> None:
    """No answer is like the last one in nonce and number; the rest is as admin.md has it."""
    one, two = house.ask("GET", "/"), house.ask("GET", "/")
    policy, other = (answer.header("content-security-policy") for answer in (one, two))
    nonces = [re.findall(r"'nonce-([\w-]{22})'", text) for text in (policy, other)]

    assert one.header("x-request-id") != two.header("x-request-id")
    assert len(nonces[0]) == 2
    assert nonces[0][0] == nonces[0][1] != nonces[1][0]
    assert policy.replace(nonces[0][0], "N") == (
        "default-src 'none'; script-src 'nonce-N' 'strict-dynamic'; style-src 'self' 'nonce-N'; "
        "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types htmx default"
    )
    assert (one.header("cache-control"), one.header("referrer-policy")) == ("no-store", "no-referrer")


# Rates


def test_a_principal_has_a_rate_and_all_have_one(tmp_path: Path, chance: random.Random) -> None:
    """50 a second of one, whatever its sessions; 200 of all; the rest is told when to come again."""
    house = House(tmp_path, chance, rates=(50.0, 200.0))
    others = [house.login(Principal(f"uid:{ANN + n}", ANN + n)) for n in range(4)]
    own = house.login()

    def asked(cookie: str | None) -> int:
        return house.ask("GET", "/api/v1/test", {"Cookie": f"{COOKIE}={cookie}"}).status

    assert [asked(house.cookie) for _ in range(51)] == [200] * 50 + [429]
    assert asked(own) == 429
    assert [asked(one) for one in others for _ in range(50)] == [200] * 150 + [429] * 50
    house.now += 0.03
    assert [asked(house.cookie), asked(house.cookie)] == [200, 429]
    house.now += 1
    assert [asked(one) for one in others for _ in range(50)] == [200] * 200


def test_those_without_a_principal_have_one_rate_together(tmp_path: Path, chance: random.Random) -> None:
    """A flood of them leaves others their rate."""
    house = House(tmp_path, chance, rates=(50.0, 200.0))

    statuses = [house.ask("GET", "/api/v1/test", {"Cookie": None}).status for _ in range(200)]  # type: ignore[dict-item]

    assert statuses == [401] * 50 + [429] * 150
    assert house.ask("GET", "/api/v1/test").status == 200


def test_a_bucket_holds_those_of_one_second(seed: int) -> None:
    """Of any times at which it is asked, no second has more than twice the rate, and a wait is as long as it says."""
    bucket, taken, now = Bucket(10.0, 0.0), [], 0.0
    for n in range(1_000):
        wait = bucket.take(now)
        taken += [now] if not wait else []
        now += (wait or 0.0) + (seed * n % 7) * 0.01
    for at in taken:
        assert sum(at <= other < at + 1 for other in taken) <= 20
    assert not Bucket(10.0, 0.0).take(0.0)


# Rule 11: errors


def test_a_bug_tells_nothing_and_is_logged_with_its_number(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """The log has the route and the number, and nothing of query, cookie or body."""
    for method in ("GET", "POST"):
        caplog.clear()
        answer = house.ask(method, "/api/v1/fails", JSON, b"{}" * (method == "POST"), query="select=canary-query")

        assert (answer.status, answer.problem) == (500, "Bug")
        assert b"inside" not in answer.body
        assert answer.header("x-request-id") in caplog.text
        assert f"{method} /api/v1/fails" in caplog.text
        assert "Leak" in caplog.text  # with its place
        assert "canary-query" not in caplog.text
        assert house.cookie not in caplog.text


def test_a_bug_after_the_answer_has_begun_cuts_it_off(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """What was sent stays, nothing is added, and the end is missing, so that the server closes the connection."""
    answer = house.ask("GET", "/ui/stream")

    assert (answer.status, answer.body, answer.ended) == (200, b"data: 1\n\n", False)
    assert answer.header("x-request-id") in caplog.text


def test_a_browser_that_was_led_to_a_problem_gets_a_page(house: House) -> None:
    """A navigation gets HTML, with its texts escaped; scripts and the page's own requests get JSON."""
    by_name = house.ask("GET", "/", {"Host": "127.0.0.2", "Accept": "text/html"} | {"Sec-Fetch-Mode": "navigate"})
    by_htmx = house.ask("GET", "/ui/nothing", {"Accept": "text/html", "Sec-Fetch-Mode": "same-origin"})
    by_old_htmx = house.ask("GET", "/ui/nothing", {"Accept": "text/html", "HX-Request": "true"})

    assert by_name.status == 421
    assert by_name.header("content-type") == "text/html; charset=utf-8"
    assert "tokengate admin --open" in by_name.body.decode()
    assert "<script" not in by_name.body.decode()
    assert (by_htmx.problem, by_old_htmx.problem) == ("NoRoute", "NoRoute")


def test_a_problem_has_all_its_fields(house: House) -> None:
    """RFC 9457, with the number of the request and the remedy."""
    answer = house.ask("GET", "/api/v1/test", {"Cookie": None})  # type: ignore[dict-item]

    assert json.loads(answer.body) == {
        "type": "urn:tokengate:error:NoPrincipal",
        "title": "NoPrincipal",
        "status": 401,
        "detail": "nobody is logged in",
        "request": answer.header("x-request-id"),
        "remedy": "run 'tokengate admin login', or use an API token",
    }
    assert answer.header("www-authenticate") == "Bearer"


# Sessions and API tokens, over HTTP


def test_login_and_logout(house: House) -> None:
    """A code gives a new cookie, once, in the place of the session before; logout ends it; all is on record."""
    house.records.clear()
    code = json.dumps({"code": house.doors.code(USER)}).encode()

    login, again = house.ask("POST", "/login", JSON, code), house.ask("POST", "/login", JSON, code)
    before, cookie = house.cookie, login.header("set-cookie")

    assert (login.status, login.body, again.status) == (204, b"", 401)
    found = re.fullmatch(rf"{COOKIE}=([\w-]{{43}}); HttpOnly; Path=/; SameSite=strict", cookie)
    assert found is not None
    assert again.header("set-cookie") == ""
    assert house.doors.session(before) is None
    house.cookie = found[1]
    assert house.ask("GET", "/api/v1/test").status == 200

    logout = house.ask("POST", "/logout")
    assert logout.status == 204
    assert re.match(rf'{COOKIE}="?"?; .*Max-Age=0', logout.header("set-cookie"))
    assert house.ask("GET", "/api/v1/test").status == 401
    assert [kind for kind, *_ in house.records] == ["login", "logout", "login_failed", "logout"]


def test_a_login_is_one_field_in_json_or_a_form(house: House) -> None:
    """Others are refused, and the code is still good."""
    code, form = house.doors.code(USER), {"Content-Type": "application/x-www-form-urlencoded"}
    for headers, body, status in [
        (JSON, json.dumps({"code": code, "uid": 0}), 422),
        (JSON, json.dumps({"code": [code]}), 422),
        (JSON, "{}", 422),
        (JSON, "", 400),
        (form, f"code={code}&uid=0", 422),
        (form, "", 422),
        ({}, "", 422),
    ]:
        answer = house.ask("POST", "/login", headers, body.encode())
        assert answer.status == status, body
        assert code not in answer.body.decode()

    assert house.ask("POST", "/login", {**form, "Cookie": None}, f"code={code}".encode()).status == 204  # type: ignore[dict-item]


def test_an_api_token_has_no_session_to_log_out(house: House) -> None:
    """409, with the remedy; and a login does not end it."""
    token = house.doors.create_token(USER, "ci")

    answer = house.script("POST", "/logout", token)

    assert (answer.status, answer.problem) == (409, "NoSession")
    assert house.script("GET", "/api/v1/test", token).status == 200


def test_a_session_is_used_when_a_person_acts(house: House) -> None:
    """Not by the stream of ticks, by charts, nor by requests that the page marks with `X-Idle`."""
    house.app.app.routes[:0] = [Route("/ui/ticks", _shell), Route("/ui/charts", _shell)]

    def idle() -> float:
        return house.doors.sessions()[0].idle

    house.now += 100
    house.ask("GET", "/ui/ticks")
    house.ask("GET", "/ui/charts")
    house.ask("GET", "/api/v1/test", {"X-Idle": "1"})
    house.ask("GET", "/api/v1/test", {"Sec-Fetch-Site": "cross-site"})
    assert idle() == 100
    house.ask("GET", "/api/v1/test")
    assert idle() == 0


def test_a_principal_has_at_most_the_rights_of_ceiling_and_role(tmp_path: Path, chance: random.Random) -> None:
    """As the route sees it; an expired or revoked token sees nothing."""
    house = House(tmp_path, chance, ceiling=frozenset({"view", "operate"}))
    viewer, all_rights = house.doors.create_token(USER, "viewer", "viewer"), house.doors.create_token(USER, "all")

    def seen(answer: Answer) -> object:
        return json.loads(answer.body)["rights"]

    assert seen(house.ask("GET", "/api/v1/test")) == ["operate", "view"]
    assert seen(house.script("GET", "/api/v1/test", viewer)) == ["view"]
    assert seen(house.script("GET", "/api/v1/test", all_rights)) == ["operate", "view"]
    house.doors.revoke_token("viewer")
    assert house.script("GET", "/api/v1/test", viewer).status == 401


def test_a_raced_code_makes_one_session(tmp_path: Path) -> None:
    """Twenty clients post it at once to a server."""
    records: list[str] = []

    def record(kind: str, *_args: Any, **_fields: Any) -> None:
        records.append(kind)

    doors, statuses = Doors(record, tmp_path / "tokens.json"), []
    code, together = doors.code(USER), threading.Barrier(20)
    with served(doors=doors) as site:

        def login() -> None:
            client = http.client.HTTPConnection("127.0.0.1", site.port)
            headers = {"Host": HOST, "Sec-Fetch-Site": "same-origin", **JSON}
            together.wait()
            client.request("POST", "/login", json.dumps({"code": code}), headers)
            statuses.append(client.getresponse().status)
            client.close()

        threads = [threading.Thread(target=login) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(statuses)[:10] == [204] + [401] * 9
    assert set(statuses) <= {204, 401, 429}
    assert len(doors.sessions()) == records.count("login") == 1


# Rule 12: secrets


def test_no_secret_is_in_a_log_record_answer_or_repr(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Codes, cookies and API tokens, right and wrong, at every level; only the login has its cookie."""
    caplog.set_level(logging.DEBUG)
    for logger in ("uvicorn.error", "uvicorn.access", "asyncio", "tokengate.admin"):
        caplog.set_level(logging.DEBUG, logger)
    code, late = house.doors.code(USER), house.doors.code(USER)
    token = house.doors.create_token(USER, "ci")
    wrong = "tgk_" + "w" * 43
    said: list[str] = []

    login = house.ask("POST", "/login", JSON, json.dumps({"code": code}).encode())
    cookie = login.header("set-cookie").partition("=")[2].partition(";")[0]
    for answer in (
        house.ask("POST", "/login", JSON, json.dumps({"code": code}).encode()),
        house.ask("POST", "/login", JSON, f'{{"code": "{late}"'.encode()),
        house.ask("POST", "/login", JSON, f'{{"code": {{"{late}": 1}}}}'.encode()),
        house.script("GET", "/api/v1/test", token),
        house.script("GET", "/api/v1/fails", token),
        house.script("GET", "/api/v1/test", wrong),
        house.script("GET", f"/api/v1/{late}", token),
        house.ask("GET", "/api/v1/fails", {"Cookie": f"{COOKIE}={cookie}"}),
    ):
        said += [answer.body.decode(), str(answer.headers)]
    said += [caplog.text, repr(house.records), repr(house.doors.sessions()), repr(house.doors.tokens())]
    said += [
        repr(vars(house.doors)),
        repr(vars(house.doors._api_tokens)),
        (house.directory / "tokens.json").read_text(),
    ]

    for secret in (code, late, token, wrong, cookie):
        assert not [text for text in said if secret in text]


def test_the_guard_serves_http_only(house: House) -> None:
    """A websocket would come past its rules."""

    async def nothing(*_: object) -> Any:
        raise AssertionError

    with pytest.raises(RuntimeError, match="websocket"):
        asyncio.run(house.app({"type": "websocket", "path": "/"}, nothing, nothing))
