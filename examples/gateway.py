"""A gateway to a flaky, slow API: what its callers get while it is overloaded, slow, down, and well again.

    python examples/gateway.py                # watch it, and stop it with Ctrl-C
    python examples/gateway.py --without      # the same, with no policy

The API gives 200 forecasts a second, ten at once, each in 50 ms; one of fifty fails. Two tenants ask for them: `free`
for most, `paying` for a few. Every five seconds something changes: the load gets four times what the API can do, the
API gets slow, goes down, and comes back. The policy of the operation `forecast` is all there is about that:

    deadline, timeout   nobody waits for longer than a second, and no attempt hangs
    retry               an error that passes by itself is not seen, and retries are a tenth of the load at most
    breaker             an API that is down is not asked; a few calls look whether it is back
    throttle            as many at once as it answers in time, whatever that is at the moment
    fair                the tenants take turns, so that one of them cannot take it all
    fallback            the latest forecast of that city, if there is no new one

Operators see the same from another terminal, and change it while it runs (docs/policies.md):

    tokengate breakers                                  # also throttles, policies, ps, top
    tokengate policy set forecast deadline=200ms        # also throttle.slow=100ms, fallback=none
    tokengate policy reset forecast

With `--telemetry DIR` there are figures, and a history of what each call got (docs/telemetry.md):

    tokengate operations forecast                                         # also metrics
    tokengate history 'operation=forecast,state=expired' --since 1m       # also trace-export
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

import attrs
import trio
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from tokengate import Breaker, Gate, Policy, Retry, Throttle, Token, TokenState, token
from tokengate.history import History
from tokengate.telemetry import Telemetry

SLOTS: Final = 10
SERVICE: Final = 0.05  # seconds of a forecast
CAPACITY: Final = SLOTS / SERVICE  # forecasts in a second
PATIENCE: Final = 1.0  # seconds for which a caller waits
CITIES: Final = ("Oslo", "Rome", "Lima", "Perth")

PERIOD: Final = 0.5  # seconds between two looks
KINDS: Final = ("new", "latest", "refused", "late", "failed")
BARS: Final = {"new": "green", "latest": "yellow", "refused": "magenta", "late": "red", "failed": "red"}


@attrs.frozen
class Scene:
    """Some seconds of the play: how the API does, and how much is asked of it, in capacities."""

    mood: str
    load: float


SCENES: Final = (Scene("well", 0.5), Scene("well", 4.0), Scene("slow", 0.5), Scene("down", 0.5), Scene("well", 0.5))
SCENE: Final = 5.0  # seconds


class Api:
    """The other side. It has ten slots, and whoever asks for more waits in its queue."""

    def __init__(self, seed: int = 0) -> None:
        self.mood = "well"
        self.latest = {city: f"{city}: not known yet" for city in CITIES}
        self._slots = trio.Semaphore(SLOTS)
        self._random = random.Random(seed)
        self._serials = itertools.count(1)

    async def ask(self, city: str) -> str:
        async with self._slots:
            if self.mood == "down":
                raise ConnectionError("the API is down")
            await trio.sleep(SERVICE * (10 if self.mood == "slow" else 1))
            if self._random.random() < 0.02:
                raise ConnectionError("the connection was reset")
        self.latest[city] = f"{city}: sunny, forecast {next(self._serials)}"
        return self.latest[city]


def make_forecast(api: Api, with_policy: bool = True) -> Any:
    """Return the operation: one function, and what its calls are held to."""
    policy = Policy(
        deadline=PATIENCE,
        timeout=0.8 * PATIENCE,
        retry=Retry(on=(ConnectionError,), attempts=3, wait=0.05),
        breaker=Breaker(minimum=20, window=5, open_for=0.5),
        throttle=Throttle(concurrency="adaptive", slow=4 * SERVICE),
        fair="tenant",
        fallback=lambda _error, city: api.latest[city],
    )

    @token(idempotent=True, capacity=100_000, policy=policy if with_policy else None)
    async def forecast(city: str) -> str:
        """Ask the API for the forecast of a city."""
        return await api.ask(city)

    return forecast


@attrs.define
class Tally:
    """What the callers have got."""

    asked: int = 0
    got: Counter[tuple[str, str]] = attrs.field(factory=Counter)  # {(tenant, kind): how many}
    reasons: Counter[str] = attrs.field(factory=Counter)  # why the latest forecast was the answer, or none
    retries: int = 0

    def note(self, one: Token[str]) -> None:
        """Count a token that has ended."""
        self.got[one.tags["tenant"], kind_of(one)] += 1
        self.retries += one.attempt - 1
        if one.reason:
            self.reasons[one.reason] += 1

    def of_kind(self, kind: str) -> int:
        return sum(number for (_, of), number in self.got.items() if of == kind)

    def since(self, before: Tally) -> Tally:
        """Return what has come to a tally since it was another one."""
        return Tally(
            self.asked - before.asked,
            self.got - before.got,
            self.reasons - before.reasons,
            self.retries - before.retries,
        )

    def copy(self) -> Tally:
        return Tally(self.asked, self.got.copy(), self.reasons.copy(), self.retries)


def kind_of(one: Token[str]) -> str:
    """Tell what the caller of a token has got."""
    late = (one.finished_at or one.created_at) - one.created_at > PATIENCE
    if late or one.state is TokenState.EXPIRED:
        return "late"
    if one.state is TokenState.COMPLETED:
        return "latest" if one.reason else "new"
    return "refused" if one.state is TokenState.REJECTED else "failed"


def play(forecast: Any, api: Api, tally: Tally, scenes: Sequence[Scene], seconds: float) -> Iterator[Scene]:
    """Ask for forecasts, and yield the scene now and then; it ends when the time is over."""
    tenants = {name: forecast.with_options(tags={"tenant": name}) for name in ("free", "paying")}
    ended: deque[Token[str]] = deque()
    began = before = time.monotonic()
    owed, look = 0.0, began + PERIOD
    while (now := time.monotonic()) - began < seconds:
        scene = scenes[int((now - began) / SCENE) % len(scenes)]
        api.mood = scene.mood
        owed += scene.load * CAPACITY * (now - before)
        before = now
        while owed >= 1:
            owed -= 1
            tenant = "paying" if tally.asked % 10 == 0 else "free"
            tally.asked += 1
            tenants[tenant].submit(CITIES[tally.asked % len(CITIES)]).add_done_callback(ended.append)
        while ended:
            tally.note(ended.popleft())
        if now >= look:
            look = now + PERIOD
            yield scene
        time.sleep(0.005)


def describe(scene: Scene) -> str:
    return (
        f"the API is {scene.mood}, and asked for {scene.load:g} times what it can do when it is well (Ctrl-C ends it)"
    )


def line_of(scene: Scene, last: Tally) -> str:
    """Return what has come in one period, as a line."""
    counts = ", ".join(f"{last.of_kind(kind)} {kind}" for kind in KINDS)
    reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(last.reasons.items()))
    return f"{scene.mood}, {scene.load:g}: {last.asked} asked: {counts}; {last.retries} retries" + (
        f"; by {reasons}" if reasons else ""
    )


def table_of(scene: Scene, lasts: Sequence[Tally], width: int) -> Table:
    """Return the latest periods as bars, for a terminal with so many columns."""
    length = min(60, max(30, width - 52))  # of the longest bar
    table = Table(title=describe(scene), title_justify="left", box=None)
    table.add_column("asked", justify="right", min_width=5)
    table.add_column(" ".join(f"[{colour}]{kind}[/]" for kind, colour in BARS.items()), no_wrap=True)
    table.add_column("why not new", no_wrap=True)
    widest = max(1, *(sum(last.got.values()) for last in lasts))
    for last in lasts:
        sizes = {kind: round(length * last.of_kind(kind) / widest) for kind in KINDS}
        bar = "".join(f"[{colour}]{'█' * sizes[kind]}[/]" for kind, colour in BARS.items())
        reasons = ", ".join(f"{reason} {number}" for reason, number in sorted(last.reasons.items()))
        table.add_row(str(last.asked), bar, reasons)
    return table


def summary_of(tally: Tally) -> str:
    """Return what each tenant has got since the beginning."""
    return "\n".join(
        f"{tenant:>6}: " + ", ".join(f"{tally.got[tenant, kind]:,} {kind}" for kind in KINDS)
        for tenant in ("free", "paying")
    )


def watch(played: Iterator[Scene], tally: Tally, console: Console) -> None:
    """Show what happens: a table on a terminal, else a line for each period."""
    lasts: deque[Tally] = deque(maxlen=max(2, min(20, console.height - 6)))
    before = tally.copy()
    with Live(console=console, auto_refresh=False) as live:
        for scene in played:
            lasts.append(tally.since(before))
            before = tally.copy()
            if console.is_terminal:
                live.update(Group(table_of(scene, lasts, console.width), summary_of(tally)), refresh=True)
            else:
                sys.stdout.write(f"{line_of(scene, lasts[-1])}\n")
                sys.stdout.flush()


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without", action="store_true", help="hold the calls to no policy")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end it after that (default: never)")
    parser.add_argument("--telemetry", metavar="DIR", help="keep figures, and a history in this directory")
    chosen = parser.parse_args(arguments)
    plugins = [Telemetry(), History(chosen.telemetry)] if chosen.telemetry else []
    api, tally = Api(), Tally()
    try:
        with Gate("gateway", shutdown=2.0, plugins=plugins):
            watch(play(make_forecast(api, not chosen.without), api, tally, SCENES, chosen.seconds), tally, Console())
    except KeyboardInterrupt:
        pass
    ended = ", ".join(f"{tally.of_kind(kind)} {kind}" for kind in KINDS)
    print(f"{tally.asked} asked; of those that have ended: {ended}; {tally.retries} retries")


if __name__ == "__main__":
    main(sys.argv[1:])
