"""The screen of tokens: what is counted, listed, filtered and completed, and the drawer of one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
import trio
from admin_shop import HOSTILE, Shop, shop
from callers import OWN
from fake_predictor import EXPECTED, FakePredictor
from tiers import in_ci

from tokengate import token
from tokengate.admin._principal import Principal
from tokengate.admin._tokens import _last_term, _toggled
from tokengate.control.inspection._selector import parse
from tokengate.history import History
from tokengate.telemetry import Telemetry

IDS = re.compile(r'<tr id="t(\d+)"')


@pytest.fixture
def opened() -> Iterator[Shop]:
    with shop(5, plugins=[Telemetry()]) as made:
        yield made


@token(affinity="io")
async def quick(number: int) -> int:
    """Return at once, but for negative numbers."""
    if number < 0:
        await trio.sleep_forever()
    return number


def test_a_state_is_put_into_a_filter_and_taken_out_of_it_and_other_terms_stay() -> None:
    """Of states and holds one at most; what is built can be read again."""
    _, first = _toggled("tag.state='a, \"b\"',age>5", "state", "=", "queued")
    on, second = _toggled(first, "held", "!=", "")
    there, third = _toggled(second, "held", "!=", "")

    assert first == 'tag."state"="a, ""b""",age>5,state=queued'
    assert (on, second) == (False, 'tag."state"="a, ""b""",age>5,held!=""')
    assert (there, third) == (True, 'tag."state"="a, ""b""",age>5')
    assert parse(first).terms == 3
    assert _toggled("no selector (", "state", "=", "queued")[1] == "state=queued"


def test_the_last_term_is_what_stands_behind_the_last_comma_that_is_in_no_quotes() -> None:
    """A quote that is open goes to the end."""
    assert _last_term("") == ("", "")
    assert _last_term("operation=a, ag") == ("operation=a,", "ag")
    assert _last_term("a='x,y',b=\"u,v") == ("a='x,y',", 'b="u,v')


@in_ci
def test_states_have_sign_word_and_number_and_what_is_requested_is_not_done(opened: Shop) -> None:
    """A token whose pause was requested is `pause requested`, and not among the paused."""
    opened.gate.control.pause(opened.tokens[4])
    text = opened.get("/ui/rows")
    states = dict(re.findall(r"</span>([\w ]+)</span><span>([^<]+)</span>", text))

    assert (states["paused"], states["held"]) == ("1", "1")
    assert int(states["running"]) + int(states["queued"]) == 4
    assert re.search(r'<tr id="t5".*?</span>paused</span>', text)


