"""The verbs for policies, their states and flags, the file, and the attempts of tokens: through public names."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from gated_code import LIMIT, Door

from tokengate import Breaker, Gate, IoActor, Policy, Retry, Throttle, current_token, token
from tokengate.control import BadRequest, NotSteerable
from tokengate.errors import BadConfig, TokenFailed, TokenRejected, UnknownActor
from tokengate.events import BreakerChanged, PolicyChanged, TokenRetried
from tokengate.policy import Budget, spend

Until = Callable[[Callable[[], bool]], None]

LONG = 3_600.0  # seconds; a delay that no test waits for


def fail_or(what: Any = "done") -> Any:
    """Raise, or return, what it is given."""
    if isinstance(what, BaseException):
        raise what
    return what


def look(tenant: str | None = None) -> Any:
    """Return the token that this runs for; None in a plain call."""
    return current_token()


class Again:
    """Code that fails until it is told not to."""

    def __init__(self) -> None:
        self.ok = threading.Event()

    def __call__(self) -> str:
        if self.ok.is_set():
            return "done"
        raise ConnectionError


def again(**policy: Any) -> tuple[Again, Any]:
    """Return such code, and an operation that tries again an hour later."""
    code = Again()
    retry = Retry(ConnectionError, attempts=5, wait=lambda _: LONG, max_wait=LONG)
    return code, token(policy=Policy(retry=retry, **policy))(code)


def fields(rows: Any) -> dict[str, tuple[str, str]]:
    return {row.field: (row.value, row.source) for row in rows}


@pytest.fixture
def events(gate: Gate) -> list[object]:
    found: list[object] = []
    gate.subscribe(found.append)
    return found


# What places are held to


class Mailer(IoActor):
    policy = Policy(deadline=60)

    async def on_receive(self, message: object) -> object:  # type: ignore[override]
        one = current_token()
        return None if one is None else one.deadline


def test_policies_show_each_value_with_its_source(gate: Gate) -> None:
    """Those of operations and actors, chosen by a name or by a selector; functions and errors by their names."""

    def charge() -> None:
        return None

    retry = Retry((ConnectionError, TokenFailed), wait=lambda _: 1.0)
    gate.register(token(policy=Policy(timeout=0.5, retry=retry))(charge))
    gate.spawn(Mailer, name="mailer")
    rows = gate.control.policies()

    assert {row.operation for row in rows} == {"charge", "spawned/mailer"}
    assert fields(gate.control.policies("charge")) == {
        "timeout": ("0.5s", "code"),
        "retry.on": ("ConnectionError, actors._exceptions.TokenFailed", "code"),
        "retry.attempts": ("3", "code"),
        "retry.wait": (f"function {test_policies_show_each_value_with_its_source.__name__}.<locals>.<lambda>", "code"),
        "retry.max_wait": ("30s", "code"),
    }
    assert fields(gate.control.policies("actor=mailer")) == fields(gate.control.policies("affinity=io")) != {}
    assert gate.control.policies("affinity=process") == ()
    assert gate.control.policies("operation=*") == gate.control.policies("operation!=x,affinity=cpu")


def test_a_live_edit_holds_for_the_next_tokens_until_it_is_reset(gate: Gate, events: list[object]) -> None:
    """Case 60: of an actor here; the answer is the rows, and an event says what has changed."""
    ref = gate.spawn(Mailer, name="mailer")
    changed = gate.control.set_policy("mailer", {"deadline": "2h", "fair": "tenant"})

    assert fields(changed)["deadline"] == ("7200s", "live")
    assert 3_600 < ref.ask("x") - gate._system.clock() <= 7_200
    assert fields(gate.control.reset_policy("mailer", "fair")).keys() == {"deadline"}
    assert fields(gate.control.reset_policy("mailer"))["deadline"] == ("60s", "code")
    assert [event for event in events if isinstance(event, PolicyChanged)] == [
        PolicyChanged("spawned/mailer", {"deadline": "7200s", "fair": "tenant"}),
        PolicyChanged("spawned/mailer", {"fair": None}),
        PolicyChanged("spawned/mailer", {"deadline": "60s"}),
    ]
    assert ref.ask("x") - gate._system.clock() <= 60


def test_values_are_texts_of_the_file_or_numbers(gate: Gate) -> None:
    """Names need no quotes; a table is written as in the file."""
    gate.register(token(fail_or))
    values = {"retry.on": "ConnectionError", "retry.attempts": 5, "timeout": "5s", "throttle.rate": "100/s"}
    values |= {"throttle.key": "tenant", "throttle.keys": "{ acme = { rate = 7 } }"}
    found = fields(gate.control.set_policy("fail_or", values))

    assert found["retry.on"] == ("ConnectionError", "live")
    assert found["throttle.rate"] == ("100", "live")
    assert found["throttle.keys"] == ("acme: rate: 7", "live")


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"retry.attempts": 0}, "retry.attempts of 'operations/fail_or' is 0; use a whole number of at least 1"),
        ({"retry.attempts": 3}, "on of Retry is None; set it: the code has no such part"),
        ({"retires": 3}, "retires of 'operations/fail_or' is 3; there is no such key; use one of queue_timeout"),
        ({"fallback": "print"}, "write it in the code"),
    ],
)
def test_a_bad_live_edit_is_named_and_changes_nothing(gate: Gate, values: dict[str, Any], part: str) -> None:
    """Case 59."""
    gate.register(token(policy=Policy(timeout=5))(fail_or))
    before = gate.control.policies()
    with pytest.raises(BadRequest, match=r"^") as caught:
        gate.control.set_policy("fail_or", values)

    assert part in str(caught.value)
    assert gate.control.policies() == before


def test_what_there_is_not_is_an_error_that_says_where_to_look(gate: Gate) -> None:
    """An unknown name, and nothing to reset."""
    gate.register(token(fail_or))
    with pytest.raises(UnknownActor):
        gate.control.set_policy("charge", {"timeout": 5})
    with pytest.raises(BadRequest, match="no operator has set 'timeout' of the policy of 'operations/fail_or'"):
        gate.control.reset_policy("fail_or", "timeout")
    with pytest.raises(BadRequest, match="'operations/fail_or' has no breaker; 'tokengate policies' shows"):
        gate.control.open_breaker("fail_or")
    with pytest.raises(BadRequest, match="the gate was opened without a file"):
        gate.control.reload()


# Breakers and budgets


def test_operators_hold_breakers_of_keys(gate: Gate, events: list[object]) -> None:
    """Case 26: open and closed until auto, one key or all, those to come, too."""
    operation = token(policy=Policy(breaker=Breaker(minimum=1, key="tenant")))(lambda tenant: tenant)
    for tenant in ("a", "b"):
        operation.submit(tenant).result(LIMIT)
    name = operation.__name__
    [row] = gate.control.open_breaker(name, key="a")

    assert (row.key, row.state, row.held, row.probes_in) == ("a", "open", True, None)
    assert isinstance(operation.submit("a").exception(LIMIT), TokenRejected)
    assert operation.submit("b").result(LIMIT) == "b"
    assert [one.state for one in gate.control.open_breaker(name)] == ["open", "open"]
    assert isinstance(operation.submit("new").exception(LIMIT), TokenRejected)
    assert {one.state for one in gate.control.auto_breaker(name)} == {"half open"}
    assert {(one.state, one.held) for one in gate.control.close_breaker(name)} == {("closed", True)}
    assert {(one.state, one.held) for one in gate.control.reset_breaker(name)} == {("closed", False)}
    with pytest.raises(BadRequest, match="has no breaker of 'zzz'; 'tokengate breakers' lists them"):
        gate.control.open_breaker(name, key="zzz")
    assert BreakerChanged(name, "a", "open", True) in events


def test_a_breaker_that_opens_is_seen_and_told_of(gate: Gate, until: Until, events: list[object]) -> None:
    """Its row has what it has counted."""
    operation = token(policy=Policy(breaker=Breaker(minimum=2)))(fail_or)
    operation.submit().result(LIMIT)
    operation.submit(OSError()).exception(LIMIT)
    until(lambda: gate.control.breakers("fail_or")[0].state == "open")
    [row] = gate.control.breakers("operation=fail_or")

    assert row.key == ""
    assert row.probes_in is not None
    assert 0 < row.probes_in <= 30
    assert BreakerChanged("fail_or", None, "open", False) in events


def test_operators_reset_budgets_of_keys(gate: Gate, until: Until) -> None:
    """What waits for the budget begins."""
    budget = Budget("usd", 10, key="tenant", estimate=1)
    operation = token(policy=Policy(budget=budget))(lambda tenant: spend(10))
    operation.submit("acme").result(LIMIT)
    waiting = operation.submit("acme")
    until(lambda: gate.control.token(waiting).row.held == "throttled")
    name = operation.__name__
    [row] = gate.control.budgets(name)

    assert (row.budget, row.key, row.limit, row.per, row.spent, row.waiting) == ("usd", "acme", 10, None, 10, 1)
    assert gate.control.token(waiting).row.held_by == f"operation {name}: budget usd of 10 of tenant 'acme'"
    [row] = gate.control.reset_budget(name, key="acme")
    waiting.result(LIMIT)
    with pytest.raises(BadRequest, match="has no budget of 'zzz'"):
        gate.control.reset_budget(name, key="zzz")


# Flags


def test_a_flag_that_is_off_leaves_the_plain_function(gate: Gate) -> None:
    """Case 57: direct calls are no tokens; what is submitted has no policy."""
    operation = token(policy=Policy(breaker=Breaker(minimum=1), deadline=9))(look)
    held = operation()
    name = operation.__name__
    gate.control.open_breaker(name)
    assert held is not None
    assert held.policy is not None
    row = gate.control.set_flag(f"operation={name}", "off")

    assert (row.selector, row.mode, row.percent, row.by, row.source) == (f"operation={name}", "off", 100, "", "live")
    assert operation() is None
    inside = operation.submit().result(LIMIT)
    assert (inside.policy, inside.deadline) == (None, None)
    assert gate.control.reset_flag(f"operation={name}") == row
    assert gate.control.flags() == ()
    assert isinstance(operation.submit().exception(LIMIT), TokenRejected)


def test_an_awaited_operation_that_is_off_is_the_plain_function(gate: Gate) -> None:
    """Case 57: in a loop of its kind; a trio operation that is submitted is a token without a policy."""

    async def own() -> Any:
        await trio.lowlevel.checkpoint()
        return current_token()

    operation = token(policy=Policy(deadline=9))(own)
    gate.control.set_flag("operation=own", "off")

    assert trio.run(operation) is None
    assert operation.submit().result(LIMIT).policy is None


def test_a_flag_that_observes_refuses_nothing_and_counts(gate: Gate, until: Until) -> None:
    """Case 57: the levels are its own, so those that are enforced do not change."""
    policy = Policy(
        breaker=Breaker(minimum=2),
        throttle=Throttle(rate="1/h", key="tenant"),
        budget=Budget("usd", 1),
        retry=Retry(OSError),
        timeout=1e-9,
    )

    def work(tenant: str, error: Any = None) -> None:
        spend(1)
        fail_or(error)

    operation = token(policy=policy)(work)
    gate.control.set_flag("operation=work", "observe")
    for _ in range(2):
        assert isinstance(operation.submit("a", OSError()).exception(LIMIT), TokenFailed | OSError)
    operation.submit("b").result(LIMIT)
    operation("b")
    [row] = gate.control.flags()

    assert row.would == {"throttle": 2, "budget": 3, "breaker": 2, "retry": 2, "timeout": 4} | {
        "budget": row.would["budget"]
    }
    assert row.would["budget"] >= 3
    assert gate.control.breakers() == ()
    assert gate.control.budgets() == ()


def test_a_key_keeps_its_side(gate: Gate, seed: int) -> None:
    """Case 58: ten percent, within one; the same ones when it is asked again."""
    operation = token(policy=Policy(deadline=LONG))(look)
    name = operation.__name__
    keys = [f"{seed}-{number}" for number in range(40_000)]  # of 10,000, chance alone is off by 1 in 1,000 runs
    gate.control.set_flag(f"operation={name}", "off", percent=10, by="tenant")
    place = gate._operations[operation._spec]
    governor: Any = place.governor
    off = [key for key in keys if governor.is_off(name, (key,), {}, 0, {})]

    assert 0.09 <= len(off) / len(keys) <= 0.11
    assert [key for key in keys if governor.is_off(name, (), {"tenant": key}, 0, {})] == off
    assert [key for key in keys if governor.is_off(name, (), {}, 0, {"tenant": key})] == off
    on = next(key for key in keys if key not in off)
    assert operation(off[0]) is None
    assert operation(on) is not None
    assert operation.submit(off[0]).result(LIMIT).policy is None
    gate.control.set_flag(f"operation={name}", "off", percent=100)
    assert operation(on) is None


def test_a_token_without_the_key_of_a_flag_is_not_concerned(gate: Gate) -> None:
    """And bad values of a flag are named."""
    operation = token(policy=Policy(deadline=LONG))(look)
    gate.control.set_flag("*", "off", by="tenant")
    assert operation() is not None

    with pytest.raises(BadRequest, match="percent is 101; it must be a number from 0 to 100"):
        gate.control.set_flag("*", "off", percent=101)
    with pytest.raises(BadRequest, match="mode of set_flag is 'on'; it must be one of 'off', 'observe', 'enforce'"):
        gate.control.set_flag("*", "on")  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="a flag needs a selector"):
        gate.control.set_flag("", "off")
    with pytest.raises(BadRequest, match="no operator has set a flag for 'tenant=a'"):
        gate.control.reset_flag("tenant=a")


# Attempts of tokens


def delayed(gate: Gate, operation: Any, until: Until) -> Any:
    """Return a token that waits for its next attempt."""
    one = operation.submit()
    until(lambda: gate.control.token(one).row.held == "delayed")
    return one


def test_a_delayed_token_says_until_when_and_begins_at_once_if_it_is_told_to(
    gate: Gate, until: Until, events: list[object]
) -> None:
    """Rows, selectors and the description have it."""
    code, operation = again()
    one = delayed(gate, operation, until)
    row = gate.control.tokens("held=delayed")[0].row
    described = gate.control.describe(one)

    assert row.id == one.id
    assert row.held_by == "attempt 2 of 5"
    assert row.until is not None
    assert 0 < row.until <= LONG
    assert described.attempts[0].startswith("1: ConnectionError after ")
    assert described.policy["retry.attempts"] == "5"
    assert [(event.attempt, event.error) for event in events if isinstance(event, TokenRetried)] == [
        (1, "ConnectionError")
    ]
    code.ok.set()
    [done] = gate.control.retry(one)
    assert done.outcome == "retried"
    assert one.result(LIMIT) == "done"
    [late] = gate.control.retry(one)
    assert late.outcome == "ended"


def test_a_token_in_its_delay_can_be_told_to_try_no_more(gate: Gate, until: Until) -> None:
    """It fails with the error it has; a running one does so after its attempt."""
    _, operation = again()
    one = delayed(gate, operation, until)
    assert [done.outcome for done in gate.control.token(one).retry(stop=True)] == ["not_retried"]
    assert isinstance(one.exception(LIMIT), ConnectionError | TokenFailed)
    assert one.attempt == 2


def test_a_paused_token_in_its_delay_can_be_told_to_try_no_more(gate: Gate, until: Until) -> None:
    """It need not be resumed first."""
    _, operation = again(fallback=lambda error: type(error).__name__)
    one = delayed(gate, operation, until)
    gate.control.pause(one)
    gate.control.retry(one, stop=True)
    gate.control.resume(one)

    assert one.result(LIMIT) == "ConnectionError"
    assert one.reason == "ConnectionError"


def test_a_running_token_makes_no_further_attempt(gate: Gate, door: Door) -> None:
    """Its attempt goes on, and is the last one."""
    retry = Retry(ConnectionError, wait=0)

    def work() -> None:
        door.pass_through()
        raise ConnectionError

    one = token(policy=Policy(retry=retry))(work).submit()
    door.wait_reached()
    [done] = gate.control.retry(one)
    assert done.outcome == "unchanged"
    [done] = gate.control.retry(one, stop=True)
    assert done.outcome == "not_retried"
    door.open()
    one.exception(LIMIT)
    assert len(one.attempts) == 1


def test_a_token_gets_more_time(gate: Gate, door: Door, until: Until) -> None:
    """Case 7: queued, running, delayed; one without a limit is refused."""
    slow = token(policy=Policy(deadline=LONG), concurrency=1)(door.pass_through)
    running, queued = slow.submit(), slow.submit()
    _, operation = again(deadline=3 * LONG)
    waits = delayed(gate, operation, until)
    free = token(door.pass_through)
    for one in (running, queued, waits):
        before = one.deadline
        [done] = gate.control.extend(one, "5m")
        assert done.outcome == "extended"
        assert done.note == "by 300 s"
        assert one.deadline == pytest.approx(before + 300)
    [done] = gate.control.extend(free.submit(), 30)
    assert (done.outcome, done.note) == ("refused", "it has no limit of time")
    with pytest.raises(BadRequest, match="seconds of extend is 'soon'; use seconds, or a text such as '30s'"):
        gate.control.extend("*", "soon")
    assert gate.control.describe(waits).deadline is not None
    gate.control.retry(waits, stop=True)


def test_each_verb_can_be_awaited(gate: Gate) -> None:
    """The awaited ones have the same arguments and answers."""
    operation = token(policy=Policy(breaker=Breaker()))(fail_or)
    operation.submit().result(LIMIT)

    async def ask() -> None:
        aio = gate.control.aio
        assert [row.state for row in await aio.open_breaker("fail_or")] == ["open"]
        assert (await aio.set_policy("fail_or", {"breaker.minimum": 3}))[0].operation == "fail_or"
        assert tuple(await aio.retry([])) == ()

    trio.run(ask)


def test_what_a_throttle_keeps_back_says_by_which_rule(gate: Gate, door: Door, until: Until) -> None:
    """The rule, its limit, and whose it is."""
    throttles = [Throttle(concurrency=1, key="tenant"), Throttle(rate="1/h", burst=9)]
    operation = token(policy=Policy(throttle=throttles))(lambda tenant: door.pass_through())
    operation.submit("acme")
    door.wait_reached()
    waiting = operation.submit("acme")
    until(lambda: gate.control.token(waiting).row.held == "throttled")
    row = gate.control.token(waiting).row

    assert row.held_by == f"operation {operation.__name__}: concurrency 1 of tenant 'acme'"
    assert row.until is None
    gate.control.set_policy(operation.__name__, {"throttle": "none"})
    until(lambda: waiting.started_at is not None)


# The file


def write(path: Path, text: str) -> Path:
    file = path / "tokengate.toml"
    file.write_text(text)
    return file


FILE = """
[[policy]]
select = "operation=fail_or,affinity!=process"
retry = { on = "OSError", attempts = 2, wait = 0 }
breaker = { minimum = 3 }

