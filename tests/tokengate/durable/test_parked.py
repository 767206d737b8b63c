"""Rows that cannot run here: they wait until their operation, their path or its parameters are as they need them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import journals
import pytest
from durable_operations import CpuCounter, add
from tiers import in_ci

from tokengate import Gate
from tokengate.durable import Journal

pytestmark = pytest.mark.usefixtures("programs")

Until = Callable[[Callable[[], object]], None]

ONE = "def charge(order: int) -> int: return order"
IMPORTED = """
from threading import Thread
from tokengate import token
from tokengate.operations._operation import operation_named

@token(durable=True, idempotent=True)
def charge(order: int) -> int: return order

found = []
thread = Thread(target=lambda: found.append(operation_named(f"{__name__}:charge")), daemon=True)
thread.start()
thread.join(10.0)
"""
TWO = "def charge(order: int, amount: int) -> int: return order * amount"


@contextmanager
def opened(directory: Path, **options: Any) -> Iterator[tuple[Gate, Journal]]:
    journal = Journal(directory / "journal", **options)
    with Gate("shop", plugins=[journal], control_socket=False) as gate:
        yield gate, journal


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Replaces the module `shop_of_test` by one with other code, in which each function is a durable operation."""

    def make(code: str, name: str = "shop_of_test") -> Any:
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(f"from tokengate import token\n@token(durable=True, idempotent=True)\n{code}", module.__dict__)
        return module

    return make


def leave(directory: Path, operation: Any, *args: Any, key: str | None = None) -> Any:
    """Leave a token of an operation in a journal."""
    with opened(directory) as (gate, _):
        gate.control.suspend(gate._operations[operation._spec].path)
        return operation._with_key(key).submit(*args)


def test_an_unknown_operation_is_parked_until_it_is_decorated(
    tmp_path: Path, shop: Callable[..., Any], until: Until
) -> None:
    """Case 22: no module is imported for it; its token runs soon after its module was."""
    left = leave(tmp_path, shop(ONE).charge, 17)
    del sys.modules["shop_of_test"]

    with opened(tmp_path) as (_, journal):
        assert add.submit(1, 2).result(10) == 3
        attached = journal.attach(left.uid)
        assert not attached.done()
        assert "shop_of_test" not in sys.modules
        shop(ONE)
        assert attached.result(30) == 17


def test_arguments_that_do_not_fit_are_parked(tmp_path: Path, shop: Callable[..., Any], until: Until) -> None:
    """Case 22: the row says so; it runs once its operation takes them again, in this process or a later one."""
    left = leave(tmp_path, shop(ONE).charge, 17)
    shop(TWO)
    with opened(tmp_path):
        until(lambda: [row["state"] for row in journals.rows(tmp_path / "journal")] == [3])
    with opened(tmp_path) as (_, journal):
        until(lambda: [row["state"] for row in journals.rows(tmp_path / "journal")] == [3])
        attached = journal.attach(left.uid)
        shop(ONE)
        assert attached.result(30) == 17


@in_ci
def test_messages_wait_for_their_actor(tmp_path: Path) -> None:
    """Case 22: a path that is unknown; the message is handled as soon as there is an actor."""
    with opened(tmp_path) as (gate, _):
        counter = gate.spawn(CpuCounter, name="counter")
        gate.control.suspend("counter")
        left = counter.proxy().add(5)
    with opened(tmp_path) as (gate, journal):
        attached = journal.attach(left.uid)
        assert not attached.done()
        gate.spawn(CpuCounter, name="counter")
        assert attached.result(10) == 5


def test_an_alias_gives_rows_to_the_operation_with_the_new_name(tmp_path: Path, shop: Callable[..., Any]) -> None:
    """Case 23: with their keys; calls from outside may use the old name."""
    left = leave(tmp_path, shop(ONE).charge, 17, key="order-17")
    del sys.modules["shop_of_test"]
    new = shop(ONE.replace("charge", "pay"), "till_of_test").pay

    with opened(tmp_path, aliases={"shop_of_test:charge": "till_of_test:pay"}) as (_, journal):
        assert journal.attach(left.uid).result(10) == 17
        assert new.with_options(key="order-17").submit(17).uid == left.uid
        assert journal.attach("shop_of_test:charge", key="order-17").uid == left.uid
    assert len(journals.rows(tmp_path / "journal")) == 1


def test_an_adapter_under_the_old_name_takes_the_old_arguments(tmp_path: Path, shop: Callable[..., Any]) -> None:
    """Case 23: after a change of the parameters, the function has a new name, and the old one calls it."""
    left = leave(tmp_path, shop(ONE).charge, 17)
    shop(f"def charge(order: int) -> int: return charge_amount(order, 2)\n{TWO.replace('charge', 'charge_amount')}")

    with opened(tmp_path) as (_, journal):
        assert journal.attach(left.uid).result(10) == 34


@pytest.mark.parametrize("options", [{"aliases": {"a": "b"}}, {"retention": -1}, {"retention": float("nan")}])
def test_options_are_checked(options: Any) -> None:
    """The error names option and remedy."""
    with pytest.raises(ValueError, match=f"{next(iter(options))} of the journal"):
        Journal("/nowhere", **options)


def test_an_operation_of_a_module_that_is_being_imported_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program may open its gate in its module: the threads of the journal do not wait until that is imported."""
    name = "shop_that_opens"
    (tmp_path / f"{name}.py").write_text(IMPORTED)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        module = importlib.import_module(name)
    finally:
        sys.modules.pop(name, None)

    assert [module.charge] == module.found
