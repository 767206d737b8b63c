"""Overview, actors, generated screens, forms and proposals in a real browser, as a person uses them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import trio
from admin_pages import HOSTILE, Page, begun, charge, transfer
from admin_site import Served, served
from axe import violations
from browsers import Opened, browser
from callers import ANN, BOB, OWN, gates_of, grants
from gated_code import LIMIT
from tiers import in_ci

from tokengate import ChildSpec, CpuActor, Gate, IoActor, Supervisor, Token, TokenState, token
from tokengate.admin._principal import Principal
from tokengate.errors import TokenTerminated
from tokengate.telemetry import Telemetry
from tokengate.types import command

pytestmark = in_ci

Until = Callable[[Callable[[], bool]], None]


@token
def check_fraud(_order: int) -> None:
    while True:
        sum(range(1_000))


@token
async def pay(check: Token[None]) -> None:
    await check


@token
async def idle() -> None:
    await trio.sleep_forever()


class Clerk(IoActor):
    show = ("note",)

    def __init__(self) -> None:
        super().__init__()
        self.note = HOSTILE

    async def stumble(self) -> None:
        raise ValueError(HOSTILE)

    @command
    def restock(self, item: str, count: int = 1) -> list[Any]:
        """Put more there."""
        return [item, count]


class Shelf(CpuActor):
    def put(self) -> None: ...


@pytest.fixture
def site() -> Iterator[Served]:
    with served() as opened:
        opened.doors.sessions |= {
            "ann": Principal(f"uid:{ANN}", ANN, login="a"),
            "bob": Principal(f"uid:{BOB}", BOB, login="b"),
        }
        yield opened


@pytest.fixture
def page(site: Served) -> Iterator[Page]:
    office = Supervisor.child_spec("office", [ChildSpec("clerk", Clerk), ChildSpec("shelf", Shelf)])
    with Gate("shop", children=[office], plugins=[Telemetry()], shutdown=LIMIT) as gate:
        yield Page(site, gate)
        gate.control.terminate("*", "kill", force=True, reason="over", break_glass="the test is over")


def opened(site: Served, cookie: str = "own", **options: Any) -> Any:
    return browser(site.url, (site.site.cookie, cookie), **options)


def test_a_runaway_is_found_and_ended_with_the_page_alone(page: Page) -> None:
    """It stands at the top of the overview, since it waits for nothing; from there: open, end, apply."""
    runaway = check_fraud.submit(5)
    waiting = pay.submit(runaway)

    with opened(page.site) as window:
        tab = window.page
        tab.goto(f"{page.site.url}/?gate={page.name}&screen=overview")
        tab.locator(f".card td:has-text('waits for token {runaway.id}')").wait_for()
        tab.locator(".card td a").first.click()
        tab.locator("#drawer footer [data-verb=terminate]").click()
        tab.locator("#form button.strong").click()
        tab.locator("#proposal button.strong").click()
        tab.locator(".outcome").wait_for()

        assert "terminate" in tab.locator(".outcome").inner_text()
        assert not tab.locator("#dialog").is_visible()
        assert window.elsewhere == []
    with pytest.raises(TokenTerminated):
        runaway.result(LIMIT)
    with pytest.raises(TokenTerminated):
        waiting.result(LIMIT)


def test_one_token_is_paused_and_resumed_at_once_and_what_has_a_guard_gets_a_form(page: Page, until: Until) -> None:
    """By keys; the outcome stays, no dialog comes. Where force is needed, the outcome leads to the form."""
    (plain,), (guarded,) = begun(idle), begun(charge)
    with opened(page.site) as window:
        tab = window.page
        tab.goto(f"{page.site.url}/?gate={page.name}&screen=tokens")
        tab.locator(f"#rows [data-id='{plain.id}']").focus()
        tab.keyboard.press("p")
        tab.locator(".outcome", has_text=re.compile("paused|pause_requested")).wait_for()  # it is asked for 20 ms
        assert not tab.locator("#dialog").is_visible()
        until(lambda: page.gate.control.describe(plain.id).row.state == "paused")
        tab.keyboard.press("r")
        tab.locator(".outcome", has_text="resumed").wait_for()
        tab.locator(f"#rows [data-id='{guarded.id}']").focus()
        tab.keyboard.press("p")
        tab.get_by_role("button", name="With force…").click()
        assert tab.locator("#f-select").input_value() == str(guarded.id)
        assert window.errors == []


def test_a_proposal_of_another_session_is_approved_and_then_applied(site: Served, tmp_path: Path) -> None:
    """Two people, each in a browser."""
    text = grants((f"uid:{ANN} uid:{BOB}", "operator"), (f"uid:{OWN}", "admin"))
    with gates_of(tmp_path / "tokengate.toml") as open_:
        gate = open_(text)
        name = Page(site, gate).name
        (one,) = begun(transfer)
        with opened(site, "ann") as window:
            ann = window.page
            ann.goto(f"{site.url}/?gate={name}&screen=tokens&open={one.id}")
            ann.locator("#drawer footer [data-verb=terminate]").click()
            ann.locator("#f-reason").fill("it hangs")
            ann.locator("#form button.strong").click()
            ann.get_by_text("It waits for the approval").wait_for()
        with opened(site, "bob", theme="dark") as window:
            bob = window.page
            bob.goto(f"{site.url}/?gate={name}&screen=proposals")
            bob.locator("#rows [data-id] td").nth(1).click()
            bob.get_by_role("button", name="Approve").click()
            bob.locator(".outcome").wait_for()
            bob.get_by_text("another one than you applies it").wait_for()
            assert window.errors == []
        with opened(site, "ann") as window:
            ann = window.page
            ann.goto(f"{site.url}/?gate={name}&screen=proposals&open=1")
            ann.locator("#f-reason").fill("Bob agrees")
            ann.locator("#proposal button.strong").click()
            ann.locator(".outcome").wait_for()
            assert window.errors == []
        assert one.state is TokenState.TERMINATED


def test_a_form_with_a_mistake_stays_with_what_was_typed_and_says_where(page: Page) -> None:
    """The command's form; then it is mended, and the answer is shown until it is dismissed."""
    with opened(page.site) as window:
        tab = window.page
        tab.goto(f"{page.site.url}/?gate={page.name}&screen=actors&open=office/clerk")
        tab.get_by_role("button", name="restock…").click()
        tab.locator("[name='kw.item']").fill("tea")
        tab.locator("[name='kw.count']").evaluate("one => { one.type = 'text'; one.value = 'many'; }")
        tab.locator("#form button.strong").click()
        tab.locator("#form .error", has_text="Expected").wait_for()
        assert tab.locator("[name='kw.item']").input_value() == "tea"
        tab.locator("[name='kw.count']").fill("3")
        tab.locator("#form button.strong").click()
        tab.locator(".outcome", has_text="tea, 3").wait_for()
        tab.locator(".outcome [data-do=dismiss]").click()
        assert tab.locator(".outcome").count() == 0
        assert window.errors == []