[[policy]]
select = "actor=mailer"
deadline = "5m"

[[flag]]
select = "tenant=free"
mode = "observe"
"""


def test_a_gate_is_opened_with_a_file(tmp_path: Path) -> None:
    """Case 60: operations and actors that have no policy in the code; errors are found by their names."""
    file = write(tmp_path, FILE)
    with Gate("filed", config=file, control_socket=False) as gate:
        operation = token(fail_or)
        one = operation.submit(FileNotFoundError())
        one.exception(LIMIT)
        ref = gate.spawn(Mailer, name="mailer")
        gate.control.set_policy("fail_or", {"retry.attempts": 3})

        assert one.attempt == 2
        assert 60 < ref.ask("x") - gate._system.clock() <= 300
        assert fields(gate.control.policies("fail_or"))["retry.attempts"] == ("3", "live")
        assert fields(gate.control.policies("fail_or"))["retry.on"] == ("OSError", "tokengate.toml:2")
        assert fields(gate.control.policies("mailer")) == {"deadline": ("300s", "tokengate.toml:7")}
        assert [(row.selector, row.source) for row in gate.control.flags()] == [("tenant=free", "tokengate.toml:11")]


def test_the_environment_names_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate that was given one does not ask it."""
    monkeypatch.setenv("TOKENGATE_CONFIG", str(write(tmp_path, FILE)))
    with Gate("filed", control_socket=False) as gate:
        gate.register(token(fail_or))
        assert gate.control.policies("fail_or")


