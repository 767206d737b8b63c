"""How soon the admin daemon answers: its API, and 50 streams at once, with the gate and the daemon in two processes.

Prints one JSON line a workload: a verb by POST, and 50 of 200 tokens by GET, each one at a time on one connection; then
streams with so many items a second each: how much later than a feed in the gate's own process they have an item (each
feed has what has happened in the last tenth of a second at once), and what was lost.

    python tests/benchmarks/admin_api.py [--calls 2000] [--streams 50] [--rate 100] [--seconds 10]
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

EACH = 8  # streams of a principal
TARGETS = {"p50_ms": 1.0, "p99_ms": 5.0}
TARGET_OF_STREAMS = {"p99_ms": 50.0, "lost": 0}


def daemon(told: Connection) -> None:
    """Serve the application until the other end is closed, with sessions of eight principals."""
    from admin_site import HOST, OWN, Principal, served

    with served() as site:
        site.doors.sessions |= {f"s{one}": Principal(f"api:s{one}", OWN, login=f"s{one}") for one in range(8)}
        told.send((site.port, HOST, site.site.cookie))
        told.poll(None)


def figures(seconds: list[float]) -> dict[str, float]:
    seconds.sort()
    last = len(seconds) - 1
    return {
        "p50_ms": round(seconds[last // 2] * 1000, 3),
        "p99_ms": round(seconds[round(last * 0.99)] * 1000, 3),
        "max_ms": round(seconds[-1] * 1000, 3),
    }


def report(workload: str, found: dict[str, Any], targets: dict[str, float]) -> None:
    met = all(found[name] <= most for name, most in targets.items())
    print(json.dumps({"workload": workload, "python": platform.python_version(), **found, "met": met}), flush=True)


class Client:
    """One connection to the daemon."""

    def __init__(self, port: int, host: str, cookie: str) -> None:
        self.address = ("127.0.0.1", port)
        self.cookie = cookie
        self.headers = {"Host": host, "Cookie": f"{cookie}=own", "Sec-Fetch-Site": "same-origin"}
        self._connection = http.client.HTTPConnection(*self.address)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = self.headers if body is None else {**self.headers, "Content-Type": "application/json"}
        self._connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {said!r}")
        return json.loads(said)

    def timed(self, calls: int, *request: Any) -> dict[str, float]:
        """Return the figures of so many equal requests, one after the other."""
        times = []
        for _ in range(calls + calls // 10):
            started = time.perf_counter()
            self.ask(*request)
            times.append(time.perf_counter() - started)
        return figures(times[calls // 10 :])


async def follow(client: Client, path: str, count: int, streams: int) -> list[tuple[dict[int, float], int]]:
    """Read streams until each has so many items; return, for each, {token: when it came}, and the loss."""

    async def one(number: int) -> tuple[dict[int, float], int]:
        reader, writer = await asyncio.open_connection(*client.address)
        headers = {**client.headers, "Cookie": f"{client.cookie}=s{number // EACH}"}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        came: dict[int, float] = {}
        lost = 0
        while len(came) + lost < count:
            line = await reader.readline()
            if not line:
                raise SystemExit("a stream has ended")
            if line.startswith(b'data: {"lost"'):
                lost += json.loads(line[6:])["lost"]
            elif line.startswith(b"data: "):
                now = time.perf_counter()
                came[json.loads(line[6:])["token"]] = now
        writer.close()
        return came, lost

    return await asyncio.gather(*(one(number) for number in range(streams)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--rate", type=int, default=100, help="items a second")
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tg-") as directory:
        os.environ |= {"TOKENGATE_RUNTIME_DIR": directory, "XDG_STATE_HOME": f"{directory}/state"}
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """Print the lines."""
    from tokengate import Gate, token

    over = threading.Event()

    @token(concurrency=1)
    def wait() -> None:
        over.wait()

    @token
    def tick() -> None:
        pass

    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    with Gate("bench") as gate:
        process = context.Process(target=daemon, args=(there,))
        process.start()
        client = Client(*here.recv())
        base = f"/api/v1/gates/{client.ask('GET', '/api/v1/gates')['rows'][0]['name']}"
        tokens = [wait.submit() for _ in range(200)]
        body = {"select": [tokens[-1].id], "priority": 5}
        report("POST renice", client.timed(options.calls, "POST", f"{base}/tokens/renice", body), TARGETS)
        report("GET 50 of 200 tokens", client.timed(options.calls, "GET", f"{base}/tokens?limit=50"), TARGETS)
        over.set()
        tokens[-1].exception(60)
        count = options.rate * options.seconds

        def feed() -> None:
            started = time.monotonic()
            for number in range(count):
                time.sleep(max(0.0, started + number / options.rate - time.monotonic()))
                tick.submit()

        own: dict[int, float] = {}

        def here_too() -> None:
            with gate.control.watch("operation=tick", kinds=("token.finished",), buffer=100_000) as events:
                for event in events:
                    own[event.token or 0] = time.perf_counter()
                    if len(own) == count:
                        break

        async def streams() -> list[tuple[dict[int, float], int]]:
            path = f"{base}/watch?select=operation=tick&kind=token.finished"
            reading = asyncio.create_task(follow(client, path, count, options.streams))
            await asyncio.sleep(2)  # all are open then
            for job in jobs:
                job.start()
                await asyncio.sleep(0.1)
            return await reading

        jobs = [threading.Thread(target=job) for job in (here_too, feed)]
        found = asyncio.run(streams())
        for job in jobs:
            job.join()
        times = [when - own[token] for came, _ in found for token, when in came.items()]
        loss = sum(lost for _, lost in found)
        report(f"{options.streams} streams", {**figures(times), "items": len(times), "lost": loss}, TARGET_OF_STREAMS)
        here.close()
        process.join(30)
        gate.close(drain=False)


if __name__ == "__main__":
    main()
