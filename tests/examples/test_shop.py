"""The shop: what its front page promises."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tokengate import ChildRestarting, ChildStarted, Gate

SHOP = Path(__file__).parents[2] / "examples" / "shop.py"

PATIENCE = 20.0

# Enough for several crashes of payments.
ORDERS = 12


@pytest.fixture
def shop() -> ModuleType:
    """The module, freshly imported."""
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
    with shop.make_gate(customers=0) as gate:
        gate.subscribe(lambda event: restarts.append(event) if isinstance(event, ChildRestarting) else None)
        outcomes = place_orders(gate, ORDERS)
        gate.find("payments").proxy().actor_urn.result(PATIENCE)

    assert {"paid", "declined", "failed"} == set(outcomes)
    assert ["billing/payments"] * outcomes.count("failed") == [event.child for event in restarts]


def test_a_crash_of_payments_leaves_inventory_untouched(shop: ModuleType) -> None:
    """Inventory is the same instance after crashes of payments, with its state."""
    with shop.make_gate(customers=0) as gate:
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
    """What left the stock is what was paid for."""
    with shop.make_gate(customers=0) as gate:
        outcomes = place_orders(gate, ORDERS)
        stock = gate.find("inventory").proxy().stock.result(PATIENCE)

    assert 100 - 2 * outcomes.count("paid") == stock["cups"]


def test_orders_keeps_count_of_every_order(shop: ModuleType) -> None:
    """Placed = paid + declined + failed."""
    with shop.make_gate(customers=0) as gate:
        outcomes = place_orders(gate, ORDERS)
        orders = gate.find("orders").proxy()
        placed, counted = orders.placed.result(PATIENCE), orders.outcomes.result(PATIENCE)

    assert (ORDERS, Counter(outcomes)) == (placed, counted)


def test_the_last_line_adds_up(shop: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    """At the stop a last line sums up, and no order that a customer placed is missing in it."""
    crashed = threading.Event()

    def listen(event: object) -> None:
        if isinstance(event, ChildStarted) and event.child == "billing/payments" and event.restart == 2:
            crashed.set()

    with shop.make_gate(customers=3) as gate:
        gate.subscribe(listen)
        assert crashed.wait(PATIENCE)
    report = gate.close()
    lines = capfd.readouterr().out.splitlines()

    check_output(lines)
    assert (report.clean, report.terminated) == (True, 0)


def check_output(lines: list[str]) -> None:
    """Check that the lines of a run fit together."""
    summary = re.fullmatch(r"shop: (\d+) orders placed = (\d+) paid \+ (\d+) declined \+ (\d+) failed", lines[-1])
    assert summary is not None
    placed, *parts = (int(number) for number in summary.groups())
    orders = [line.rpartition(", ")[2] for line in lines if line.startswith("order ")]
    crashes = sum(line.startswith("payments: crashed") for line in lines)
    starts = lines.count("payments: ready")

    assert sum(parts) == placed == len(orders)
    assert parts == [orders.count("paid"), orders.count("declined"), orders.count("failed")]
    assert crashes == parts[2]
    assert starts - crashes in (0, 1)  # the stop may come before the last restart


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_line_runs_it_until_a_signal(number: signal.Signals) -> None:
    """`tokengate run examples/shop.py:gate` serves orders; SIGINT and SIGTERM end it in order, with code 0."""
    command = [sys.executable, "-m", "tokengate", "run", f"{SHOP}:gate"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if len(lines) == 10:
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)

    check_output([*lines, *out.splitlines()])
    assert (process.returncode, "gate 'shop' stopped after" in err) == (0, True)
