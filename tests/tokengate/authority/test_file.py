"""The sections about authority: what they say, and every error with its line and its remedy."""

from __future__ import annotations

import grp
import os
import pwd
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from tokengate import Gate
from tokengate._exceptions import BadConfig
from tokengate.authority._file import APPROVALS, AUDIT, GRANTS, ApprovalsRow, AuditRow
from tokengate.cli import main
from tokengate.config._file import Config, read_file
from tokengate.control import BadRequest
from tokengate.control.inspection._selector import parse
from tokengate.control.messages import RIGHTS

USERS = {"ann": 1001, "bob": 1002, "nobody": 65534, "root": 0}
GROUPS = {"ops": 2001}
TO = "user:NAME, group:NAME, uid:NUMBER, gid:NUMBER, api:NAME, process or process:interventions"


@pytest.fixture
def _directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine knows these users and groups."""

    def look_up(known: dict[str, int], field: str, name: str) -> Any:
        if "\0" in name:
            raise ValueError("embedded null byte")
        return SimpleNamespace(**{field: known[name]})

    monkeypatch.setattr("pwd.getpwnam", lambda name: look_up(USERS, "pw_uid", name))
    monkeypatch.setattr("grp.getgrnam", lambda name: look_up(GROUPS, "gr_gid", name))


def read(file: Path, text: str) -> Config:
    file.write_text(text)
    return read_file(file, parse)


def problem(file: Path, text: str) -> tuple[int, str]:
    """Return line and text of the only error."""
    with pytest.raises(BadConfig) as caught:
        read(file, text)
    [found] = caught.value.problems
    return found.line, str(found)


@pytest.mark.usefixtures("_directory")
def test_a_grant_has_numbers_rights_and_a_selector(file: Path) -> None:
    """Names are numbers from the moment in which the file is read; roles are the rights that they stand for."""
    config = read(
        file,
        """
[[grant]]
to = ["user:ann", "group:ops", "uid:7", "gid:8", "api:ci", "process", "process:interventions"]
role = ["operator", "arguments"]
select = "tenant=acme, operation=pay*"
[[grant]]
to = "user:bob"
role = "admin"
""",
    )

    first, second = config.of(GRANTS)
    assert (first.line, first.users, first.groups) == (2, {1001, 7}, {2001, 8})
    assert first.principals == {"api:ci", "process", "process:interventions"}
    assert first.rights == {"view", "operate", "terminate", "approve", "arguments"}
    assert first.selector is not None
    assert first.selector.text == "tenant=acme,operation=pay*"
    assert (second.line, second.users, second.rights, second.selector) == (6, {1002}, set(RIGHTS), None)


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ("*", None),
        ("actor=till", "actor=/till"),
        ("actor=/shop/till", "actor=/shop/till"),
        ("actor=shop/*,affinity=cpu", "actor=/shop/*,affinity=cpu"),
        ("actor='a b',tag.actor=x", 'actor="/a b",tag.actor=x'),
        ("""tag.'x "y'='1,2'""", """tag."x ""y"="1,2\""""),
        ("actor=''", 'actor=""'),
    ],
)
def test_an_actor_is_named_by_its_whole_path(file: Path, select: str, expected: str | None) -> None:
    """The last parts of it would be those of other actors, too; a tag of that name is a tag."""
    [grant] = read(file, f"[[grant]]\nto = 'uid:1'\nrole = 'view'\nselect = '''{select}'''\n").of(GRANTS)

    assert (None if grant.selector is None else grant.selector.text) == expected


GRANT = {"to": "'uid:1'", "role": "'view'"}