def test_a_bad_file_opens_no_gate(tmp_path: Path) -> None:
    """Case 59: all its errors, with their lines; the gate is closed, and another one can be opened."""
    file = write(tmp_path, FILE.replace("attempts = 2", "attempts = 0").replace('"observe"', '"watch"'))
    gate = Gate("filed", config=file, control_socket=False)
    with pytest.raises(BadConfig, match=r"^") as caught, gate:
        pass

    assert f"{file}:4: policy[0].retry.attempts is 0; use a whole number of at least 1" in str(caught.value)
    assert f"{file}:13: flag[0].mode is 'watch'; use one of 'off', 'observe', 'enforce'" in str(caught.value)
    assert gate.state == "closed"


def test_a_reload_keeps_levels_states_and_live_edits(tmp_path: Path, events: list[object]) -> None:
    """Case 61: and one with an error changes nothing."""
    file = write(tmp_path, FILE)
    with Gate("filed", config=file, control_socket=False) as gate:
        operation = token(fail_or)
        operation.submit(FileNotFoundError()).exception(LIMIT)
        operation.submit(FileNotFoundError()).exception(LIMIT)
        gate.control.set_policy("fail_or", {"retry.attempts": 3})
        gate.control.set_flag("tenant=acme", "off")
        opened = gate.control.breakers()
        write(tmp_path, FILE.replace("minimum = 3", "minimum = 0"))
        with pytest.raises(BadRequest, match=r"breaker\.minimum is 0; use a whole number of at least 1"):
            gate.control.reload()
        write(tmp_path, FILE.replace("minimum = 3", "open_for = '1h'").replace("attempts = 2", "attempts = 9"))
        reloaded = gate.control.reload()
        [row] = gate.control.breakers()

        assert [one.state for one in opened] == ["open"]
        assert (row.state, row.held) == ("open", False)
        assert set(reloaded.changed) == {
            "operations/fail_or: breaker.open_for=3600s", "operations/fail_or: breaker.minimum=20"
        }  # fmt: skip
        assert reloaded.left_out == ()
        assert fields(gate.control.policies("fail_or"))["retry.attempts"] == ("3", "live")
        assert [one.selector for one in gate.control.flags()] == ["tenant=free", "tenant=acme"]
        write(tmp_path, "")
        gate.control.reload()
        assert {row.source for row in gate.control.policies("fail_or")} == {"live"} or gate.control.policies() == ()


