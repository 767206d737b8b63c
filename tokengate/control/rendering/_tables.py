"""Answers as tables, trees and lines, in colour if the terminal has any."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, get_args, get_type_hints

import attrs
import msgspec
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from tokengate.control.messages import (
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
    Called,
    ChildCountsRow,
    ChildRow,
    EndRow,
    Event,
    Frame,
    GateInfo,
    GateOverview,
    HealthPart,
    HealthReport,
    Identity,
    LargeRow,
    Outcome,
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
    TokenRow,
    TokenStack,
    TreeRow,
    WaitRow,
    WindowRow,
)
from tokengate.control.rendering._cells import (
    SHARES,
    UNBOUNDED,
    Column,
    Fitted,
    Tail,
    duration,
    factors_in_words,
    features_in_words,
    ids_in_words,
    number,
    pairs_of,
    percent,
    plain,
    share,
    size,
    style_of,
    table_of,
    tags_in_words,
    with_flags,
    yes_or_no,
)
from tokengate.control.steering._limits import in_words
from tokengate.control.transport._discovery import FoundGate

_Many: TypeAlias = Callable[[Sequence[Any], bool], RenderableType]  # renders rows; whether with all columns

# Fields of rows that are seconds, and are shown as a time.
_DURATIONS = (
    "per", "probes_in", "wait_p95", "run_p50", "run_p95", "cpu", "backlog", "age", "idle", "made", "used", "expires",
    "waits", "lasts", "undone_in", "took",
)  # fmt: skip

_TIMES = ("due", "last", "until", "accepted", "ended", "at")

# Fields that are names or single words, of which nothing is cut.
_WHOLE = ("name", "state", "mode", "in_force")

_ROUNDED = ("rate", "over", "loss", "plain")

_GUARDS = {
    "force": "pause and kill need --force",
    "approval": "once it has begun, pause and kill need the approval of another person; before that, --force",
    "never": "no verb changes it",
}

_WHERE = {
    "thread": "runs on thread",
    "task": "is a task, which waits",
    "generator": "is between two steps",
    "process": "runs in process",
    "nowhere": "has not begun",
}


def renderable(answer: object, *, wide: bool = False) -> RenderableType:
    """Return a rich renderable of the answer to any message; a wide one has all columns."""
    if isinstance(answer, (tuple, list)):
        if not answer:
            return Text("none", "dim")
        many = _many(type(answer[0]))
        if many is not None:
            return many(answer, wide)
        return Group(*(renderable(each, wide=wide) for each in answer))
    one = _ONE.get(type(answer))
    if one is not None:
        return one(answer, wide)
    if attrs.has(type(answer)) and hasattr(answer, "row"):
        return _details(answer)
    many = _many(type(answer))
    if many is not None:
        return many([answer], wide)
    return plain(answer if isinstance(answer, str) else repr(answer))


class _Text(io.StringIO):
    """A text buffer with an encoding, for which rich chooses its characters."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding


def as_text(answer: object, width: int | None = None, *, wide: bool = False, encoding: str = "utf-8") -> str:
    """Return an answer as plain text, without colours.

    Args:
        answer: the answer.
        width: columns after which lines are cut; None cuts nothing.
        wide: whether all columns of a table are shown.
        encoding: of the output; if it is not one of Unicode, trees are drawn with ASCII.
    """
    out = _Text(encoding)
    console = Console(file=out, width=width or UNBOUNDED, color_system=None, force_terminal=False, highlight=False)
    console.print(renderable(answer, wide=wide))
    # The guides of trees have no-break spaces, which are hard to search for; data has none, see `plain`.
    return "\n".join(line.rstrip() for line in out.getvalue().replace("\N{NO-BREAK SPACE}", " ").splitlines())


def state_of(row: TokenRow) -> str:
    """Return a token's state, and whether it is held."""
    if row.held in ("", row.state):
        return row.state
    until = "" if row.until is None else f", {duration(row.until)}"
    return f"{row.state} ({row.held.replace('_', ' ')}{until})"


def token_table(rows: Sequence[TokenRow], *, wide: bool = False, selected: int | None = None) -> Table:
    """Return a table of tokens; the row with the selected id is highlighted."""
    return table_of(_token_columns(rows), rows, wide, lambda row: "reverse" if row.id == selected else "")


def _token_columns(rows: Iterable[TokenRow]) -> Sequence[Column[TokenRow]]:
    """Return the columns of tokens, those of predictions only if there is one."""
    is_predicted = any(row.run_p95 is not None or row.memory_p95 is not None for row in rows)
    return _PREDICTED_TOKENS if is_predicted else _TOKENS


# --- Tables, by what a row is ----------------------------------------------------------------------------------------

