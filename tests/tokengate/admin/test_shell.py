"""The shell is without data; its fragments are of a gate, as the principal sees it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from admin_shop import HOSTILE, Shop, shop
from admin_site import served
from callers import OWN
from tiers import in_ci

from tokengate import Gate
from tokengate.admin._principal import Principal
from tokengate.admin._templates import clock, count, short, sign, token_in, visible
from tokengate.telemetry import Telemetry

FRAGMENTS = ("/ui/screen", "/ui/rows", "/ui/drawer?open=1", "/ui/ticks", "/ui/whoami", "/ui/complete?text=op")


@pytest.fixture
def opened() -> Iterator[Shop]:
    with shop(plugins=[Telemetry()]) as made:
        yield made


def test_the_shell_is_the_same_with_and_without_a_session() -> None:
    """It holds no data, so it needs no principal; only the nonce differs."""
    with Gate("shop"), served() as site, site.client(cookie="") as nobody, site.client() as own:
        texts = [re.sub(r'nonce="[\w-]+"', "", client.get("/").text) for client in (nobody, own)]

    assert texts[0] == texts[1]
    assert "shop" not in texts[0]
    assert f"uid:{OWN}" not in texts[0]


def test_fragments_need_a_principal() -> None:
    """Without one the answer is 401."""
    with served() as site, site.client(cookie="") as nobody:
        found = {path: nobody.get(path).status_code for path in FRAGMENTS}

    assert found == dict.fromkeys(FRAGMENTS, 401)


@in_ci
def test_the_only_gate_is_chosen_and_its_health_has_a_sign_and_a_word(opened: Shop) -> None:
    """The head names gate, health, proposals, principal and role; the screen is that of tokens."""
    text = opened.get("/ui/screen")

    assert re.search(r'<option value="shop-\d+-\d+" selected>shop@\d+</option>', text)
    assert re.search(r'<span class="sign" aria-hidden="true">●</span>ok', text)
    assert "0 proposals" in text
    assert re.search(rf"uid:{OWN} · <span[^>]*>admin</span>", text)
    assert re.search(r'id="tab-tokens"[^>]*aria-current="page"', text)


@in_ci
def test_each_kind_has_a_tab_and_that_of_a_missing_plugin_says_why(opened: Shop) -> None:
    """Tabs follow from the registry; one whose plugin the gate lacks is no link."""
    text = opened.get("/ui/screen")

    assert re.search(r'<a class="tab" id="tab-operations"', text)
    assert re.search(r'<span class="tab off" title="[^"]*plugins=\[History\(directory\)\]"[^>]*>History records', text)


def test_hx_attributes_have_the_nonce_of_their_answer(opened: Shop) -> None:
    """The extension takes the nonce of an answer from its header, and puts that of the page in its place."""
    answer = opened.client.get("/ui/screen")
    nonce = re.search(r"'nonce-([\w-]+)'", answer.headers["content-security-policy"])

    assert nonce is not None
    assert {*re.findall(r'nonce="([^"]+)"', answer.text)} == {nonce[1]}


@in_ci
def test_an_unknown_screen_keeps_the_frame_and_is_said_in_the_body(opened: Shop) -> None:
    """The tabs are there to choose from; its rows are a problem."""
    text = opened.get("/ui/screen", gate=opened.name, screen="nothing")
    answer = opened.client.get("/ui/rows", params={"gate": opened.name, "screen": "nothing"})

    assert "There is no screen &#39;nothing&#39;" in text or "There is no screen 'nothing'" in text
    assert 'id="tab-tokens"' in text
    assert (answer.status_code, answer.json()["title"]) == (404, "UnknownScreen")


def test_a_name_that_no_gate_has_is_said_to_be_unknown_and_the_gates_are_listed() -> None:
    """It may never have been one; nothing is said to have gone."""
    with Gate("shop"), served() as site, site.client() as client:
        (name,) = re.findall(r'<option value="([^"]+)" selected>', client.get("/ui/screen").text)
        text = client.get("/ui/screen", params={"gate": "nosuch"}).text

    assert "No gate &#39;nosuch&#39; is known here" in text
    assert not re.search("has gone at|nothing here would be true|runs again", text)
    assert f'<a href="/?gate={name}">' in text


@in_ci
def test_the_gate_of_a_program_that_runs_again_is_offered(until: Callable[[Callable[[], bool]], None]) -> None:
    """If one only has the name of the gate that has gone; strip and body say the same."""
    offered = (
        r'class="said bad">.*has gone at .* <a href="/\?gate={}&amp;screen=tokens">shop runs again as shop@\d+: go on'
    )
    with served() as site, site.client() as client:
        with ExitStack() as first:
            first.enter_context(Gate("shop"))
            (gone,) = re.findall(r'<option value="([^"]+)" selected>', client.get("/ui/screen").text)
            with Gate("shop"):  # a name of its own, since the first is there

                def text() -> str:
                    return client.get("/ui/screen", params={"gate": gone}).text

                first.close()
                until(lambda: "runs again" in text())
                (name,) = {*re.findall(r'<option value="(shop-[^"]+)"', text())} - {gone}
                assert re.search(offered.format(name), text())
                assert not re.search("What is shown|goes on by itself", text())
        until(lambda: "runs again" not in text())
        assert "has gone at" in text()


def test_a_gate_that_has_gone_is_said_to_be_gone_and_its_rows_stay() -> None:
    """The answer to a tick brings head and strip, and nothing for the list."""
    with served() as site, site.client() as client:
        with Gate("shop"):
            (name,) = re.findall(r'<option value="([^"]+)" selected>', client.get("/ui/screen").text)
        text = client.get("/ui/rows", params={"gate": name}).text

    assert re.search(r'class="said bad">.*has gone', text)
    assert 'hx-target="#rows"' not in text


@in_ci
def test_without_a_gate_the_page_says_so_and_with_several_it_lists_them(
    until: Callable[[Callable[[], bool]], None],
) -> None:
    """None is chosen for the reader."""
    with served() as site, site.client() as client:
        none = client.get("/ui/screen").text
        with Gate("shop"), Gate("mill"):  # of which the daemon hears within a second
            until(
                lambda: len(re.findall(r'<a href="/\?gate=(?:shop|mill)-\d+-\d+">', client.get("/ui/screen").text)) == 2
            )

    assert "No gate is open" in none


@in_ci
def test_a_verb_without_its_right_is_greyed_with_the_reason(opened: Shop) -> None:
    """A hidden button is no rule; a greyed one says what is missing."""
    opened.site.doors.sessions["viewer"] = Principal(f"uid:{OWN}", OWN, rights=frozenset({"view"}))
    with opened.site.client(cookie="viewer") as viewer:
        text = viewer.get("/ui/screen").text

    assert re.search(r'data-verb="terminate" aria-disabled="true" title="needs the right &#39;terminate&#39;', text)
    assert "· <span" in text
    assert ">viewer</span>" in text


@in_ci
def test_a_guard_greys_all_verbs_of_a_token_with_the_reason(opened: Shop) -> None:
    """`never` leaves none."""
    token = opened.keep(HOSTILE)
    text = opened.get("/ui/drawer", open=token.id)

    foot = text[text.index("<footer") :]

    assert len(re.findall(r'title="its guard is &#39;never&#39;', foot)) == foot.count("data-verb=") > 5


@in_ci
def test_texts_of_programs_are_escaped_and_what_is_not_printed_is_shown(opened: Shop) -> None:
    """No markup of theirs is left, and no control or bidirectional character."""
    token = opened.keep(HOSTILE, **{HOSTILE: HOSTILE})
    texts = [
        opened.get("/ui/screen", sort="-id"),
        opened.get("/ui/rows", sort="-id"),
        opened.get("/ui/drawer", open=token.id),
    ]

    for text in texts:
        assert "<img" not in text
        assert r"\u202e\x1b[31m" in text
        assert not any(char in text for char in "\u202e\x1b")


def test_filters_say_what_they_promise() -> None:
    """Times, numbers and signs as text."""
    assert [short(n) for n in (0, 38, 999, 1_240, 10_000, 100_312, 3_100_000)] == [
        "0", "38", "999", "1.2k", "10k", "100k", "3.1M",
    ]  # fmt: skip
    assert [count(n) for n in (None, 100_312, 0.25)] == ["-", "100,312", "0.25"]
    assert (sign("running"), sign("kill_requested"), sign("odd")) == (("●", "good"), ("▲", "warn"), ("·", "calm"))
    assert (token_in("token 12 (f of 'g')"), token_in("room in the mailbox of 'a'")) == ("12", "")
    assert (visible("a\u202eb\x1b\ud800"), visible(None), clock(None)) == ("a\\u202eb\\x1b\\ud800", "", "-")