def test_what_does_not_fit_the_code_is_left_out_and_told(tmp_path: Path) -> None:
    """Such a block is for other operations: the gate goes on."""
    file = write(tmp_path, '[[policy]]\nselect = "operation=*"\nretry.attempts = 5\ntimeout = 3\n')
    with Gate("filed", config=file, control_socket=False) as gate:
        gate.register(token(fail_or))

        assert fields(gate.control.policies()) == {"timeout": ("3s", "tokengate.toml:1")}
        [problem] = gate.control.reload().left_out
        assert problem == "operations/fail_or: on of Retry is None; set it: the code has no such part"


def test_throttles_of_the_file_come_and_go_with_it(tmp_path: Path) -> None:
    """Those of operators stay, and win over one of the file with the same selector."""
    file = write(tmp_path, '[[throttle]]\nselect = "tenant=free"\nrate = "10/s"\n')
    with Gate("filed", config=file, control_socket=False) as gate:
        assert [(row.selector, row.rate, row.source) for row in gate.control.throttles()] == [
            ("tenant=free", 10, "tokengate.toml:1")
        ]
        gate.control.throttle("tenant=free", rate=5)
        gate.control.throttle("tenant=acme", rate=5)
        write(tmp_path, '\n[[throttle]]\nselect = "tenant=free"\nrate = "20/s"\n')
        gate.control.reload()
        gate.control.lift("tenant=free")
        assert [(row.selector, row.rate) for row in gate.control.throttles()] == [
            ("tenant=free", 20),
            ("tenant=acme", 5),
        ]
        write(tmp_path, "")
        gate.control.reload()
        assert [row.selector for row in gate.control.throttles()] == ["tenant=acme"]