_TOKENS: tuple[Column[TokenRow], ...] = (
    Column("ID", lambda row: row.id, right=True),
    Column("STATE", state_of, lambda row: "yellow" if row.held else style_of(row.state), shrinks=True),
    Column("OPERATION", lambda row: row.operation, shrinks=True),
    Column("ACTOR", lambda row: Tail(row.actor), shrinks=True),
    Column("AFFINITY", lambda row: row.affinity, wide=True),
    Column("PRI", lambda row: row.priority, right=True),
    Column("AGE", lambda row: duration(row.age), right=True),
    Column("RUNNING", lambda row: duration(row.running), right=True),
    Column("PARENT", lambda row: "-" if row.parent is None else row.parent, right=True, wide=True),
    Column("ATTEMPT", lambda row: row.attempt, right=True, wide=True),
    Column("STEPS", lambda row: row.steps, right=True, wide=True),
    Column("TAGS", lambda row: tags_in_words(row.tags), shrinks=True),
    Column("HELD BY", lambda row: row.held_by or "-", wide=True, shrinks=True),
)

_EXPECTED: tuple[Column[TokenRow], ...] = (
    Column(
        "RUNNING / EXPECTED",
        lambda row: duration(row.running) + ("" if row.run_p50 is None else f" / {duration(row.run_p50)}"),
        lambda row: "yellow" if row.run_p95 is not None and (row.running or 0.0) > row.run_p95 else "",
        right=True,
    ),
    Column("RUN P95", lambda row: duration(row.run_p95), right=True, wide=True),
    Column("MEMORY P95", lambda row: size(row.memory_p95), right=True, wide=True),
)

_PREDICTED_TOKENS: tuple[Column[TokenRow], ...] = tuple(
    new for column in _TOKENS for new in (_EXPECTED if column.title == "RUNNING" else (column,))
)

_OUTCOMES: tuple[Column[Outcome], ...] = (
    Column("ID", lambda row: row.token, right=True),
    Column("OPERATION", lambda row: row.operation or "-", shrinks=True),
    Column(
        "OUTCOME",
        lambda row: "would be affected" if row.outcome == "would" else row.outcome.replace("_", " "),
        lambda row: style_of(row.outcome),
    ),
    Column("NOTE", lambda row: row.note, shrinks=True),
)

_ACTORS: tuple[Column[ActorRow], ...] = (
    Column("ACTOR", lambda row: Tail(row.path), shrinks=True),
    Column("KIND", lambda row: row.kind, shrinks=True),
    Column("AFFINITY", lambda row: row.affinity, wide=True),
    Column("PID", lambda row: "-" if row.pid is None else row.pid, right=True, wide=True),
    Column(
        "STATUS",
        lambda row: with_flags(row.status, suspended=row.suspended, draining=row.draining),
        lambda row: "yellow" if row.suspended or row.draining else style_of(row.status),
        shrinks=True,
    ),
    Column("QUEUED", lambda row: row.depth, right=True),
    Column("CAPACITY", lambda row: row.capacity, right=True, wide=True),
    Column("RUNNING", lambda row: ids_in_words(row.running), shrinks=True),
    Column("RESTARTS", lambda row: max(row.starts - 1, 0), right=True),
    Column("HANDLED", lambda row: row.handled, right=True),
)

_BUSY: Column[ActorRow] = Column("BUSY", lambda row: share(row.busy_share), right=True)

_STATISTICS: tuple[Column[tuple[str, ActorStatistics]], ...] = (
    Column("ACTOR", lambda row: Tail(row[0]), shrinks=True),
    Column("FOR", lambda row: duration(row[1].seconds), right=True),
    Column("HANDLED", lambda row: row[1].handled, right=True),
    Column("FAILED", lambda row: row[1].failed, right=True),
    Column("WAITED", lambda row: duration(row[1].waited), right=True),
    Column("TOOK", lambda row: duration(row[1].took), right=True),
    Column("LONGEST", lambda row: duration(row[1].longest), right=True),
    Column("BUSY", lambda row: share(row[1].busy_share), right=True),
)


def _at_once(row: ThrottleRow) -> str:
    if row.concurrency != "adaptive":
        return number(row.concurrency)
    return "adaptive" if row.limit is None else f"{row.limit:.0f} adaptive"


_THROTTLES: tuple[Column[ThrottleRow], ...] = (
    Column("SELECTOR", lambda row: row.selector, shrinks=True),
    Column("KEY", lambda row: row.by or "" if row.key is None else f"{row.by}={row.key}"),
    Column("PER SECOND", lambda row: number(row.rate), right=True),
    Column("AT ONCE", _at_once, right=True),
    Column("RUNNING", lambda row: row.running, right=True),
    Column("WAITING", lambda row: row.waiting, right=True),
    Column("REFUSED", lambda row: row.refused, right=True),
    Column("NO KEY", lambda row: row.no_key, right=True),
    Column("OVER", lambda row: row.over),
    Column("SOURCE", lambda row: row.source),
)


