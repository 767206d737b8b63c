"""The API does what its document says: what the schema allows is accepted, all else is refused, and nothing fails."""

from __future__ import annotations

import gc
import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import schemathesis
import schemathesis.hooks
import schemathesis.openapi
import tallies  # it declares a noun
import trio
from admin_site import Served, served
from callers import OWN
from jsonschema_rs import is_valid
from schemathesis.config import GenerationConfig, SchemathesisConfig
from schemathesis.engine import events, from_schema
from tiers import TORTURE, in_ci

from tokengate import Breaker, CpuActor, Gate, Policy, Throttle, checkpoint, token
from tokengate.admin._principal import Principal
from tokengate.errors import UnknownActor
from tokengate.history import History
from tokengate.telemetry import Prometheus, Telemetry
from tokengate.types import command

_TOKEN: Final = "tgk_of_the_test"
_WAITS: Final = ("wait", "grace", "sample")  # arguments that let a gate take its time
_GATE: Final = "/api/v1/gates/{gate}"

_over = threading.Event()


@token(concurrency=2, show="*", policy=Policy(breaker=Breaker(), throttle=Throttle(concurrency=5, key="tenant")))
def resize(_size: int) -> None:
    while not _over.wait(0.01):
        checkpoint()


@token
async def fetch(_size: int) -> None:
    await trio.sleep_forever()


@token
def count(size: int) -> int:
    return size


class Stock(CpuActor):
    def __init__(self) -> None:
        super().__init__()
        self.tea = 1

    @command
    def restock(self, item: str, count: int = 1) -> dict[str, int]:
        return {item: count}


@attrs.define
class Shop:
    """A gate whose tokens and actors may be ended: there are new ones before each request.

    Attributes:
        gate: with tokens, actors, policies, telemetry, history, and a noun of a plugin.
        site: the application.
        name: of the gate, in paths.
        document: the OpenAPI document, without streams, which do not end.
        chance: draws values.
    """

    gate: Gate
    site: Served
    name: str
    document: Any
    chance: random.Random

    def fill(self) -> None:
        """Have a dozen tokens, and an actor."""
        if len(self.gate._open_system.live) < 12:
            for size in range(6):
                resize.with_options(tags={"tenant": "acme"}).submit(size)
                fetch.submit(size)
                count.submit(size)
        try:
            self.gate.find("stock")
        except UnknownActor:
            self.gate.spawn(Stock, name="stock")

    def known(self) -> dict[str, list[Any]]:
        """Return {argument: values that mean something in this gate}."""
        ids = list(self.gate._open_system.live)
        numbers = [row.number for row in self.gate.control.proposals("open")] or [1]
        return {
            "select": ["*", "operation=resize", "tenant=acme", str(ids[0]), [ids[-1]], "stock"],
            "name": ["stock", "resize", "/", "1"],
            "number": numbers[-3:],
            "token": ids,
            "method": ["restock"],
            "verb": ["pause"],
            "seconds": ["30s", 5],
            "values": [{"timeout": "30s"}, {"tea": 2}],
            "affinity": ["cpu", "io"],
            "memory": ["1GiB", 10**9],
            "until": [""],
            "since": ["1h"],
        }

    def prepare(self, operation: str, arguments: Any, schema: Any, *, allowed: bool) -> None:
        """Shorten what a request waits for, and have it mean something, if the schema allows its arguments.

        Args:
            operation: method and path.
            arguments: of the query or the body; changed in place.
            schema: {name: schema of an argument}.
            allowed: whether the schema allows them.
        """
        if not isinstance(arguments, dict):
            return
        for name in _WAITS:
            if name in schema and (allowed or _is_long(arguments.get(name, 5))):
                arguments[name] = 0.01
        if not allowed or (not operation.startswith("POST") and "/" not in operation.partition("{gate}/")[2]):
            return
        for name, known in self.known().items():
            values = [value for value in known if name in schema and is_valid(schema[name], value)]
            if values and name in arguments and self.chance.random() < 0.7:
                arguments[name] = self.chance.choice(values)
        if operation.endswith("/propose"):
            arguments["args"] = {"select": "*"}


def _is_long(seconds: Any) -> bool:
    try:
        return 0.01 < float(seconds) <= 3600
    except (TypeError, ValueError):
        return False


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> Iterator[Shop]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    _over.clear()
    plugins = [Telemetry(prometheus=Prometheus()), History(tmp_path / "history"), tallies.Tally()]
    with Gate("shop", plugins=plugins) as gate, served() as site, site.client() as client:
        site.doors.tokens[_TOKEN] = Principal(f"uid:{OWN}", OWN, login="test")
        name = client.get("/api/v1/gates").json()["rows"][0]["name"]
        document = client.get("/api/v1/openapi.json").json()
        for path in ("/watch", "/audit-records/follow"):
            del document["paths"][_GATE + path]
        made = Shop(gate, site, name, document, random.Random(seed))
        made.fill()
        yield made
        _over.set()
        gate.close(drain=False)
    gc.collect()  # the connections of what sends the requests are in circles


