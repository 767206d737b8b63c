"""Values and moments that nobody has in mind: what is promised holds for them, and for all others meanwhile."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from durable_operations import add

from actors import Reply
from tokengate import Gate, token
from tokengate.control.registry import Plugin
from tokengate.durable import Journal, submit_to
from tokengate.durable._codec import checksum
from tokengate.errors import KeyReused, NotDurable


class NoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("it has no text")


@token(durable=True)
def raises(kind: str) -> None:
    raise NoText if kind == "no text" else ValueError("\ud800")


@token(durable=True)
def echo(value: Any) -> Any:
    return value


class Shop:
    @staticmethod
    @token(durable=True, idempotent=True)
    def charge(number: int) -> str:
        return f"shop {number}"


class Bank:
    @staticmethod
    @token(durable=True, idempotent=True)
    def charge(number: int) -> str:
        return f"bank {number}"


@pytest.mark.parametrize("kind", ["no text", "surrogate"])
def test_an_error_whose_text_cannot_be_written_is_the_end_of_its_token_only(tmp_path: Path, kind: str) -> None:
    """The token fails with it, and is a dead letter; the journal writes on."""
    with Gate("shop", plugins=[journal := Journal(tmp_path / "journal")], control_socket=False):
        with pytest.raises(NoText if kind == "no text" else ValueError):
            raises.submit(kind).result(60)
        assert add.submit(1, 2).result(60) == 3
        assert [one.operation for one in journal.dead_letters.list()] == [f"{__name__}:raises"]


@pytest.mark.parametrize("options", [{"key": "\ud800"}, {"tags": {"a": "\ud800"}}, {"priority": 1 << 80}])
def test_a_call_that_has_no_form_on_disk_is_refused_alone(tmp_path: Path, options: dict[str, Any]) -> None:
    """Its sender gets NotDurable, and what is accepted together with it runs."""
    with Gate("shop", plugins=[Journal(tmp_path / "journal")], control_socket=False):
        with pytest.raises(NotDurable, match="no form on disk"):
            echo.with_options(**options).submit(1)
        with pytest.raises(NotDurable, match="no form on disk") as error:
            echo.with_options(**options).map([1, 2, 3])
        assert not error.value.accepted  # type: ignore[attr-defined]
        assert [one.result(60) for one in echo.map([1, 2, 3])] == [1, 2, 3]


def test_a_priority_that_has_no_form_on_disk_leaves_the_journal_alone(tmp_path: Path) -> None:
    """An operator that gives one to a token has not stopped the journal."""
    with Gate("shop", plugins=[Journal(tmp_path / "journal")], control_socket=False) as gate:
        gate.register(echo)
        gate.control.suspend("operations/echo")
        waiting = echo.submit(1)
        gate.control.renice(waiting.id, 1 << 80)
        assert add.submit(1, 2).result(60) == 3
        gate.control.unsuspend("operations/echo")
        assert waiting.result(60) == 1


def test_a_list_that_is_nested_too_deeply_is_refused_at_its_sender(tmp_path: Path) -> None:
    """It is NotDurable, as each value that would not come back."""
    nested: list[Any] = []
    for _ in range(50_000):
        nested = [nested]
    with Gate("shop", plugins=[Journal(tmp_path / "journal")], control_socket=False), pytest.raises(NotDurable):
        echo.submit(nested)


def test_a_file_that_cannot_be_read_leaves_those_behind_it_alone(
    tmp_path: Path, until: Callable[[Callable[[], bool]], None]
) -> None:
    """A text that is nested too deeply is put aside, before the gate opens, too. Case 29."""
    with Gate("shop", plugins=[Journal(tmp_path)], control_socket=False):
        pass
    box = submit_to(tmp_path)
    key = box.submit("durable_operations:add", 1, 2, key=17)
    new = tmp_path / "inbox" / "new"
    for name, priority, value in (("0", 0, "[" * 50_000 + "]" * 50_000), ("1", 9e99, "1"), ("2", 1 << 63, "1")):
        call = (
            f'"operation": "test_attacks:echo", "key": "{name}", "priority": {priority}, "arguments": [[{value}], {{}}]'
        )
        (new / name).write_text(f"{{{call}}}")
    with Gate("shop", plugins=[journal := Journal(tmp_path)], control_socket=False):
        assert journal.attach(add, key=key).result(60) == 3
        until(lambda: sorted(path.name for path in (tmp_path / "inbox" / "bad").iterdir()) == ["0", "1", "2"])


@pytest.mark.parametrize("options", [{"priority": "high"}, {"priority": 1 << 63}, {"tags": {"a": 1}}])
def test_an_option_that_the_gate_would_refuse_is_refused_at_the_sender(tmp_path: Path, options: dict[str, Any]) -> None:
    """So is a NaN, which JSON would make null. Case 29."""
    with Gate("shop", plugins=[Journal(tmp_path)], control_socket=False):
        pass
    with pytest.raises(NotDurable):
        submit_to(tmp_path).submit("test_attacks:echo", 1, **options)
    with pytest.raises(NotDurable):
        submit_to(tmp_path).submit("test_attacks:echo", float("nan"))


class Early(Plugin):
    """Uses an operation before the journal goes on with what earlier runs have left."""

    def opened(self, gate: Gate, /) -> None:
        gate.register(Bank.charge)


@pytest.mark.parametrize("first", [Shop, Bank])
def test_operations_of_one_name_keep_their_rows_whichever_is_there_first(tmp_path: Path, first: Any) -> None:
    """Their paths depend on that; each row runs, and as the call that it was. Case 22."""
    operations: list[Any] = [Shop.charge, Bank.charge] if first is Shop else [Bank.charge, Shop.charge]
    with Gate("shop", plugins=[Journal(tmp_path)], control_socket=False) as gate:
        for operation in operations:
            gate.register(operation)
            gate.control.suspend(gate._operations[operation._spec].path)
        calls = [(operation, operation.submit(n).uid, n) for n in range(3) for operation in operations]
    with Gate("shop", plugins=[Early(), journal := Journal(tmp_path)], control_socket=False):
        for operation, uid, n in calls:
            name = "bank" if operation is Bank.charge else "shop"
            assert journal.attach(uid).result(60) == f"{name} {n}"


def test_a_gate_that_opens_at_its_first_use_goes_on_with_what_was_left(tmp_path: Path) -> None:
    """Its first use waits for that, and not for itself."""
    with Gate("shop", plugins=[Journal(tmp_path)], control_socket=False) as gate:
        gate.register(echo)
        gate.control.suspend("operations/echo")
        uid = echo.submit(1).uid
    gate = Gate("shop", plugins=[journal := Journal(tmp_path)], control_socket=False, open="lazily")
    try:
        assert add.submit(1, 2).result(60) == 3
        assert journal.attach(uid).result(60) == 1
    finally:
        gate.close()


def test_a_key_that_was_taken_with_earlier_parameters_is_used_with_others(tmp_path: Path) -> None:
    """The parameters have changed since; it is KeyReused, as with any other arguments. Case 20."""
    with Gate("shop", plugins=[Journal(tmp_path)], control_socket=False):
        assert echo.with_options(key="a").submit(1).result(60) == 1
    key = "UPDATE tokens SET arguments = ?, operation = operation"
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.create_function("checksum", -1, checksum, deterministic=True)
        db.execute(key, (b"[[1,2],{}]",))
    db.close()
    with Gate("shop", plugins=[Journal(tmp_path)], control_socket=False):
        refused = echo.with_options(key="a").submit(1)
        with pytest.raises(KeyReused):
            refused.result(60)


def test_a_callback_may_wait_for_another_durable_token(tmp_path: Path) -> None:
    """The thread on which tokens end is lent meanwhile, so those end that it waits for, and all others."""
    with Gate("shop", plugins=[Journal(tmp_path)], control_socket=False):
        found: Reply[list[Any]] = Reply()
        called = echo.submit(1)
        called.add_done_callback(lambda _: found._set([echo(2), add.submit(1, 2).result(60)]))
        assert found.result(60) == [2, 3]
        assert add.submit(1, 2).result(60) == 3
    assert not [thread.name for thread in threading.enumerate() if "journal" in thread.name]