def _expires_in(row: ProposalRow) -> str:
    return duration(max(0.0, row.expires - time.time())) if row.state in ("open", "approved") else "-"


_CHILDREN: tuple[Column[ChildRow], ...] = (
    Column("ID", lambda row: row.id, shrinks=True),
    Column("STATUS", lambda row: row.status, lambda row: style_of(row.status)),
    Column("RESTART", lambda row: with_flags(row.restart, significant=row.significant)),
    Column("RESTARTS", lambda row: row.restarts, right=True),
    Column("IS", lambda row: "supervisor" if row.supervisor else "worker"),
    Column("LAST END", lambda row: _end(row.ends[-1]) if row.ends else "-", shrinks=True),
    Column("PATH", lambda row: Tail(row.path), shrinks=True),
)

_PROPOSALS: tuple[Column[ProposalRow], ...] = (
    Column("NUMBER", lambda row: row.number, right=True),
    Column("VERB", lambda row: row.verb),
    Column("TARGETS", lambda row: row.targets, right=True),
    Column("STATE", lambda row: row.state, lambda row: style_of(row.state)),
    Column("NEEDS", lambda row: row.needs),
    Column("PROPOSER", lambda row: row.proposer),
    Column("APPROVER", lambda row: row.approver or "-", wide=True),
    Column("EXPIRES IN", _expires_in, right=True, wide=True),
    Column("DIGEST", lambda row: row.digest[:8]),
    Column("REASON", lambda row: row.reason or "-", shrinks=True),
)

_AUDIT: tuple[Column[AuditRecordRow], ...] = (
    Column("SEQ", lambda row: row.seq, right=True),
    Column("AT", lambda row: _clock(row.at)),
    Column("KIND", lambda row: row.kind, lambda row: style_of(row.kind)),
    Column("PRINCIPAL", lambda row: row.principal or "-"),
    Column("OWNER", lambda row: "-" if row.owner is None else row.owner, right=True, wide=True),
    Column("VIA", lambda row: row.via or "-", wide=True),
    Column("VERB", lambda row: row.verb or "-"),
    Column("TARGET", lambda row: row.target or "-", shrinks=True),
    Column("OUTCOME", lambda row: row.outcome or "-", shrinks=True),
    Column("OF", lambda row: "-" if row.of is None else row.of, right=True),
    Column("PROPOSAL", lambda row: "-" if row.proposal is None else row.proposal, right=True, wide=True),
    Column("REASON", lambda row: row.reason or "-", shrinks=True),
)


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


_EVENTS: tuple[Column[Event], ...] = (
    Column("AT", lambda row: f"{_clock(row.at)}.{int(row.at % 1 * 1000):03}"),
    Column("TOKEN", lambda row: row.uid or "-"),
    Column("OPERATION", lambda row: Tail(row.operation or row.actor or "-")),
    Column("STATE", lambda row: row.state or row.kind, lambda row: style_of(row.state or row.kind)),
    Column("ATTEMPT", lambda row: number(row.attempt), right=True, wide=True),
    Column("WAIT", lambda row: duration(row.wait), right=True),
    Column("RUN", lambda row: duration(row.run), right=True),
    Column("CPU", lambda row: duration(row.cpu), right=True, wide=True),
    Column("MEMORY", lambda row: size(row.memory), right=True, wide=True),
    Column("FOR", lambda row: number(row.weight), right=True),
    Column("TAGS", lambda row: tags_in_words(row.tags or {}), shrinks=True, wide=True),
    Column("TEXT", lambda row: row.text if row.state is None else row.error or row.reason or "", shrinks=True),
)


_ATTRIBUTES: tuple[Column[Attribute | Argument], ...] = (
    Column("NAME", lambda row: row.name),
    Column("TYPE", lambda row: row.type),
    Column("SIZE", lambda row: number(row.size), right=True),
    Column("VALUE", lambda row: row.value or "", shrinks=True),
)


def _ago(row: EndRow) -> str:
    return f"{duration(max(0.0, time.time() - row.at))} ago"


def _end(row: EndRow) -> str:
    """Return why and when an instance ended, in few words."""
    return f"{f'error({row.error})' if row.error else row.reason} {_ago(row)}"


def _then(row: EndRow) -> str:
    if row.delay is None:
        return "restarted" if row.restarted else "-"
    after = f"after {duration(row.delay)}" if row.delay else "at once"
    return f"{'restarted' if row.restarted else 'restart due'} {after}"