@attrs.define
class Findings:
    """What came of the requests.

    Attributes:
        statuses: {operation: {status: how often}}.
        failures: {operation, check, what it says: an example}.
    """

    statuses: dict[str, Counter[int]] = attrs.field(factory=dict)
    failures: dict[tuple[str, ...], str] = attrs.field(factory=dict)

    @property
    def cases(self) -> int:
        return sum(found.total() for found in self.statuses.values())

    def note(self, event: Any) -> None:
        """Note what an event of a run says."""
        if isinstance(event, (events.NonFatalError, events.FatalError)):
            error = getattr(event, "value", None) or event.exception  # type: ignore[union-attr]
            self.failures["a request", type(error).__name__] = str(error)
        elif isinstance(event, events.ScenarioFinished):
            for id, checks in event.recorder.checks.items():
                for check in checks:
                    if check.failure_info is not None:
                        case, failure = event.recorder.cases[id].value, check.failure_info.failure
                        answer = event.recorder.interactions[id].response
                        said = answer.content[:300] if answer is not None else b""
                        key = (event.recorder.label, check.name, failure.title)
                        self.failures[key] = f"{failure.message[:300]}: {case.body!r:.300} {case.query} {said!r}"


def run(shop: Shop, paths: Any, examples: int, seed: int, found: Findings, *, coverage: bool) -> None:
    """Send what the schema of some paths allows and what it does not, and check the answers in every way there is."""
    schema = schemathesis.openapi.from_dict({**shop.document, "paths": paths}, config=SchemathesisConfig(seed=seed))
    config = schema.config
    config.update(
        base_url=f"http://127.0.0.1:{shop.site.port}",
        headers={"Authorization": f"Bearer {_TOKEN}"},
        request_timeout=60,
        continue_on_failure=True,
    )
    config.parameters = {"path.gate": shop.name}
    config.generation = GenerationConfig(max_examples=examples, database="none", with_security_parameters=False)
    # 403 is the gate's word about a proposal that is over; 422 about values that no schema can tell: see `accepted`.
    config.checks.positive_data_acceptance.expected_statuses = ["2xx", "403", "404", "409", "422"]
    config.phases.coverage.enabled = coverage
    config.phases.fuzzing.enabled = bool(examples)
    config.phases.stateful.enabled = False  # the document has no links: what an operation needs is made by `Shop`

    def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
        shop.fill()
        allowed = case.meta is not None and case.meta.generation.mode.is_positive
        definition, operation = case.operation.definition.raw, case.operation.label
        query = {one["name"]: one["schema"] for one in definition.get("parameters", ())}
        shop.prepare(operation, case.query, query, allowed=allowed)
        if body := definition.get("requestBody"):
            name = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            properties = shop.document["components"]["schemas"][name]["properties"]
            shop.prepare(operation, case.body, properties, allowed=allowed)

    def accepted(_context: Any, response: Any, case: Any) -> None:
        found.statuses.setdefault(case.operation.label, Counter())[response.status_code] += 1
        if case.meta is not None and case.meta.generation.mode.is_positive and response.status_code >= 400:
            problem = response.json()
            assert problem["title"] != "BadArguments", problem
            assert problem["remedy"] or problem["detail"], problem

    schemathesis.hook(before_call)
    schemathesis.check(accepted)
    try:
        for event in from_schema(schema).execute():
            found.note(event)
    finally:
        schemathesis.hooks.unregister(before_call)
        schemathesis.checks.CHECKS.unregister("accepted")


@in_ci
@pytest.mark.filterwarnings("ignore")  # of the libraries that make requests
@pytest.mark.parametrize("part", range(8))
def test_what_the_schema_allows_is_accepted_and_all_else_is_refused(shop: Shop, seed: int, part: int) -> None:
    """No answer of 500 and more, none without a principal, none of another form than the document has.

    The eight parts together send a thousand requests: some values to each operation, and to two of each part, which are
    drawn, all that lies on a bound and beyond; in the long tier ten thousand, the last to all.
    """
    paths = dict(sorted(shop.document["paths"].items())[part::8])
    drawn = paths if TORTURE else dict(shop.chance.sample([*paths.items()], 2))
    found = Findings()
    run(shop, drawn, 0, seed, found, coverage=True)
    run(shop, paths, 95 if TORTURE else 9, seed, found, coverage=False)
    operations = {f"{method.upper()} {path}" for path in paths for method in ("get", "post") if method in paths[path]}
    print(f"{found.cases} requests to {len(operations)} operations")
    for key, example in found.failures.items():
        print(*key, example, sep="\n    ")

    assert found.failures == {}
    assert found.statuses.keys() == operations
    assert found.cases >= (1_000 if TORTURE else 90)
    assert all(status < 500 for statuses in found.statuses.values() for status in statuses)