@pytest.mark.usefixtures("_directory")
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"to": None}, (1, f"grant[0].to is missing; name {TO}")),
        ({"to": "[]"}, (2, f"grant[0].to is []; name {TO}")),
        ({"to": "7"}, (2, f"grant[0].to is 7; name {TO}")),
        ({"to": "['uid:1', 7]"}, (2, f"grant[0].to[1] is 7; name {TO}")),
        ({"to": "[\n'uid:1',\n'ann',\n]"}, (4, f"grant[0].to[1] is 'ann'; use {TO}")),
        ({"to": "'process:rules'"}, (2, f"grant[0].to is 'process:rules'; use {TO}")),
        ({"to": "'uid:-1'"}, (2, f"grant[0].to is 'uid:-1'; use {TO}")),
        ({"to": "'uid:٣'"}, (2, f"grant[0].to is 'uid:٣'; use {TO}")),
        ({"to": "'uid:'"}, (2, f"grant[0].to is 'uid:'; use {TO}")),
        ({"to": "'api:'"}, (2, f"grant[0].to is 'api:'; use {TO}")),
        ({"to": "'gid:4294967295'"}, (2, "grant[0].to is 'gid:4294967295'; use a number of at most 4294967294")),
        (
            {"to": "'user:anne'"},
            (2, "grant[0].to is 'user:anne'; there is no user of this name; correct it, or use uid:NUMBER"),
        ),
        (
            {"to": "['user:ann', 'group:op']"},
            (
                2,
                "grant[0].to[1] is 'group:op'; there is no group of this name; correct it, or use gid:NUMBER",
            ),
        ),
        (
            {"to": '"user:a\\u0000"'},
            (2, r"grant[0].to is 'user:a\x00'; there is no user of this name; correct it, or use uid:NUMBER"),
        ),
        (
            {"to": "'user:nobody'"},
            (
                2,
                "grant[0].to is 'user:nobody'; 65534 stands for users without a number here, and has no rights; "
                "name another user",
            ),
        ),
        (
            {"role": None},
            (1, f"grant[0].role is missing; use roles (viewer, operator, admin) or rights ({', '.join(RIGHTS)})"),
        ),
        (
            {"role": "['viewer', 'owner']"},
            (3, f"grant[0].role[1] is 'owner'; use roles (viewer, operator, admin) or rights ({', '.join(RIGHTS)})"),
        ),
        ({"select": "''"}, (4, "grant[0].select is ''; use a text, such as 'operation=charge*'; '*' stands for all")),
        (
            {"select": "'tenant!=acme'"},
            (
                4,
                "grant[0].select is 'tenant!=acme'; 'tenant!=' is not possible here; use tags, operation, actor, "
                "affinity, each with =",
            ),
        ),
        (
            {"select": "'tenant=acme,age>5'"},
            (
                4,
                "grant[0].select is 'tenant=acme,age>5'; 'age>' is not possible here; use tags, operation, actor, "
                "affinity, each with =",
            ),
        ),
        (
            {"select": "'state=running'"},
            (
                4,
                "grant[0].select is 'state=running'; 'state=' is not possible here; use tags, operation, actor, "
                "affinity, each with =",
            ),
        ),
        ({"deny": "true"}, (4, "grant[0].deny is True; there is no such key; use one of to, role, select")),
    ],
)
def test_a_grant_that_cannot_work_is_an_error(file: Path, changes: dict[str, str | None], expected: Any) -> None:
    """With the line of the value, or that of the table for one that is missing."""
    values = {key: value for key, value in {**GRANT, **changes}.items() if value is not None}
    text = "[[grant]]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())

    assert problem(file, text) == expected


def test_all_errors_are_found_at_once(file: Path) -> None:
    """Also those of other sections."""
    with pytest.raises(BadConfig) as caught:
        read(file, "[[grant]]\nto = 'x'\nrole = 'y'\nselect = 'id=1'\n[approvals]\nbulk = -1\n[audit]\nretain = 0\n")

    assert [(one.line, one.field) for one in caught.value.problems] == [
        (2, "grant[0].to"), (3, "grant[0].role"), (4, "grant[0].select"), (6, "approvals.bulk"), (8, "audit.retain")
    ]  # fmt: skip


def test_approvals_and_the_audit_log_are_single_tables(file: Path) -> None:
    """Each of their keys has a default; an empty table is one, too, since it switches the log on."""
    full = read(file, '[approvals]\nbulk = 100\nexpires = "5m"\n[audit]\npath = "/var/audit"\nretain = "400d"\n')
    empty = read(file, "[approvals]\n[audit]\n")
    missing = read(file, "")

    assert full.of(APPROVALS) == (ApprovalsRow(1, 100, 300.0),)
    assert full.of(AUDIT) == (AuditRow(4, Path("/var/audit"), 400 * 86_400.0),)
    assert empty.of(APPROVALS) == (ApprovalsRow(1, 0, 900.0),)
    assert empty.of(AUDIT) == (AuditRow(2, None, None),)
    assert (missing.of(APPROVALS), missing.of(AUDIT)) == ((), ())


