"""What specs accept, what they refuse, and what they default to."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest

from actors import CpuActor
from supervisors import BadSpec, ChildSpec, DynamicSupervisor, Supervisor
from supervisors._shutdown import shutdown_seconds


class Clerk(CpuActor):
    pass


def test_the_minimal_spec_has_the_defaults() -> None:
    """Case 9. The minimal spec: the defaults."""
    spec = ChildSpec("clerk", Clerk)

    assert (spec.args, spec.kwargs, spec.restart, spec.shutdown) == ((), {}, "permanent", None)


def test_a_worker_gets_five_seconds_to_stop_and_a_supervisor_as_long_as_it_takes() -> None:
    """`shutdown` is 5.0 for a worker and infinity for a supervisor, unless told."""
    seconds = [shutdown_seconds(None, supervisor=False), shutdown_seconds(None, supervisor=True)]

    assert [5.0, math.inf] == seconds


def test_a_supervisor_allows_three_restarts_in_five_seconds_by_default() -> None:
    """The minimal supervisor: one_for_one, intensity 3, period 5.0."""
    spec = Supervisor.child_spec("office")

    assert {"strategy": "one_for_one", "intensity": 3, "period": 5.0}.items() <= spec.kwargs.items()
    assert (spec.kwargs["auto_shutdown"], spec.kwargs["backoff"], spec.significant) == ("never", None, False)


@pytest.mark.parametrize("shutdown", [0, 0.5, 30, "infinity", "kill", None])
def test_every_documented_shutdown_is_accepted(shutdown: Any) -> None:
    """`shutdown` is seconds, "infinity" or "kill"."""
    spec = ChildSpec("clerk", Clerk, shutdown=shutdown)

    assert shutdown == spec.shutdown


def test_a_spec_cannot_be_changed() -> None:
    """Specs are frozen."""
    spec = ChildSpec("clerk", Clerk)

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        spec.restart = "temporary"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("start", "Clerk"),
        ("start", object),
        ("start", lambda: None),
        ("args", [1]),
        ("args", "one"),
        ("kwargs", [1]),
        ("kwargs", None),
        ("restart", "always"),
        ("restart", None),
        ("shutdown", -1),
        ("shutdown", "soon"),
        ("shutdown", math.inf),
        ("shutdown", math.nan),
        ("shutdown", [5]),
    ],
)
def test_a_bad_value_in_a_spec_is_refused(field: str, value: object) -> None:
    """Each bad spec: an error that names the child and the field."""
    values: dict[str, Any] = {"id": "clerk", "start": Clerk, field: value}

    with pytest.raises(BadSpec, match=f"child 'clerk': {field} is"):
        ChildSpec(**values)


@pytest.mark.parametrize("id", ["", "a/b", 3, None])
def test_a_bad_id_is_refused(id: Any) -> None:
    """An id is a part of a path, so it is a name without a slash."""
    with pytest.raises(BadSpec, match="id must be a name"):
        ChildSpec(id, Clerk)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("strategy", "all_for_one"),
        ("strategy", None),
        ("intensity", -1),
        ("intensity", 1.5),
        ("intensity", None),
        ("period", 0),
        ("period", -1.0),
        ("period", math.inf),
        ("period", math.nan),
        ("period", "5"),
    ],
)
def test_a_bad_flag_of_a_supervisor_is_refused_before_anything_starts(field: str, value: object) -> None:
    """Each bad flag: an error that names the supervisor and the field."""
    flags: dict[str, Any] = {field: value}

    with pytest.raises(BadSpec, match=f"supervisor 'office': {field} is"):
        Supervisor.child_spec("office", **flags)


@pytest.mark.parametrize(("field", "value"), [("intensity", -1), ("period", 0)])
def test_a_bad_flag_of_a_dynamic_supervisor_is_refused(field: str, value: object) -> None:
    """Each bad flag: an error that names the supervisor and the field."""
    flags: dict[str, Any] = {field: value}

    with pytest.raises(BadSpec, match=f"supervisor 'office': {field} is"):
        DynamicSupervisor.child_spec("office", **flags)


def test_an_id_that_is_used_twice_is_refused() -> None:
    """Duplicate id: an error that names the supervisor and the child."""
    twins = [ChildSpec("clerk", Clerk), ChildSpec("clerk", Clerk)]

    with pytest.raises(BadSpec, match="supervisor 'office': child 'clerk': id is used twice"):
        Supervisor.child_spec("office", twins)


def test_a_child_that_is_no_spec_is_refused() -> None:
    """Children are given as specs."""
    children: list[Any] = [Clerk]

    with pytest.raises(BadSpec, match="is not a ChildSpec"):
        Supervisor.child_spec("office", children)