_ENDS: tuple[Column[EndRow], ...] = (
    Column("ENDED", _ago, right=True),
    Column("THEN", _then),
    Column("TOKEN", lambda row: "-" if row.token is None else f"#{row.token} {row.operation}", shrinks=True),
    Column("REASON", lambda row: row.reason, lambda row: "red" if row.error else "", shrinks=True),
)


_LARGE: tuple[Column[LargeRow], ...] = (
    Column("ID", lambda row: row.row.id, right=True),
    Column("MEMORY", lambda row: size(row.memory), right=True),
    Column("OPERATION", lambda row: row.row.operation, shrinks=True),
    Column("RUNNING", lambda row: duration(row.row.running), right=True),
)

_WAITS: tuple[Column[WaitRow], ...] = (
    Column("ID", lambda row: row.row.id, right=True),
    Column("STATE", lambda row: state_of(row.row), lambda row: "yellow" if row.row.held else style_of(row.row.state)),
    Column("OPERATION", lambda row: row.row.operation, shrinks=True),
    Column("AGE", lambda row: duration(row.row.age), right=True),
    Column("WAITS FOR", lambda row: ", ".join(filter(None, (row.row.held_by, *row.waits_for))) or "-", shrinks=True),
)

_RESTARTS: tuple[Column[RestartRow], ...] = (
    Column("ACTOR", lambda row: Tail(row.actor), shrinks=True),
    Column("ENDED", lambda row: _ago(row.end), right=True),
    Column("THEN", lambda row: _then(row.end)),
    Column("REASON", lambda row: row.end.reason, lambda row: "red" if row.end.error else "", shrinks=True),
)


def _answers(row: FoundGate) -> str:
    return "refused" if row.refusal else yes_or_no(row.answers)


_GATES: tuple[Column[FoundGate], ...] = (
    Column("NAME", lambda row: row.name, shrinks=True),
    Column("PID", lambda row: row.pid, right=True),
    Column("ANSWERS", _answers, lambda row: "green" if row.answers else "red"),
    Column("SOCKET", lambda row: row.path, shrinks=True),
)


def _page(page: TokenPage, wide: bool) -> RenderableType:
    if not page.rows:
        return Text(f"no tokens here; {page.matching:,} match, {page.live:,} are live", "dim")
    table = token_table(page.rows, wide=wide)
    if len(page.rows) == page.matching:
        return table
    last = page.offset + len(page.rows)
    return Group(table, Text(f"{page.offset + 1:,} to {last:,} of {page.matching:,}; {page.live:,} are live", "dim"))


def _actors(rows: Sequence[ActorRow], wide: bool) -> RenderableType:
    sampled = any(row.busy_share is not None for row in rows)
    table = table_of((*_ACTORS, _BUSY) if sampled else _ACTORS, rows, wide)
    counted = [(row.path, row.statistics) for row in rows if row.statistics is not None]
    return Group(table, "", table_of(_STATISTICS, counted, wide)) if counted else table


def _tree(rows: Sequence[TreeRow], _wide: bool) -> RenderableType:
    root = Tree(_node(rows[0]), guide_style="dim")
    above = [(rows[0].depth, root)]  # the nodes from the root to the last row
    for row in rows[1:]:
        while len(above) > 1 and above[-1][0] >= row.depth:
            above.pop()
        above.append((row.depth, above[-1][1].add(_node(row))))
    return root


def _node(row: TreeRow) -> Text:
    parts = [plain(row.id, "bold"), plain(row.kind, "dim")]
    if row.strategy:
        parts.append(plain(row.strategy, "dim"))
    if row.status != "running":
        parts.append(plain(row.status, style_of(row.status)))
    if row.suspended:
        parts.append(plain("suspended", "yellow"))
    if row.restart not in ("", "permanent"):
        parts.append(plain(row.restart, "dim"))
    if row.restarts:
        parts.append(plain(f"restarts={row.restarts}", "yellow"))
    if row.last_end is not None:
        parts.append(plain(f"last end {_end(row.last_end)}", "yellow"))
    if row.queued:
        parts.append(plain(f"queued={row.queued}", "cyan"))
    if row.running:
        parts.append(plain(f"running {ids_in_words(row.running)}", "green"))
    return Text("  ").join(parts)


# --- Single answers --------------------------------------------------------------------------------------------------


