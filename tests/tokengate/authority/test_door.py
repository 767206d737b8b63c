"""The one door: every verb, by every way in, is asked for by a caller that may do it, or changes nothing."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import attrs
import click
import pytest
import trio
from callers import ANN, BOB, OWN, Wire, control_actor, grants, sample
from click.testing import CliRunner
from gated_code import LIMIT, Door

from tokengate import CpuActor, Gate, Policy, Retry, token
from tokengate.audit import read
from tokengate.authority._authority import Authority
from tokengate.authority._decide import ROLES
from tokengate.authority._grants import Grant, Rights
from tokengate.cli import main
from tokengate.control import messages as m
from tokengate.control._actor import ControlActor
from tokengate.control._admission import Caller
from tokengate.control._exceptions import Refused
from tokengate.control.console._repl import Session, Shell
from tokengate.control.inspection._selector import parse
from tokengate.control.messages import RIGHTS, VERBS, Change, Message, Stream, verb_of
from tokengate.control.transport._client import ControlClient
from tokengate.errors import UnknownActor
from tokengate.history import History
from tokengate.policy._policies import policies_in
from tokengate.predict import Predict

Open = Callable[..., Gate]

# A grant of what no verb needs, so that the process and its user have no right for any verb.
NOTHING = grants(("process", "break_glass"))
POLICIES = """
[[throttle]]
select = "tenant=acme"
rate = 5
[[flag]]
select = "operation=charge"
mode = "observe"
"""


class Mailer(CpuActor):
    """An actor."""

    sent = 0

    def send(self, door: Door) -> None:
        door.pass_through()


@token(policy=Policy(retry=Retry(ConnectionError)))
def charge(door: Door) -> None:
    """An operation."""
    door.pass_through()


def look(gate: Gate) -> object:
    """Return what verbs can change of a gate."""
    system, authority = gate._open_system, control_actor(gate)._authorizer
    assert isinstance(authority, Authority)
    policies = policies_in(system)
    return (
        {
            one.id: (
                str(one.state),
                one.priority,
                dict(one.tags),
                one.actor,
                one._extras.hold,
                one.attempt,
                one.deadline,
            )
            for one in list(system.live.values())
        },
        [
            (
                place.path,
                place.suspended,
                place.drained,
                getattr(place, "starts", 0),
                place.mailbox.size,
                place.governor,
            )
            for place in system.places()
        ],
        [(one.name, dict(one.limits)) for one in policies.selected.all()],
        (policies.blocks, policies.flags),
        [(one.number, one.state) for one in authority.proposals],
        (authority.freeze._is_on is True, authority.rights),
    )


# --- Case 1: every verb, by every way in, without a grant -------------------------------------------------------------


def in_python(gate: Gate, message: Message[Any]) -> object:
    return gate.control.follow(message) if isinstance(message, Stream) else gate.control.ask(message)


def in_trio(gate: Gate, message: Message[Any]) -> object:
    async def ask() -> object:
        if isinstance(message, Stream):
            async with gate.control.aio.follow(message):
                return None
        return await gate.control.aio.ask(message)

    return trio.run(ask)


def by_socket(gate: Gate, message: Message[Any]) -> object:
    server = gate._control_server
    assert server is not None
    assert server.path is not None
    with ControlClient(server.path) as client:
        return client.follow(message) if isinstance(message, Stream) else client.ask(message)


def on_behalf(gate: Gate, message: Message[Any]) -> object:
    with Wire(gate) as wire:
        return wire.ask(message, f"uid:{ANN}", ANN)


def of_api_token(gate: Gate, message: Message[Any]) -> object:
    with Wire(gate) as wire:
        return wire.ask(message, "api:ci", ANN)


Way = Callable[[Gate, Message[Any]], object]


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[Message[Any]]:
    """The messages that were let in."""
    found: list[Message[Any]] = []
    perform = ControlActor._perform

    async def note(self: ControlActor, message: Message[Any], admission: Any) -> Any:
        found.append(message)
        return await perform(self, message, admission)

    monkeypatch.setattr(ControlActor, "_perform", note)
    return found


@pytest.fixture
def closed(open_gate: Open, answered: list[Message[Any]], doors: Callable[[], Door], tmp_path: Path) -> Gate:
    """A gate with work and history, in which no caller has a right for any verb."""
    gate = open_gate(NOTHING + POLICIES, plugins=[History(tmp_path / "history"), Predict()])
    gate.spawn(Mailer, name="mailer")
    charging, sending = doors(), doors()
    charge.with_options(tags={"tenant": "acme"}).submit(charging)
    gate.find("spawned/mailer").proxy().send(sending)
    charging.wait_reached()
    sending.wait_reached()
    answered.clear()
    return gate


@pytest.mark.parametrize("way", [in_python, in_trio, by_socket, on_behalf, of_api_token])
def test_every_verb_is_refused_without_a_grant(closed: Gate, answered: list[Message[Any]], way: Way) -> None:
    """Case 1. All that the gate answers, so that a new verb is among them; this user may reload."""
    before, known = look(closed), list(control_actor(closed)._answers)
    assert set(VERBS.values()) <= set(known)

    for verb in known:
        own = way in (in_python, in_trio, by_socket)
        if (verb.local and way not in (in_python, in_trio)) or (verb is m.Reload and own):
            continue
        said = {"reason": "why", "force": True} if issubclass(verb, Change) else {}
        for fields in ({}, {**said, "dry_run": True} if said else {}, said):
            with pytest.raises(Refused, match=f"^'{verb_of(verb)}' is refused: "):
                way(closed, sample(verb, **fields))
        assert look(closed) == before, verb
    assert answered == []


def test_every_function_of_the_console_is_refused_without_a_grant(
    closed: Gate, answered: list[Message[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Case 1. By its name and with its arguments, as they would be typed."""
    before = look(closed)
    with closing(Session(lambda _: _client_of(closed))) as session:
        shell = Shell(session)
        for verb, message in VERBS.items():
            if message.local or message is m.Reload:
                continue
            shell.locals["given"] = sample(message)
            names = [field.name for field in attrs.fields(message) if field.default is attrs.NOTHING]
            typed = f"{verb}({', '.join(f'given.{name}' for name in names)})"
            assert not shell.run_script(_TYPED.get(verb, typed)), verb
            assert capsys.readouterr().err.startswith(f"Refused: '{verb}' is refused: "), verb
    assert look(closed) == before
    assert answered == []


