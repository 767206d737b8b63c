"""Generated screens: a table, a drawer and forms for every kind, from its declaration alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

import attrs
import pytest
from admin_pages import HOSTILE, Page, assert_inert, words
from admin_site import Served, served
from gated_code import LIMIT
from msgspec import Meta
from ruled import EXPLAINED, Predict
from tiers import in_ci

from tokengate import Gate, token
from tokengate.admin._nouns import columns_of, nouns
from tokengate.control.messages import Event, Listing, Message, OnOne
from tokengate.control.registry import Kind, Plugin, register
from tokengate.control.registry import _kinds as registry
from tokengate.history import History
from tokengate.history._kinds import HISTORY
from tokengate.telemetry import Telemetry

pytestmark = in_ci


@attrs.frozen
class LanternRow:
    """A lantern.

    Attributes:
        name: of the lantern.
        lit: seconds since the epoch.
        burnt: how long it has burnt, in seconds.
        oil: bytes of oil.
        on: whether it shines.
        places: where it hangs.
        tags: its labels.
        keeper: who fills it; few have one.
    """

    name: str
    lit: float
    burnt: float
    oil: int
    on: bool
    places: tuple[str, ...]
    tags: dict[str, str]
    keeper: str = attrs.field(default="", metadata={"sparse": True})


@attrs.frozen
class Lanterns(Listing[LanternRow]):
    """List lanterns by name."""


@attrs.frozen
class DimLantern(OnOne[LanternRow]):
    """Let a lantern shine less."""

    right: ClassVar[str] = "operate"
    by: Annotated[float, Meta(description="Share of its light.", ge=0, le=1)] = 0.5


@attrs.frozen
class ShowLantern(Message[LanternRow]):
    """Show one lantern."""

    right: ClassVar[str] = "view"
    name: Annotated[str, Meta(description="Its name.")]


class Lights(Plugin):
    """Answers the verbs about lanterns."""

    def __init__(self) -> None:
        self.rows = [
            LanternRow("a", 0.0, 61.0, 2_500_000, True, ("door", "wall"), {"side": "left"}),
            LanternRow(HOSTILE, 1.0, 0.25, 10, False, (), {HOSTILE: HOSTILE}),
        ]
        self.dimmed: list[tuple[str, float]] = []

    def answers(self, _gate: Any) -> object:
        return self

    async def lanterns(self, message: Lanterns) -> tuple[LanternRow, ...]:
        return tuple(one for one in self.rows if message.select in one.name)

    async def dim_lantern(self, message: DimLantern) -> LanternRow:
        self.dimmed.append((message.name, message.by))
        return next(one for one in self.rows if one.name == message.name)

    async def show_lantern(self, message: ShowLantern) -> LanternRow:
        return next(one for one in self.rows if one.name == message.name)


@pytest.fixture
def lights(monkeypatch: pytest.MonkeyPatch) -> Lights:
    """A kind that this test has made up, and the plugin that answers it; forgotten afterwards."""
    for table in ("_kinds", "_verbs", "_declared"):
        known = getattr(registry, table)
        for name in ("lantern", "lanterns", "dim_lantern", "show_lantern"):
            monkeypatch.setitem(known, name, None)  # so that it is as before at the end
            monkeypatch.delitem(known, name)
    kind = Kind("lantern", LanternRow, Lanterns, (DimLantern, ShowLantern), plugin="Lights()")
    for message in kind.messages:
        monkeypatch.setitem(registry._declared, id(message), message)
    register(kind)
    return Lights()


@pytest.fixture
def site() -> Iterator[Served]:
    with served() as opened:
        yield opened


@pytest.fixture
def page(site: Served, lights: Lights) -> Iterator[Page]:
    with Gate("shop", plugins=[lights, Telemetry()], shutdown=LIMIT) as gate:
        yield Page(site, gate)


def test_a_made_up_kind_has_a_tab_a_table_a_drawer_and_forms_without_further_code(page: Page, lights: Lights) -> None:
    """Cells by their types: times, durations, sizes, truth values, lists, tags; no column for what no row has."""
    table = page.screen("lanterns")
    drawer = page.drawer("lanterns", "a")

    assert 'id="tab-lanterns"' in table
    cells = words(table[table.index("<tbody") :])
    assert "1m01s 2.5 MB yes door, wall side=left" in cells
    assert "keeper" not in words(table)
    assert "Show" in words(drawer)
    assert "verb=dim_lantern&amp;name=a" in drawer
    form = page.get("/ui/form", verb="dim_lantern", name="a")
    assert 'max="1"' in form
    said = page.act("dim_lantern", name="a", by="0.25")
    assert "dim lantern" in words(said)
    assert lights.dimmed == [("a", 0.25)]


def test_texts_of_rows_are_inert(page: Page) -> None:
    """In the table and in the drawer."""
    table, drawer = page.screen("lanterns"), page.drawer("lanterns", HOSTILE)

    assert "&lt;img" in table
    assert "&lt;img" in drawer
    assert "burnt" in words(drawer)
    assert_inert(table)
    assert_inert(drawer)


def test_the_filter_is_that_of_the_list_and_columns_sort(page: Page) -> None:
    """What the gate makes of it; sorted by a column, either way."""
    filtered = page.screen("lanterns", select="a")
    up, down = page.screen("lanterns", sort="burnt"), page.screen("lanterns", sort="-burnt")

    assert 'data-total="1"' in page.screen("lanterns", select="img")
    assert 'value="a"' in filtered
    assert up.index('data-id="&lt;img') < up.index('data-id="a"')
    assert down.index('data-id="a"') < down.index('data-id="&lt;img')


def test_a_list_of_many_rows_has_pages(page: Page, lights: Lights) -> None:
    """A hundred rows, and the way to the next ones."""
    lights.rows = [attrs.evolve(lights.rows[0], name=f"lamp-{n:03}") for n in range(150)]

    first, second = page.screen("lanterns"), page.screen("lanterns", offset="100")

    assert "150, 1 to 100 shown" in words(first)
    assert "lamp-099" in first
    assert "lamp-100" not in first
    assert "offset=100" in first
    assert "150, 101 to 150 shown" in words(second)


@token
def sweep() -> None: ...


def test_links_keep_what_the_list_takes(site: Served, tmp_path: Path) -> None:
    """Its own arguments, and no others."""
    with Gate("shop", plugins=[Telemetry(), History(tmp_path)], shutdown=LIMIT) as gate:
        sweep.submit().result(LIMIT)
        shown = Page(site, gate).shows("sweep", "/ui/screen", screen="operations", since="600", nonsense="1")

    links = [one for one in re.findall(r'href="/\?([^"]*)"', shown) if "sort=" in one]
    assert links
    assert all("since=600" in one and "nonsense" not in one for one in links)


def test_rules_and_interventions_are_explained_changed_and_undone_from_their_screens(site: Served) -> None:
    """The drawer of an intervention has what it was decided from, that of a rule its mode; shares are percentages."""
    with Gate("shop", plugins=[predict := Predict()], shutdown=LIMIT) as gate:
        page = Page(site, gate)
        tables = {plural: words(page.screen(plural)) for plural in ("rules", "interventions", "calibrations")}
        shown = page.drawer("interventions", "7f3a91c2.17 · 3")
        rule = page.drawer("rules", "big-renders · act")
        page.act("undo_intervention", number="3", reason="needed")
        page.act("set_mode_of_rule", name="big-renders", mode="propose", reason="it was right")
        failing = words(page.drawer("calibrations", "parse · failing"))

    assert "reroute process" in tables["rules"]
    assert "big-renders" in tables["interventions"]
    assert "95.2%" in tables["calibrations"]
    assert all(line.partition(" (")[0] in words(shown) for line in EXPLAINED[1:])
    assert "verb=undo_intervention&amp;number=3" in shown
    assert "verb=set_mode_of_rule&amp;name=big-renders" in rule
    assert predict.undone == [3]
    assert predict.modes == [("big-renders", "propose", "it was right")]
    assert "failing" in failing


def test_a_row_that_has_gone_is_said_to_have_gone(page: Page) -> None:
    """The drawer of one that is not listed any more."""
    assert "not in the list any more" in words(page.drawer("lanterns", "b"))


@pytest.mark.parametrize("plural", sorted(nouns()))
def test_each_kind_has_a_screen(site: Served, plural: str) -> None:
    """With rows, or a word why there are none; a kind of a plugin that the gate lacks names it."""
    with Gate("shop", shutdown=LIMIT) as gate:
        shown = words(Page(site, gate).screen(plural))

    kind = next((one for one in registry.kinds() if one.plural == plural), None)
    assert "the daemon has a bug" not in shown
    if kind is not None and kind.plugin:
        assert f"plugins=[{kind.plugin}]" in shown
    elif plural == "audit-records":
        assert "opened" in shown or "no audit log" in shown
    else:
        assert "There are none" in shown


def test_an_error_of_the_list_is_shown_beside_the_filter(page: Page) -> None:
    """With the words of the gate; the filter stays."""
    shown = page.screen("proposals", select="nonsense")

    assert "neither a state of proposals" in words(shown)
    assert 'value="nonsense"' in shown


def test_of_a_kind_with_many_fields_those_are_columns_that_some_row_has() -> None:
    """Records of the past have 40 fields."""
    event = Event(seq=7, kind="token.finished", at=1.0, gate="shop", gate_run="7f3a91c2", token=4, run=0.5)

    columns = {one.name: one.kind for one in columns_of(HISTORY.row, [event])}

    assert columns == {
        "seq": "number", "kind": "text", "at": "time", "gate": "text", "gate_run": "text",
        "token": "token", "run": "duration",
    }  # fmt: skip


def test_the_number_of_a_user_is_a_name() -> None:
    """It has no commas."""
    columns = {one.name: one for one in columns_of(nouns()["audit-records"].row, [])}

    assert columns["owner"].text(2001) == "2001"
    assert columns["seq"].text(2001) == "2,001"


def test_what_reads_the_record_does_not_go_on_by_itself(page: Page) -> None:
    """Reading the audit log is on record, so its screen has a button and no ticks."""
    audit, lanterns = page.screen("audit-records"), page.screen("lanterns")

    assert 'id="ticks"' in lanterns
    assert 'id="ticks"' not in audit
    assert 'data-do="fresh"' in audit


def test_throttles_are_set_changed_and_lifted_from_their_screen(page: Page) -> None:
    """The drawer of one has the forms with its selector filled in."""
    page.act("throttle", select="operation=fetch", rate="10/s")

    page.shows("operation=fetch", "/ui/screen", screen="throttles")
    drawer = page.drawer("throttles", "operation=fetch")

    assert "verb=lift&amp;select=operation%3Dfetch" in drawer
    page.act("lift", select="operation=fetch")
    assert page.gate.control.throttles() == ()
