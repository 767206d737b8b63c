"""The screen of actors: the tree, and one of them in the drawer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import trio
from admin_pages import HOSTILE, Page, assert_inert, begun, words
from admin_site import served
from gated_code import LIMIT
from tiers import in_ci

from tokengate import ChildSpec, Gate, IoActor, Supervisor, token
from tokengate.types import command

pytestmark = in_ci


class Clerk(IoActor):
    show = ("note",)

    def __init__(self) -> None:
        super().__init__()
        self.note, self.pin = HOSTILE, 4711

    async def stumble(self) -> None:
        raise ValueError(HOSTILE)

    async def wait(self) -> None:
        await trio.sleep_forever()

    @command
    def restock(self, item: str, count: int = 1, urgent: bool = False) -> list[Any]:
        """Put more of an item there."""
        return [item, count, urgent]

    @command
    def unlock(self, key: int, /, *doors: int) -> int:
        """Open doors."""
        return key + sum(doors)


@token
async def idle() -> None:
    await trio.sleep_forever()


@pytest.fixture
def page() -> Iterator[Page]:
    office = Supervisor.child_spec("office", [ChildSpec("clerk", Clerk), ChildSpec("boss", Clerk)])
    with served() as site, Gate("shop", children=[office], shutdown=LIMIT) as gate:
        yield Page(site, gate)
        gate.control.terminate("*")


def stumbled(page: Page) -> None:
    """Have the clerk crash once, and wait until there is a new one."""
    clerk = page.gate.find("clerk")
    with pytest.raises(ValueError, match="img"):
        clerk.proxy().stumble().result(LIMIT)
    clerk.proxy().restock("tea").result(LIMIT)


def test_the_tree_has_status_mailbox_restarts_and_last_end(page: Page) -> None:
    """Children stand below their supervisor, operations at the end."""
    stumbled(page)
    page.gate.control.suspend("boss")
    begun(idle)

    shown = page.shows("idle", "/ui/screen", screen="actors")

    text = words(shown)
    assert text.index("office") < text.index("clerk") < text.index("boss") < text.index("idle")
    row = shown[shown.index('data-id="office/clerk"') :]
    row = row[: row.index("</tr>")]
    assert "● running" in words(row)
    assert "0 / 10,000" in words(row)
    assert "ValueError" in words(row)
    assert '<b class="warn">1</b>' in row
    assert "❚❚ suspended" in text
    assert_inert(shown)


def test_the_tree_is_filtered_and_sorted(page: Page) -> None:
    """By part of a path; sorted, it is a list of paths."""
    stumbled(page)

    filtered, by_restarts = page.screen("actors", select="OFFICE/clerk"), page.screen("actors", sort="-restarts")

    assert 'data-id="office/boss"' not in filtered
    first = by_restarts[by_restarts.index("<tbody") :]
    assert first.index('data-id="office/clerk"') < first.index('data-id="office"')


def test_the_drawer_says_why_an_actor_was_restarted(page: Page) -> None:
    """With the token that crashed it, and what is left of its supervisor's restarts."""
    stumbled(page)

    drawer = page.shows("Clerk.stumble", "/ui/drawer", screen="actors", open="office/clerk")

    text = words(drawer)
    assert "restarted" in text
    assert "1 of 3 within 5.0s" in text
    assert_inert(drawer)
    assert "boss" in words(page.drawer("actors", "office"))
    assert "no actor" in words(page.drawer("actors", "nobody"))


def test_the_state_of_an_actor_is_read_when_it_is_asked_for(page: Page) -> None:
    """Values of what its class shows, types and sizes of the rest."""
    drawer, state = page.drawer("actors", "office/clerk"), page.get("/ui/state", name="office/clerk")

    assert "4711" not in drawer
    assert "4711" not in words(state).replace(page.name, "")
    assert f"note str {len(HOSTILE)}" in words(state)
    assert "&lt;img" in state
    assert_inert(state)


def test_each_command_has_a_form_by_its_annotations(page: Page) -> None:
    """Defaults, needed ones, truth values; what is typed is read as the annotations want it, the result is shown."""
    drawer = page.drawer("actors", "office/clerk")
    form = page.get("/ui/form", verb="call", name="office/clerk", method="restock")

    assert "method=restock" in drawer
    assert "Put more of an item there." in words(drawer)
    assert 'name="kw.item"' in form
    assert 'name="kw.count"' in form
    said = page.act(
        "call", name="office/clerk", method="restock", **{"kw.item": "5", "kw.count": "3", "kw.urgent": "true"}
    )
    assert "5, 3, True" in words(said)
    said = page.act("call", name="office/clerk", method="unlock", **{"one.key": "40", "rest.doors": "1\n1"})
    assert "42" in words(said)
    wrong = page.act("call", name="office/clerk", method="restock", **{"kw.item": "tea", "kw.count": "many"})
    assert "Expected `int`" in words(wrong)
    assert 'value="many"' in wrong


def test_verbs_of_the_drawer_change_the_actor(page: Page) -> None:
    """Suspend, unsuspend, statistics; which of two is offered follows from how it is."""
    assert "verb=suspend" in page.drawer("actors", "office/clerk")
    page.act("suspend", name="office/clerk")
    page.act("statistics", name="office/clerk", switch="on")

    drawer = page.shows("❚❚ suspended", "/ui/drawer", screen="actors", open="office/clerk")

    assert 'value="unsuspend"' in drawer
    assert "0 failed" in words(drawer)
    page.act("unsuspend", name="office/clerk")
    assert not page.gate.control.describe_actor("clerk").row.suspended
