"""Commands about proposals, the freeze and the caller; and the wait for an approval."""

from __future__ import annotations

import shlex
import time
from typing import Any

import pytest
from fake_gate import loaded, run

from tokengate.cli.commands import _authority
from tokengate.control._exceptions import ProposalMade, Refused
from tokengate.control.messages import (
    ActorOutcome,
    Applied,
    Apply,
    Approve,
    Deny,
    Freeze,
    Identity,
    Lift,
    Outcome,
    Pause,
    ProposalDetails,
    ProposalRow,
    Proposals,
    Proposed,
    Restart,
    SetState,
    SetThrottle,
    ShowProposal,
    Stop,
    Terminate,
    ThrottleRow,
    Unfreeze,
    WaitApproval,
    Whoami,
)

DIGEST = "9f3a1c42" + 56 * "0"
NOW = time.time()


def proposal(state: str = "open", **fields: Any) -> ProposalRow:
    known = {
        "number": 12, "verb": "terminate", "state": state, "needs": "approval", "targets": 3, "proposer": "uid:1001",
        "reason": "it hangs", "made": NOW, "expires": NOW + 86_400, "approver": "", "digest": DIGEST,
    }  # fmt: skip
    return ProposalRow(**(known | fields))


DETAILS = ProposalDetails(proposal(), {"mode": "cancel", "grace": 1.0}, "3-5", "", {}, ())
WAITS = Outcome(3, "resize", "awaiting", "proposal 12 needs approval", Proposed(12, DIGEST, NOW + 900))
STOPS = ActorOutcome("office/mailer", "awaiting", "proposal 12 needs approval", Proposed(12, DIGEST, NOW + 900))
DONE = Applied(proposal("applied", approver="uid:1002"), (Outcome(3, "resize", "terminated"),))
STOPPED = Applied(proposal("applied"), (), (ActorOutcome("office/mailer", "done", "it has ended"),))


@pytest.mark.parametrize(
    ("line", "question", "answer", "shown"),
    [
        (
            "whoami", Whoami(),
            Identity("uid:1000", 1000, (4, 27), "socket", {"view": "*", "terminate": "tenant=acme"}, frozen=True),
            ["principal    uid:1000", "groups       4 27", "may view     everywhere", "may terminate  tenant=acme",
             "frozen: what they ask for is refused"],
        ),
        ("proposals open", Proposals("open"), (proposal(),), ["12  terminate        3  open", "9f3a1c42", "it hangs"]),
        (
            "proposal show 12", ShowProposal(12), DETAILS,
            ["mode      cancel", "targets     3 tokens: 3-5", f"digest      {DIGEST}", "needs       approval"],
        ),
        ("approve 12 --digest 9f3a1c42 --reason ok", Approve(12, "9f3a1c42", reason="ok"),
         proposal("approved", approver="uid:1002"), ["approved", "9f3a1c42"]),
        ("proposals -o wide", Proposals(), (proposal("approved", approver="uid:1002"),), ["uid:1001  uid:1002"]),
        ("deny 12 --reason no", Deny(12, reason="no"), proposal("denied"), ["denied"]),
        ("apply 12 --force --reason now --wait 9", Apply(12, force=True, reason="now", wait=9), DONE,
         ["3  resize     terminated", "proposal 12 (terminate) is applied"]),
        ("apply 12 --break-glass 'the shop is down'", Apply(12, break_glass="the shop is down"), STOPPED,
         ["office/mailer: done (it has ended)"]),
        ("freeze --reason 'a bad prediction'", Freeze(reason="a bad prediction"), True,
         ["what rules ask for is refused"]),
        ("freeze", Freeze(), False, ["it was refused already"]),
        ("unfreeze", Unfreeze(), True, ["rules act again"]),
        ("unfreeze", Unfreeze(), False, ["rules were not frozen"]),
    ],
)  # fmt: skip
def test_each_command_sends_its_message_and_shows_the_answer(
    monkeypatch: pytest.MonkeyPatch, line: str, question: Any, answer: Any, shown: list[str]
) -> None:
    """As a table, or as JSON."""
    gate, result = run(monkeypatch, shlex.split(line), {type(question): answer})
    assert (result.exit_code, gate.asked) == (0, [question]), result.output
    text = " ".join(result.output.split())
    for part in shown:
        assert " ".join(part.split()) in text
    _, result = run(monkeypatch, [*shlex.split(line), "--json"], {type(question): answer})
    found = loaded(result)
    if isinstance(answer, bool):
        assert found is answer


