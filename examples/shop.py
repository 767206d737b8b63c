"""A small shop, as a hierarchy of services. Run it, watch it for some seconds, and stop it with Ctrl-C:

    tokengate run examples/shop.py:gate

An order reserves stock, charges a card and sends a mail. The payment gateway is flaky, and now and then it takes the
payments actor down with it. The supervisor `billing` starts a new one, the order that was being paid is reported as
failed, and inventory, which is under another supervisor, never notices. An order is a transaction: whatever ends it
before it is paid, what it has reserved goes back into the stock.

    shop                     the gate: starts from the top down, stops from the bottom up
    ├── screen               shows this tree, with restarts as they happen (a plain trio function)
    ├── backoffice           a supervisor: each child for itself (one_for_one)
    │   ├── inventory        keeps the stock
    │   └── mail             writes to customers
    ├── billing              a supervisor
    │   └── payments         crashes now and then
    └── front                a supervisor: each child needs those before it (rest_for_one)
        ├── orders           sees each order through to paid, declined or failed
        └── customers        a supervisor
            └── customer-1   orders something every now and then; there are more of them

Break more of it: let payments crash on every fifth message, and orders on every twentieth, and see what is restarted.

    tokengate run examples/shop.py:gate -- --fail payments:0.2 --fail orders:0.05

Or let the check of the fifth order run away: nothing is paid any more, until you find it from another terminal and end
it (`tokengate ps`; docs/control.md is a guided tour).

    tokengate run examples/shop.py:gate -- --runaway 5

Or keep what it does in files, and ask them later, also when the shop has closed (docs/telemetry.md):

    tokengate run examples/shop.py:gate -- --telemetry /tmp/shop
    tokengate history --since 5m                        # also operations, metrics, watch
    tokengate trace-export --since 30s -o trace.json    # for ui.perfetto.dev

Or have it say how long its calls will take, and show how right that was (docs/prediction.md):

    tokengate run examples/shop.py:gate -- --predict    # also calibration, ps, describe
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import trio
from shop_screen import say, screen

from tokengate import Backoff, ChildSpec, CpuActor, Gate, IoActor, Policy, Retry, Supervisor, Token, token
from tokengate.control.registry import Plugin
from tokengate.history import History
from tokengate.predict import Predict
from tokengate.telemetry import Telemetry
from tokengate.types import Done, current_gate

GOODS = ("tea", "cups", "honey")
CUSTOMERS = tuple(f"customer-{number}" for number in range(1, 4))
SERVICES = ("inventory", "mail", "payments", "orders", *CUSTOMERS)


class CardDeclined(Exception):
    """The bank says no. That is an answer."""


class GatewayGlitch(Exception):
    """The gateway gave an answer that has no meaning. This is a crash."""


class InjectedFault(Exception):
    """A fault on purpose, to see what happens. This is a crash, too."""


class Fault:
    """Crashes a service on purpose. It belongs to the place, not to the instance, so its luck goes on over restarts."""

    def __init__(self, service: str, probability: float, seed: int) -> None:
        self._service, self._probability = service, probability
        self._random = random.Random(f"{seed} {service}")

    def strike(self) -> None:
        """Raise, with the probability that was asked for; called at the beginning of each message."""
        if self._random.random() < self._probability:
            raise InjectedFault(f"{self._service} fails on purpose")


@attrs.define
class Books:
    """The orders so far. They are kept outside of the actor that writes them, as a database would keep them."""

    placed: int = 0
    outcomes: Counter[str] = attrs.field(factory=Counter)


@token(show=("order", "runaway"))
def check_fraud(order: int, runaway: bool = False) -> int:
    """Compare an order with known frauds: plain Python, on a CPU thread. One that runs away never ends by itself."""
    score = checked = 0
    while checked < 1_000 or runaway:
        checked += 1
        score = (31 * score + order * checked) % 9_973
    return score


@token
async def charge_card(order: int) -> None:
    """Ask the payment gateway. The number of the order decides what happens, so that all runs are alike."""
    luck = random.Random(f"payment {order}").random()
    await trio.sleep(0.02 + 0.05 * luck)
    if luck < 0.10:
        raise GatewayGlitch("the gateway answered nonsense")
    if luck < 0.25:
        raise CardDeclined


@token
async def reserve(item: str, quantity: int) -> None:
    """Take goods of an order out of the stock."""
    await find("inventory").reserve(item, quantity)


@reserve.compensate(policy=Policy(retry=Retry(on=(InjectedFault,), attempts=5, wait=0.05)))
async def put_back(done: Done[None]) -> None:
    """Undo `reserve`, since the order is not paid; once more if inventory crashes over it."""
    await find("inventory").release(*done.args)


def find(service: str) -> Any:
    """Return the proxy of a service: each call through it is a token. It stays valid when the actor is restarted."""
    return open_gate().find(service).proxy()


def open_gate() -> Gate:
    """Return the gate of the code that asks."""
    gate = current_gate()
    assert gate is not None  # it is open, or this code would not run
    return gate


class Service:
    """Base of the services: each can be made to fail."""

    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self._fault = fault


class Inventory(Service, CpuActor):
    """Keeps the stock. Nothing else is its business, so nothing else can crash it."""

    show = ("stock",)  # by `tokengate state inventory`

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.stock = dict.fromkeys(GOODS, 100)

    def reserve(self, item: str, quantity: int) -> None:
        self._fault.strike()
        if self.stock[item] < quantity:
            say(f"inventory: a delivery of {item}")
            self.stock[item] += 100
        self.stock[item] -= quantity

    def release(self, item: str, quantity: int) -> None:
        self._fault.strike()
        self.stock[item] += quantity


class Mail(Service, IoActor):
    """Writes to customers."""

    async def send(self, _text: str) -> None:
        self._fault.strike()
        await trio.sleep(0.01)  # as long as a mail server may take


class Payments(Service, IoActor):
    """Charges cards. An exception that is not among the expected ones is its end; then a new one is started."""

    expected = (CardDeclined,)

    def __init__(self, fault: Fault, runaway: int) -> None:
        super().__init__(fault)
        self._runaway = runaway

    def on_start(self) -> None:
        say("payments: ready")

    def on_failure(self, *error: object) -> None:
        say(f"payments: crashed, {error[1]}")

    async def charge(self, order: int, customer: str) -> None:
        self._fault.strike()
        tags = {"tenant": customer}
        await (await check_fraud.with_options(tags=tags).asubmit(order, order == self._runaway))
        await charge_card.with_options(tags=tags)(order)


class Orders(Service, IoActor):
    """Sees each order through, one after the other, and keeps the books."""

    def __init__(self, fault: Fault, books: Books) -> None:
        super().__init__(fault)
        self.books = books

    def on_start(self) -> None:
        self._payments, self._mail = find("payments"), find("mail")

    async def place(self, item: str, quantity: int, customer: str = "somebody") -> str:
        self._fault.strike()
        self.books.placed += 1
        order, outcome = self.books.placed, "failed"  # unless we hear otherwise
        try:
            outcome = await self._sell(order, item, quantity, customer)
            if outcome == "paid":
                await survives(self._mail.send(f"{quantity} {item} will be with you soon"))
        finally:  # even when a hurried stop cuts it short, the order is counted
            self.books.outcomes[outcome] += 1
            say(f"order {order}: {quantity} {item}, {outcome}")
        return outcome

    async def _sell(self, order: int, item: str, quantity: int, customer: str) -> str:
        try:
            async with open_gate().transaction(f"order {order}"):  # an error that leaves it undoes what is done in it
                await reserve(item, quantity)
                await self._payments.charge(order, customer)
        except CardDeclined:
            return "declined"
        except Exception:  # a service has crashed over this order, and its supervisor sees to that
            return "failed"
        return "paid"

    def on_stop(self) -> None:
        counts = " + ".join(f"{self.books.outcomes[outcome]} {outcome}" for outcome in ("paid", "declined", "failed"))
        say(f"shop: {self.books.placed} orders placed = {counts}")


async def survives(token: Token[Any]) -> bool:
    """Wait for a token; return whether it completed. A crash is handled by the supervisor of the actor."""
    try:
        await token
    except Exception:
        return False
    return True


class Customer(Service, IoActor):
    """Orders something, then tells itself to do so again: each message is short, so the shop can close quickly."""

    def on_start(self) -> None:
        self._gate, self._orders = open_gate(), find("orders")
        self._random = random.Random(self.actor_ref.path)
        self.actor_ref.tell("order something")

    async def on_receive(self, message: str) -> None:
        self._fault.strike()
        await trio.sleep(self._random.uniform(0.2, 0.6))
        if not self._gate.stopping:
            name = self.actor_ref.path.rpartition("/")[2]
            await survives(self._orders.place(self._random.choice(GOODS), self._random.randint(1, 5), name))
            self.actor_ref.tell(message)


def make_gate(
    customers: Sequence[str] = CUSTOMERS,
    faults: Mapping[str, float] | None = None,
    seed: int = 0,
    watched: bool = False,
    runaway: int = 0,
    telemetry: Path | None = None,
    plugins: Sequence[Plugin] = (),
) -> Gate:
    """Return a shop that is not open yet.

    Args:
        customers: their names.
        faults: {service: the probability that one of its messages crashes it}.
        seed: of the faults.
        watched: whether its tree is shown.
        runaway: the order whose check runs away; 0 for none.
        telemetry: the directory of its history; None for no figures and no history.
        plugins: others that it has.
    """

    def service(name: str, actor_class: type[CpuActor | IoActor], *args: object) -> ChildSpec:
        return ChildSpec(name, actor_class, args=(Fault(name, (faults or {}).get(name, 0.0), seed), *args))

    def office(name: str, children: Sequence[ChildSpec], strategy: Any = "one_for_one") -> ChildSpec:
        """A supervisor with patience, which takes its time when a child crashes over and over."""
        return Supervisor.child_spec(
            name, children, strategy=strategy, intensity=20, period=5.0, backoff=Backoff(min=0.05, max=0.5)
        )

    shoppers = [service(name, Customer) for name in customers]
    children = [
        office("backoffice", [service("inventory", Inventory), service("mail", Mail)]),
        office("billing", [service("payments", Payments, runaway)]),
        office("front", [service("orders", Orders, Books()), office("customers", shoppers)], "rest_for_one"),
    ]
    return Gate(
        "shop",
        children=[ChildSpec("screen", screen), *children] if watched else children,
        plugins=[*([Telemetry(), History(telemetry)] if telemetry else []), *plugins],
    )


def fault(text: str) -> tuple[str, float]:
    """Read a fault as it is typed.

    Raises:
        argparse.ArgumentTypeError: it cannot be meant.
    """
    name, _, probability = text.rpartition(":")
    if name not in SERVICES:
        raise argparse.ArgumentTypeError(
            f"'{text}': there is no service '{name}'; write SERVICE:PROBABILITY, with one of {', '.join(SERVICES)}"
        )
    try:
        value = float(probability)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"'{text}': the probability is '{probability}'; write a number from 0 to 1")
    return name, value


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tokengate run examples/shop.py:gate --", description="A shop to be broken.")
    parser.add_argument(
        "--fail",
        type=fault,
        action="append",
        default=[],
        metavar="SERVICE:PROBABILITY",
        help=f"crash a service on some of its messages, for example payments:0.2; may be given again. "
        f"Services: {', '.join(SERVICES)}",
    )
    parser.add_argument("--runaway", type=int, default=0, metavar="ORDER", help="let the check of this order never end")
    parser.add_argument("--seed", type=int, default=0, help="of the faults (default: 0)")
    parser.add_argument("--telemetry", type=Path, metavar="DIR", help="keep figures, and a history in this directory")
    parser.add_argument("--predict", action="store_true", help="predict how long calls take")
    return parser.parse_args(arguments)


# Under `tokengate run` this file is what `sys.argv` begins with, and what follows is for us.
typed = options(sys.argv[1:] if Path(sys.argv[0]).name == Path(__file__).name else [])
gate = make_gate(
    faults=dict(typed.fail),
    seed=typed.seed,
    watched=True,
    runaway=typed.runaway,
    telemetry=typed.telemetry,
    plugins=[Predict(tags=("tenant",))] if typed.predict else [],
)