_TYPED: Final = {"set_state": "set_state('mailer', sent=2)"}
"""Functions whose arguments are not the fields of their messages."""


def _client_of(gate: Gate) -> ControlClient:
    server = gate._control_server
    assert server is not None
    assert server.path is not None
    return ControlClient(server.path)


_OTHERS: Final = ("reload", "shell", "top", "audit verify", "audit seal", "predict backtest", "predict evaluate", "mcp")
"""Commands that are not refused: this user may reload, two have a terminal, four ask files, and one asks when it is
asked, which `tests/tokengate/mcp` tests."""


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield the commands that ask a gate, without those of plugins, which other tests may have imported."""

    def below(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        if isinstance(command, click.Group):
            for name, found in sorted(command.commands.items()):
                yield from below(f"{path} {name}".strip(), found)
        elif any("--gate" in option.opts for option in command.params):
            yield path, command

    yield from below("", main)


def test_every_command_is_refused_without_a_grant(closed: Gate, answered: list[Message[Any]]) -> None:
    """Case 1. Each example of its help."""
    before = look(closed)
    for path, command in commands():
        lines = [line.strip() for line in (command.help or "").splitlines()]
        examples = [line for line in lines if line.startswith("tokengate ")]
        assert examples, f"'{path}' has no example in its help"
        for line in examples if path not in _OTHERS else ():
            if " --dir " in line or " --from " in line:
                continue  # it asks files
            words = shlex.split(re.split(r" \| | >>? ", line)[0], comments=True)[1:]
            result = CliRunner().invoke(main, words, prog_name="tokengate", env={"TOKENGATE_GATE": "shop"})
            assert result.exit_code == 1, (line, result.output)
            assert "' is refused: " in result.output, (line, result.output)
    assert look(closed) == before
    assert answered == []


# --- Case 2: every verb and every role --------------------------------------------------------------------------------

PAGE: Final = {
    "view": """tokens describe describe_actor stack actors tree info overview health which_children count_children
        get_state statistics watch policies breakers budgets flags throttles transactions proposals show_proposal
        wait_approval whoami""",
    "operate": """pause resume step renice retag reroute preempt limit estimate throttle lift reset_throttle suspend
        unsuspend drain recycle retry extend freeze open_breaker close_breaker auto_breaker reset_breaker
        reset_budget""",
    "terminate": "terminate restart stop terminate_child restart_child delete_child compensate compensate_transaction",
    "override": "skip_transaction",
    "state": "set_state visit",
    "call": "call",
    "approve": "approve",
    "audit": "audit_records show_audit_record follow_audit",
    "administer": "unfreeze reload set_policy reset_policy set_flag reset_flag",
    # By the rights of what is proposed, which `apply` and `propose` ask for, and `deny` of a proposal of another one.
    "view ": "apply deny propose",
}
"""{right: the verbs for which a caller needs it}."""


def test_every_verb_needs_a_right_of_the_page() -> None:
    """Case 2. A new verb is added here on purpose; that of a plugin is declared with its right, or does not import."""
    needed = {verb: right.strip() for right, verbs in PAGE.items() for verb in verbs.split()}
    declared = {verb: sample(message).needed for verb, message in VERBS.items()}

    assert declared == needed
    assert sample(VERBS["statistics"], switch="on").needed == "operate"
    with pytest.raises(TypeError, match="right of Mend is 'repair'; it must be one of view, arguments, "):
        type("Mend", (Message,), {"right": "repair"})


@pytest.mark.parametrize("role", [*ROLES, *RIGHTS])
def test_each_role_lets_in_its_verbs_and_no_others(closed: Gate, role: str) -> None:
    """Case 2. The whole table, of all verbs that the gate answers; with a selector, verbs on the whole gate are out."""
    actor = control_actor(closed)
    authority = actor._authorizer
    assert isinstance(authority, Authority)
    rights = ROLES.get(role, frozenset({role}))
    ann = Caller(f"uid:{ANN}", ANN, via="socket")
    authority.rights = Rights([_grant(rights)], OWN)

    async def let_in() -> set[str]:
        found = set()
        for verb in actor._answers:
            try:
                await authority.admit(sample(verb, **({"reason": "why"} if issubclass(verb, Change) else {})), ann)
            except Refused:
                continue
            found.add(verb_of(verb))
        return found

    assert trio.run(let_in) == {verb_of(verb) for verb in actor._answers if sample(verb).needed in rights}


def _grant(rights: frozenset[str]) -> Grant:
    return Grant(1, frozenset({ANN}), frozenset(), frozenset(), rights)


# --- Case 3: what a request cannot say --------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["caller", "approver", "principal", "owner", "via", "right"])
def test_who_asks_is_no_field_of_a_request(open_gate: Open, field: str) -> None:
    """Case 3. Neither beside the arguments nor among them."""
    with Wire(open_gate()) as wire:
        beside = wire.send({"id": 1, "verb": "approve", "args": {"number": 1}, field: "uid:0"})
        within = wire.send({"id": 2, "verb": "approve", "args": {"number": 1, field: "uid:0"}})

    assert (beside["error"]["type"], within["error"]["type"]) == ("BadRequest", "BadRequest")
    assert f"Object contains unknown field `{field}`" in beside["error"]["message"]
    assert f"'approve' has no field '{field}'" in within["error"]["message"]


@pytest.mark.parametrize(
    ("principal", "owner"),
    [
        ("process", OWN),
        ("process:interventions", None),
        ("api:ci", None),
        ("api:", 5),
        ("uid:5", 6),
        ("root", 0),
        ("", 0),
    ],
)
def test_only_a_user_or_an_api_token_can_be_asked_for(open_gate: Open, principal: str, owner: int | None) -> None:
    """The process and its rules have no clients; a user has its own number."""
    gate = open_gate()
    with Wire(gate) as wire:
        request = {"id": 1, "verb": "info", "on_behalf_of": {"principal": principal, "owner": owner}}
        assert wire.send(request)["error"]["type"] == "Refused"


def test_no_other_user_can_ask_on_behalf_of_someone(closed: Gate) -> None:
    """Case 3. Whatever it may do itself; and whoever it asks for."""
    authority = control_actor(closed)._authorizer
    assert isinstance(authority, Authority)
    authority.rights = Rights([_grant(frozenset(RIGHTS))], OWN)
    ann = Caller(f"uid:{ANN}", ANN, via="socket", peer=1)
    for principal, owner in ((f"uid:{OWN}", OWN), (f"uid:{ANN}", ANN), ("api:ci", ANN)):
        caller = Caller(principal, owner, via="http", peer=1, sender=ann)
        with pytest.raises(Refused, match="only the gate's own user and root may ask on behalf of others"):
            trio.run(authority.admit, m.Info(), caller)
    assert trio.run(authority.admit, m.Info(), ann).caller is ann


_OTHER_USER: Final = """
import json, os, socket, sys
path, uid, *lines = sys.argv[1:]
os.setgroups([]), os.setgid(int(uid)), os.setuid(int(uid))
client = socket.socket(socket.AF_UNIX)
client.connect(path)
replies = client.makefile("rb")
sys.stdout.write(replies.readline().decode())
client.sendall(b'{"hello": {"protocol": 2}}\\n')
for line in lines:
    client.sendall(line.encode() + b"\\n")
    sys.stdout.write(replies.readline().decode())
