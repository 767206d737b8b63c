"""Who has which right, and where: each sentence of the page on authority, and a ledger of its own for all of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from actors import ActorSystem, CpuActor, Token
from actors.lowlevel import Place
from tokengate import Gate, token
from tokengate.authority import _grants
from tokengate.authority._decide import ROLES
from tokengate.authority._grants import Grant, Rights
from tokengate.control._admission import Caller, Via
from tokengate.control.inspection._selector import parse
from tokengate.control.messages import RIGHTS

ME = 500
PROCESS = Caller("process", ME)
RULE = Caller("process:interventions", None)


def user(uid: int, *groups: int, via: Via = "socket") -> Caller:
    return Caller(f"uid:{uid}", uid, frozenset(groups), via)


def api(name: str, owner: int, *groups: int) -> Caller:
    return Caller(f"api:{name}", owner, frozenset(groups), "http")


def grant(*to: str, role: str = "view", select: str = "") -> Grant:
    """Return a grant as the file would have it."""
    numbers = {kind: frozenset(int(one.partition(":")[2]) for one in to if one.startswith(kind)) for kind in ("u", "g")}
    others = frozenset(one for one in to if one.partition(":")[0] not in ("uid", "gid"))
    rights = frozenset().union(*(ROLES.get(one, {one}) for one in role.split("+")))
    return Grant(1, numbers["u"], numbers["g"], others, rights, parse(select) if select else None)


def allowed(rights: Rights, caller: Caller) -> dict[str, str]:
    return {right: str(scope) for right, scope in rights.of(caller).items()}


def everywhere(*rights: str) -> dict[str, str]:
    return {right: "*" for right in RIGHTS if right in rights}


ALL = everywhere(*RIGHTS)


# --- Without grants ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        (PROCESS, ALL),
        (user(ME), ALL),
        (user(0), ALL),
        (user(ME, via="http"), ALL),
        (api("ci", ME), ALL),
        (RULE, everywhere("view", "operate")),
        (user(7, ME, 0), {}),
        (api("ci", 7), {}),
        (user(65534), {}),
    ],
)
def test_without_a_grant_this_user_and_root_may_do_everything(caller: Caller, expected: dict[str, str]) -> None:
    """Others nothing; a rule may view and operate."""
    assert allowed(Rights((), ME), caller) == expected


def test_the_user_that_stands_for_no_user_has_no_rights() -> None:
    """Neither as the gate's own user nor by a grant; the process of such a gate keeps its own."""
    rights = Rights((), 65534)
    granted = Rights((grant("uid:65534", "gid:3", role="admin"),), ME)

    assert allowed(rights, user(65534)) == allowed(rights, api("ci", 65534)) == {}
    assert allowed(granted, user(65534, 3)) == {}
    assert allowed(rights, Caller("process", 65534)) == ALL
    assert (rights.are_own(user(65534)), rights.are_own(Caller("process", 65534))) == (False, True)


# --- With grants ------------------------------------------------------------------------------------------------------


def test_with_a_grant_only_what_is_granted_is_allowed() -> None:
    """This user and root have nothing by themselves any more; the process and its rules keep what they had."""
    rights = Rights((grant("uid:7", role="operator"),), ME)

    assert allowed(rights, user(7)) == everywhere("view", "operate", "terminate", "approve")
    assert allowed(rights, user(ME)) == allowed(rights, user(0)) == allowed(rights, user(8)) == {}
    assert allowed(rights, PROCESS) == ALL
    assert allowed(rights, RULE) == everywhere("view", "operate")


def test_a_grant_that_names_the_process_or_its_rules_says_all_that_they_may() -> None:
    """One that names the user of the gate is not about its process; each is named by itself."""
    rights = Rights((grant("process", role="viewer"), grant(f"uid:{ME}", role="call")), ME)
    rules = Rights((grant("process:interventions", role="terminate", select="tenant=acme"),), ME)

    assert allowed(rights, PROCESS) == everywhere("view")
    assert allowed(rights, RULE) == everywhere("view", "operate")
    assert allowed(rights, user(ME)) == everywhere("call")
    assert allowed(rules, RULE) == {"terminate": "tenant=acme"}
    assert allowed(rules, PROCESS) == ALL


