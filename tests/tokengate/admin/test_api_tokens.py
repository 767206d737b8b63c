"""API tokens: made once, kept as hashes, checked at each request; two daemons may share the file."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest
from callers import ANN, OWN
from gated_code import LIMIT

from tokengate.admin._api_tokens import ApiTokens, groups_of, rights_of
from tokengate.admin._problems import Problem


@attrs.define
class Time:
    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tokens.json"


def tokens_of(file: Path, clock: Time, groups: Callable[[int], tuple[int, ...]] = lambda _: ()) -> ApiTokens:
    return ApiTokens(file, clock, groups)


def looked(tokens: ApiTokens) -> None:
    """Wait until a look that was begun is over."""
    assert tokens._looking is not None
    tokens._looking.join(LIMIT)


def test_a_token_is_a_principal_of_its_owner_with_its_role(file: Path, clock: Time) -> None:
    """Name, owner, groups as looked up, the rights of its role; without a role, all that gates grant."""
    tokens = tokens_of(file, clock, lambda uid: (uid, 7))
    token, other = tokens.create("ci", OWN, "viewer arguments"), tokens.create("all", ANN)

    found, of_other = tokens.find(token), tokens.find(other)

    assert found is not None
    assert (found.name, found.owner, found.groups) == ("api:ci", OWN, (OWN, 7))
    assert found.rights == {"view", "arguments"}
    assert of_other is not None
    assert (of_other.owner, of_other.groups, of_other.rights) == (ANN, (ANN, 7), None)
    assert token.startswith("tgk_")
    assert len(token) == 47  # 256 bits


def test_the_file_has_hashes_only_and_is_for_its_owner(file: Path, clock: Time) -> None:
    """Mode 0600 in a directory of 0700; the token itself is nowhere in it, nor in a row or repr."""
    tokens = tokens_of(file, clock)
    token = tokens.create("ci", OWN)

    text = file.read_text()

    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert token[4:] not in text + repr(tokens.rows()) + repr(tokens) + repr(tokens._kept)
    assert json.loads(text)[0]["name"] == "ci"


@pytest.mark.parametrize("wrong", ["", "tgk_", "tgk_x", "x" * 100_000, "tgk_\ud800", "é"])
def test_no_other_text_is_a_token(file: Path, clock: Time, wrong: str) -> None:
    """Short, long and odd ones are not found."""
    tokens = tokens_of(file, clock)
    token = tokens.create("ci", OWN)

    assert tokens.find(wrong) is None
    assert tokens.find(token[:-1]) is None
    assert tokens.find(token + "=") is None


def test_a_token_expires_and_its_name_may_be_taken_again(file: Path, clock: Time) -> None:
    """At its time it lets in no longer, and is still listed until its name is taken."""
    tokens = tokens_of(file, clock)
    token = tokens.create("ci", OWN, seconds=90)

    clock.now += 89.9
    assert tokens.find(token) is not None
    assert tokens.principal("api:ci") is not None
    clock.now += 0.1
    assert tokens.find(token) is None
    assert tokens.principal("api:ci") is None
    assert [(row.name, row.expires) for row in tokens.rows()] == [("ci", pytest.approx(0))]
    again = tokens.create("ci", ANN)
    assert tokens.find(token) is None
    assert tokens.find(again) is not None


def test_rows_tell_age_expiry_and_last_use(file: Path, clock: Time) -> None:
    """All in seconds; a use is known since the daemon was started."""
    tokens = tokens_of(file, clock)
    tokens.create("idle", ANN)
    token = tokens.create("ci", OWN, "viewer", 90)
    clock.now += 5
    tokens.find(token)
    clock.now += 5

    ci, idle = tokens.rows()

    assert (ci.name, ci.owner, ci.role, ci.age, ci.expires, ci.idle) == ("ci", OWN, "viewer", 10.0, 80.0, 5.0)
    assert (idle.name, idle.owner, idle.role, idle.age, idle.expires, idle.idle) == ("idle", ANN, "", 10.0, None, None)


def test_a_revoked_token_lets_in_no_longer_after_a_restart_either(file: Path, clock: Time) -> None:
    """One that stays does."""
    tokens = tokens_of(file, clock)
    gone, stays = tokens.create("gone", OWN), tokens.create("stays", OWN)

    tokens.revoke("gone")

    for one in (tokens, tokens_of(file, clock)):
        assert one.find(gone) is None
        assert one.find(stays) is not None


@pytest.mark.parametrize(
    ("name", "role", "seconds", "status"),
    [
        ("", "", None, 422),
        ("a b", "", None, 422),
        ("\u202ea", "", None, 422),
        ("x" * 65, "", None, 422),
        ("../x", "", None, 422),
        ("ok", "king", None, 422),
        ("ok", "", 0.0, 422),
        ("ok", "", float("nan"), 422),
        ("ok", "", float("inf"), 422),
        ("taken", "", None, 409),
    ],
)
def test_what_cannot_be_made_is_a_problem(
    file: Path, clock: Time, name: str, role: str, seconds: float | None, status: int
) -> None:
    """It names what is wrong, and the file stays as it was."""
    tokens = tokens_of(file, clock)
    tokens.create("taken", OWN)
    before = file.read_bytes()

    with pytest.raises(Problem) as raised:
        tokens.create(name, OWN, role, seconds)

    assert raised.value.status == status
    assert raised.value.remedy
    assert file.read_bytes() == before


def test_one_owner_has_a_hundred_at_most(file: Path, clock: Time) -> None:
    """Another owner still makes one."""
    tokens = tokens_of(file, clock)
    row = {"owner": OWN, "role": "", "made": 0.0, "expires": None, "digest": "0" * 64}
    tokens.create("first", ANN)
    file.write_text(json.dumps([row | {"name": f"t{n}"} for n in range(100)]))

    with pytest.raises(Problem, match="has 100 API tokens"):
        tokens.create("more", OWN)
    tokens.create("more", ANN)


def test_an_unknown_token_cannot_be_revoked(file: Path, clock: Time) -> None:
    """404, also before there is a file."""
    tokens = tokens_of(file, clock)

    with pytest.raises(Problem) as raised:
        tokens.revoke("ci")

    assert raised.value.status == 404


def test_two_daemons_lose_none_of_each_other(file: Path, clock: Time) -> None:
    """What both make and revoke at once, from several threads, is all in the file."""
    daemons = [tokens_of(file, clock) for _ in range(2)]
    made: list[str] = []

    def work(number: int) -> None:
        daemon = daemons[number % 2]
        for n in range(5):
            made.append(daemon.create(f"t{number}-{n}", OWN))
            daemon.create(f"gone{number}-{n}", OWN)
            daemon.revoke(f"gone{number}-{n}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))

    fresh = tokens_of(file, clock)
    assert len(fresh.rows()) == 20
    assert all(fresh.find(token) for token in made)


def test_what_another_daemon_has_changed_is_seen_within_ten_seconds(file: Path, clock: Time) -> None:
    """A look is begun by a request, in a thread; the one after it sees the change."""
    one, two = tokens_of(file, clock), tokens_of(file, clock)
    token = one.create("ci", OWN)
    assert two.find(token) is None

    clock.now += 10
    two.find("")
    looked(two)
    assert two.find(token) is not None

    one.revoke("ci")
    clock.now += 10
    two.principal("api:ci")
    looked(two)
    assert two.find(token) is None


def test_looks_of_several_threads_at_once_are_one_or_more(file: Path, clock: Time) -> None:
    """No thread is started twice; each look is over in the end."""
    tokens = tokens_of(file, clock)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: tokens._look(LIMIT), range(200)))

    assert tokens._looking is not None
    assert not tokens._looking.is_alive()


def test_a_directory_service_that_hangs_holds_up_no_request(
    file: Path, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it answers, a token has the groups that were known; only one look waits for it."""
    answers, asked = threading.Event(), []
    monkeypatch.setattr("tokengate.admin._api_tokens._PATIENCE", 0.0)

    def hangs(uid: int) -> tuple[int, ...]:
        asked.append(uid)
        answers.wait(LIMIT)
        return (7,)

    tokens = tokens_of(file, clock, hangs)
    looked(tokens)
    token = tokens.create("ci", OWN)
    try:
        for _ in range(5):
            clock.now += 10
            found = tokens.find(token)
            assert found is not None
            assert found.groups == ()
    finally:
        answers.set()
    looked(tokens)

    assert asked == [OWN]
    found = tokens.find(token)
    assert found is not None
    assert found.groups == (7,)


