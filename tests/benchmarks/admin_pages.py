"""What pages and floods cost clients of the control socket, with `tokengate admin` and two gates in processes.

One gate has very many live tokens, the other 200. Prints a JSON line a workload, with medians over rounds:

    python tests/benchmarks/admin_pages.py [--tokens 100000] [--rounds 3] [--seconds 5]

`list` (200 rows) and `info` go by the socket of the large gate, as fast as one client can; the rest by HTTP, to the
small one, 120 a second. A page is a stream of ticks whose client gets the rows at each; five of ten have one filter.
A user has eight sessions, so two pages use API tokens. A flood asks for 200 rows of the large gate, by eight
connections of a process. `first rows`: the list, each time in another order, so that no snapshot has it. `browser`:
until 200 rows are painted, since the answer came (`render_ms`), and since the key or wheel (`whole_ms`).
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlencode

import admin
import psutil
from admin_api import TARGETS, figures

from tokengate import Gate, token
from tokengate.control import ControlClient
from tokengate.control import messages as m
from tokengate.telemetry import Telemetry

CHROMIUM: Final = "/usr/bin/chromium"
RATE: Final = 120  # requests a second of three API tokens: fewer than are allowed, beside a flood, too
FILTERS: Final = ["operation=operation_3"] * 5 + [f"tenant=t{number}" for number in range(5)]
SORTS: Final = [f"{sign}{field}" for field in ("priority", "operation", "state", "id", "actor") for sign in ("", "-")]
ADMIN: Final = [sys.executable, "-m", "tokengate", "admin"]
Login: TypeAlias = tuple[int, dict[str, str]]  # the port of the daemon, and headers of a session or API token
_context = multiprocessing.get_context("spawn")


def serve(count: int, name: str, told: Connection) -> None:
    """Be a gate with so many tokens, until the other end is closed."""
    operations = [token(admin.named(f"operation_{number}"), concurrency=1, capacity=count) for number in range(8)]
    with Gate(name, plugins=[Telemetry()]) as gate:
        for number in range(count):
            one = operations[number % 8].with_options(tags={"tenant": f"t{number % 50}"}, priority=number % 5).submit()
        told.send((next(Path(os.environ["TOKENGATE_RUNTIME_DIR"]).glob(f"{name}-*.sock")), one.id))
        told.poll(None)
        admin.over.set()
        gate.close(drain=False)


def connection(port: int, headers: dict[str, str]) -> Callable[..., http.client.HTTPResponse]:
    """Return what sends requests by one connection, and returns their answers."""
    one = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def ask(method: str, path: str, body: object = None, also: int = 0) -> http.client.HTTPResponse:
        sort = {} if body is None else {"Content-Type": "application/json"}
        one.request(method, path, None if body is None else json.dumps(body), headers | sort)
        answer = one.getresponse()
        if answer.status >= 300 and answer.status != also:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.read()!r}")
        return answer

    return ask


def say(*arguments: str) -> Any:
    """Return what a command of `tokengate admin` prints."""
    return json.loads(subprocess.run([*ADMIN, *arguments, "--json"], stdout=subprocess.PIPE, check=True).stdout)


def log_in(port: int, name: str, token: str = "") -> Login:
    """Log in by a new API token of this name; without a name, by a new session."""
    if token:
        made = say("token", "create", token, "--role", "admin")
        return port, {"Host": name, "Authorization": f"Bearer {made['token']}"}
    headers = {"Host": name, "Sec-Fetch-Site": "same-origin"}
    answer = connection(port, headers)("POST", "/login", {"code": say("login")["url"].partition("#")[2]})
    return port, headers | {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}


def viewer(login: Login, number: int, gate: str) -> Iterator[http.client.HTTPResponse]:
    """Yield the rows at each tick."""
    query = urlencode({"gate": gate, "screen": "tokens", "sort": "-age", "select": FILTERS[number]})
    rows = connection(*login)
    for line in connection(*login)("GET", f"/ui/ticks?{query}"):
        if line.startswith(b"event: tick"):
            yield rows("GET", f"/ui/rows?{query}")


def flood(login: Login, _number: int, gate: str) -> Iterator[http.client.HTTPResponse]:
    """Yield answers as fast as they come."""
    for ask in itertools.repeat(connection(*login)):
        yield ask("GET", f"/api/v1/gates/{gate}/tokens?limit=200", also=429)


def crowd(one: Callable[..., Iterator[http.client.HTTPResponse]], logins: list[Login], gate: str, told: Any) -> None:
    """Be so many clients, until asked; tell how many answers came in a second, and their statuses."""
    found, started = Counter[str](), time.perf_counter()

    def be(number: int) -> None:
        for answer in one(logins[number], number, gate):
            answer.read()
            found[str(answer.status)] += 1

    for number in range(len(logins)):
        threading.Thread(target=be, args=(number,), daemon=True).start()
    told.send(None)
    told.recv()
    told.send({"per_second": found.total() / (time.perf_counter() - started), **found})


@contextmanager
def process(target: Callable[..., None], *arguments: object, told: dict[str, Any] | None = None) -> Iterator[Any]:
    """Run a function in a process, and give what it says first; put what it says when it is asked into `told`."""
    here, there = _context.Pipe()
    (child := _context.Process(target=target, args=(*arguments, there))).start()
    there.close()
    with here:
        yield here.recv()
        if told is not None:
            here.send(None)
            told |= here.recv()
    child.join(60)


def timed(asked: Mapping[str, Callable[[], object]], seconds: float, rate: float = 1e9) -> dict[str, dict[str, float]]:
    """Call functions in turn, for a time, at most so often a second; return the figures of each."""
    found, until = {what: list[float]() for what in asked}, time.perf_counter() + seconds
    while time.perf_counter() < until:
        for what, ask in asked.items():
            started = time.perf_counter()
            ask()
            found[what].append(time.perf_counter() - started)
            time.sleep(max(0.0, 1 / rate - found[what][-1]))
    return {what: {**figures(times), "calls": len(times)} for what, times in found.items()}


PAINTED: Final = """() => { performance.clearResourceTimings(); window.painted = new Promise(done => {
  let began = 0;
  for (const kind of ["keydown", "scroll"]) addEventListener(kind, () => { began ||= performance.now(); }, true);
  document.addEventListener("htmx:after:swap", () => requestAnimationFrame(() => setTimeout(() => {
    const rows = performance.getEntriesByType("resource").filter(one => one.name.includes("/ui/rows")).at(-1);
    if (rows) done({ render_ms: performance.now() - rows.responseEnd, whole_ms: performance.now() - began });
  }))); }) }"""


def in_browser(name: str, gate: str, times: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield what was measured in a browser that shows the list of tokens."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:  # which ends the browser
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        page = playwright.chromium.launch(executable_path=CHROMIUM, args=options).new_page()
        page.goto(f"http://{name}/?gate={gate}&screen=tokens#{say('login')['url'].partition('#')[2]}")
        page.wait_for_selector("#rows tr[data-id]:nth-of-type(200)")
        page.click("[data-do=live]")  # no ticks from now on
        for number in range(1, times + 1):
            page.evaluate(PAINTED)
            page.eval_on_selector("#list", f"it => {{ it.scrollTop = it.scrollHeight * {number / (times + 1)}; }}")
            yield "browser, scroll", page.evaluate("() => window.painted")
            page.evaluate(PAINTED)
            page.fill("#filter", f"priority>-{number}")
            page.press("#filter", "Enter")
            yield "browser, filter", page.evaluate("() => window.painted")


def measure(options: argparse.Namespace, large: tuple[Path, int], small: tuple[Path, int]) -> None:
    """Measure, and print the lines."""
    gate, tokens, status = large[0].stem, f"/api/v1/gates/{small[0].stem}/tokens", say("status")
    at = status["port"], f"{status['host']}:{status['port']}"
    viewers = [log_in(*at) for _ in range(8)] + [log_in(*at, f"page{number}") for number in range(2)]
    crowds = {"ten pages": (viewer, viewers), "a flood": (flood, [log_in(*at, "flood")] * 8)}
    own = [log_in(*at, f"own{number}") for number in range(3)]
    found, daemon, sorts = dict[str, list[dict[str, Any]]](), psutil.Process(status["pid"]), itertools.cycle(SORTS)
    begun, screen = daemon.memory_info().rss, f"/ui/screen?gate={gate}&screen=tokens"
    rows, renice = m.Tokens(sort="-age", limit=200), {"select": [small[1]], "priority": 5}

    def by_socket_and_http() -> dict[str, dict[str, float]]:
        turns = itertools.cycle([connection(*one) for one in own])
        with ControlClient(large[0], timeout=60) as client:
            by_socket = {"list": lambda: client.ask(rows), "info": lambda: client.ask(m.Info())}
            by_http = {"GET 50 of 200": lambda: next(turns)("GET", f"{tokens}?limit=50").read()}
            by_http["POST renice"] = lambda: next(turns)("POST", f"{tokens}/renice", renice).read()
            done = timed(by_http, options.seconds, RATE)  # first, so that new pages have their first lists
            return timed(by_socket, options.seconds) | done

    for _ in range(options.rounds):
        one = by_socket_and_http()
        for way, (client, logins) in crowds.items():
            told: dict[str, Any] = {}
            with process(crowd, client, logins, gate, told=told):
                beside = by_socket_and_http()
            one |= {f"{what}, beside {way}": value for what, value in beside.items()} | {way: told}
        first = {"first rows": lambda: connection(*own[0])("GET", f"{screen}&sort={next(sorts)}").read()}
        one |= timed(first, options.seconds / 2, RATE / 10)
        started, act = time.perf_counter(), f"/api/v1/gates/{gate}/tokens/terminate"
        size = len(connection(*own[0])("POST", act, {"select": "*", "dry_run": True, "reason": "tried"}).read())
        one["proposal of all"] = {"ms": (time.perf_counter() - started) * 1_000, "bytes": size}
        for what, value in one.items():
            found.setdefault(what, []).append(value)
    for what, painted in in_browser(at[1], gate, options.rounds) if os.access(CHROMIUM, os.X_OK) else ():
        found.setdefault(what, []).append(painted)
    found["memory of the daemon"] = [{"start_mib": begun / 2**20, "end_mib": daemon.memory_info().rss / 2**20}]
    targets: dict[str, dict[str, float]] = {f"browser, {what}": {"render_ms": 50} for what in ("scroll", "filter")}
    targets |= {"first rows": {"p50_ms": 150}, "memory of the daemon": {"end_mib": 60}}
    targets["proposal of all"] = {"ms": 500, "bytes": 65_536}
    for workload, rounds in found.items():
        medians = {key: round(statistics.median(one.get(key, 0) for one in rounds), 3) for key in rounds[0]}
        if workload in ("list", "info"):
            for way, most in (("ten pages", medians["p99_ms"] + 10), ("a flood", 2 * medians["p99_ms"] + 5)):
                targets[f"{workload}, beside {way}"] = {"p99_ms": round(most, 3)}
        target = targets.get(workload, TARGETS if workload.startswith(("GET", "POST")) else {})
        met = {"target": target, "met": all(medians[name] <= most for name, most in target.items())} if target else {}
        line = {"workload": workload, "python": platform.python_version(), **medians, **met, "rounds": rounds}
        print(json.dumps({**line, "load": round(os.getloadavg()[0], 1)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("--tokens", 100_000), ("--rounds", 3), ("--seconds", 5)):
        parser.add_argument(name, type=type(default), default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tg-") as directory, ExitStack() as stack:
        os.environ |= {"TOKENGATE_RUNTIME_DIR": directory, "XDG_STATE_HOME": f"{directory}/state"}
        large = stack.enter_context(process(serve, options.tokens, "large"))
        small = stack.enter_context(process(serve, 200, "small"))
        daemon = subprocess.Popen([*ADMIN, "--port", "0"], stdout=subprocess.PIPE)
        stack.callback(lambda: (daemon.terminate(), daemon.wait(30)))
        next(iter(daemon.stdout or ()))
        measure(options, large, small)


if __name__ == "__main__":
    main()