def test_the_file_wins_over_the_options_of_single_calls(tmp_path: Path) -> None:
    """Case 60: and these over the decorator; a live edit wins over all."""
    file = write(tmp_path, '[[policy]]\nselect = "operation=look"\ntimeout = 50\nretry.attempts = 7\n')
    with Gate("filed", config=file, control_socket=False) as gate:
        operation = token(policy=Policy(deadline=900, timeout=900, retry=Retry(OSError)))(look)
        called = operation.with_options(policy=Policy(deadline=800, timeout=800, retry=Retry(KeyError, attempts=2)))
        policy = called.submit().result(LIMIT).policy
        gate.control.set_policy("look", {"deadline": 700})
        edited = called.submit().result(LIMIT).policy

    assert (policy.deadline, policy.timeout, policy.retry) == (800, 50, Retry(KeyError, attempts=7))
    assert (edited.deadline, edited.timeout) == (700, 50)


def test_a_rule_of_an_operator_that_keeps_back_is_named_by_its_selector(gate: Gate, door: Door, until: Until) -> None:
    """It is not of the operation."""
    operation = token(door.pass_through)
    gate.control.throttle("tenant=acme", concurrency=1)
    acme = operation.with_options(tags={"tenant": "acme"})
    acme.submit()
    door.wait_reached()
    waiting = acme.submit()
    until(lambda: gate.control.token(waiting).row.held == "throttled")

    assert gate.control.token(waiting).row.held_by == "throttle tenant=acme: concurrency 1"
    gate.control.lift("*")


