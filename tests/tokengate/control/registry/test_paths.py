"""Paths of the verbs over HTTP."""

from __future__ import annotations

import re
from typing import Any

import pytest
import tallies  # it declares a noun

from tokengate.control import messages as m
from tokengate.control.messages import VERBS, Message
from tokengate.control.registry._kinds import kinds
from tokengate.control.registry._modules import import_nouns
from tokengate.control.registry._paths import Route, routes


def found() -> dict[tuple[str, str], Route]:
    return {(route.method, route.path): route for route in routes()}


def test_each_verb_has_one_path_of_its_own() -> None:
    """No two have the same method and path; only what the process alone can ask has none."""
    import_nouns()
    known = {*VERBS.values(), *(message for kind in kinds() for message in kind.messages)}

    assert len(found()) == len(routes())
    assert {route.message for route in routes()} == {message for message in known if not message.local}
    assert all(re.fullmatch(r"(/[a-z]+(-[a-z]+)*){1,2}", path) for _, path in found())


@pytest.mark.parametrize(
    ("path", "message", "shape"),
    [
        ("/tokens", m.Tokens, "list"),
        ("/tokens/describe", m.Describe, "view"),
        ("/tokens/pause", m.Pause, "action"),
        ("/tokens/retry", m.RetryNow, "action"),
        ("/actors", m.Actors, "list"),
        ("/actors/describe", m.DescribeActor, "view"),
        ("/actors/state", m.GetState, "view"),
        ("/actors/state", m.SetState, "action"),
        ("/actors/suspend", m.Suspend, "action"),
        ("/actors/call", m.Call, "action"),
        ("/supervisors/delete-child", m.DeleteChild, "action"),
        ("/supervisors/which-children", m.WhichChildren, "view"),
        ("/throttles", m.Throttles, "list"),
        ("/throttles/set", m.SetThrottle, "action"),
        ("/throttles/lift", m.Lift, "action"),
        ("/throttles/reset", m.ResetThrottle, "action"),
        ("/policies/set", m.SetPolicy, "action"),
        ("/proposals", m.Proposals, "list"),
        ("/proposals/show", m.ShowProposal, "view"),
        ("/proposals/propose", m.Propose, "action"),
        ("/proposals/apply", m.Apply, "action"),
        ("/proposals/approve", m.Approve, "action"),
        ("/proposals/deny", m.Deny, "action"),
        ("/proposals/wait-approval", m.WaitApproval, "view"),
        ("/audit-records", m.AuditRecords, "list"),
        ("/audit-records/follow", m.FollowAudit, "stream"),
        ("/watch", m.Watch, "stream"),
        ("/tree", m.Tree, "view"),
        ("/info", m.Info, "view"),
        ("/health", m.Health, "view"),
        ("/whoami", m.Whoami, "view"),
        ("/reload", m.Reload, "action"),
        ("/freeze", m.Freeze, "action"),
        ("/unfreeze", m.Unfreeze, "action"),
    ],
)
def test_a_path_stays(path: str, message: type[Message[Any]], shape: str) -> None:
    """What is in a collection has its path below it, what is about the gate one of one word; clients know them."""
    route = found()["post" if shape == "action" else "get", path]

    assert (route.message, route.shape) == (message, shape)


def test_a_noun_of_a_plugin_has_its_paths_by_its_declaration() -> None:
    """A list, and one path for each verb."""
    theirs = {key: route.message for key, route in found().items() if "tall" in route.path}

    assert theirs == {
        ("get", "/tallies"): tallies.Tallies,
        ("post", "/tallies/reset"): tallies.ResetTally,
        ("post", "/tallies/freeze"): tallies.FreezeTally,
    }


def test_arguments_are_the_fields_of_the_message_that_the_verb_takes() -> None:
    """Without those of an envelope that it does not take; in a query, one that can be repeated is in the singular."""
    assert found()["get", "/watch"].arguments == {"select": "select", "kind": "kinds", "buffer": "buffer"}
    assert found()["post", "/proposals/deny"].arguments == {"reason": "reason", "number": "number"}
    assert found()["post", "/actors/call"].arguments["args"] == "args"


def test_lists_have_offsets_unless_they_show_the_newest_rows() -> None:
    """Rows of logs come while one reads them, so an offset would skip some."""
    assert found()["get", "/tokens"].pages
    assert found()["get", "/actors"].pages
    assert not found()["get", "/audit-records"].pages
