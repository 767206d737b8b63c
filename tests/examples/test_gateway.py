"""The gateway: what its front page promises."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
from itertools import islice
from pathlib import Path
from types import ModuleType

import programs
import pytest

from tokengate import Gate
from tokengate.history._reader import Reader

pytestmark = pytest.mark.usefixtures("programs")

GATEWAY = Path(__file__).parents[2] / "examples" / "gateway.py"

LIMIT = 60.0  # seconds; only reached when something is broken

NUMBERS = r"(\d+) new, (\d+) latest, (\d+) refused, (\d+) late, (\d+) failed"


@pytest.fixture
def gateway() -> ModuleType:
    """The module, freshly imported."""
    spec = importlib.util.spec_from_file_location("gateway", GATEWAY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.PATIENCE = LIMIT  # nothing is late here
    return module


def test_an_api_that_is_down_is_answered_for_by_the_latest_forecast(gateway: ModuleType) -> None:
    """The caller gets an answer, and the token says why it is not a new one."""
    api, tally = gateway.Api(), gateway.Tally()
    api.latest["Oslo"] = "Oslo: rain"
    api.mood = "down"
    with Gate("gateway", control_socket=False):
        one = gateway.make_forecast(api).with_options(tags={"tenant": "free"}).submit("Oslo")
        answer = one.result(LIMIT)
    tally.note(one)

    assert (answer, one.reason) == ("Oslo: rain", "ConnectionError")
    assert tally.got == {("free", "latest"): 1}
    assert (tally.retries, tally.reasons) == (2, {"ConnectionError": 1})


def test_an_api_that_is_well_answers(gateway: ModuleType) -> None:
    """Each call is one token, with a new forecast."""
    api, tally = gateway.Api(seed=1), gateway.Tally()
    with Gate("gateway", control_socket=False):
        forecast = gateway.make_forecast(api, with_policy=False).with_options(tags={"tenant": "paying"})
        tokens = [forecast.submit(city) for city in gateway.CITIES]
        answers = [one.result(LIMIT) for one in tokens]
    for one in tokens:
        tally.note(one)

    assert answers == [api.latest[city] for city in gateway.CITIES]
    assert tally.got == {("paying", "new"): len(gateway.CITIES)}


def test_telemetry_keeps_a_history(gateway: ModuleType, tmp_path: Path) -> None:
    """`--telemetry DIR`: what the calls got is in files."""
    gateway.main(["--seconds", "0.3", "--telemetry", str(tmp_path)])

    [row] = Reader(tmp_path / "history").operations("forecast")
    assert row.completed > 0


@pytest.mark.parametrize("arguments", [(), ("--without",)])
def test_it_shows_what_callers_get_until_ctrl_c(arguments: tuple[str, ...]) -> None:
    """A line for each half second, and a last one that adds up; Ctrl-C ends it in order."""
    process = programs.Program(str(GATEWAY), *arguments, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    first = next(islice(process.stdout, 0, 1)).rstrip()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()

    assert (process.wait(), err) == (0, "")
    assert re.fullmatch(rf"\w+, [\d.]+: \d+ asked: {NUMBERS}; \d+ retries.*", first)
    last = re.fullmatch(rf"(\d+) asked; of those that have ended: {NUMBERS}; \d+ retries", out.splitlines()[-1])
    assert last is not None
    asked, *ended = map(int, last.groups())
    assert sum(ended) <= asked