def _info(info: GateInfo, _wide: bool) -> RenderableType:
    pairs: list[tuple[str, object]] = []
    if info.sight:
        pairs += [("actors", f"{info.actors:,}"), ("you see", info.sight)]
    else:
        pairs += [
            ("actors", f"{info.actors:,}; {info.restarts:,} restarts"),
            ("threads", f"{info.threads}, of which {info.blocked} wait, are paused or block"),
            *(() if info.processes is None else (("processes", _pool(info.processes)),)),
            ("abandoned", ", ".join(info.abandoned) or "none"),
        ]
    return pairs_of(
        [
            ("gate", f"{info.name} ({info.state})"),
            ("process", f"{info.pid}, Python {info.python}, TokenGate {info.version}"),
            ("uptime", duration(info.uptime)),
            ("tokens", ", ".join(f"{count:,} {state}" for state, count in info.tokens.items() if count) or "none"),
            *pairs,
            ("pauses code", "also while it runs" if info.pauses_running_code else "between its steps only"),
        ]
    )


_HEALTH: tuple[Column[HealthPart], ...] = (
    Column("PART", lambda row: row.name, shrinks=True),
    Column("STATUS", lambda row: row.status, lambda row: style_of(row.status)),
    Column("SINCE", lambda row: "-" if row.since is None else _clock(row.since)),
    Column("WHY", lambda row: row.why or "-", shrinks=True),
)


def _health(report: HealthReport, wide: bool) -> RenderableType:
    words = [f"{'' if flag else 'not '}{word}" for flag, word in ((report.live, "live"), (report.ready, "ready"))]
    return Group(table_of(_HEALTH, report.parts, wide), plain(f"{report.gate}: {', '.join(words)}"))


def _pool(pool: Processes) -> str:
    return (
        f"{pool.workers}, of which {pool.busy} are at work, and {pool.spares} wait; "
        f"{pool.started:,} started, {pool.died:,} died"
    )


def _description(token: TokenDescription, _wide: bool) -> RenderableType:
    row = token.row
    pairs: list[tuple[str, object]] = [
        ("token", row.id),
        ("operation", row.operation),
        ("state", plain(state_of(row), "yellow" if row.held else style_of(row.state))),
        ("actor", f"{row.actor} ({row.affinity})"),
        ("priority", row.priority),
        ("tags", tags_in_words(row.tags) or "none"),
        ("parent", "none" if row.parent is None else f"#{row.parent}"),
        ("children", " ".join(f"#{id}" for id in token.children) or "none"),
        ("attempt", f"{row.attempt}; steps begun: {row.steps}"),
        ("age", duration(row.age)),
    ]
    if row.held:
        until = "" if row.until is None else f" for {duration(row.until)} more"
        pairs.append(("held", f"{row.held.replace('_', ' ')}{until}" + (f": {row.held_by}" if row.held_by else "")))
    if token.deadline is not None:
        pairs.append(("deadline", f"in {duration(token.deadline)}"))
    pairs += [("attempt before", attempt) for attempt in token.attempts]
    if token.queued_at is not None and token.started_at is not None:
        pairs.append(("was queued", f"for {duration(token.started_at - token.queued_at)}"))
    if row.running is not None:
        pairs.append(("running", f"for {duration(row.running)}"))
    if token.predicted is not None:
        pairs += _prediction(token.predicted)
    if token.paused_for:
        pairs.append(
            ("paused", f"for {duration(token.paused_for)}; {duration(token.stopped_clock)} do not count for its limits")
        )
    if token.waits_for:
        pairs.append(("waits for", ", ".join(token.waits_for)))
    if token.thread is not None:
        computes = "" if token.cpu_share is None else f", which computes for {share(token.cpu_share)} of the time"
        pairs.append(("thread", token.thread + computes))
    if token.process is not None:
        pairs += _process(token.process, token.cpu_share)
    elif token.memory is not None:
        pairs.append(("memory", size(token.memory)))
    pairs += [(f"limit {name.replace('_', ' ')}", in_words(name, limit)) for name, limit in token.limits.items()]
    if token.guard != "none":
        pairs.append(("guard", f"{token.guard}: {_GUARDS[token.guard]}"))
    if token.idempotent:
        pairs.append(("idempotent", "it does no harm to run it twice"))
    pairs += [(f"policy {name}", value) for name, value in token.policy.items()]
    arguments = table_of(_ATTRIBUTES, token.arguments, False) if token.arguments else Text("no arguments", "dim")
    return Group(pairs_of(pairs), "", arguments)


def _prediction(expected: PredictionRow) -> Iterable[tuple[str, object]]:
    for what, half, most in (
        ("run", duration(expected.run_p50), duration(expected.run_p95)),
        ("memory", size(expected.memory_p50), size(expected.memory_p95)),
    ):
        if most != "-":
            yield f"expected {what}", f"p50 {half}, p95 {most}"
    for what, probability in (("failure", expected.failing), ("lateness", expected.late)):
        if probability is not None:
            yield f"expected {what}", f"{probability:.1%}"
    covered = "" if expected.coverage is None else f"; {share(expected.coverage)} of the latest ran within their p95"
    yield "predicted by", f"{expected.model} from {', '.join(expected.basis)} of {expected.n:,} attempts{covered}"
    if not expected.calibrated:
        yield "calibrated", plain("no: this has not been right often enough to act by it", "yellow")
    if expected.factors:
        yield "factors", factors_in_words(expected.factors)
    if expected.features:
        yield "features", features_in_words(expected.features)


