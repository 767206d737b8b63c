"""The overview: health in words, charts, states, and what is longest, held up, fullest or restarted."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import trio
from admin_pages import HOSTILE, Page, assert_inert, begun, words
from admin_site import Served, served
from gated_code import LIMIT
from tiers import in_ci

from tokengate import CpuActor, Gate, Token, checkpoint, token
from tokengate.control.messages import HealthPart
from tokengate.control.registry import Plugin
from tokengate.telemetry import Telemetry

pytestmark = in_ci


@token
async def idle() -> None:
    await trio.sleep_forever()


@token
async def outer(inner: Token[None]) -> None:
    await inner


@token(affinity="process")
def away(n: int) -> None:
    while n:
        checkpoint()


class Ailing(Plugin):
    """A part that works badly."""

    def health(self, _gate: object) -> tuple[HealthPart, ...]:
        return (HealthPart("pump", "degraded", 0.0, HOSTILE),)


class Shelf(CpuActor):
    def put(self) -> None: ...


@pytest.fixture
def site() -> Iterator[Served]:
    with served() as opened:
        yield opened


def test_it_says_what_is_longest_and_what_that_waits_for(site: Served) -> None:
    """What waits for nothing comes first: it may be what the others wait for."""
    with Gate("shop", shutdown=LIMIT) as gate:
        (inner,) = begun(idle, tags={"tenant": HOSTILE})
        waiting = outer.submit(inner)
        page = Page(site, gate)
        shown = page.shows(f"waits for token {inner.id}", "/ui/screen", screen="overview")
        gate.control.terminate("*")

    assert shown.index(f"open={inner.id}") < shown.index(f"open={waiting.id}")
    assert_inert(shown)


def test_it_says_what_is_held_up_by_what(site: Served) -> None:
    """Tokens by operators and, each with the rule, by throttles; mailboxes of suspended actors."""
    with Gate("shop", shutdown=LIMIT) as gate:
        shelf = gate.spawn(Shelf, name="shelf")
        gate.control.suspend("shelf")
        shelf.proxy().put()
        gate.control.throttle("operation=idle", concurrency=1)
        made = [idle.submit() for _ in range(3)]
        page = Page(site, gate)
        shown = page.shows("idle by throttle operation=idle: concurrency 1", "/ui/screen", screen="overview")
        gate.control.pause([made[0].id], wait=LIMIT)
        page.shows("1 token by an operator", "/ui/screen", screen="overview")
        gate.control.terminate("*")

    assert "spawned/shelf : 1 in its mailbox" in words(shown)


def test_it_says_what_is_largest(site: Served) -> None:
    """Tokens of child processes, each with the memory of that."""
    with Gate("shop", shutdown=LIMIT) as gate:
        large = away.submit(1)
        shown = Page(site, gate).shows("Largest by memory", "/ui/screen", screen="overview")
        gate.control.terminate("*")

    table = words(shown).partition("Largest by memory")[2].partition("Held up")[0]
    assert re.search(rf" {large.id} away \S+ \d\S* MB ", table), table


def test_health_is_in_words(site: Served) -> None:
    """Each part that is not well, with why; or that all are."""
    with Gate("shop", plugins=[Ailing()], shutdown=LIMIT) as gate:
        ailing = Page(site, gate).shows("▲ degraded pump since", "/ui/screen", screen="overview")
    with Gate("well", shutdown=LIMIT) as gate:
        Page(site, gate).shows("● healthy", "/ui/screen", screen="overview")

    assert_inert(ailing)


def test_charts_need_telemetry_and_without_it_the_overview_says_so(site: Served) -> None:
    """Series of equal lengths as JSON; without the plugin, its remedy."""
    with Gate("shop", plugins=[Telemetry()], shutdown=LIMIT) as gate:
        page = Page(site, gate)
        with site.client() as client:
            said = client.get("/ui/charts", params={"gate": page.name}).json()
        drawn = page.screen("overview")
    with Gate("bare", shutdown=LIMIT) as gate:
        page = Page(site, gate)
        page.shows("plugins=[Telemetry()]", "/ui/screen", screen="overview")
        with site.client() as client:
            refused = client.get("/ui/charts", params={"gate": page.name})

    assert set(said) == {"at", "ended", "failed", "wait_p95", "queued", "cpu_saturation", "io_saturation", "memory"}
    assert len({len(values) for values in said.values()}) == 1
    assert 'data-chart="MB"' in drawn
    assert refused.status_code == 404
