"""The shop: what its front page promises."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import threading
from collections import Counter
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import programs
import pytest

from tokengate import Gate
from tokengate.events import ChildStarted, RestartScheduled
from tokengate.history._reader import Reader

pytestmark = pytest.mark.usefixtures("programs")

SHOP = Path(__file__).parents[2] / "examples" / "shop.py"

PATIENCE = 60.0

# Enough for several crashes of payments.
ORDERS = 8


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, freshly imported."""
    monkeypatch.syspath_prepend(str(SHOP.parent))
    spec = importlib.util.spec_from_file_location("shop", SHOP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def place_orders(gate: Gate, number: int) -> list[str]:
    """Place orders of two cups and return what became of them."""
    orders = gate.find("orders").proxy()
    return [orders.place("cups", 2).result(PATIENCE) for _ in range(number)]


def test_an_order_whose_payment_crashes_fails_and_the_next_one_is_served(shop: ModuleType) -> None:
    """The supervisor of payments starts a new one; only the order that was being paid is reported as failed."""
    restarts: list[Any] = []
    with shop.make_gate(customers=()) as gate:
        gate.subscribe(lambda event: restarts.append(event) if isinstance(event, RestartScheduled) else None)
        outcomes = place_orders(gate, ORDERS)
        gate.find("payments").proxy().actor_urn.result(PATIENCE)

    assert {"paid", "declined", "failed"} == set(outcomes)
    assert ["billing/payments"] * outcomes.count("failed") == [event.child for event in restarts]


def test_a_crash_of_payments_leaves_inventory_untouched(shop: ModuleType) -> None:
    """Inventory is the same instance after crashes of payments, with its state."""
    with shop.make_gate(customers=()) as gate:
        inventory = gate.find("inventory").proxy()
        inventory.reserve("honey", 7).result(PATIENCE)
        outcomes = place_orders(gate, ORDERS)
        (info,) = [
            info for info in gate.find("backoffice").proxy().which_children().result(PATIENCE) if info.id == "inventory"
        ]
        stock = inventory.stock.result(PATIENCE)

    assert "failed" in outcomes
    assert (info.restarts, stock["honey"]) == (0, 93)


def test_stock_of_orders_that_are_not_paid_is_released(shop: ModuleType) -> None:
    """What left the stock is what was paid for: the reservations of other orders are undone."""
    with shop.make_gate(customers=()) as gate:
        outcomes = place_orders(gate, ORDERS)
        stock = gate.find("inventory").proxy().stock.result(PATIENCE)

    assert 100 - 2 * outcomes.count("paid") == stock["cups"]


def test_an_order_that_an_operator_rolls_back_gives_its_goods_back(shop: ModuleType) -> None:
    """Its fraud check runs away: `compensate` ends it, and the reservation is undone before the order fails."""
    with shop.make_gate(customers=(), runaway=1) as gate:
        order = gate.find("orders").proxy().place("cups", 2)
        while not gate.control.compensate("operation=check_fraud,state=running"):
            pass  # it has not begun yet
        outcome = order.result(PATIENCE)
        stock = gate.find("inventory").proxy().stock.result(PATIENCE)

    assert (outcome, stock["cups"]) == ("failed", 100)


def test_orders_keeps_count_of_every_order(shop: ModuleType) -> None:
    """Placed = paid + declined + failed."""
    with shop.make_gate(customers=()) as gate:
        outcomes = place_orders(gate, ORDERS)
        orders = gate.find("orders").proxy()
        books = orders.books.result(PATIENCE)

    assert (ORDERS, Counter(outcomes)) == (books.placed, books.outcomes)


@pytest.mark.parametrize("service", ["inventory", "mail", "payments"])
def test_no_order_is_lost_when_a_service_is_told_to_fail(shop: ModuleType, service: str) -> None:
    """Fault injection: the service crashes and is restarted, and every order that was placed has one outcome."""
    restarts: list[Any] = []
    with shop.make_gate(customers=(), faults={service: 0.3}, seed=1) as gate:
        gate.subscribe(lambda event: restarts.append(event) if isinstance(event, RestartScheduled) else None)
        outcomes = place_orders(gate, ORDERS)
        books = gate.find("orders").proxy().books.result(PATIENCE)

    assert (ORDERS, Counter(outcomes)) == (books.placed, books.outcomes)
    assert any(event.child.endswith(service) and "InjectedFault" in str(event.reason) for event in restarts)


def test_the_books_outlive_the_actor_that_keeps_them(shop: ModuleType) -> None:
    """Orders itself is told to fail: what it had counted is still counted, and customers come back with it."""
    with shop.make_gate(customers=("customer-1",), faults={"orders": 0.3}, seed=1) as gate:
        orders = gate.find("orders").proxy()
        errors: list[BaseException | None] = []
        while len(errors) < ORDERS or errors.count(None) == len(errors):  # the customer's order may meet the fault
            errors.append(orders.place("tea", 1).exception(PATIENCE))
        books = orders.books.result(PATIENCE)
        front = gate.find("front").proxy().which_children().result(PATIENCE)

    placed = errors.count(None)
    assert 0 < placed < len(errors)
    assert placed <= books.placed == sum(books.outcomes.values())  # the customer may have ordered, too
    assert {info.id for info in front} == {"orders", "customers"}


@pytest.mark.parametrize("text", ["paymets:0.2", "payments", "payments:", "payments:2", "payments:nan", "payments:x"])
def test_a_fault_that_cannot_be_meant_is_refused(
    shop: ModuleType, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names what was typed and the remedy."""
    with pytest.raises(SystemExit) as end:
        shop.options(["--fail", text])

    assert end.value.code == 2
    assert f"'{text}': the" in capsys.readouterr().err


def test_the_last_line_adds_up(shop: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    """At the stop a last line sums up, and no order that a customer placed is missing in it."""
    crashed = threading.Event()

    def listen(event: object) -> None:
        if isinstance(event, ChildStarted) and event.child == "billing/payments" and event.restart == 2:
            crashed.set()

    with shop.make_gate() as gate:
        gate.subscribe(listen)
        assert crashed.wait(PATIENCE)
    report = gate.close()
    lines = capfd.readouterr().out.splitlines()

    check_output(lines)
    assert (report.clean, report.terminated) == (True, 0)


def check_output(lines: list[str]) -> None:
    """Check that the lines of a run fit together; payments may be started again while the shop closes."""
    last = [line for line in lines if not line.startswith(("payments: ", "billing: "))][-1]
    summary = re.fullmatch(r"shop: (\d+) orders placed = (\d+) paid \+ (\d+) declined \+ (\d+) failed", last)
    assert summary is not None
    placed, *parts = (int(number) for number in summary.groups())
    orders = [line.rpartition(", ")[2] for line in lines if line.startswith("order ")]
    crashes = sum(line.startswith("payments: crashed") for line in lines)
    starts = lines.count("payments: ready")

    assert sum(parts) == placed == len(orders)
    assert parts == [orders.count("paid"), orders.count("declined"), orders.count("failed")]
    assert crashes == parts[2]
    assert starts - crashes in (0, 1)  # the stop may come before the last restart


def run_shop(number: signal.Signals, *arguments: str, lines: int = 10) -> tuple[int, list[str], str]:
    """Run the shop until it has printed so many lines, then send a signal; return code, output and errors."""
    command = ["-m", "tokengate", "run", f"{SHOP}:gate", *arguments]
    process = programs.Program(*command, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    printed = [line.rstrip() for line in islice(process.stdout, lines)]
    process.send_signal(number)
    out, err = process.communicate()
    return process.wait(), [*printed, *out.splitlines()], err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_line_runs_it_until_a_signal(number: signal.Signals) -> None:
    """`tokengate run examples/shop.py:gate` serves orders; SIGINT and SIGTERM end it in order, with code 0."""
    code, lines, err = run_shop(number)

    check_output(lines)
    assert (code, "gate 'shop' stopped after" in err) == (0, True)


def test_telemetry_keeps_a_history(shop: ModuleType, tmp_path: Path) -> None:
    """`--telemetry DIR`: the orders are in files."""
    with shop.make_gate(customers=(), telemetry=tmp_path) as gate:
        assert len(place_orders(gate, 2)) == 2

    places = Reader(tmp_path / "history").records("operation=Orders.place")
    assert [one.state for one in places] == ["completed"] * 2


def test_the_command_line_injects_faults() -> None:
    """`-- --fail payments:0.5`: restarts are told as they happen, and the books add up."""
    code, lines, _ = run_shop(signal.SIGINT, "--", "--fail", "payments:0.5", "--seed", "3", lines=20)

    check_output([line for line in lines if not line.startswith("billing: ")])
    assert code == 0
    assert any(
        re.match(r"billing: restarts billing/payments, attempt \d+, in 0.\d+ s, after error", line) for line in lines
    )