@in_ci
def test_a_window_of_the_list_has_the_height_of_all_rows(opened: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows above and below are counted; an offset beyond the end shows the end."""
    monkeypatch.setattr("tokengate.admin._tokens.WINDOW", 2)
    found = [opened.get("/ui/rows", sort="id", offset=offset) for offset in (0, 2, 99, "x")]

    assert [IDS.findall(text) for text in found] == [["1", "2"], ["3", "4"], ["4", "5"], ["1", "2"]]
    assert [re.findall(r'data-rows="(\d+)"', text) for text in found] == [
        ["0", "3"],
        ["2", "1"],
        ["3", "0"],
        ["0", "3"],
    ]


@in_ci
def test_rows_that_stay_keep_their_order_those_that_have_gone_are_marked_and_new_ones_counted(
    opened: Shop, until: Callable[[Callable[[], bool]], None]
) -> None:
    """The rows that the page names (`only`) come back as they stood, whatever the list is now."""
    first = opened.get("/ui/screen", sort="id")
    opened.gate.control.terminate(opened.tokens[1], mode="kill", reason="test")
    opened.keep()
    (at,) = re.findall(r'data-at="([\d.]+)"', first)

    def rows() -> str:
        return opened.get("/ui/rows", sort="id", only="5,2,1", at=float(at) - 0.5)

    until(lambda: 'class="over"' in rows())  # an answer is shared for a second
    text = rows()

    assert IDS.findall(text) == ["5", "2", "1"]
    assert re.findall(r'<tr id="t(\d+)"[^>]*class="over"', text) == ["2"]
    assert re.search(r'data-do="fresh">(\d+) new<', text)
    assert "fresh" not in opened.get("/ui/rows", sort="id", select="tenant=globex", only="2", at=float(at) + 9e9)


@in_ci
def test_a_filter_with_a_mistake_names_the_place(opened: Shop) -> None:
    """422, `BadSelector`, and the character at which it is; sorting by no column is 422, too."""
    wrong = opened.client.get("/ui/rows", params={"select": "tenant=acme,age>x"})
    column = opened.client.get("/ui/rows", params={"sort": "colour"})

    assert (wrong.status_code, wrong.json()["title"]) == (422, "BadSelector")
    assert "character 17" in wrong.json()["detail"]
    assert column.status_code == 422


@in_ci
def test_what_runs_is_compared_with_what_is_usual_of_its_operation(opened: Shop) -> None:
    """With telemetry: the half and 19 of 20; the mark is the half."""
    for n in range(5):
        quick.submit(n).result(30)
    running = quick.submit(-1)
    text, drawer = opened.get("/ui/rows"), opened.get("/ui/drawer", open=running.id)
    other = opened.get("/ui/drawer", open=opened.tokens[0].id)

    assert len(re.findall('<rect class="mark"', text)) == 1
    assert '<svg class="progress over"' in text
    assert re.search(r'<p class="warn">Half of its like take \w+, 19 of 20 at most \w+\.', drawer)
    assert "Half of its like" not in other


@in_ci
def test_what_is_predicted_of_a_token_goes_before_what_is_usual(opened: Shop) -> None:
    """In the list and in the drawer, with what it was made from; in words where it is not calibrated."""
    for n in range(5):
        quick.submit(n).result(30)
    running = quick.submit(-1)
    predictor = opened.gate._system.predictor = FakePredictor()
    text, drawer = opened.get("/ui/rows"), opened.get("/ui/drawer", open=running.id)
    predictor.prediction = attrs.evolve(EXPECTED, calibrated=False, memory=None)
    doubtful = opened.get("/ui/drawer", open=opened.tokens[0].id)

    assert text.count('<span class="muted"> / 30.0s</span>') == text.count('class="progress"')
    assert "Half of its like take 30.0s, 19 of 20 at most 1m02s." in drawer
    for part in ("314.6 MB, 19 of 20 at most 536.9 MB", "bytes x3.1, tenant=acme x1.2", "line-7, 1,234 attempts"):
        assert part in drawer
    assert 'data-verb="estimate"' in drawer
    assert ("Not calibrated" in drawer, "Not calibrated" in doubtful) == (False, True)
    assert "536.9 MB" not in doubtful


@in_ci
def test_the_drawer_says_what_a_token_is_and_why_values_are_hidden(opened: Shop) -> None:
    """Types and sizes always; values where the operation shows them and the principal may see them."""
    shown, hidden = opened.keep("hello"), opened.tokens[0]
    opened.site.doors.sessions["viewer"] = Principal(f"uid:{OWN}", OWN, rights=frozenset({"view"}))
    own, other = opened.get("/ui/drawer", open=shown.id), opened.get("/ui/drawer", open=hidden.id)
    with opened.site.client(cookie="viewer") as viewer:
        restricted = viewer.get("/ui/drawer", params={"open": str(shown.id)}).text

    assert "&#39;hello&#39;" in own
    assert re.search(r"str, 5</td>", own)
    assert "Values are shown where the operation says so" in other
    assert "hello" not in restricted
    assert "You do not have the right &#39;arguments&#39;." in restricted
    assert re.search(r'<li class="here" aria-current="location">', own)
    assert ">this gate keeps no history; open it with plugins=[History(directory)]</p>" in own
    assert "limits are for operations in processes" in own


@in_ci
def test_the_drawer_of_a_token_that_has_ended_says_so_and_has_its_records(tmp_path: Path) -> None:
    """With history its attempts are there; no verbs are."""
    with shop(0, plugins=[History(tmp_path / "history")]) as opened:
        done = quick.submit(1)
        done.result(30)
        text = opened.get("/ui/drawer", open=done.id)
        unknown = opened.get("/ui/drawer", open=999)
        wrong = opened.client.get("/ui/drawer", params={"open": "x"})

    assert "is not live: it has completed" in text
    assert "data-verb" not in text
    assert "no token has had this id" in unknown
    assert wrong.status_code == 422


@in_ci
def test_completion_knows_fields_operators_and_what_is_in_the_gate_now(opened: Shop) -> None:
    """The last term is completed; what stands before it stays."""
    opened.keep(**{"odd tag": HOSTILE})

    def complete(text: str) -> list[str]:
        return re.findall(r'data-value="([^"]*)"', opened.get("/ui/complete", text=text))

    assert complete("op") == ["operation=", "operation!="]
    assert complete("age") == ["age&gt;", "age&lt;"]
    assert complete("operation=ch") == ["operation=charge"]
    assert complete("age>5,tenant=a") == ["age&gt;5,tenant=acme"]
    assert complete("state=ru") == ["state=running"]
    assert complete("actor=operations/c") == ["actor=operations/charge"]
    assert complete("run.") == ["run.p50&gt;", "run.p50&lt;", "run.p95&gt;", "run.p95&lt;"]
    assert complete("leak=c") == ["leak=confirmed"]
    assert complete("tena") == ["tenant=", "tenant!="]
    assert complete('tag."o') == ["tag.&#34;odd tag&#34;=", "tag.&#34;odd tag&#34;!="]
