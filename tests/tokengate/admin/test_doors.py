"""Codes, sessions, and those that are not let in: a clock is given, so nothing waits."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import attrs
import pytest
from callers import ANN, BOB, OWN

from tokengate.admin._doors import Doors
from tokengate.admin._principal import Principal

USER = Principal(f"uid:{OWN}", OWN, (4, 24))
OTHER = Principal(f"uid:{ANN}", ANN)
HOUR = 3600.0


@attrs.define
class House:
    """Doors with the time and the records of the test."""

    file: Path
    ceiling: frozenset[str] | None = None
    now: float = 1_000.0
    records: list[tuple[str, str, str]] = attrs.field(factory=list)
    doors: Doors = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.doors = Doors(self.record, self.file, self.ceiling, lambda: self.now)

    def record(self, kind: str, principal: str, owner: int | None, why: str = "", **fields: Any) -> None:
        self.records.append((kind, principal, why))

    def login(self, user: Principal = USER) -> tuple[str, Principal]:
        found = self.doors.redeem(self.doors.code(user), "here")
        assert found is not None
        return found


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "tokens.json")


# Codes


def test_a_code_makes_one_session_of_the_user_that_the_kernel_has_named(house: House) -> None:
    """Uid and groups are those that the code was made for; the second time there is nothing; the login is on record."""
    code = house.doors.code(USER)

    first, second = house.doors.redeem(code, "here"), house.doors.redeem(code, "here")

    assert first is not None
    assert second is None
    cookie, principal = first
    assert (principal.name, principal.owner, principal.groups, principal.rights) == (USER.name, OWN, (4, 24), None)
    assert house.doors.session(cookie) == principal
    assert house.records == [("login", USER.name, "")]


def test_a_code_is_too_late_after_a_minute(house: House) -> None:
    """At 60 s it is over; just before, it is not."""
    early, late = house.doors.code(USER), house.doors.code(OTHER)

    house.now += 59.9
    assert house.doors.waits(early)
    assert house.doors.redeem(early, "here") is not None
    house.now += 0.1
    assert not house.doors.waits(late)
    assert house.doors.redeem(late, "here") is None


def test_codes_and_cookies_are_unlike_each_other_and_have_256_bits(house: House) -> None:
    """43 letters of base64 have 256 bits; a code is no cookie, a cookie no code, and neither is an API token."""
    codes = {house.doors.code(USER) for _ in range(100)}
    cookie, _ = house.login()

    assert len(codes) == 100
    assert {len(secret) for secret in (*codes, cookie)} == {43}
    assert house.doors.session(next(iter(codes))) is None
    assert house.doors.redeem(cookie, "here") is None
    assert house.doors.bearer(cookie) is None


def test_a_user_has_eight_codes_at_most(house: House) -> None:
    """The oldest is over with the ninth; those of another user are not."""
    other = house.doors.code(OTHER)
    codes = [house.doors.code(USER) for _ in range(9)]

    assert [house.doors.waits(code) for code in codes] == [False] + [True] * 8
    assert house.doors.waits(other)


# Sessions


@pytest.mark.parametrize("end", ["logout", "idle", "age", "daemon"])
def test_a_session_has_four_ends(house: House, end: str) -> None:
    """After each its cookie lets in no longer, its principal does not live, and lists leave it out."""
    cookie, principal = house.login()
    doors = house.doors
    assert doors.lives(principal)

    if end == "logout":
        assert doors.end(principal.login, OWN)
        assert not doors.end(principal.login, OWN)
    elif end == "idle":
        house.now += 15 * 60 - 0.1
        assert doors.session(cookie) == principal
        house.now += 15 * 60
    elif end == "age":
        for _ in range(8 * 6 - 1):  # in use every ten minutes
            house.now += 600
            assert doors.session(cookie) == principal
        house.now += 600
    else:
        doors = House(house.file).doors

    assert not doors.lives(principal)
    assert doors.session(cookie) is None
    assert doors.sessions() == []


def test_what_a_page_asks_by_itself_is_no_use_of_a_session(house: House) -> None:
    """A page that nobody touches is logged out after 15 minutes, however often it asks."""
    cookie, principal = house.login()

    for _ in range(14):
        house.now += 60
        assert house.doors.session(cookie, used=False) == principal
        assert house.doors.lives(principal)

    house.now += 60
    assert house.doors.session(cookie, used=False) is None


def test_the_oldest_of_nine_sessions_of_a_user_ends(house: House) -> None:
    """Those of another user stay."""
    other, _ = house.login(OTHER)
    cookies = [house.login()[0] for _ in range(9)]

    assert [house.doors.session(cookie) is not None for cookie in cookies] == [False] + [True] * 8
    assert house.doors.session(other) is not None
    assert len(house.doors.sessions()) == 9


def test_only_its_owner_ends_a_session(house: House) -> None:
    """A public id without the owner's uid ends nothing."""
    cookie, principal = house.login()

    assert not house.doors.end(principal.login, ANN)
    assert house.doors.session(cookie) == principal


