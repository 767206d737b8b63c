"""The metrics of all gates together."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import httpx
import pytest
from admin_site import served
from callers import ANN, OWN, gates_of, grants
from gated_code import LIMIT
from prometheus_client.parser import text_string_to_metric_families
from tiers import in_ci

from tokengate import Gate, token
from tokengate.admin import _metrics
from tokengate.admin._principal import Principal
from tokengate.telemetry import Prometheus, Telemetry


@token
def resize(size: int) -> int:
    return size


def telemetry() -> Telemetry:
    return Telemetry(prometheus=Prometheus())


def up(answer: httpx.Response) -> dict[str, float]:
    """Return {name of a gate: whether it has answered}."""
    families = text_string_to_metric_families(answer.text)
    samples = [one for family in families for one in family.samples]
    return {one.labels["gate"]: one.value for one in samples if one.name == "tokengate_admin_gate_up"}


def test_the_metrics_of_gates_are_one_text() -> None:
    """Each family is there once, with the samples of all gates and their label; gates without Telemetry have none."""
    with (
        Gate("shop", plugins=[telemetry()]) as shop,
        Gate("office", plugins=[telemetry()]) as office,
        Gate("bare"),
        served() as site,
        site.client() as client,
    ):
        for gate in (shop, office):
            with gate.entered():
                resize.submit(1).result(LIMIT)
        answer = client.get("/metrics")
        names = {row["gate"]: row["name"] for row in client.get("/api/v1/gates").json()["rows"]}
    families = list(text_string_to_metric_families(answer.text))
    samples = [one for family in families for one in family.samples]

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    types = [line for line in answer.text.splitlines() if line.startswith("# TYPE")]
    assert len({*types}) == len(types) == len(families) > 5
    ended = [one for one in samples if one.name == "tokengate_tokens_total" and one.labels["state"] == "completed"]
    counts = Counter[str]()
    for one in ended:
        counts[one.labels["gate"]] += int(one.value)
    assert counts == {names["shop"]: 1, names["office"]: 1}
    assert {one.labels["gate"] for one in samples} == {names["shop"], names["office"]}
    assert up(answer) == {names["shop"]: 1.0, names["office"]: 1.0}


@in_ci
def test_a_gate_that_does_not_show_its_metrics_is_not_up(tmp_path: Path) -> None:
    """It counts what the selectors of a grant hide, so it needs the right `view` without one; the others are there."""
    with (
        gates_of(tmp_path / "tokengate.toml", plugins=[telemetry()]) as open_gate,
        served() as site,
        site.client("ann") as client,
    ):
        site.doors.sessions["ann"] = Principal(f"uid:{ANN}", ANN, login="ann")
        open_gate(grants((f"uid:{OWN}", "admin"), (f"uid:{ANN}", "viewer", "tenant=acme")))
        answer = client.get("/metrics")

    assert answer.status_code == 200
    assert [*up(answer).values()] == [0.0]
    assert "tokengate_tokens" not in answer.text


@in_ci
def test_a_gate_that_does_not_answer_holds_up_no_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its time, like all at once, and is not up."""
    monkeypatch.setattr(_metrics, "_SECONDS", 0.01)
    with Gate("shop", plugins=[telemetry()]), served() as site, site.client() as client:
        ask = site.site.gates.ask

        async def late(*args: object) -> bytes:
            await asyncio.Event().wait()
            return await ask(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(site.site.gates, "ask", late)
        answer = client.get("/metrics")

    assert [*up(answer).values()] == [0.0]