def _actor_description(actor: ActorDescription, _wide: bool) -> RenderableType:
    row = actor.row
    pairs: list[tuple[str, object]] = [
        ("actor", f"{row.path} ({row.affinity})"),
        ("kind", row.kind),
        ("status", with_flags(row.status, suspended=row.suspended, draining=row.draining)),
        ("queued", f"{row.depth:,} of {row.capacity:,}"),
        ("running", ids_in_words(row.running) or "none"),
        ("handled", f"{row.handled:,}"),
    ]
    if actor.supervisor:
        pairs += [("instances", f"{row.starts:,}"), ("supervisor", actor.supervisor)]
    if actor.window is not None:
        pairs.append(("  its window", _window(actor.window)))
    if actor.own_window is not None:
        pairs.append(("own window", _window(actor.own_window)))
    for command in actor.commands:
        consent = "" if command.consent == "none" else f" (needs {command.consent})"
        said = f": {command.summary}" if command.summary else ""
        pairs.append(
            ("command", f"{command.name}({', '.join(command.parameters.get('properties', ()))}){consent}{said}")
        )
    return Group(pairs_of(pairs), *(("", table_of(_ENDS, actor.ends, False)) if actor.ends else ()))


def _window(row: WindowRow) -> str:
    frees = "" if row.frees_in is None else f", the oldest for {duration(row.frees_in)} more"
    return f"{row.used} of {row.allowed} restarts in {duration(row.period)}{frees}"


def _process(process: TokenProcess, cpu_share: float | None) -> Iterable[tuple[str, object]]:
    computes = "" if cpu_share is None else f", which computes for {share(cpu_share)} of the time"
    yield "process", f"{process.pid}, which is stopped" if process.stopped else f"{process.pid}{computes}"
    yield "cpu time", f"{process.cpu_time:,.2f} s"
    yield "memory", size(process.memory)
    yield "threads", process.threads
    if process.open_files:
        yield "open files", ", ".join(process.open_files)
    if process.children:
        yield "its children", " ".join(map(str, process.children))


def _stack(stack: TokenStack, _wide: bool) -> RenderableType:
    where = f"{_WHERE[stack.where]} {stack.thread or stack.pid or ''}".rstrip()
    if stack.held == "paused":
        where = {
            "thread": f"is paused on thread {stack.thread}",
            "process": f"is paused in process {stack.pid}",
        }.get(stack.where, f"{where}, and is paused")
    lines = [plain(f"#{stack.token} {stack.operation} {where}", "bold")]
    for frame in stack.frames:
        lines.extend(_frame(frame))
    if stack.where == "process" and not stack.frames:
        lines.append(plain("  its process does not answer where its code is", "dim", cut=False))
    return Group(*lines)


def _frame(frame: Frame) -> Iterable[Text]:
    yield plain(f"  {frame.file}:{frame.line} in {frame.function}", "dim", cut=False)
    if frame.source:
        yield plain(f"    {frame.source}", cut=False)


def _overview(overview: GateOverview, wide: bool) -> RenderableType:
    parts: list[RenderableType] = [_info(overview.info, wide)]

    def add(title: str, columns: Sequence[Column[Any]], rows: Sequence[Any]) -> None:
        if rows:
            parts.extend(["", plain(title, "bold"), table_of(columns, rows, False)])

    add("longest", _token_columns(overview.longest), overview.longest)
    add("largest", _LARGE, overview.largest)
    add("held up", _WAITS, overview.waits)
    add("fullest", _ACTORS, overview.fullest)
    add("restarted last", _RESTARTS, overview.restarts)
    return Group(*parts)


def _actor_outcome(outcome: ActorOutcome, _wide: bool) -> RenderableType:
    parts = [plain(f"{outcome.actor}:", cut=False), plain(outcome.outcome, style_of(outcome.outcome), cut=False)]
    if outcome.note:
        parts.append(plain(f"({outcome.note})", "dim", cut=False))
    return Text(" ").join(parts)