def test_a_group_is_that_of_the_caller() -> None:
    """Numbers of groups are not numbers of users."""
    rights = Rights((grant("gid:40", role="viewer"), grant("uid:41", role="state")), ME)

    assert allowed(rights, user(7, 39, 40)) == everywhere("view")
    assert allowed(rights, user(7, 41)) == allowed(rights, user(40)) == {}


def test_grants_add_up_each_with_its_selector() -> None:
    """One without a selector is everywhere."""
    narrow = (grant("uid:7", role="view+operate", select="tenant=acme"), grant("gid:40", select="operation=pay"))
    wide = (*narrow, grant("uid:7", "uid:8"))

    assert allowed(Rights(narrow, ME), user(7, 40)) == {"view": "tenant=acme|operation=pay", "operate": "tenant=acme"}
    assert allowed(Rights(narrow, ME), user(7)) == {"view": "tenant=acme", "operate": "tenant=acme"}
    assert allowed(Rights(wide, ME), user(7, 40)) == {"view": "*", "operate": "tenant=acme"}


def test_an_api_token_may_do_what_its_owner_may() -> None:
    """If a grant names it, only what both may, where both may."""
    owners = grant("uid:7", role="operator", select="tenant=acme")
    named = grant("api:ci", role="view+operate+state", select="operation=pay")

    assert allowed(Rights((owners,), ME), api("ci", 7)) == allowed(Rights((owners,), ME), user(7))
    assert allowed(Rights((owners, named), ME), api("other", 7)) == allowed(Rights((owners,), ME), user(7))
    assert allowed(Rights((owners, named), ME), api("ci", 7)) == {
        "view": "tenant=acme and operation=pay", "operate": "tenant=acme and operation=pay"
    }  # fmt: skip
    assert allowed(Rights((named,), ME), api("ci", 7)) == {}


def test_a_principal_with_the_owner_of_another_one_has_nothing() -> None:
    """The door lets none in; this is beside it."""
    rights = Rights((grant("uid:7", role="admin"),), ME)

    assert allowed(rights, Caller("uid:8", 7, via="http")) == allowed(rights, Caller("uid:7", 8, via="http")) == {}


def test_what_a_grant_gives_is_told_apart() -> None:
    """Such a verb needs a reason: not one of the process or its rules, unless a grant names them."""
    some = Rights((grant("uid:7"), grant("process", role="admin")), ME)

    assert not Rights((), ME).are_granted(user(ME))
    assert [some.are_granted(one) for one in (user(7), user(8), api("ci", 7), PROCESS, RULE)] == [True] * 4 + [False]


def test_the_tags_that_grants_name_are_known() -> None:
    """Fields are none."""
    rights = Rights((grant("uid:7", select="tenant=a,operation=b,tag.actor=c"), grant("uid:8")), ME)

    assert rights.tags == {"tenant", "actor"}


def test_this_user_root_and_code_of_the_process_are_own() -> None:
    """Not their API tokens, which may have fewer rights."""
    rights = Rights((), ME)

    assert [rights.are_own(one) for one in (user(ME), user(0), PROCESS)] == [True] * 3
    assert [rights.are_own(one) for one in (user(7), api("ci", ME), api("ci", 0), RULE)] == [False] * 4