def test_charts_are_drawn_and_survive_the_refresh_of_their_screen(page: Page) -> None:
    """Five canvases, the same after a tick."""
    with opened(page.site) as window:
        tab = window.page
        tab.goto(f"{page.site.url}/?gate={page.name}&screen=overview")
        tab.locator("canvas").nth(4).wait_for()
        tab.evaluate("document.querySelectorAll('canvas').forEach((one, at) => { one.dataset.mark = at; })")
        asked = window.gone_to("/ui/charts")
        while window.gone_to("/ui/charts") < asked + 2:
            tab.wait_for_timeout(50)
        assert tab.locator("canvas[data-mark]").count() == 5
        assert window.errors == []


def hurt(page: Page) -> None:
    """Have texts of a program in every place of these screens that can have one."""
    clerk = page.gate.find("clerk").proxy()
    with pytest.raises(ValueError, match="img"):
        clerk.stumble().result(LIMIT)
    begun(transfer, tags={"tenant": HOSTILE})
    page.gate.control.throttle(f'tenant="{HOSTILE[:28]}"', rate=1)


@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 390)])
def test_screens_are_accessible_inert_and_as_wide_as_the_window(
    page: Page, theme: Literal["light", "dark"], width: int
) -> None:
    """axe-core finds nothing, no text of a program acts, nothing is loaded from elsewhere, and no line overflows."""
    hurt(page)
    with opened(page.site, theme=theme, width=width) as window:
        for query, clicks in (
            ("overview", ()),
            ("actors&open=office/clerk", ("button:has-text('State…')",)),
            ("actors&open=office/clerk", ("button:has-text('Restart…')", "#form button.strong")),
            ("throttles", ("button:has-text('Throttle…')", "summary")),
            ("proposals", ()),
            ("policies", ()),
            ("operations", ()),
            ("audit-records", ()),
        ):
            look(page, window, query, clicks)


def look(page: Page, window: Opened, query: str, clicks: tuple[str, ...]) -> None:
    tab, alerts = window.page, []
    tab.on("dialog", lambda one: (alerts.append(one.message), one.dismiss()))
    tab.goto(f"{page.site.url}/?gate={page.name}&screen={query}")
    tab.locator("#screen h1, #screen .page").first.wait_for(state="attached")
    for click in clicks:
        tab.locator(click).first.click()
    tab.wait_for_load_state("networkidle") if not tab.locator("#ticks").count() else tab.wait_for_timeout(300)

    assert violations(tab) == [], query
    assert tab.locator("img, script:not([nonce])").count() == 0, query
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), query
    assert alerts == []
    assert window.elsewhere == []
    assert window.errors == []