@pytest.mark.parametrize(
    ("line", "question"),
    [
        ("stop mailer --now --reason r --force", Stop("mailer", drain=False, reason="r", force=True)),
        ("set counter n=1 --reason r", SetState("counter", {"n": 1}, reason="r")),
        ("restart mailer --break-glass 'the shop is down'", Restart("mailer", break_glass="the shop is down")),
        ("throttle a=b --rate 5 --reason r", SetThrottle("a=b", rate=5.0, reason="r")),
        ("throttle a=b --lift --reason r", Lift("a=b", reason="r")),
    ],
)
def test_each_verb_takes_a_reason_and_the_like(monkeypatch: pytest.MonkeyPatch, line: str, question: Any) -> None:
    """Those whose commands are written by hand, too."""
    row = ThrottleRow("a=b", 5.0, None, 0, 0)
    answers = {SetThrottle: row, Lift: (row,)}
    answer = answers.get(type(question), ActorOutcome("mailer", "done"))
    gate, result = run(monkeypatch, shlex.split(line), {type(question): answer})

    assert (result.exit_code, gate.asked) == (0, [question]), result.output


@pytest.mark.parametrize("line", ["approve 12 --digest 9f3a1c42 --force", "deny 12 --dry-run", "apply 12 --dry-run"])
def test_what_is_done_to_a_proposal_has_no_options_that_mean_nothing(
    monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """They are unknown."""
    _, result = run(monkeypatch, line.split(), {})

    assert result.exit_code == 2
    assert "No such option" in result.output


# --- approve ----------------------------------------------------------------------------------------------------------


def test_approve_without_a_digest_is_an_error_in_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the command that shows it."""
    gate, result = run(monkeypatch, ["approve", "12"], {})

    assert (result.exit_code, gate.asked) == (2, [])
    assert (
        "approve needs --digest with the first 8 digits, as 'tokengate proposal show 12' prints them" in result.output
    )


@pytest.mark.parametrize("said", ["y", "n"])
def test_approve_on_a_terminal_shows_the_proposal_and_asks(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """What is approved has the digest of what was shown."""
    monkeypatch.setattr(_authority, "_on_terminal", lambda: True)
    monkeypatch.setattr("click.confirm", lambda _question: said == "y")
    answers = {ShowProposal: DETAILS, Approve: proposal("approved", approver="uid:1002")}
    gate, result = run(monkeypatch, ["approve", "12"], answers)

    assert DIGEST in result.output
    assert gate.asked == [ShowProposal(12), *([Approve(12, DIGEST)] if said == "y" else [])]
    assert result.exit_code == (0 if said == "y" else 1)


# --- What waits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "verb", "answer"),
    [("kill 3", Terminate, (WAITS,)), ("pause 3 4", Pause, (Outcome(4, "resize", "paused"), WAITS)),
     ("restart mailer", Restart, STOPS), ("stop mailer", Stop, STOPS)],
)  # fmt: skip
def test_what_awaits_approval_has_the_exit_code_4(
    monkeypatch: pytest.MonkeyPatch, line: str, verb: Any, answer: Any
) -> None:
    """The line on stderr says how another person approves it."""
    _, result = run(monkeypatch, line.split(), {verb: answer})

    assert result.exit_code == 4
    assert "awaiting" in result.stdout
    assert "tokengate approve 12 --digest 9f3a1c42'; then 'tokengate apply 12'" in result.stderr


@pytest.mark.parametrize(
    ("line", "verb", "answer", "done", "shown"),
    [("kill 3 --wait-approval 5m", Terminate, (WAITS,), DONE, "terminated"),
     ("stop mailer --wait-approval 300", Stop, STOPS, STOPPED, "office/mailer: done")],
)  # fmt: skip
def test_a_command_can_wait_for_the_approval_and_then_does_it(
    monkeypatch: pytest.MonkeyPatch, line: str, verb: Any, answer: Any, done: Applied, shown: str
) -> None:
    """It shows what was done, once."""
    answers = {verb: answer, WaitApproval: proposal("approved", approver="uid:1002"), Apply: done}
    gate, result = run(monkeypatch, line.split(), answers)

    assert result.exit_code == 0, result.output
    assert gate.asked[1:] == [WaitApproval(12, 300.0), Apply(12)]
    assert shown in result.stdout
    assert "awaiting" not in result.stdout
    assert "waiting for the approval of another person: tokengate approve 12 --digest 9f3a1c42" in result.stderr


@pytest.mark.parametrize(
    ("row", "code", "said"),
    [(proposal("open"), 4, "proposal 12 is not approved yet; when it is, 'tokengate apply 12' does it"),
     (proposal("denied", approver="uid:1002"), 1, "proposal 12 is denied by uid:1002, so nothing was done"),
     (proposal("expired"), 1, "proposal 12 is expired, so nothing was done")],
)  # fmt: skip
def test_a_wait_without_an_approval_does_nothing(
    monkeypatch: pytest.MonkeyPatch, row: ProposalRow, code: int, said: str
) -> None:
    """It says what has become of the proposal."""
    gate, result = run(monkeypatch, ["kill", "3", "--wait-approval", "5m"], {Terminate: (WAITS,), WaitApproval: row})

    assert (result.exit_code, len(gate.asked)) == (code, 2)
    assert said in result.stderr


def test_ctrl_c_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the proposal stays."""
    gate, result = run(
        monkeypatch, ["kill", "3", "--wait-approval", "5m"], {Terminate: (WAITS,), WaitApproval: KeyboardInterrupt()}
    )

    assert (result.exit_code, len(gate.asked)) == (130, 2)


@pytest.mark.parametrize("time", ["soon", "2h", "-1"])
def test_the_time_of_the_wait_is_checked(monkeypatch: pytest.MonkeyPatch, time: str) -> None:
    """An hour at most."""
    gate, result = run(monkeypatch, ["kill", "3", f"--wait-approval={time}"], {})

    assert (result.exit_code, gate.asked) == (2, [])


def test_an_apply_that_did_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """For an actor that has begun others, and for tokens that have changed."""
    changed = Applied(proposal("applied"), (), (ActorOutcome("mailer", "changed", "it has begun others"),))
    _, result = run(monkeypatch, ["apply", "12"], {Apply: changed})
    assert (result.exit_code, "it has begun others" in result.stderr) == (1, True)
    _, result = run(monkeypatch, ["apply", "12"], {Apply: Applied(proposal(), (Outcome(3, "r", "changed", "no"),))})
    assert (result.exit_code, "3 changed (no)" in result.stderr) == (1, True)


def test_a_dry_run_whose_answer_is_a_proposal_has_done_what_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 0, and its text on stderr; a refusal is one."""
    made = ProposalMade("nothing was done: a dry run, which is proposal 12 (digest 9f3a1c42)")
    _, result = run(monkeypatch, ["throttle", "a=b", "--rate", "5", "--dry-run"], {SetThrottle: made})
    assert (result.exit_code, "proposal 12 (digest 9f3a1c42)" in result.stderr) == (0, True)
    _, result = run(monkeypatch, ["freeze"], {Freeze: Refused("'freeze' is refused: no")})
    assert (result.exit_code, "'freeze' is refused: no" in result.stderr) == (1, True)
