"""Imported by the `conftest.py` of pykka's unpacked test suite: our actors as its runtimes, and what they replace."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from tests.types import Runtime  # pykka's

from actors import AsyncioActor, CpuActor, Future, IoActor


class PinnedActor(CpuActor):
    dispatcher = "pinned"


# {test of pykka's: why it is to fail here}, in terms of the decisions of this project's design. Each is run, and
# must fail.
REPLACED = {
    "tests/proxy/test_static_method_calls.py::test_exception_in_method_reraised_by_future": (
        "decision 2: an exception of an actor's own method is its crash as well as its caller's answer"
    ),
    "tests/test_logging.py::test_exception_is_logged_when_returned_to_caller": (
        "decision 2: it is logged as the crash that it is; only one that is `expected` is logged as an answer"
    ),
    "tests/test_actor.py::test_on_start_failure_causes_actor_to_stop": (
        "decision 9: start raises when on_start does, and there is no ref to a dead actor"
    ),
    "tests/test_logging.py::test_exception_in_on_start_is_logged": (
        "decision 9: what on_start raises is the starter's, who may log it"
    ),
    "tests/test_actor.py::test_all_actors_are_stopped_on_base_exception": (
        "decision 11: a BaseException ends the actor that raised it, never the others"
    ),
    "tests/test_logging.py::test_base_exception_is_logged": (
        "decision 11: it is a crash like any other, and is logged as one"
    ),
}

# Of these, the one that looks for the crash right after the answer: it passes when it looks before the crash is
# there, so a pass tells nothing.
RACES = {"tests/proxy/test_static_method_calls.py::test_exception_in_method_reraised_by_future"}

RUNTIMES = {"cpu": CpuActor, "pinned": PinnedActor, "io": IoActor, "asyncio": AsyncioActor}


@pytest.fixture(scope="session", params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """Shadow pykka's fixture of this name."""
    return Runtime(
        name=request.param,
        actor_class=RUNTIMES[request.param],
        event_class=threading.Event,
        future_class=Future,
        sleep_func=time.sleep,
    )


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Expect what is replaced to fail, in every runtime, and see that all of it is still there."""
    missing = {(test, runtime) for test in REPLACED for runtime in RUNTIMES}
    for item in items:
        test, _, runtime = item.nodeid.removesuffix("]").partition("[")
        if test in REPLACED:
            missing.discard((test, runtime))
            item.add_marker(pytest.mark.xfail(reason=REPLACED[test], strict=test not in RACES))
    if missing:
        gone = ", ".join(sorted(f"{test}[{runtime}]" for test, runtime in missing))
        raise pytest.UsageError(f"pykka's suite has no {gone} any more: take it out of the table REPLACED")