def test_groups_are_those_of_the_system() -> None:
    """Of this user at least its own; of an unknown one none."""
    assert os.getgid() in groups_of(os.getuid())
    assert groups_of(2**31 - 5) == ()


@pytest.mark.parametrize(
    "text",
    ["", "{", "{}", '[{"name": 1}]', '[{"name":"a","owner":1,"role":"king","made":1,"expires":null,"digest":""}]'],
)
def test_a_damaged_file_lets_no_daemon_start_and_keeps_the_tokens_of_one_that_runs(
    file: Path, clock: Time, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The error names the file; nothing overwrites it."""
    tokens = tokens_of(file, clock)
    token = tokens.create("ci", OWN)
    file.write_text(text)

    with pytest.raises(Problem, match=r"tokens\.json"):
        tokens_of(file, clock)
    with pytest.raises(Problem):
        tokens.create("more", OWN)
    clock.now += 10
    tokens.find(token)
    looked(tokens)

    assert tokens.find(token) is not None
    assert "stay as they were" in caplog.text
    assert file.read_text() == text


def test_a_file_that_others_can_read_or_a_link_is_refused(file: Path, clock: Time, tmp_path: Path) -> None:
    """The remedy is the mode."""
    tokens_of(file, clock).create("ci", OWN)

    file.chmod(0o640)
    with pytest.raises(Problem, match="open to others"):
        tokens_of(file, clock)
    file.chmod(0o600)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Problem, match="cannot be used"):
        tokens_of(file, clock)


@pytest.mark.parametrize("call", ["open", "fsync", "rename", "mkdir"])
def test_a_token_whose_file_cannot_be_written_is_none(
    file: Path, clock: Time, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A disk that fails before the new file is in its place leaves the old one, on disk and in memory."""
    tokens = tokens_of(file, clock)
    token = tokens.create("ci", OWN)
    before = file.read_bytes()

    def fails(*_args: object, **_options: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path if call == "mkdir" else os, call, fails)
        with pytest.raises(Problem, match="No space left") as raised:
            tokens.create("more", OWN)

    assert raised.value.status == 503
    assert file.read_bytes() == before
    assert tokens.find(token) is not None
    assert [row.name for row in tokens.rows()] == ["ci"]
    tokens.create("more", OWN)


def test_roles_and_rights_add_up() -> None:
    """An unknown word is named, with those that there are."""
    assert rights_of("") == frozenset()
    assert rights_of("viewer  approve") == {"view", "approve"}
    assert rights_of("operator") == {"view", "operate", "terminate", "approve"}
    with pytest.raises(Problem, match="'king'") as raised:
        rights_of("viewer king")
    assert "viewer, operator, admin" in raised.value.remedy