"""


@pytest.mark.skipif(OWN != 0, reason="only root can be another user")
def test_another_user_is_known_by_its_number(open_gate: Open) -> None:
    """Case 3. A real one, in a process of its own, with a grant of everything: it acts for itself only, on record."""
    gate = open_gate(grants((f"uid:{ANN}", "admin")))
    server = gate._control_server
    assert server is not None
    path = server.path
    assert path is not None
    me = {"id": 1, "verb": "whoami"}
    others = [{**me, "on_behalf_of": {"principal": f"uid:{uid}", "owner": uid}} for uid in (OWN, ANN)]
    before = path.parent.stat().st_mode
    path.parent.chmod(0o711)
    path.chmod(0o666)
    try:
        known, unknown = (_lines_of(path, uid, me, *others) for uid in (ANN, BOB))
    finally:
        path.parent.chmod(before)

    assert (known[1]["result"]["principal"], known[1]["result"]["via"]) == (f"uid:{ANN}", "socket")
    assert [line["error"]["type"] for line in known[2:]] == ["Refused", "Refused"]
    assert unknown[0]["error"]["type"] == "Unreachable"
    assert f"user {BOB} may not control it" in unknown[0]["error"]["message"]
    authority = control_actor(gate)._authorizer
    assert isinstance(authority, Authority)
    log = authority.recorder.log
    assert log is not None
    gate.close()
    refused = [one for one in read(log.place) if one["kind"] == "refused"]
    assert {(one["principal"], one["via"]) for one in refused} == {(f"uid:{ANN}", "socket")}


def _lines_of(path: Path, uid: int, *requests: Any) -> list[Any]:
    """Return what a gate says to a user that sends requests."""
    words = [sys.executable, "-c", _OTHER_USER, str(path), str(uid), *map(json.dumps, requests)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, check=False, env=dict(os.environ))
    return [json.loads(line) for line in ended.stdout.splitlines() if line]


# --- Grants with selectors --------------------------------------------------------------------------------------------


@pytest.fixture
def limited(closed: Gate) -> Callable[[str, str], Callable[[Message[Any]], Any]]:
    """Give one user a role where a selector says, and return what asks on its behalf."""

    def limit(role: str, select: str) -> Callable[[Message[Any]], Any]:
        authority = control_actor(closed)._authorizer
        assert isinstance(authority, Authority)
        rights = ROLES.get(role, frozenset({role}))
        authority.rights = Rights([attrs.evolve(_grant(rights), selector=parse(select) if select else None)], OWN)
        return lambda message: on_behalf(closed, message)

    return limit


Limited = Callable[[str, str], Callable[[Message[Any]], Any]]


@pytest.mark.parametrize("change", [{"set": {"tenant": "free"}}, {"remove": ("tenant",)}])
def test_a_tag_that_a_grant_names_is_changed_by_administrators_only(limited: Limited, change: dict[str, Any]) -> None:
    """It would move tokens into a grant, or out of it; other tags are free."""
    ask = limited("operator", "tenant=acme")
    retag = m.Retag("*", **{"set": {}, **change})

    with pytest.raises(Refused, match="has not the right 'administer'"):
        ask(retag)
    assert [one["outcome"] for one in ask(m.Retag("*", {"plan": "gold"}))] == ["retagged"]
    assert [one["outcome"] for one in limited("admin", "tenant=acme")(retag)] == ["retagged"]


@pytest.mark.parametrize(
    ("select", "suspended"),
    [
        ("tenant=acme", set()),
        ("actor=/spawned/mailer", {"spawned/mailer"}),
        ("actor=/mailer", set()),
        ("operation=charge", {"operations/charge"}),
        ("operation=charge,tenant=acme", set()),
    ],
)
def test_a_verb_on_a_place_needs_a_grant_for_all_of_it(
    closed: Gate, limited: Limited, select: str, suspended: set[str]
) -> None:
    """A place outside does not exist, in the words for a name that there never was."""
    ask = limited("operator", select)
    for path in ("spawned/mailer", "operations/charge"):
        if path in suspended:
            assert ask(m.Suspend(path))["outcome"] == "done"
        else:
            with pytest.raises(UnknownActor) as outside:
                ask(m.Suspend(path))
            with pytest.raises(UnknownActor) as unused:
                ask(m.Suspend("nothing"))
            assert str(outside.value).replace(path, "nothing") == str(unused.value)
    system = closed._open_system
    assert {place.path for place in system.places() if place.suspended} == suspended


def test_a_verb_on_the_whole_gate_needs_a_grant_without_selector(closed: Gate, limited: Limited) -> None:
    """Whatever the selector is."""
    for select in ("tenant=acme", "operation=charge", "actor=/spawned/mailer"):
        with pytest.raises(Refused, match="is about the whole gate, and your grants have selectors"):
            limited("admin", select)(m.Freeze(reason="why"))
    assert limited("admin", "")(m.Freeze(reason="why")) is True


def test_a_message_that_was_let_in_loses_its_right_with_the_file(closed: Gate, limited: Limited) -> None:
    """The right is asked for each token as it is acted on, and each place."""
    limited("operator", "")
    authority, system = control_actor(closed)._authorizer, closed._open_system
    assert isinstance(authority, Authority)
    ann = Caller(f"uid:{ANN}", ANN, via="socket")
    admission = trio.run(authority.admit, m.Pause("*"), ann)
    [charging] = [one for one in system.live.values() if one.operation == "charge"]
    assert (admission.sees(charging), admission.judge(charging, "pause")) == (True, None)

    limited("operator", "tenant=free")

    refused = admission.judge(charging, "pause")
    assert (admission.sees(charging), refused and refused.outcome) == (False, "unknown")
    assert not admission.sees_place(charging._place)
    with pytest.raises(Refused, match="'uid:10001' has not the right 'operate' for all"):
        admission.reach(charging._place)
