"""The API: what is asked for, what is answered, and with which status."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import httpx
import pytest
import tallies  # it declares a noun
from admin_site import Served, served
from callers import OWN
from tiers import in_ci

from tokengate import Gate, Token, token
from tokengate.admin._principal import Principal

Until = Callable[[Callable[[], bool]], None]

_over = threading.Event()


@token(concurrency=1)
def wait(_: int) -> None:
    _over.wait()


@token(guard="approval")
def charge(_: int) -> None:
    _over.wait()


@attrs.define
class Shop:
    """A gate with ten tokens, and its API.

    Attributes:
        base: path of the gate.
        own, nobody, viewer: clients.
    """

    gate: Gate
    site: Served
    base: str
    own: httpx.Client
    viewer: httpx.Client
    tokens: list[Token[None]]

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.own.get(self.base + path, params=query)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.own.post(self.base + path, json=body)


@pytest.fixture
def shop() -> Iterator[Shop]:
    _over.clear()
    with Gate("shop", plugins=[tallies.Tally()]) as gate, served() as site:
        site.doors.sessions["viewer"] = Principal(f"uid:{OWN}", OWN, rights=frozenset({"view"}), login="s2")
        with site.client() as own, site.client("viewer") as viewer:
            base = f"/api/v1/gates/{own.get('/api/v1/gates').json()['rows'][0]['name']}"
            yield Shop(gate, site, base, own, viewer, [wait.submit(size) for size in range(10)])
        _over.set()
        gate.close(drain=False)


def problem(answer: httpx.Response) -> tuple[int, str, str, str]:
    """Return status, name, detail and remedy of a problem."""
    said = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert said["type"] == f"urn:tokengate:error:{said['title']}"
    assert said["request"] == answer.headers["x-request-id"]
    assert said["status"] == answer.status_code
    return answer.status_code, said["title"], said["detail"], said["remedy"]


@in_ci
def test_gates_are_listed(shop: Shop) -> None:
    """With the name that paths have."""
    said = shop.own.get("/api/v1/gates").json()

    assert (said["matching"], said["total"], said["offset"]) == (1, 1, 0)
    assert said["rows"][0]["gate"] == "shop"


def test_a_list_of_tokens_is_the_gates_own_page(shop: Shop) -> None:
    """Its rows are sorted and cut by the gate; `total` counts all that live."""
    said = shop.get("/tokens", select="operation=wait", sort="-id", limit=3, offset=2).json()

    assert [row["id"] for row in said["rows"]] == [one.id for one in reversed(shop.tokens)][2:5]
    assert (said["matching"], said["offset"]) == (10, 2)
    assert said["total"] >= 10


@in_ci
def test_other_lists_are_cut_by_the_daemon(shop: Shop) -> None:
    """The pages together are the list of the gate, in its order."""
    whole = [row.path for row in shop.gate.control.actors()]
    pages = [shop.get("/actors", limit=2, offset=offset).json() for offset in range(0, len(whole), 2)]

    assert [row["path"] for page in pages for row in page["rows"]] == whole
    assert {(page["matching"], page["total"]) for page in pages} == {(len(whole), len(whole))}


@in_ci
def test_a_list_of_the_newest_rows_has_a_limit_and_no_offset(shop: Shop) -> None:
    """Each request that acts is recorded under its own id."""
    asked = shop.post("/tokens/renice", select="operation=wait", priority=1)
    said = shop.get("/audit-records", select="verb=renice", limit=2).json()
    records = [shop.get("/audit-records/show", seq=row["seq"]).json()["fields"]["request"] for row in said["rows"]]

    assert [row["kind"] for row in said["rows"]] == ["intent", "outcome"]
    assert records == [asked.headers["x-request-id"]] * 2
    assert problem(shop.get("/audit-records", offset=1))[:2] == (422, "BadArguments")


@in_ci
def test_a_view_is_one_answer(shop: Shop) -> None:
    """As the gate has it; one that does not exist is 404."""
    id = shop.tokens[0].id

    assert shop.get("/tokens/describe", token=id).json()["row"]["id"] == id
    assert shop.get("/actors/describe", name="wait").json()["row"]["path"] == "operations/wait"
    assert problem(shop.get("/tokens/describe", token=99_999))[:2] == (404, "UnknownToken")
    assert problem(shop.get("/actors/describe", name="nothing"))[:2] == (404, "UnknownActor")


def test_a_noun_of_a_plugin_is_listed_and_changed(shop: Shop) -> None:
    """Without a line of the daemon about it."""
    assert shop.get("/tallies").json()["rows"] == []
    assert problem(shop.post("/tallies/reset", name="nothing"))[:2] == (422, "BadRequest")
    assert problem(shop.post("/tallies/reset", name="x", at=-1)) == (
        422,
        "BadArguments",
        "at is -1",
        "it must be an int of at least 0",
    )


WRONG_QUERIES = [
    ("limit=x", "limit is 'x'"),
    ("limit=1001", "limit is 1001"),
    ("limit=0", "limit is 0"),
    ("limit=", "limit is ''"),
    ("offset=-1", "offset is -1"),
    ("limit=1&limit=2", "'limit' is there twice"),
    ("color=red", "'/tokens' has no argument 'color'"),
]


def test_a_wrong_query_is_refused_with_the_value(shop: Shop) -> None:
    """422, with what is wrong, and what it must be."""
    for query, wrong in WRONG_QUERIES:
        status, name, detail, remedy = problem(shop.own.get(f"{shop.base}/tokens?{query}"))

        assert (status, name, detail) == (422, "BadArguments", wrong)
        assert remedy


@in_ci
def test_what_only_the_gate_can_tell_is_its_own_error(shop: Shop) -> None:
    """A selector with a mistake, a column that does not exist."""
    assert problem(shop.get("/tokens", select="age>>"))[:2] == (422, "BadSelector")
    assert problem(shop.get("/tokens", sort="colour"))[:2] == (422, "BadRequest")


@in_ci
def test_an_action_answers_with_outcomes(shop: Shop) -> None:
    """Of several tokens each has its own, and the status is 200."""
    first, last = shop.tokens[1].id, shop.tokens[2].id
    said = shop.post("/tokens/pause", select=[first, last, 99_999])

    assert said.status_code == 200
    assert [one["outcome"] for one in said.json()] == ["paused", "paused", "unknown"]
    assert shop.post("/tokens/resume", select=[first, last]).status_code == 200


@in_ci
def test_a_single_token_has_the_status_of_its_outcome(shop: Shop) -> None:
    """404 if there is none, 409 if it has ended, or is refused."""
    ended = wait.submit(0)
    ended.cancel()

    assert problem(shop.post("/tokens/pause", select="99999"))[:2] == (404, "UnknownToken")
    assert problem(shop.post("/tokens/pause", select=[ended.id]))[:2] == (409, "Ended")
    assert problem(shop.post("/tokens/pause", select=[ended.id], dry_run=True))[:2] == (409, "Ended")


def test_a_dry_run_makes_a_proposal_that_can_be_applied_once(shop: Shop) -> None:
    """201 with the proposal and its path; to apply it again is refused."""
    tokens = [shop.tokens[3], shop.tokens[4]]
    made = shop.post("/tokens/renice", select=[one.id for one in tokens], priority=7, dry_run=True)
    number = made.json()["row"]["number"]

    assert made.status_code == 201
    assert made.json()["counts"] == {"would": 2}
    assert shop.own.get(made.headers["location"]).json()["row"]["number"] == number
    assert [one.priority for one in tokens] != [7, 7]
    assert shop.post("/proposals/apply", number=number).status_code == 200
    assert [one.priority for one in tokens] == [7, 7]
    assert problem(shop.post("/proposals/apply", number=number))[:2] == (403, "Refused")


@in_ci
def test_a_dry_run_that_would_do_nothing_makes_no_proposal(shop: Shop) -> None:
    """200, without a location; the number is 0."""
    made = shop.post("/tokens/pause", select="operation=nosuch", dry_run=True)

    assert (made.status_code, made.json()["row"]["number"]) == (200, 0)
    assert "location" not in made.headers


@in_ci
def test_a_dry_run_of_any_action_makes_a_proposal(shop: Shop) -> None:
    """Also of those that are about no tokens."""
    flag = shop.post("/flags/set", select="*", mode="observe", dry_run=True)
    actor = shop.post("/actors/suspend", name="wait", dry_run=True)

    assert (flag.status_code, flag.json()["row"]["verb"]) == (201, "set_flag")
    assert (actor.status_code, actor.json()["row"]["verb"]) == (201, "suspend")
    assert shop.get("/flags").json()["rows"] == []


@in_ci
def test_what_another_person_must_approve_is_accepted_only(shop: Shop, until: Until) -> None:
    """202, with the path of the proposal."""
    begun = charge.submit(1)
    until(lambda: begun.started_at is not None)
    said = shop.post("/tokens/terminate", select=[begun.id], reason="a test")

    assert said.status_code == 202
    assert shop.own.get(said.headers["location"]).json()["row"]["needs"] == "approval"


WRONG_BODIES = [
    (b"", "application/json", (400, "BadJson")),
    (b"{", "application/json", (400, "BadJson")),
    (b"\xff", "application/json", (400, "BadJson")),
    (b'{"select": "\\ud800"}', "application/json", (400, "BadJson")),
    (b"[" * 20_000, "application/json", (400, "BadJson")),
    (b'{"select": ' + b"[" * 32 + b"]" * 32 + b"}", "application/json", (400, "BadJson")),
    (b"[]", "application/json", (422, "BadArguments")),
    (b"{}", "application/json", (422, "BadArguments")),
    (b'{"select": "*"}', "text/plain", (415, "WrongType")),
    (b'{"select": "*"}', "application/json; charset=latin-1", (415, "WrongType")),
    (b"select=*", "application/x-www-form-urlencoded", (415, "WrongType")),
]


def test_a_body_is_a_json_object(shop: Shop) -> None:
    """In UTF-8, with its media type, and not too deep; nothing is done otherwise."""
    for body, media, expected in WRONG_BODIES:
        said = shop.own.post(f"{shop.base}/tokens/terminate", content=body, headers={"content-type": media})

        assert problem(said)[:2] == expected
    assert {str(one.state) for one in shop.tokens} <= {"queued", "running"}


@in_ci
def test_a_media_type_may_name_its_encoding(shop: Shop) -> None:
    """UTF-8 is the only one."""
    media = {"content-type": 'Application/JSON; charset="UTF-8"'}
    said = shop.own.post(f"{shop.base}/tokens/resume", content=b'{"select": "operation=wait"}', headers=media)

    assert said.status_code == 200


@in_ci
def test_fields_of_a_body_are_checked_by_name(shop: Shop) -> None:
    """Unknown ones, those that a verb does not take, wrong types; a whole number may be written with a point."""
    assert problem(shop.post("/tokens/pause", select="*", color=1))[1:3] == (
        "BadArguments",
        "'/tokens/pause' has no argument 'color'",
    )
    assert problem(shop.post("/proposals/deny", number=1, force=True))[1] == "BadArguments"
    assert problem(shop.post("/tokens/pause", select=5))[1:3] == ("BadArguments", "select of pause is 5")
    assert problem(shop.post("/tokens/renice", select="*", priority="1"))[1] == "BadArguments"
    assert shop.post("/tokens/renice", select=[float(shop.tokens[5].id)], priority=2.0).status_code == 200


@in_ci
def test_a_ceiling_refuses_before_the_gate_does(shop: Shop) -> None:
    """Who may only look, looks."""
    assert shop.viewer.get(f"{shop.base}/tokens").status_code == 200
    assert problem(shop.viewer.post(f"{shop.base}/tokens/pause", json={"select": "*"}))[:2] == (403, "Refused")


@in_ci
def test_unknown_gates_and_verbs_are_not_found(shop: Shop) -> None:
    """A verb of a plugin that the gate does not have says which one it needs."""
    assert problem(shop.own.get("/api/v1/gates/nothing/tokens"))[:2] == (404, "UnknownGate")
    status, name, detail, remedy = problem(shop.get("/operations"))
    assert (status, name) == (404, "UnknownVerb")
    assert "Telemetry()" in detail + remedy


@in_ci
def test_a_wrong_method_is_refused_with_those_that_there_are(shop: Shop) -> None:
    """405, with `Allow`; a path with a slash at its end is another one."""
    wrong = shop.own.delete(f"{shop.base}/actors/state")

    assert problem(wrong)[:2] == (405, "BadMethod")
    assert {*wrong.headers["allow"].split(", ")} == {"GET", "HEAD", "POST"}
    assert problem(shop.get("/tokens/"))[0] == 404
    assert shop.own.head(f"{shop.base}/tokens").status_code == 200


@in_ci
def test_the_document_is_served_with_the_nouns_of_this_process(shop: Shop) -> None:
    """Those of our rooms, of the variable, and one that a test has made up."""
    said = shop.own.get("/api/v1/openapi.json").json()

    assert {"/api/v1/gates/{gate}/tallies/reset", "/api/v1/gates/{gate}/operations"} <= {*said["paths"]}
    assert said["components"]["securitySchemes"]["session"]["name"] == shop.site.site.cookie
