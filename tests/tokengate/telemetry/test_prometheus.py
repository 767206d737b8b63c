"""Metrics of Prometheus: what a scrape has, that it stays small, and that dashboards and rules find all they name."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as in_open_metrics
from prometheus_client.parser import text_string_to_metric_families
from tiers import in_ci

from tokengate import CpuActor, Gate, token
from tokengate.control.stream._collector import Tally
from tokengate.control.stream._record import FINISHED, Batch, More
from tokengate.predict import Predict
from tokengate.telemetry import Prometheus, Telemetry
from tokengate.telemetry._figures import Figures
from tokengate.telemetry._prometheus import MOST, MetricCollector

Until = Callable[[Callable[[], bool]], None]

DASHBOARDS = Path(__file__).parents[3] / "docs" / "dashboards"
SECRET = "canary-7f3a"


@token
def resize(size: int) -> float:
    return 1 / size


class Worker(CpuActor):
    def on_receive(self, message: Any) -> Any:
        return message


def raw(operation: str, place: str, run: float = 0.25, more: More | None = None) -> tuple[Any, ...]:
    return (
        1,
        1,
        operation,
        place,
        "cpu",
        None,
        0,
        None,
        0,
        1,
        "completed",
        1.0,
        1.0,
        2.0,
        2.0 + run,
        0,
        1,
        FINISHED,
        more,
    )


def scrape(operations: int, places: int, tags: tuple[str, ...] = (), more: More | None = None, others: Any = ()) -> str:
    """Return the metrics of a gate with so many operations, each at so many places."""
    tallies: dict[str, Tally] = {}
    stream: Any = SimpleNamespace(collector=SimpleNamespace(tallies=tallies), lost=dict, utc=lambda at: at)
    load: Any = SimpleNamespace(saturation={"cpu": 0.5}, lag=_empty(), pauses=_empty())
    figures = Figures(stream.collector, lambda path, _name: path, tags)
    for number in range(operations):
        tally = tallies.setdefault(f"operation-{number}", Tally())
        for state in tally.ends:
            next(tally.ends[state])
        figures.take(Batch([raw(f"operation-{number}", f"place-{one}", more=more) for one in range(places)], "run"))
    registry = CollectorRegistry()
    registry.register(MetricCollector(figures, load, stream, lambda: 0, tags, others))  # type: ignore[arg-type]
    return (in_open_metrics if more else generate_latest)(registry).decode()


def _empty() -> Any:
    from tokengate.telemetry._sketch import Sketch

    return Sketch()


def series_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize(("operations", "places"), [(200, 1), (1, 200), pytest.param(200, 200, marks=in_ci)])
def test_a_scrape_has_at_most_2_000_series(operations: int, places: int) -> None:
    """What has no series of its own is counted in `_other`, so the sums stay exact."""
    text = scrape(operations, places)

    assert len(series_of(text)) <= MOST
    ended = {line for line in series_of(text) if line.startswith("tokengate_tokens_total")}
    assert sum(float(line.split()[-1]) for line in ended) == operations * 5
    runs = [line for line in series_of(text) if line.startswith("tokengate_run_seconds_count")]
    assert sum(float(line.split()[-1]) for line in runs) == operations * places


def test_metrics_of_others_count_for_that_bound() -> None:
    """The series of operations make room for them."""

    def hundreds(core: Any) -> Any:
        family = core.GaugeMetricFamily("lanterns", "Lit ones.", labels=("number",))
        for number in range(900):
            family.add_metric((str(number),), 1.0)
        return [family]

    series = series_of(scrape(200, 1, others=(hundreds,)))

    assert len(series) <= MOST
    assert sum(line.startswith("lanterns{") for line in series) == 900
    ended = [line for line in series if line.startswith("tokengate_tokens_total")]
    assert sum(float(line.split()[-1]) for line in ended) == 200 * 5


def test_the_newest_trace_of_a_bucket_is_its_exemplar() -> None:
    """In the format that has exemplars."""
    text = scrape(1, 1, more=More(trace_id="ab" * 16, span_id="cd" * 8))

    [line] = [one for one in text.splitlines() if "# {" in one]
    assert 'le="0.25"' in line
    assert f'trace_id="{"ab" * 16}"' in line


def test_dynamic_children_are_called_by_their_class(until: Until) -> None:
    """Case 17: actors come and go, and the scrape stays as it is; nothing in it is an id, a pid or an argument."""
    telemetry = Telemetry()
    with Gate("bounded", plugins=[telemetry], control_socket=False) as gate:
        for number in range(50):
            ref = gate.spawn(Worker, name=f"worker-{number}")
            ref.ask(SECRET)
            ref.stop()
        until(lambda: 'tokengate_wait_seconds_count{place="Worker"} 50.0' in telemetry.metrics())
        text = telemetry.metrics()

    assert not re.search(r"worker-\d", text)
    assert SECRET not in text


def test_every_metric_in_dashboard_and_rules_is_in_a_scrape(until: Until) -> None:
    """Case 18: by name, with the suffix that a histogram or a counter gives it."""
    with Gate("scraped", plugins=[telemetry := Telemetry(), Predict()], control_socket=False):
        resize.submit(1).result(60)
        until(lambda: "tokengate_run_seconds_count{" in telemetry.metrics())
        text = telemetry.metrics()
    found = {re.split(r"[{ ]", line)[0] for line in series_of(text)}
    described = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}

    used = (DASHBOARDS / "grafana.json").read_text() + (DASHBOARDS / "alerts.yaml").read_text()
    names = set(re.findall(r"\btokengate_[a-z_]+\b", used))
    assert len(names) >= 12
    assert {name for name in names if name not in found | described} == set()


def test_the_dashboard_is_one_of_grafana() -> None:
    """Each panel has queries, and a place of its own."""
    board = json.loads((DASHBOARDS / "grafana.json").read_text())

    places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
    assert len(set(places)) == len(places)
    assert all(target["expr"] for panel in board["panels"] for target in panel["targets"])


promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus' own tool is not installed")


@promtool
def test_prometheus_can_read_the_rules() -> None:
    """And finds nothing to complain about."""
    done = subprocess.run(
        ["promtool", "check", "rules", str(DASHBOARDS / "alerts.yaml")], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


@promtool
def test_prometheus_can_read_a_scrape() -> None:
    """With its own parser and its rules for names."""
    with Gate("checked", plugins=[telemetry := Telemetry()], control_socket=False):
        resize.submit(1).result(60)
        resize.submit(0).exception(60)
        text = telemetry.metrics()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert {family.name for family in text_string_to_metric_families(text)} >= {"tokengate_run_seconds"}


def test_values_of_tags_are_labels_that_stay_few(until: Until) -> None:
    """Case 17, with `tags=`: 50 values, then `_other`."""
    telemetry = Telemetry(prometheus=Prometheus(tags=("tenant",)))
    with Gate("tagged", plugins=[telemetry], control_socket=False):
        for number in range(60):
            resize.with_options(tags={"tenant": f"t{number}"}).submit(1).result(60)
        until(lambda: 'tenant="_other"} 10.0' in telemetry.metrics("tokengate_tokens_total"))
        text = telemetry.metrics("tokengate_tokens_total")

    assert len(series_of(text)) == 51
    assert 'tokengate_tokens_total{operation="resize",state="completed",tenant="_other"} 10.0' in text


@pytest.mark.parametrize("tags", ["tenant", ("a-b",), ("operation",), (1,), 5])
def test_a_tag_that_cannot_be_a_label_is_refused(tags: Any) -> None:
    """The text names it."""
    with pytest.raises(ValueError, match="tags"):
        Prometheus(tags=tags)