def _called(called: Called, _wide: bool) -> RenderableType:
    token = f"token {called.token} of '{called.actor}'"
    if called.error:
        return plain(f"{token} {called.state}: {called.error}", style_of(called.state), cut=False)
    if called.proposal is not None:
        return plain(f"{token} is {called.state}: proposal {called.proposal} needs approval", cut=False)
    if not called.type:
        return plain(f"{token} is {called.state}", cut=False)
    if called.value is None and called.type != "NoneType":
        size = "" if called.size is None else f" of length {called.size}"
        return plain(f"<{called.type}>{size}", "dim", cut=False)
    return plain(msgspec.json.format(msgspec.json.encode(called.value)).decode(), cut=False)


def _state(state: ActorState, _wide: bool) -> RenderableType:
    title = plain(f"{state.actor} ({state.kind})", "bold", cut=False)
    if not state.attributes:
        return Group(title, Text("no attributes", "dim"))
    return Group(title, table_of(_ATTRIBUTES, state.attributes, False))


def _counts(counts: ChildCountsRow, _wide: bool) -> RenderableType:
    return plain(
        f"{counts.specs} children: {counts.supervisors} supervisors, {counts.workers} workers; "
        f"{counts.active} active, {counts.restarting} restarting",
        cut=False,
    )


def _item(item: Event, _wide: bool) -> RenderableType:
    clock = time.strftime("%H:%M:%S", time.localtime(item.at)) + f".{int(item.at % 1 * 1000):03}"
    parts = [plain(clock, "dim", cut=False)]
    named = item.token is not None and f"token {item.token} " in item.text  # the text has it all
    if not (named and item.kind.startswith("token.")):
        parts.append(plain(item.kind, "cyan", cut=False))
    if item.token is not None and not named:
        parts.append(plain(f"#{item.token}", "bold", cut=False))
    if item.actor and item.actor not in item.text:
        parts.append(plain(item.actor, cut=False))
    line = Text("  ").join([*parts, plain(item.text, cut=False)])
    if item.lost:
        return Group(Text(f"({item.lost:,} events were left out here: this reader is too slow)", "red"), line)
    return line


def _identity(caller: Identity, _wide: bool) -> RenderableType:
    return pairs_of(
        [
            ("principal", caller.principal),
            ("owner", "-" if caller.owner is None else caller.owner),
            ("groups", " ".join(map(str, caller.groups)) or "none"),
            ("came in by", caller.via),
            *((f"may {right}", "everywhere" if where == "*" else where) for right, where in caller.rights.items()),
            *((("audit log", caller.audit),) if caller.audit else ()),
            ("rules", plain("frozen: what they ask for is refused", "yellow") if caller.frozen else "may act"),
        ]
    )


def _proposal(proposal: ProposalDetails, _wide: bool) -> RenderableType:
    row = proposal.row
    targets = f"actor {proposal.actor}" if proposal.actor else f"{row.targets:,} token{'s' * (row.targets != 1)}"
    pairs: list[tuple[str, object]] = [
        ("proposal", row.number),
        ("verb", row.verb),
        *((f"  {name.replace('_', ' ')}", value) for name, value in proposal.arguments.items()),
        ("targets", f"{targets}: {proposal.tokens}" if proposal.tokens else targets),
        ("state", plain(row.state, style_of(row.state))),
        ("needs", row.needs),
        ("proposer", row.proposer),
        ("reason", row.reason or "none was given"),
        ("expires in", _expires_in(row)),
        ("digest", row.digest),
    ]
    if row.approver:
        pairs.append(("denied by" if row.state == "denied" else "approved by", row.approver))
    if proposal.guards:
        pairs.append(("guards", ", ".join(f"{count:,} {guard}" for guard, count in proposal.guards.items())))
    if not proposal.counts:
        return pairs_of(pairs)
    pairs.append(("outcomes", ", ".join(f"{count:,} {word}" for word, count in proposal.counts.items())))
    left_out = (plain(f"{proposal.left_out:,} more", "dim"),) if proposal.left_out else ()
    return Group(pairs_of(pairs), "", table_of(_OUTCOMES, proposal.outcomes, False), *left_out)


def _record(record: AuditRecord, _wide: bool) -> RenderableType:
    """Return all fields of a record; those that are objects as JSON."""
    fields = {**record.fields, "at": _clock(record.row.at)}
    texts = ((name, one if isinstance(one, str) else msgspec.json.encode(one).decode()) for name, one in fields.items())
    return pairs_of([(name.replace("_", " "), text) for name, text in texts])


def _applied(done: Applied, wide: bool) -> RenderableType:
    tables = (renderable(done.outcomes, wide=wide),) if done.outcomes else ()
    actors = (_actor_outcome(one, wide) for one in done.actors)
    return Group(*tables, *actors, plain(f"proposal {done.proposal.number} ({done.proposal.verb}) is applied", "dim"))


def _reloaded(found: Reloaded, _wide: bool) -> RenderableType:
    pairs = [("file", found.file), *(("changed", one) for one in found.changed or ("nothing",))]
    return pairs_of([*pairs, *(("left out", one) for one in found.left_out)])


