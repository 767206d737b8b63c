"""Answers as people read them."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any, ClassVar, get_args

import attrs
import pytest
from fake_gate import row
from made_events import made_event
from rich.console import Console

from tokengate.control import messages
from tokengate.control.messages import (
    VERBS,
    ActorDescription,
    ActorOutcome,
    ActorRow,
    ActorState,
    ActorStatistics,
    Applied,
    Argument,
    Attribute,
    AuditRecord,
    AuditRecordRow,
    BreakerRow,
    BudgetRow,
    Called,
    ChildCountsRow,
    ChildRow,
    CommandRow,
    EndRow,
    Event,
    FlagRow,
    Frame,
    GateInfo,
    GateOverview,
    HealthPart,
    HealthReport,
    Identity,
    LargeRow,
    Outcome,
    PolicyRow,
    PredictionRow,
    Processes,
    ProposalDetails,
    ProposalRow,
    Reloaded,
    RestartRow,
    ThrottleRow,
    TokenDescription,
    TokenPage,
    TokenProcess,
    TokenStack,
    TransactionRow,
    TreeRow,
    WaitRow,
    WindowRow,
    answer_of,
)
from tokengate.control.rendering._cells import duration, number, plain, size
from tokengate.control.rendering._tables import as_text, renderable
from tokengate.control.transport._discovery import FoundGate

STATISTICS = ActorStatistics(60.0, 40, 2, 0.004, 1.5, 12.0, 0.9)
ACTOR = ActorRow("/shop/mailer", "Mailer", "io", "running", 3, 10_000, (1, 2, 3, 4, 5), 3, 999, True, False)
COUNTED = ActorRow("/a", "A", "io", "running", 3, 10_000, (), 1, 999, False, False, 0.4, STATISTICS)
DESCRIPTION = TokenDescription(
    row(7, held="pause_requested", tags={"tenant": "acme"}),
    (Argument("0", "str", 3, "'a b'"), Argument("key", "str", 8)),
    (8, 9), 100.0, 100.5, 103.0, 5.0, 2.0, ("token 8",), "cpu-3", 0.73, 2_500_000, "force", True, {"timeout": "30 s"},
)  # fmt: skip
INFO = GateInfo("shop", 4711, "0.1", "3.13", "open", 4000.0, {"running": 3, "queued": 0}, 7, 2, 8, 1, ("cpu-9",), True)
EXPECTED = PredictionRow(
    30.1, 62.0, 300_000_000, 512_000_000, 0.04, 0.123, ("features", "tags"), 1_234, 0.943, True, "line-7",
    {"bytes": 3.14, "tenant=acme": 1.2}, {"bytes": 123_456.0, "depth": 1.5},
)  # fmt: skip
PREDICTED = attrs.evolve(DESCRIPTION, predicted=EXPECTED)
IN_PROCESS = TokenDescription(
    row(7, affinity="process"), (), (), 100.0, 100.5, 103.0, 0.0, 0.0, (), None, 0.98, 2_500_000, "none", False, {},
    TokenProcess(4712, False, 3.25, 2_500_000, 2, ("/a.txt", "/b.txt"), (4713, 4714)),
    {"memory": 2.0**31, "wall_time": 90.0},
)  # fmt: skip
STOPPED = attrs.evolve(IN_PROCESS, process=TokenProcess(4712, True, 3.25, 2_500_000, 2, (), ()))
TREE = (
    TreeRow(0, "/", "shop", "Supervisor", "running", "", 0, "one_for_one", 0, (), False),
    TreeRow(1, "/a", "a", "Supervisor", "running", "permanent", 0, "rest_for_one", 0, (), False),
    TreeRow(2, "/a/b", "b", "Mailer", "restarting", "transient", 3, "", 12, (4, 5), True),
    TreeRow(1, "/c", "c", "resize", "running", "permanent", 0, "", 0, (), False),
)
CRASHED = EndRow(100.0, "error(KeyError('x'))", "KeyError", 7, "Mailer.send", True, 2.0)
ENDS = CRASHED, EndRow(100.0, "killed", restarted=True), EndRow(100.0, "error(OSError())", "OSError", delay=0.0)
WINDOW = WindowRow(2, 3, 5.0, 1.5)
DIGEST = "9f3a1c42" + 56 * "0"
PROPOSAL = ProposalRow(12, "terminate", "open", "approval", 4, "uid:1001", "it hangs", 100.0, 1_000.0, "", DIGEST)
RECORD = AuditRecordRow(
    1207, 100.0, "outcome", "uid:1000", 1000, "socket", "terminate", "3-5", "3 terminated", 1206, None, "stuck"
)

# (an answer, what must be read in it)
SHOWN: list[tuple[Any, list[str]]] = [
    (TokenPage((row(7),), 1, 1, 0), ["ID", "7", "running", "resize", "/shop/resize", "3.0s", "2.0s"]),
    (DESCRIPTION, ["running (pause requested)", "#8 #9", "token 8", "cpu-3", "73%", "2.5 MB", "--force"]),
    (DESCRIPTION, ["tenant=acme", "'a b'", "policy timeout  30 s", "for 5.0s; 2.0s do not count"]),
    (DESCRIPTION, ["force: pause and kill need --force", "idempotent", "it does no harm to run it twice"]),
    (attrs.evolve(DESCRIPTION, guard="never"), ["never: no verb changes it"]),
    (PREDICTED, ["expected run       p50 30.1s, p95 1m02s", "expected memory    p50 300.0 MB, p95 512.0 MB"]),
    (PREDICTED, ["expected failure   4.0%", "expected lateness  12.3%", "bytes x3.1, tenant=acme x1.2"]),
    (PREDICTED, ["line-7 from features, tags of 1,234 attempts; 94% of the latest", "bytes 123,456, depth 1.5"]),
    (
        attrs.evolve(PREDICTED, predicted=attrs.evolve(EXPECTED, calibrated=False)),
        ["calibrated         no: this has not been right often enough to act by it"],
    ),
    (TokenPage((row(7, run_p50=30.1, run_p95=62.0),), 1, 1, 0), ["RUNNING / EXPECTED", "2.0s / 30.1s"]),
    (
        TokenStack(7, "resize", "thread", "cpu-3", (Frame("/a.py", 12, "resize", "return x[0]"),)),
        ["#7 resize runs on thread cpu-3", "/a.py:12 in resize", "    return x[0]"],
    ),
    (TokenStack(7, "resize", "nowhere", None, ()), ["#7 resize has not begun"]),
    (
        TokenStack(7, "resize", "process", None, (Frame("/a.py", 12, "resize", "return x"),), "", 4712),
        ["#7 resize runs in process 4712", "/a.py:12 in resize"],
    ),
    (
        TokenStack(7, "resize", "process", None, (), "paused", 4712),
        ["#7 resize is paused in process 4712", "its process does not answer where its code is"],
    ),
    (IN_PROCESS, ["4712, which computes for 98% of the time", "3.25 s", "2.5 MB", "/a.txt, /b.txt", "4713 4714"]),
    (IN_PROCESS, ["limit memory     2 GiB", "limit wall time  90 s"]),
    (STOPPED, ["4712, which is stopped"]),
    (
        attrs.evolve(INFO, processes=Processes(3, 1, 2, 7, 4, (1, 2, 3))),
        ["3, of which 1 are at work, and 2 wait; 7 started, 4 died"],
    ),
    ((ACTOR,), ["/shop/mailer", "running (suspended)", "#1 #2 #3 +2", "999"]),
    ((COUNTED,), ["40%", "LONGEST", "12.0s", "90%"]),
    (TREE, ["shop", "restarting", "suspended", "transient", "restarts=3", "queued=12", "running #4 #5"]),
    ((attrs.evolve(TREE[1], last_end=ENDS[1], window=WINDOW),), ["last end killed "]),
    ((attrs.evolve(TREE[3], last_end=CRASHED),), ["last end error(KeyError) "]),
    (ActorDescription(ACTOR, "/shop", ENDS, WINDOW), ["/shop/mailer (io)", "its window  2 of 3", "for 1.5s more"]),
    (ActorDescription(ACTOR, "/", ENDS, own_window=WINDOW), ["own window  2 of 3", "#7 Mailer.send", "KeyError('x')"]),
    (ActorDescription(ACTOR, "/", commands=(
        CommandRow("restock", "Put some there.", {"properties": {"item": {}, "count": {}}}, "approval"),
        CommandRow("count", "", {"type": "object"}, "none"))),
     ["restock(item, count) (needs approval): Put some there.", "count()"]),
    (ActorDescription(ACTOR, "/", ENDS), ["restarted after 2.0s", "restarted  ", "restart due at once", "killed"]),
    (ENDS, ["ENDED", "THEN", "TOKEN", "REASON"]),
    ((Outcome(7, "resize", "pause_requested"), Outcome(9, "", "would")), ["pause requested", "would be affected"]),
    (ActorOutcome("/a", "pending", "3 are left"), ["/a: pending (3 are left)"]),
    (ActorState("/a", "Counter", (Attribute("count", "int", None, "3"),)), ["/a (Counter)", "count", "int", "3"]),
    (ActorState("/a", "Counter", ()), ["no attributes"]),
    (Called("/a", 7, "completed", "dict", 1, {"tea": 5}), ['"tea": 5']),
    (Called("/a", 7, "completed", "NoneType"), ["null"]),
    (Called("/a", 7, "completed", "Widget"), ["<Widget>"]),
    (Called("/a", 7, "completed", "list", 3), ["<list> of length 3"]),
    (Called("/a", 7, "queued"), ["token 7 of '/a' is queued"]),
    (Called("/a", 7, "failed", error="LookupError: tea"), ["token 7 of '/a' failed: LookupError: tea"]),
    (ThrottleRow("tenant=acme", 10.0, None, 2, 3_000_000), ["tenant=acme", "10", "-"]),
    ((ThrottleRow("*", 0.5, 2, 0, 0),), ["0.5", "AT ONCE"]),
    ((ChildRow("a", "/a", "running", "permanent", 0, True, True),), ["permanent (significant)", "supervisor"]),
    ((ChildRow("a", "/a", "stopped", "transient", 1, False, False, ENDS),), ["LAST END", "error(OSError) "]),
    (ChildCountsRow(3, 2, 1, 1, 2), ["3 children: 1 supervisors, 2 workers; 2 active, 1 restarting"]),
    (INFO, ["shop (open)", "4711", "1h06m", "3 running", "cpu-9", "also while it runs"]),
    (GateOverview(INFO, (row(7),), (LargeRow(row(8), 3_000_000),), (WaitRow(row(9), ("token 7 of '/a'",)),), (ACTOR,),
                  (RestartRow("/shop/mailer", ENDS[0]),)),
     ["shop (open)", "longest", "largest", "3.0 MB", "held up", "token 7 of '/a'", "fullest", "restarted last"]),
    (made_event(0.25, "token.started", "/a", 7, "resize", 3), ["(3 events were left out", ".250", "#7  /a  resize"]),
    (made_event(0.25, "token.started", "/a", 7, "token 7 (f of '/a') started"), [".250  token 7 (f of '/a') started"]),
    (made_event(0.25, "token.dead_letter", "/a", 7, "token 7 (f of '/a') ..."), [".250  token 7 (f of '/a') ..."]),
    (made_event(0.25, "supervisor.child_ended", "/a", None, "'/a' ended"), ["supervisor.child_ended  '/a' ended"]),
    ([FoundGate("shop", 4711, Path("/run/x.sock"), answers=False)], ["shop", "4711", "no", "/run/x.sock"]),
    ([FoundGate("shop", 4711, Path("/run/x.sock"), answers=False, refusal="it is not yours")], ["shop", "refused"]),
    ((PolicyRow("charge", "retry.attempts", "5", "live"),), ["OPERATION", "retry.attempts", "live"]),
    ((BreakerRow("charge", "acme", "half open", False, 20, 3, 1, None),), ["KEY", "half open", "no", "20"]),
    ((TransactionRow("order 7", "stuck", 5, 3, (12, 9), "OSError: x"),), ["FAILED", "stuck", "12, 9", "OSError"]),
    ((BudgetRow("charge", "usd", "acme", 100.0, 86_400.0, 0.5, 42.0, 3),), ["1d00h", "0.5", "42"]),
    ((FlagRow("tenant=acme", "observe", 10.0, "user", "live", {"breaker": 3}),), ["observe", "breaker=3"]),
    (HealthReport("shop", True, False, (HealthPart("intake"), HealthPart("audit", "failed", 0.0, "full"))),
     ["PART", "STATUS", "SINCE", "WHY", "intake  ok", "failed  19", "full", "shop: live, not ready"]),
    (Reloaded("/x/tokengate.toml", ("a: timeout=5",), ("a: no retry",)), ["/x/tokengate.toml", "a: timeout=5", "left"]),
    (Identity("api:ci", 1000, (4,), "http", {"view": "*", "operate": "tenant=acme"}, frozen=True),
     ["api:ci", "1000", "may view", "everywhere", "tenant=acme", "frozen: what they ask for is refused"]),
    (Identity("process", 0, (), "process", {}), ["none", "may act"]),
    ((PROPOSAL, attrs.evolve(PROPOSAL, state="denied", approver="uid:1002")), ["NEEDS", "open", "denied", "9f3a1c42 "]),
    (ProposalDetails(PROPOSAL, {"mode": "kill", "grace": 1.0}, "3-5,9", "", {}, ()),
     ["  mode      kill", "4 tokens: 3-5,9", DIGEST, "it hangs", "approval"]),
    (ProposalDetails(attrs.evolve(PROPOSAL, state="applied", targets=1, approver="uid:1002"), {"name": "office/mailer"},
                     "3", "office/mailer", {"done": 1}, ()),
     ["actor office/mailer: 3", "approved by", "uid:1002", "1 done"]),
    (ProposalDetails(PROPOSAL, {}, "3-5", "", {"would": 3, "refused": 1}, (Outcome(7, "resize", "refused", "never"),),
                     3, {"none": 2, "force": 1}),
     ["3 would, 1 refused", "2 none, 1 force", "resize", "3 more"]),
    ((RECORD,), ["SEQ", "1207", "outcome", "uid:1000", "terminate", "3-5", "3 terminated", "1206", "stuck"]),
    (AuditRecord(RECORD, {"seq": 1207, "at": 100.0, "args": {"mode": "kill"}}), ["seq   1207", '{"mode":"kill"}']),
    (Applied(PROPOSAL, (Outcome(7, "resize", "changed"),)), ["changed", "proposal 12 (terminate) is applied"]),
    (Applied(PROPOSAL, (), (ActorOutcome("/a", "changed", "others"),)), ["/a: changed (others)", "is applied"]),
    ((), ["none"]),
    (None, ["None"]),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "parts"), SHOWN, ids=lambda value: type(value).__name__)
def test_an_answer_says_what_is_in_it(answer: Any, parts: list[str]) -> None:
    """Every class of an answer has a form of its own, in words of people."""
    text = as_text(answer)

    assert [part for part in parts if part not in text] == []


def test_every_answer_of_the_vocabulary_has_a_form() -> None:
    """A new answer without one would be shown as Python writes it."""
    shown = {type(answer[0] if isinstance(answer, (tuple, list)) and answer else answer) for answer, _ in SHOWN}
    answers = {(get_args(answer_of(verb)) or (answer_of(verb),))[0] for verb in VERBS.values() if not verb.local}

    assert {answer for answer in answers if answer.__module__.startswith(messages.__name__)} <= shown


@pytest.mark.parametrize("width", [80, None])
@pytest.mark.parametrize("hostile", ["[bold]x[/]", "a\x1b[2Jb", "a\nb", "\u202ea", "\ud800", ":smile:"])
def test_data_of_users_is_neither_markup_nor_control(hostile: str, width: int | None) -> None:
    """Names, tags and values are shown as they are, and what could move the cursor as an escape."""
    page = TokenPage((row(1, operation=hostile, tags={"t": hostile}),), 1, 1, 0)
    text = as_text(page, width)
    shown = hostile if hostile.isprintable() else ascii(hostile)[1:-1]

    assert len(text.splitlines()) == 2
    assert shown in text
    assert all(char.isprintable() for line in text.splitlines() for char in line)


@pytest.mark.parametrize("answer", [answer for answer, _ in SHOWN], ids=lambda value: type(value).__name__)
def test_no_line_is_wider_than_the_terminal(answer: Any) -> None:
    """80 columns are enough for every answer."""
    assert all(len(line) <= 80 for line in as_text(answer, 80).splitlines())


def test_a_narrow_list_keeps_every_column_and_a_line_for_each_token() -> None:
    """Long names are cut, paths at their beginning; numbers never are."""
    tokens = tuple(
        row(10**6 + n, operation="shop.images.thumbnail_of_everything", actor="/shop/images/resizer",
            held="pause_requested", tags={"tenant": "a" * 40}, running=500.0) for n in range(3)
    )  # fmt: skip
    lines = as_text(TokenPage(tokens, 3, 3, 0), 80).splitlines()

    assert lines[0].split() == ["ID", "STATE", "OPERATION", "ACTOR", "PRI", "AGE", "RUNNING", "TAGS"]
    assert len(lines) == 4
    assert lines[1].startswith("1000000  running")
    assert "/resizer " in lines[1]
    assert "8m20s" in lines[1]
    expected = tuple(attrs.evolve(one, run_p50=30.0, run_p95=62.0) for one in tokens)
    assert [len(line) <= 80 for line in as_text(TokenPage(expected, 3, 3, 0), 80).splitlines()] == [True] * 4


def test_ids_stand_to_the_right() -> None:
    """Numbers of different length can be compared at a glance."""
    lines = as_text(TokenPage((row(7), row(1234)), 2, 2, 0)).splitlines()

    assert lines[1].startswith("   7  running")
    assert lines[2].startswith("1234  running")


def test_a_wide_list_has_all_columns() -> None:
    """What a row holds is there for whoever asks."""
    titles = as_text(TokenPage((row(7),), 1, 1, 0), wide=True).splitlines()[0].split()

    assert {"AFFINITY", "PARENT", "ATTEMPT", "STEPS"} <= set(titles)


def test_what_is_expected_has_a_column_only_where_something_is() -> None:
    """A gate that predicts nothing shows what it has always shown; a wide list has the p95, too."""
    without, queued = row(7), row(8, running=None, run_p50=30.0, run_p95=62.0, memory_p95=512_000_000)
    titles = [as_text(TokenPage(rows, 9, 9, 0)).splitlines()[0] for rows in ((without,), (without, queued))]
    wide = as_text(TokenPage((without, queued), 2, 2, 0), wide=True).splitlines()

    assert ["EXPECTED" in title for title in titles] == [False, True]
    assert re.split(r"\s{2,}", wide[0])[7:10] == ["RUNNING / EXPECTED", "RUN P95", "MEMORY P95"]
    assert re.split(r"\s{2,}", wide[1])[5:9] == ["0", "3.0s", "2.0s", "-"]
    assert re.split(r"\s{2,}", wide[2])[6:10] == ["3.0s", "- / 30.0s", "1m02s", "512.0 MB"]


def test_what_runs_beyond_its_p95_has_another_colour() -> None:
    """Up to it, it has none."""
    out = io.StringIO()
    rows = (row(7, running=61.0, run_p50=30.0, run_p95=62.0), row(8, running=63.0, run_p50=30.0, run_p95=62.0))
    Console(file=out, force_terminal=True, color_system="standard", width=120).print(renderable(rows))

    assert re.findall(r"\x1b\[33m *(\w+) / 30.0s", out.getvalue()) == ["1m03s"]


def test_a_part_of_a_list_says_so() -> None:
    """Nobody takes a page for all."""
    assert as_text(TokenPage((row(7),), 2345, 5000, 100)).endswith("101 to 101 of 2,345; 5,000 are live")
    assert as_text(TokenPage((), 0, 12, 0)) == "no tokens here; 0 match, 12 are live"


def test_a_tree_is_drawn_from_rows_with_their_depths() -> None:
    """Each row stands below its supervisor, also when the tree begins at a node deeper down."""
    whole, part = as_text(TREE).splitlines(), as_text(TREE[1:3]).splitlines()

    assert [line[: line.index(row.kind)].rstrip() for line, row in zip(whole, TREE, strict=True)] == [
        "shop", "├── a", "│   └── b", "└── c",
    ]  # fmt: skip
    assert [line[:5].rstrip() for line in part] == ["a  Su", "└── b"]


def test_states_have_colours_on_a_terminal_only() -> None:
    """A pipe gets plain text."""
    page = TokenPage((row(7),), 1, 1, 0)
    out = io.StringIO()
    Console(file=out, force_terminal=True, color_system="standard", width=80).print(renderable(page))

    assert "\x1b[32mrunning" in out.getvalue()
    assert "\x1b" not in as_text(page)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "-"), (0, "0ms"), (-1, "0ms"), (0.25, "250ms"), (0.9996, "1.0s"), (3.21, "3.2s"), (59.96, "1m00s"),
        (250, "4m10s"), (3599.6, "1h00m"), (11_100, "3h05m"), (86_399, "23h59m"), (187_200, "2d04h"),
    ],
)  # fmt: skip
def test_a_duration_has_at_most_two_units(seconds: float | None, words: str) -> None:
    """None overflows into the next: there is no `60.0s`."""
    assert duration(seconds) == words


def test_numbers_are_written_for_people() -> None:
    """With commas, and bytes with a unit."""
    assert [number(value) for value in (None, 3_000_000, 0.5, 10.0)] == ["-", "3,000,000", "0.5", "10"]
    assert [size(count) for count in (None, 999, 2_500_000, 5 * 10**12)] == ["-", "999 B", "2.5 MB", "5000.0 GB"]
    assert plain("x").plain == "x"


@attrs.frozen
class _LampRow:
    name: str
    watts: float | None
    lit: bool
    hours: int = 0
    kind: ClassVar = "not a field"


def test_rows_without_a_table_of_their_own_have_a_column_for_each_field() -> None:
    """Numbers are on the right, flags are words, and one row is a table, too."""
    rows = (_LampRow("hall", 4.5, True, 12_000), _LampRow("\x1b[31mattic", None, False))

    assert as_text(rows).splitlines() == [
        "NAME           WATTS  LIT   HOURS",
        "hall             4.5  yes  12,000",
        "\\x1b[31mattic      -  no        0",
    ]
    assert as_text(rows[0]) == as_text(rows[:1])


@attrs.frozen
class _KeyRow:
    name: str
    owner: int | None = None


def test_the_number_of_a_user_has_no_commas() -> None:
    """It is a name; nobody searches for 2,001."""
    assert as_text((_KeyRow("ci", 2001), _KeyRow("old"))).split() == ["NAME", "OWNER", "ci", "2001", "old", "-"]


def test_the_time_of_a_record_is_never_beyond_its_second() -> None:
    """Thousandths are cut: the last one of a second is .999."""
    seen = [Event(seq=1, kind="rule.acted", at=at, gate="shop", gate_run="7f3a91c2") for at in (29.9996, 5.25)]
    lines = as_text(tuple(seen))

    assert [line.split()[1].partition(":")[2] for line in lines.splitlines()[1:]] == ["00:29.999", "00:05.250"]


@attrs.frozen
class Stock:
    """A row of a noun without a table of its own."""

    name: str
    rate: float | None = None
    memory: int | None = None
    spoiled: int = attrs.field(default=0, metadata={"sparse": True})
    note: str = attrs.field(default="", metadata={"sparse": True})


def test_a_sparse_column_is_there_if_a_row_has_a_value() -> None:
    """Or if the table is wide."""
    assert as_text((Stock("tea", 2.5, 34_300_000), Stock("cups"))).split() == (
        ["NAME", "RATE", "MEMORY", "tea", "2.50", "34.3", "MB", "cups", "-", "-"]
    )
    assert "SPOILED" in as_text((Stock("tea"), Stock("cups", spoiled=1)))
    assert "SPOILED" in as_text((Stock("tea"),), wide=True)


@attrs.frozen
class Guess:
    """A row with shares, and a column that few look at."""

    name: str
    coverage: float | None
    thirds: tuple[float, ...] = attrs.field(metadata={"sparse": True})
    state: str = "observed"
    digits: int = attrs.field(default=5, metadata={"wide": True})


def test_shares_are_percentages_and_a_wide_column_is_in_wide_tables_only() -> None:
    """To a tenth: 94.6 and 95.4 of 100 are not the same to who has to act by them."""
    found = as_text((Guess("parse", 0.9461, (0.91, 0.5, 1.0)), Guess("index", None, ()))).splitlines()

    assert [line.split() for line in found] == [
        ["NAME", "COVERAGE", "THIRDS", "STATE"],
        ["parse", "94.6%", "91.0%,", "50.0%,", "100.0%", "observed"],
        ["index", "-", "-", "observed"],
    ]
    assert "THIRDS" not in as_text((Guess("index", None, ()),))
    assert as_text((Guess("index", None, ()),), wide=True).split()[:5] == [
        "NAME",
        "COVERAGE",
        "THIRDS",
        "STATE",
        "DIGITS",
    ]


@attrs.frozen
class Repair:
    """A row of words, texts and numbers, two of which can be spared."""

    name: str
    place: str = attrs.field(metadata={"spare": True})
    what: str
    state: str
    done: bool
    at: float = attrs.field(metadata={"spare": True})


def test_spare_columns_are_left_out_where_texts_would_be_cut_short() -> None:
    """The last of them first. A wide table has them, and so has one that is no terminal's; words are never cut."""
    rows = tuple(Repair(f"roof-{n}", "north " * n, "the rain comes in " * n, "held back", False, 1e9) for n in (1, 9))
    titles = {width: as_text(rows, width).splitlines()[0].split() for width in (None, 90, 60, 40)}
    narrow = as_text(rows, 40).splitlines()

    assert titles[None] == ["NAME", "PLACE", "WHAT", "STATE", "DONE", "AT"]
    assert titles[90] == titles[None]
    assert titles[60] == ["NAME", "PLACE", "WHAT", "STATE", "DONE"]
    assert titles[40] == ["NAME", "WHAT", "STATE", "DONE"]
    assert [line.split()[-3:] for line in narrow[1:]] == [["held", "back", "no"]] * 2
    assert {len(line) <= 40 for line in narrow} == {True}


@attrs.frozen
class GuessDetails:
    """What is known of one of them."""

    row: Guess
    explained: tuple[str, ...]
    before: dict[str, Any]
    note: str = ""


def test_the_details_of_one_thing_are_the_fields_of_its_row_and_its_own() -> None:
    """One below the other; each text of many has a line, and what is empty has none."""
    shown = as_text(GuessDetails(Guess("parse", 0.5, ()), ("matches a", "expected: b"), {"priority": 3}))

    assert [line.split(maxsplit=1) for line in shown.splitlines()] == [
        ["name", "parse"],
        ["coverage", "50.0%"],
        ["state", "observed"],
        ["digits", "5"],
        ["explained", "matches a"],
        ["explained", "expected: b"],
        ["before", "priority=3"],
    ]


def test_a_name_is_whole_on_a_narrow_terminal() -> None:
    """The first column of a list is what people type."""
    console = Console(file=io.StringIO(), width=60)

    console.print(renderable((Stock("DynamicSupervisor.which_children", 1.0, 5, 0, "what is cut " * 9),)))

    assert isinstance(console.file, io.StringIO)
    assert "DynamicSupervisor.which_children" in console.file.getvalue()