_PERIOD = "use seconds, or a text such as '30s', '5m', '12h', '1d'"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[approvals]\nbulk = 1.5", (2, "approvals.bulk is 1.5; use a whole number of at least 0")),
        ("[approvals]\nexpires = '5x'", (2, f"approvals.expires is '5x'; {_PERIOD}")),
        ("[approvals]\nby = 1", (2, "approvals.by is 1; there is no such key; use one of bulk, expires")),
        (
            "[audit]\npath = 'audit'",
            (2, "audit.path is 'audit'; use the whole path of a directory, such as '/var/lib/shop/audit'"),
        ),
        ("[audit]\nkeep = 1", (2, "audit.keep is 1; there is no such key; use one of path, retain")),
        ("[[approvals]]", (1, "approvals is [{}]; write it as [approvals]")),
        ("[grant]", (1, "grant is {}; write it as [[grant]]")),
    ],
)
def test_a_single_table_that_cannot_work_is_an_error(file: Path, text: str, expected: Any) -> None:
    """With its line and remedy."""
    assert problem(file, text) == expected


def test_a_wrong_file_opens_no_gate(file: Path) -> None:
    """The error names path, line, value and remedy."""
    file.write_text("[[grant]]\nto = 'user:anne'\nrole = 'view'\n")

    with pytest.raises(BadConfig, match=rf"^{file}:2: grant\[0\]\.to is 'user:anne'; there is no user of this name"):
        Gate("wrong", config=file, control_socket=False).__enter__()


@pytest.mark.parametrize("section", ["[[grant]]\nto = 'uid:1'\nrole = 'view'\n", "[approvals]\n"])
@pytest.mark.parametrize("mode", [0o664, 0o646, 0o622])
def test_a_file_that_others_can_write_opens_no_gate(file: Path, section: str, mode: int) -> None:
    """Case 7. With the line of the section; neither is it taken by a reload, nor found right by `check`."""
    file.write_text(f"\n{section}")
    file.chmod(mode)
    why = (
        rf"{file}:2: a file with the section \w+ must be writable by no one else, and the mode of this one is 0{mode:o}"
    )

    with pytest.raises(BadConfig, match=f"^{why}; use chmod go-w"):
        Gate("wrong", config=file, control_socket=False).__enter__()
    assert re.match(why, CliRunner().invoke(main, ["check", str(file)]).stderr)
    file.chmod(0o644)
    with Gate("right", config=file, control_socket=False) as gate:
        file.chmod(mode)
        with pytest.raises(BadRequest, match=f"^{why}"):
            gate.control.reload()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize(("owner", "section", "refused"), [(7, "[approvals]", True), (7, "[audit]", False)])
def test_a_file_of_another_user_opens_no_gate(file: Path, owner: int, section: str, refused: bool) -> None:
    """Case 7. Unless it says nothing of who may do what, and who must agree."""
    file.write_text(section)
    os.chown(file, owner, -1)

    if refused:
        with pytest.raises(BadConfig, match=f"^{file}:1: .* must belong to this user or root, and .* to user {owner}"):
            read_file(file, parse)
    else:
        assert read_file(file, parse).of(AUDIT)


@pytest.mark.parametrize("text", ["[[grant]]\ntoo = 1\n", "[approvals]\nbulky = 1\n", "[audit]\npaths = 1\n"])
def test_an_unknown_key_opens_no_gate(file: Path, text: str) -> None:
    """Case 7. It is named with its line."""
    file.write_text(text)
    with pytest.raises(BadConfig, match=rf"{file}:2: .* is 1; there is no such key; use one of"):
        Gate("wrong", config=file, control_socket=False).__enter__()


@pytest.mark.usefixtures("_directory")
def test_check_shows_grants_with_their_lines(file: Path) -> None:
    """And errors with theirs; the exit code tells."""
    file.write_text("[[grant]]\nto = ['user:ann']\nrole = 'viewer'\n[approvals]\nbulk = 9\n")
    good = CliRunner().invoke(main, ["check", str(file)])
    file.write_text("[[grant]]\nto = ['user:anne']\nrole = 'viewer'\n")
    bad = CliRunner().invoke(main, ["check", str(file)])

    assert (good.exit_code, good.stdout.splitlines()[:3]) == (
        0,
        ["    2  grant[0].to     ['user:ann']", "    3  grant[0].role   viewer", "    5  approvals.bulk  9"],
    )
    assert bad.exit_code == 2
    assert bad.stderr.startswith(f"{file}:2: grant[0].to[0] is 'user:anne'; there is no user")


def test_the_names_of_this_machine_are_known(file: Path) -> None:
    """Its own user and group, from its own directory."""
    user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    [grant] = read(file, f"[[grant]]\nto = ['user:{user}', 'group:{group}']\nrole = 'view'\n").of(GRANTS)

    assert (grant.users, grant.groups) == ({os.geteuid()}, {os.getegid()})
