"""A small shop, as a hierarchy of services. Run it, watch it for some seconds, and stop it with Ctrl-C:

    tokengate run examples/shop.py:gate

An order reserves stock, charges a card and sends a mail. The payment gateway is flaky, and now and then it takes the
payments actor down with it. The supervisor `billing` starts a new one, the order that was being paid is reported as
failed, its stock goes back; and inventory, which is under another supervisor, never notices.

    shop                     the gate: starts from the top down, stops from the bottom up
    ├── backoffice           a supervisor
    │   ├── inventory        keeps the stock
    │   └── mail             writes to customers
    ├── billing              a supervisor with patience
    │   └── payments         crashes now and then
    └── front                a supervisor
        ├── orders           sees each order through to paid, declined or failed
        └── customer-1 ...   order something every now and then
"""

from __future__ import annotations

import random
from collections import Counter

import trio

from tokengate import ChildSpec, CpuActor, Gate, IoActor, Supervisor, current_gate, token

GOODS = ("tea", "cups", "honey")


class CardDeclined(Exception):
    """The bank says no. That is an answer."""


class GatewayGlitch(Exception):
    """The gateway said something that nobody understands. That is a crash."""


@token
async def charge_card(order: int) -> None:
    """Ask the payment gateway. The number of the order decides what happens, so that all runs are alike."""
    luck = random.Random(f"payment {order}").random()
    await trio.sleep(0.02 + 0.05 * luck)
    if luck < 0.10:
        raise GatewayGlitch("the gateway answered nonsense")
    if luck < 0.25:
        raise CardDeclined


class Inventory(CpuActor):
    """Keeps the stock. Nothing else is its business, so nothing else can crash it."""

    def __init__(self) -> None:
        super().__init__()
        self.stock = dict.fromkeys(GOODS, 100)

    def reserve(self, item: str, quantity: int) -> None:
        if self.stock[item] < quantity:
            print(f"inventory: a delivery of {item}")
            self.stock[item] += 100
        self.stock[item] -= quantity

    def release(self, item: str, quantity: int) -> None:
        self.stock[item] += quantity


class Mail(IoActor):
    """Writes to customers."""

    async def send(self, _text: str) -> None:
        await trio.sleep(0.01)  # as long as a mail server may take


class Payments(IoActor):
    """Charges cards. An exception that is not among the expected ones is its end; then a new one is started."""

    expected = (CardDeclined,)

    def on_start(self) -> None:
        print("payments: ready")

    def on_failure(self, *error: object) -> None:
        print(f"payments: crashed, {error[1]}")

    async def charge(self, order: int) -> None:
        await charge_card(order)


class Orders(IoActor):
    """Sees each order through, one after the other, and keeps count."""

    def __init__(self) -> None:
        super().__init__()
        self.placed = 0
        self.outcomes: Counter[str] = Counter()

    def on_start(self) -> None:
        gate = current_gate()
        assert gate is not None  # it is open, or nobody would be here
        # Each call through a proxy is a token. Proxies stay valid when the actor behind them is restarted.
        self._inventory = gate.find("inventory").proxy()
        self._payments = gate.find("payments").proxy()
        self._mail = gate.find("mail").proxy()

    async def place(self, item: str, quantity: int) -> str:
        self.placed += 1
        order, outcome = self.placed, "failed"  # unless we hear otherwise
        try:
            await self._inventory.reserve(item, quantity)
            outcome = await self._charge(order)
            if outcome == "paid":
                await self._mail.send(f"{quantity} {item} will be with you soon")
            else:
                await self._inventory.release(item, quantity)
        finally:  # even when a hurried stop cuts it short, the order is counted
            self.outcomes[outcome] += 1
            print(f"order {order}: {quantity} {item}, {outcome}")
        return outcome

    async def _charge(self, order: int) -> str:
        try:
            await self._payments.charge(order)
        except CardDeclined:
            return "declined"
        except Exception:  # payments has crashed over this order, and its supervisor sees to that
            return "failed"
        return "paid"

    def on_stop(self) -> None:
        counts = " + ".join(f"{self.outcomes[outcome]} {outcome}" for outcome in ("paid", "declined", "failed"))
        print(f"shop: {self.placed} orders placed = {counts}")


class Customer(IoActor):
    """Orders something, then tells itself to do so again: each message is short, so the shop can close quickly."""

    def on_start(self) -> None:
        gate = current_gate()
        assert gate is not None
        self._gate, self._orders = gate, gate.find("orders").proxy()
        self._random = random.Random(self.actor_ref.path)
        self.actor_ref.tell("order something")

    async def on_receive(self, message: str) -> None:
        await trio.sleep(self._random.uniform(0.2, 0.6))
        if not self._gate.stopping:
            await self._orders.place(self._random.choice(GOODS), self._random.randint(1, 5))
            self.actor_ref.tell(message)


def make_gate(customers: int) -> Gate:
    """Return a shop that is not open yet."""
    shoppers = [ChildSpec(f"customer-{number}", Customer) for number in range(1, customers + 1)]
    children = [
        Supervisor.child_spec("backoffice", [ChildSpec("inventory", Inventory), ChildSpec("mail", Mail)]),
        Supervisor.child_spec("billing", [ChildSpec("payments", Payments)], intensity=20, period=5.0),
        Supervisor.child_spec("front", [ChildSpec("orders", Orders), *shoppers]),
    ]
    return Gate("shop", children=children)


gate = make_gate(customers=3)