def test_each_login_is_a_new_session_and_lists_tell_its_age(house: House) -> None:
    """Values and public ids differ; the list has no value of a cookie."""
    (first, one), (second, two) = house.login(), house.login()
    house.now += 30
    house.doors.session(second)
    house.now += 10

    rows = house.doors.sessions()

    assert first != second
    assert one.login != two.login
    assert [(row.name, row.owner, row.age, row.idle) for row in rows] == [
        (one.login, OWN, 40.0, 40.0),
        (two.login, OWN, 40.0, 10.0),
    ]


@pytest.mark.parametrize("ceiling", [None, frozenset({"view", "operate"}), frozenset[str]()])
def test_no_session_exceeds_the_ceiling(tmp_path: Path, ceiling: frozenset[str] | None) -> None:
    """Without one, gates decide alone; with one, its rights are the most, and those of an API token's role at most."""
    doors = (house := House(tmp_path / "tokens.json", ceiling)).doors
    token = doors.create_token(USER, "ci", "viewer approve")

    _, principal = house.login()
    script = doors.bearer(token)

    role = frozenset({"view", "approve"})
    assert principal.rights == ceiling
    assert script is not None
    assert script.rights == (role if ceiling is None else role & ceiling)
    assert doors.lives(script)


# Those that fail


def test_ten_failures_of_a_peer_and_sixty_of_all_are_answered_in_a_minute(house: House) -> None:
    """The eleventh of a peer gets 429 and when to come again, others do not; from the 61st of all on, all do."""
    fail = house.doors.failed

    assert [fail("code", "a").status for _ in range(11)] == [401] * 10 + [429]
    house.now += 20
    assert [fail("API token", peer).status for peer in "bcdef" for _ in range(10)] == [401] * 50
    limited, of_a = fail("code", "new"), fail("code", "a")
    assert (limited.status, limited.headers["Retry-After"]) == (429, "40")
    assert (of_a.status, of_a.headers["Retry-After"]) == (429, "40")

    house.now += 39.9
    assert fail("code", "new").status == 429
    house.now += 0.1
    assert fail("code", "new").status == 401
    assert {kind for kind, _, _ in house.records} == {"login_failed"}


def test_a_right_code_is_taken_however_many_have_failed(house: House) -> None:
    """One client cannot bar others, who have the same address."""
    code = house.doors.code(USER)
    for _ in range(100):
        house.doors.failed("code", "here")

    assert house.doors.redeem(code, "here") is not None


# All of it


def test_sessions_end_as_a_ledger_says(tmp_path: Path, seed: int) -> None:
    """Logins, uses, ticks, logouts and time in drawn order: what lives is what the rules say."""
    chance = random.Random(seed)
    house = House(tmp_path / "tokens.json")
    users = [USER, OTHER, Principal(f"uid:{BOB}", BOB)]
    ledger: dict[str, tuple[Principal, float, list[float]]] = {}  # {cookie: (principal, made, [used])}, by age

    for _ in range(500):
        live = {
            cookie: one
            for cookie, one in ledger.items()
            if house.now - one[2][0] < HOUR / 4 and house.now - one[1] < 8 * HOUR
        }
        ledger = live
        act = chance.choice(["login", "use", "tick", "logout", "wait", "wait"])
        if act == "login":
            user = chance.choice(users)
            own = [cookie for cookie, one in live.items() if one[0].owner == user.owner]
            if len(own) == 8:
                del ledger[own[0]]
            cookie, principal = house.login(user)
            ledger[cookie] = (principal, house.now, [house.now])
        elif act == "wait":
            house.now += chance.choice([1.0, 60.0, 5 * 60.0, HOUR / 4])
        elif live:
            cookie = chance.choice(list(live))
            principal, _, used = live[cookie]
            if act == "logout":
                assert house.doors.end(principal.login, principal.owner)
                del ledger[cookie]
            else:
                assert house.doors.session(cookie, used=act == "use") == principal
                used[0] = house.now if act == "use" else used[0]
        expected = [
            one[0].login
            for one in ledger.values()
            if house.now - one[2][0] < HOUR / 4 and house.now - one[1] < 8 * HOUR
        ]
        assert [row.name for row in house.doors.sessions()] == expected