def _list(columns: Iterable[Column[Any]]) -> _Many:
    return lambda rows, wide: table_of(columns, rows, wide)


def _many(row: type[Any]) -> _Many | None:
    """Return what renders rows of a class: its own table, or one with a column for each field; None if it has none."""
    if hasattr(row, "__rich__"):
        return lambda rows, _wide: Group(*(Text(one.__rich__()) for one in rows))
    if row not in _MANY and attrs.has(row):
        return _derived(row)
    return _MANY.get(row)


def _derived(row: type[Any]) -> _Many:
    """Return what renders rows: a column for each field.

    One that is marked `wide` is only in wide tables; one that is marked `sparse`, only there or if a row has a value;
    one that is marked `spare`, only there or if the terminal has room.
    """
    hints = get_type_hints(row)

    def render(rows: Sequence[Any], wide: bool) -> RenderableType:
        fields = [field for field in attrs.fields(row) if wide or _is_shown(field, rows)]
        spare = {field.name for field in fields if "spare" in field.metadata}
        return Fitted([_column(field.name, hints[field.name], field.name in spare) for field in fields], rows, wide)

    return render


def _is_shown(field: attrs.Attribute[Any], rows: Sequence[Any]) -> bool:
    return "wide" not in field.metadata and not all(_is_empty(row, field) for row in rows)


def _is_empty(row: object, field: attrs.Attribute[Any]) -> bool:
    return "sparse" in field.metadata and getattr(row, field.name) in (field.default, (), None, "")


def _details(answer: Any) -> RenderableType:
    """Return what is known of one thing: the fields of its row, and those of its own; a line for each text of many."""
    pairs: list[tuple[str, object]] = []
    for one in (answer.row, answer):
        hints = get_type_hints(type(one))
        for field in attrs.fields(type(one)):
            value, title = getattr(one, field.name), field.name.replace("_", " ")
            if isinstance(value, tuple) and value and isinstance(value[0], str):
                pairs += [(title, line) for line in value]
            elif field.name != "row" and value not in ("", None, (), {}) and not _is_empty(one, field):
                pairs.append((title, _column(field.name, hints[field.name]).cell(one)))
    return pairs_of(pairs)


def _column(field: str, hint: object, spare: bool = False) -> Column[Any]:
    def cell(row: object) -> object:
        value = getattr(row, field)
        if field in SHARES:
            return percent(value)
        if field in _DURATIONS:
            return duration(value)
        if field in _TIMES and value is not None:
            return _clock(value)
        if field == "memory":
            return size(value)
        if field == "owner" and value is not None:  # a number that is a name
            return str(value)
        if field in _ROUNDED and value is not None:
            return f"{value:.2f}"
        if isinstance(value, bool):
            return yes_or_no(value)
        if isinstance(value, dict):
            return tags_in_words({name: f"{one:.3g}" if isinstance(one, float) else one for name, one in value.items()})
        if isinstance(value, tuple):
            return ", ".join(map(str, value)) or "-"
        return number(value) if value is None or isinstance(value, int | float) else value

    numeric = bool({int, float} & {hint, *get_args(hint)})
    shrinks = not numeric and hint is not bool and field not in _WHOLE
    style = (lambda row: style_of(str(row.state))) if field == "state" else lambda _row: ""
    return Column(field.upper().replace("_", " "), cell, style, right=numeric, shrinks=shrinks, spare=spare)


_MANY: dict[type[Any], _Many] = {
    ActorRow: _actors,
    TreeRow: _tree,
    TokenRow: lambda rows, wide: token_table(rows, wide=wide),
    Outcome: _list(_OUTCOMES),
    ThrottleRow: _list(_THROTTLES),
    ProposalRow: _list(_PROPOSALS),
    AuditRecordRow: _list(_AUDIT),
    ChildRow: _list(_CHILDREN),
    EndRow: _list(_ENDS),
    Event: _list(_EVENTS),
    FoundGate: _list(_GATES),
}
"""{class of a row: renders a list of them}."""

_ONE: dict[type[Any], Callable[[Any, bool], RenderableType]] = {
    TokenPage: _page,
    TokenDescription: _description,
    ActorDescription: _actor_description,
    TokenStack: _stack,
    ActorOutcome: _actor_outcome,
    ActorState: _state,
    Called: _called,
    ChildCountsRow: _counts,
    GateInfo: _info,
    GateOverview: _overview,
    HealthReport: _health,
    Event: _item,
    Identity: _identity,
    ProposalDetails: _proposal,
    Applied: _applied,
    AuditRecord: _record,
    Reloaded: _reloaded,
}
"""{class of an answer: renders it}."""