def test_supervisors_are_held_to_no_policy(gate: Gate) -> None:
    """A time limit on their messages would end restarts; an empty name is that of the root."""
    for name in ("/", ""):
        with pytest.raises(NotSteerable, match="or is a supervisor, and is held to no policy"):
            gate.control.set_policy(name, {"timeout": 5})


def test_a_token_without_the_key_is_counted_once_by_each_rule(gate: Gate) -> None:
    """Case 36, as the lists show it."""
    parts: dict[str, Any] = {
        "throttle": Throttle(concurrency=1, key="tenant"),
        "budget": Budget("usd", 9, key="tenant"),
    }
    operation = token(policy=Policy(breaker=Breaker(key="tenant"), **parts))(look)

    for tenant in (None, "acme", None, None):
        operation.submit(tenant).result(LIMIT)
    rows: list[Any] = [gate.control.breakers()[0], gate.control.budgets()[0], gate.control.throttles()[0]]
    assert [row.no_key for row in rows] == [3, 3, 3]


def test_a_throttle_that_is_lifted_leaves_nothing_of_a_token_that_waits(gate: Gate, until: Until) -> None:
    """It was noted as one that does not count, which is so for its grants only."""
    go = threading.Event()
    inner = token(lambda: go.wait(LIMIT))
    outer = token(lambda: inner.submit().result())
    gate.control.throttle("tag=outer", concurrency=1)

    one = outer.with_options(tags={"tag": "outer"}).submit()
    until(lambda: bool(gate._open_system.throttles._suspended))
    gate.control.lift("tag=outer")
    go.set()
    assert one.result(LIMIT)
    assert not gate._open_system.throttles._suspended