def test_the_rights_of_few_callers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients come and go; what was forgotten is found again."""
    monkeypatch.setattr(_grants, "_KNOWN", 10)
    rights = Rights((grant("uid:7"),), ME)

    for peer in range(100):
        assert allowed(rights, attrs.evolve(user(7), peer=peer)) == everywhere("view")
        assert len(rights._known) <= 11


# --- Where ------------------------------------------------------------------------------------------------------------


class Till(CpuActor):
    """An actor."""


@token
def pay() -> None:
    """An operation."""


@pytest.fixture(scope="module")
def places() -> Iterator[dict[str, Place]]:
    """Places of actors and operations."""
    with Gate("places", control_socket=False, threads=2) as gate:
        gate.spawn(Till, name="till")
        pay()
        system = gate._open_system
        yield {name: system.find(name) for name in ("spawned/till", "operations/pay")}


@pytest.mark.parametrize(
    ("select", "actor", "operation"),
    [
        ("", True, True),
        ("actor=/spawned/till", True, False),
        ("actor=/spawned/*", True, False),
        ("actor=/spawned/*,actor=/*till", True, False),
        ("actor=/till", False, False),
        ("actor=/spawned/till,affinity=cpu", False, False),
        ("actor=/spawned/till,tenant=acme", False, False),
        ("operation=pay", False, True),
        ("operation=p*,affinity=cpu", False, True),
        ("operation=pay,affinity=io", False, False),
        ("operation=pay,tenant=acme", False, False),
        ("operation=pay,tag.operation=pay", False, False),
        ("operation=pays", False, False),
        ("affinity=cpu", False, False),
        ("tenant=acme", False, False),
        ("tag.actor=/spawned/till", False, False),
        ("actor=/operations/pay", False, False),
    ],
)
def test_a_verb_on_a_place_needs_a_selector_of_that_place(
    places: dict[str, Place], select: str, actor: bool, operation: bool
) -> None:
    """Of an actor: terms about `actor` only. Of an operation: one that fixes `operation`, and no tag."""
    scope = Rights((grant("uid:7", select=select),), ME).scope(user(7), "view")

    assert scope is not None
    assert scope.has_place(places["spawned/till"]) is actor
    assert scope.has_place(places["operations/pay"]) is operation


def test_rights_are_those_of_the_ledger(seed: int) -> None:
    """Of 1,000 drawn callers, grants and tokens; the ledger asks each sentence of the page for itself."""
    rng = random.Random(seed)
    system = ActorSystem("unopened", threads=2)
    places = [
        (name, system.operation_place(f"operations/{name}@{affinity}", affinity, generator=False, concurrency=1))
        for name in ("pay", "ship", "bill")
        for affinity in ("cpu", "io")
    ]
    users, groups = [ME, 0, 7, 8, 65534], [40, 41]
    texts = ["", "tenant=acme", "operation=pay", "tenant=free,operation=ship", "affinity=io", "tenant=*,affinity=cpu"]
    tos = [f"uid:{one}" for one in users[:4]] + ["gid:40", "gid:41", "api:ci", "process", "process:interventions"]

    def drawn_caller() -> Caller:
        owner, own = rng.choice(users), rng.sample(groups, rng.randrange(3))
        return rng.choice([user(owner, *own), api("ci", owner, *own), api("other", owner, *own), PROCESS, RULE])

    def has(grants: list[tuple[list[str], str, str]], caller: Caller, right: str, one: Token[Any]) -> bool:
        """Tell whether a caller has a right for a token, as the page says."""

        def given(names: set[str]) -> bool:
            """Tell whether one of the grants to one of these gives it for the token."""
            return any(
                not names.isdisjoint(to) and role in (right, "admin") and parse(select).matches(one, 0.0)
                for to, role, select in grants
            )

        def is_named(name: str) -> bool:
            return any(name in to for to, _, _ in grants)

        name = caller.principal
        if name.startswith("process"):
            if is_named(name):
                return given({name})
            return name == "process" or right in ("view", "operate")
        if caller.owner == 65534:
            return False
        person = {f"uid:{caller.owner}", *(f"gid:{group}" for group in caller.groups)}
        if not (given(person) if grants else caller.owner in (ME, 0)):
            return False
        return not (name.startswith("api:") and is_named(name)) or given({name})

    for _ in range(1_000):
        drawn = [
            (rng.sample(tos, rng.randrange(1, 4)), rng.choice([*RIGHTS, "admin"]), rng.choice(texts))
            for _ in range(rng.randrange(5))
        ]
        rights = Rights((grant(*to, role=role, select=select) for to, role, select in drawn), ME)
        name, place = rng.choice(places)
        tags = {"tenant": rng.choice(["acme", "free"])} if rng.random() < 0.8 else {}
        one = place.token(name, int, (), {}, 0, tags)
        caller = drawn_caller()
        for right in RIGHTS:
            scope = rights.scope(caller, right)
            found = scope is not None and scope.has(one, 0.0)
            assert found is has(drawn, caller, right, one), (drawn, caller, right, one)
