"""The page in a browser: the list of tokens, its keys, what it never does."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import pytest
from admin_shop import HOSTILE, Shop, charge, shop
from admin_site import served
from browsers import Opened, browser
from tiers import in_ci

from tokengate import Gate
from tokengate.telemetry import Telemetry

pytestmark = in_ci

BUILT_IN = "Failed to load resource"  # what Chromium itself says of an answer with an error


@contextmanager
def opened_page(count: int = 5, query: str = "?sort=id", **options: Any) -> Iterator[tuple[Shop, Opened]]:
    """Open the list of a gate with tokens in a browser."""
    with shop(count, plugins=[Telemetry()]) as made, session(made, **options) as opened:
        opened.page.goto(f"{made.site.url}/{query}")
        opened.page.wait_for_selector("#rows tr[data-id]")
        yield made, opened
        assert [one for one in opened.errors if not one.startswith(BUILT_IN)] == []
        assert opened.elsewhere == []


def session(made: Shop, **options: Any) -> AbstractContextManager[Opened]:
    """Open a browser that is logged in."""
    return browser(made.site.url, (made.site.site.cookie, "own"), **options)


def ids(page: Any) -> list[str]:
    """Return the ids of the rows in the document, in order."""
    found: list[str] = page.eval_on_selector_all("#rows [data-id]", "rows => rows.map(row => row.dataset.id)")
    return found


def focused(page: Any) -> str:
    """Return the id of the element that has the focus."""
    found: str = page.evaluate("() => document.activeElement.id")
    return found


def until(page: Any, function: str) -> None:
    """Wait until a function in the page returns something true."""
    page.wait_for_function(f"() => {function}")


def test_the_list_is_used_by_keys_alone_and_the_focus_survives_refreshes() -> None:
    """j and k move, x selects, enter opens, escape closes; p asks for the form of what is selected."""
    with opened_page() as (_, opened):
        page, keys = opened.page, opened.page.keyboard
        for key in "jxjjxk":
            keys.press(key)
        assert focused(page) == "t2"
        assert page.inner_text("#picked") == "2 selected"
        before = opened.gone_to("/ui/rows")
        until(
            page, f"performance.getEntriesByType('resource').filter(e => e.name.includes('/ui/rows')).length > {before}"
        )
        assert (focused(page), page.inner_text("#picked")) == ("t2", "2 selected")
        keys.press("Enter")
        page.wait_for_selector("#drawer h2")
        assert "open=2" in page.url
        keys.press("p")
        until(page, "document.querySelector('#toasts').childElementCount > 0 || document.querySelector('#dialog').open")
        keys.press("Escape")
        assert any("/ui/form" in one and "verb=pause" in one and "select=1%2C3" in one for one in opened.requests)
        if "open=2" in page.url:
            keys.press("Escape")
        page.wait_for_selector("#drawer", state="hidden")
        until(page, "document.activeElement.id === 't2'")
        keys.press("Escape")
        assert page.inner_text("#picked") == "0 selected"
        keys.press("?")
        assert page.is_visible("#keys")
        keys.press("Escape")
        keys.press("/")
        assert focused(page) == "filter"


def test_selecting_with_shift_takes_all_between_and_all_that_match_is_the_filter() -> None:
    """What a verb is for is ids with commas, or the selector."""
    with opened_page(query="?sort=id&select=tenant%3Dacme") as (_, opened):
        page = opened.page
        page.click("#t1 .pick")
        page.click("#t5 .pick", modifiers=["Shift"])
        assert page.inner_text("#picked") == "3 selected"
        page.click("#pick-all")
        assert page.inner_text("#picked") == "all 3 that match"
        page.click("#actions [data-verb=terminate]")
        until(page, "document.querySelector('#toasts').childElementCount > 0 || document.querySelector('#dialog').open")

    assert any("verb=terminate" in one and "select=tenant%3Dacme" in one for one in opened.requests)


def test_a_filter_is_completed_and_a_wrong_one_points_at_the_place_and_keeps_the_list() -> None:
    """What was shown before stays until a filter can be read; the URL has it then, and `back` takes it away."""
    with opened_page() as (_, opened):
        page = opened.page
        page.keyboard.press("/")
        page.keyboard.type("tena")
        page.wait_for_selector("#completions li")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.wait_for_selector("#completions [data-value='tenant=acme']")
        page.fill("#filter", "tenant=acme,age>x")
        page.keyboard.press("Enter")
        page.wait_for_selector("#filter-error .caret")
        shown = page.inner_text("#filter-error")
        left = page.eval_on_selector("#filter-error .caret", "caret => caret.style.marginLeft")
        assert ("'age' is a time" in shown, left, ids(page)) == (True, "16ch", ["1", "2", "3", "4", "5"])
        assert "age" not in page.url
        page.fill("#filter", "tenant=acme")
        page.keyboard.press("Enter")
        until(page, "document.querySelector('#counts').textContent.startsWith('3 ')")
        assert (ids(page), page.inner_text("#filter-error")) == (["1", "3", "5"], "")
        assert "select=tenant%3Dacme" in page.url
        page.go_back()
        until(page, "document.querySelectorAll('#rows [data-id]').length === 5")


def test_a_column_sorts_and_a_state_filters() -> None:
    """A head sorts, and the other way at the second click; its state is said to assistive technology."""
    with opened_page() as (_, opened):
        page = opened.page
        page.click("#by-id")
        until(page, "document.querySelector('#rows [data-id]').dataset.id === '5'")
        assert page.get_attribute("th:has(#by-id)", "aria-sort") == "descending"
        page.click("#only-running")
        until(page, "location.search.includes('state%3Drunning')")
        page.wait_for_selector("#only-running[aria-current]")


def test_of_a_thousand_rows_at_most_200_are_in_the_document() -> None:
    """The rest is scroll height; scrolling brings what is seen, and the URL has the place."""
    with opened_page(1_000) as (made, opened):
        page = opened.page
        assert len(ids(page)) == 200
        heights = "l => [l.scrollHeight, document.querySelector('#t1').getBoundingClientRect().height]"
        height, row = page.eval_on_selector("#list", heights)
        assert height >= 1_000 * row
        page.eval_on_selector("#list", "l => { l.scrollTop = l.scrollHeight; }")
        page.wait_for_selector("#t1000")
        assert len(ids(page)) <= 200
        assert "offset=" in page.url
        page.eval_on_selector("#list", "l => { l.scrollTop = l.scrollHeight / 2; }")
        page.wait_for_selector("#t500")
        before = page.eval_on_selector("#list", "l => l.scrollTop")
        made.keep()
        until(page, "document.querySelector('#rows').dataset.total === '1001'")
        assert page.eval_on_selector("#list", "l => l.scrollTop") == before == height // 2


def test_rows_stay_under_the_pointer_and_in_a_selection_and_new_ones_are_counted() -> None:
    """What has ended is marked where it stands; a click on the number lets the list go on."""
    with opened_page() as (made, opened):
        page = opened.page
        page.click("#t2 .pick")
        made.gate.control.terminate(made.tokens[0], mode="kill", reason="test")
        new = charge.submit(6)
        page.wait_for_selector("#t1.over")
        page.wait_for_selector("#new")
        assert ids(page) == ["1", "2", "3", "4", "5"]
        page.keyboard.press("Escape")
        page.click("#new")
        page.wait_for_selector(f"#t{new.id}")
        assert ids(page) == ["2", "3", "4", "5", str(new.id)]


def test_a_hidden_page_asks_for_nothing_and_has_no_stream() -> None:
    """The stream is closed; a tick that comes late does nothing. Shown again, the page goes on."""
    with opened_page() as (_, opened):
        page = opened.page
        hide = """hidden => {
            Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });
            document.dispatchEvent(new Event('visibilitychange'));
        }"""
        with page.expect_event("requestfailed", lambda one: "/ui/ticks" in one.url):
            page.evaluate(hide, True)
        before = len(opened.requests)
        page.evaluate("() => { for (let n = 0; n < 5; n++) document.dispatchEvent(new Event('tick')); }")
        page.evaluate("() => new Promise(requestAnimationFrame)")
        assert opened.requests[before:] == []
        with page.expect_request("**/ui/ticks*"):
            page.evaluate(hide, False)
        page.wait_for_event("request", lambda one: "/ui/rows" in one.url)


def test_a_list_that_is_held_says_since_when_and_asks_for_nothing() -> None:
    """Space holds it, and lets it go on."""
    with opened_page() as (_, opened):
        page = opened.page
        page.click("[data-do=live]")
        assert re.fullmatch(r"held since \d\d:\d\d:\d\d", page.inner_text("#live"))
        until(page, "document.querySelector('[data-do=live]').getAttribute('aria-pressed') === 'true'")
        before = len(opened.requests)
        page.evaluate("() => { for (let n = 0; n < 5; n++) document.dispatchEvent(new Event('tick')); }")
        assert opened.requests[before:] == []
        with page.expect_request("**/ui/rows*"):
            page.click("[data-do=live]")
        assert page.inner_text("#live") == "live"


def test_a_gate_that_goes_is_said_to_have_gone_and_the_list_stays_greyed() -> None:
    """The time is said; nothing on the page pretends to be current."""
    with opened_page() as (made, opened):
        page = opened.page
        made.end()
        page.wait_for_selector("#strip .bad")
        assert re.search(r"gone|not answer", page.inner_text("#strip"))
        assert page.eval_on_selector("#screen", "s => getComputedStyle(s).opacity") != "1"


def test_a_daemon_that_ends_is_said_not_to_answer_until_it_does_again() -> None:
    """Nobody clicks; the list is greyed, and the head does not say that all is well."""
    opacity, health = "s => getComputedStyle(s).opacity", "h => getComputedStyle(h.firstElementChild).display"
    with Gate("shop"), ExitStack() as first:
        site = first.enter_context(served())
        with browser(site.url, (site.site.cookie, "own")) as opened:
            page = opened.page
            page.goto(site.url)
            page.wait_for_selector("#rows")
            assert page.is_hidden("#lost")
            first.close()
            page.wait_for_selector("#lost:not([hidden])")
            assert (page.eval_on_selector("#screen", opacity), page.eval_on_selector("#health", health)) == (
                "0.55",
                "none",
            )
            with served(port=site.port):
                page.wait_for_selector("#lost", state="hidden")
                assert (page.eval_on_selector("#screen", opacity), page.inner_text("#health")) == ("1", "●ok")


def test_hostile_texts_are_shown_and_do_nothing() -> None:
    """Markup, U+202E and ESC in tags and arguments, in list, completion and drawer."""
    with opened_page() as (made, opened):
        page = opened.page
        token = made.keep(HOSTILE, **{HOSTILE: HOSTILE})
        page.wait_for_selector(f"#t{token.id}")
        assert r"\u202e\x1b[31m" in page.inner_text(f"#t{token.id}")
        page.click(f"#t{token.id} .name")
        page.wait_for_selector("#drawer h2")
        assert page.locator("main img, aside img, [hx-post]").count() == 0
        assert r"\u202e\x1b[31m" in page.inner_text("#drawer")
        assert "<img src=x" in page.inner_text("#drawer")


def test_markup_that_gets_into_an_answer_carries_out_nothing() -> None:
    """Without the nonce, attributes of htmx are stripped, streams refused, scripts and handlers blocked."""
    evil = """<hx-partial hx-target="#counts"><b id="evil" hx-post="/ui/act" hx-trigger="load">x</b>
        <i hx-sse:connect="/ui/evil"></i><img src="data:," onerror="window.done = 1"><script>window.done = 2</script>
        <form action="/ui/act" method="post" hx-boost="true" hx-trigger="load"></form></hx-partial>"""
    with shop(2) as made, session(made) as opened:

        def answer(route: Any) -> None:
            parts = urlsplit(route.request.url)
            real = made.client.get(f"{parts.path}?{parts.query}")
            route.fulfill(status=real.status_code, headers=dict(real.headers), body=real.text + evil)

        opened.page.route("**/ui/rows*", answer)
        opened.page.goto(made.site.url)
        opened.page.wait_for_selector("#counts img", state="attached")
        opened.page.evaluate("() => new Promise(done => setTimeout(done))")

        assert opened.page.evaluate("() => window.done") is None
        assert [one for one in opened.requests if one.startswith("POST") or "evil" in one] == []
        assert opened.page.locator("[hx-post]").count() == 0


def test_strings_become_no_markup_and_nothing_is_evaluated() -> None:
    """The default policy of trusted types escapes; `eval` and new policies are refused."""
    with shop(1) as made, session(made) as opened:
        opened.page.goto(made.site.url)
        opened.page.wait_for_selector("#rows tr[data-id]")
        text = opened.page.evaluate("""() => new Promise(done => setTimeout(() => {
            const b = document.createElement('b');
            b.innerHTML = '<img src=x>';
            const tried = [];
            const policy = () => trustedTypes.createPolicy('mine', {});
            for (const one of [() => (0, eval)('1'), policy, () => new Function('1')()]) {
                try { one(); tried.push('done'); } catch { tried.push('refused'); }
            }
            done([b.childElementCount, b.textContent, ...tried]);
        }))""")  # later: what the test itself has evaluated may evaluate

    assert text == [0, "<img src=x>", "refused", "refused", "refused"]


@pytest.mark.parametrize("session", [True, False], ids=["with a session", "without one"])
def test_a_code_that_is_pasted_into_an_open_page_is_taken_as_at_load(session: bool) -> None:
    """Only the fragment changes. A code that is used up is said to be so, and a session that there was goes on."""
    code = "c" * 43
    with shop(1) as made, browser(made.site.url, (made.site.site.cookie, "own") if session else None) as opened:
        page, doors = opened.page, made.site.doors
        doors.codes[code] = attrs.evolve(doors.sessions["own"], login="s2")
        page.goto(made.site.url)
        for wrong in (False, True):
            page.wait_for_selector("#rows tr[data-id]" if session or wrong else "text=Nobody is logged in here")
            page.goto(f"{made.site.url}/#{code}")
            if session or wrong:
                page.wait_for_selector("text=Another login")
                assert page.url == f"{made.site.url}/"
                page.click("[data-do=replace]")
        page.wait_for_selector("text=lets nobody in")
        page.wait_for_selector("#rows tr[data-id]")

        assert sum(one == "POST /login" for one in opened.requests) == 2
        assert not any(code in one for one in (page.url, *opened.requests))


@pytest.mark.parametrize("session", [True, False], ids=["with a session", "without one"])
def test_the_code_leaves_the_url_at_once_and_is_posted_once(session: bool) -> None:
    """With a session the page asks first; the code is in no request but the one that redeems it."""
    code = "c" * 43
    with shop(1) as made, browser(made.site.url, (made.site.site.cookie, "own") if session else None) as opened:
        bodies: list[str] = []
        made.site.doors.sessions["new"] = made.site.doors.sessions["own"]

        def answer(route: Any) -> None:
            bodies.append(route.request.post_data)
            cookie = f"{made.site.site.cookie}=new; Path=/; HttpOnly; SameSite=Strict"
            route.fulfill(status=204, headers={"set-cookie": cookie})

        opened.page.route("**/login", answer)
        opened.page.goto(f"{made.site.url}/#{code}")
        if session:
            opened.page.wait_for_selector("text=Another login")
            assert (bodies, opened.page.url) == ([], f"{made.site.url}/")
            opened.page.click("[data-do=replace]")
        opened.page.wait_for_selector("#rows tr[data-id]")

        assert [json.loads(one) for one in bodies] == [{"code": code}]
        assert not any(code in one for one in (opened.page.url, *opened.requests))


def test_without_a_session_the_page_says_how_to_log_in() -> None:
    """And a session that ends while the page is open brings that page back."""
    with shop(1) as made, session(made) as opened:
        opened.page.goto(made.site.url)
        opened.page.wait_for_selector("#rows tr[data-id]")
        made.site.doors.end("s1", made.site.doors.sessions["own"].owner)
        opened.page.wait_for_selector("text=The login has ended.")
        assert "tokengate admin login" in opened.page.inner_text("#screen")
        assert opened.page.inner_text("#head") == ""


@pytest.mark.parametrize("width", [390, 1010, 1440])
def test_an_outcome_covers_no_button_and_the_bar_acts_on_the_open_token(width: int) -> None:
    """Nothing is selected: the buttons below the list are for the token in the drawer, as the keys are."""
    with opened_page(width=width, height=844) as (_, opened):
        page = opened.page
        page.click("#t2 .name")
        page.wait_for_selector("#drawer .foot")
        if width > 800:
            assert page.inner_text("#picked") == "0 selected"
            page.click("#actions [data-verb=pause]")
        else:
            page.click("#drawer [data-verb=pause]")
        page.wait_for_selector("#toasts .toast")
        assert "2" in page.inner_text("#toasts .toast")
        for one in page.query_selector_all(
            "#drawer button, #actions button, #head button, #states a, #filter-form button"
        ):
            covered = """b => {
                const r = b.getBoundingClientRect();
                return Boolean(document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2)?.closest('#toasts'));
            }"""
            assert not one.evaluate(covered), one.inner_text()


def test_it_works_390_pixels_wide() -> None:
    """Nothing but the list and bars scrolls sideways; a row opens the drawer over the list."""
    with opened_page(width=390, height=844) as (_, opened):
        page = opened.page
        assert page.evaluate("() => document.documentElement.scrollWidth") == 390
        page.click("#t1 .name")
        page.wait_for_selector("#drawer h2")
        assert page.eval_on_selector("#drawer", "d => d.getBoundingClientRect().width") == 390
        assert page.evaluate("() => document.documentElement.scrollWidth") == 390
        page.click("#close-drawer")
        page.wait_for_selector("#drawer", state="hidden")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_assistive_technology_can_use_it(theme: Any) -> None:
    """axe-core finds nothing, in both themes: list, selection, drawer, keys, error of a filter, login page."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        pytest.skip("axe-core comes with the package axe-playwright-python, which is not installed")
    axe = Path(found.origin).with_name("axe.min.js").read_text()

    def faults(page: Any) -> list[str]:
        page.evaluate(axe)
        result = page.evaluate("() => axe.run()")
        return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in result["violations"]]

    with opened_page(theme=theme) as (made, opened):
        page = opened.page
        made.gate.control.pause(made.tokens[1])
        page.wait_for_selector("#t2 .held")
        page.keyboard.press("j")
        page.keyboard.press("x")
        assert faults(page) == []
        page.keyboard.press("Enter")
        page.wait_for_selector("#drawer h2")
        assert faults(page) == []
        page.fill("#filter", "age>x")
        page.keyboard.press("Enter")
        page.wait_for_selector("#filter-error .caret")
        assert faults(page) == []
        page.evaluate("() => document.querySelector('#keys').showModal()")
        assert faults(page) == []
        page.keyboard.press("Escape")
        before = len(opened.errors)
        made.site.doors.sessions.clear()
        page.wait_for_selector("text=The login has ended.")
        refused = "SSE reconnect failed with status 401"  # of its stream, which may be told first
        opened.errors[before:] = [one for one in opened.errors[before:] if refused not in one]
        assert faults(page) == []
