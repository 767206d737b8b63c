"""The console: what it runs, what it shows, what it completes."""

from __future__ import annotations

import code
import readline
from collections.abc import Generator
from pathlib import Path
from typing import Any

import attrs
import pytest
from made_events import made_event

from tokengate.control._exceptions import UnknownToken, Unreachable
from tokengate.control.console._repl import HELP, Session, Shell, history_path
from tokengate.control.messages import (
    VERBS,
    ActorRow,
    Actors,
    Describe,
    Event,
    GateInfo,
    Info,
    Message,
    Outcome,
    Pause,
    Stream,
    Throttles,
    TokenPage,
    TokenRow,
    Tokens,
    Watch,
)

ROW = TokenRow(7, "resize", "operations/resize", "cpu", "queued", 0, {}, None, 1, 0, 1.0, None)
ACTOR = ActorRow("shop/counter", "Counter", "cpu", "running", 0, 10, (), 1, 0, False, False)
INFO = GateInfo("shop", 1, "0.1", "3.13", "open", 1.0, {}, 1, 0, 1, 0, (), True)
ITEM = made_event(0.0, "token.queued", "shop/counter", 7, "token 7 is queued")


@attrs.frozen
class FakeHello:
    gate: str = "shop"
    pid: int = 1
    version: str = "0.1"


class FakeClient:
    """A gate with one token and one actor, which can go away."""

    hello = FakeHello()

    def __init__(self) -> None:
        self.asked: list[Message] = []
        self.here = True
        self.goes = False  # in the middle of a stream
        self.closed = False

    def ask(self, message: Message) -> Any:
        if not self.here:
            raise Unreachable("gate 'shop' (pid 1) went away")
        self.asked.append(message)
        if message == Describe(404):
            raise UnknownToken("token 404 is not live")
        answers: dict[type[Message], Any] = {
            Tokens: TokenPage((ROW,), 1, 1, 0),
            Actors: (ACTOR,),
            Info: INFO,
            Pause: (Outcome(7, "resize", "paused"),),
            Throttles: (),
        }
        return answers[type(message)]

    def follow(self, stream: Stream) -> Generator[Event]:
        if not self.here:
            raise Unreachable("gate 'shop' (pid 1) went away")
        self.asked.append(stream)
        return self.items()

    def items(self) -> Generator[Event]:
        yield ITEM
        if self.goes:
            raise Unreachable("gate 'shop' (pid 1) went away")

    def close(self) -> None:
        self.closed = True


class Network:
    """Where clients are found; the last one is the gate that runs."""

    def __init__(self) -> None:
        self.names: list[str | None] = []
        self.clients = [FakeClient()]

    def connect(self, name: str | None) -> FakeClient:
        self.names.append(name)
        if not self.clients[-1].here:
            raise Unreachable(f"no gate '{name}' runs here")
        return self.clients[-1]


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def shell(network: Network) -> Shell:
    return Shell(Session(network.connect))


def test_every_verb_that_can_go_through_a_socket_is_a_name(shell: Shell) -> None:
    """The names of the console are those of the vocabulary, and a few shorter ones."""
    expected = {verb for verb, message in VERBS.items() if not message.local}

    assert expected < shell.locals.keys()
    assert {"ps", "token", "actor", "gate", "control", "aio", "help", "reconnect"} < shell.locals.keys()
    assert "visit" not in shell.locals


def test_answers_are_shown_as_tables_without_colours(
    shell: Shell, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a statement is worth is shown; a list of tokens, outcomes, rows and one answer are tables."""
    assert shell.run_script("ps()\n_.pause()\nactors()\nactor('counter')\ngate()\n40 + 2\nNone\nthrottles()")

    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[:4]] == ["ID", "7", "ID", "7"]
    assert out.count("shop/counter") == 2
    assert "shop (open)" in out
    assert "42\n" in out
    assert "None" not in out
    assert "\x1b" not in out
    assert network.clients[0].asked[:2] == [Tokens(), Pause((7,), wait=0.25)]


def test_verbs_can_be_awaited(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """`await` works at the top level, in expressions and in assignments; trio runs it."""
    assert shell.run_script("import trio\nawait trio.lowlevel.checkpoint()\nx = await aio.pause(7)\nx[0].outcome")

    assert capsys.readouterr().out == "'paused'\n"


def test_a_verb_that_is_not_called_tells_how(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """A bare name shows the arguments and the first line of what it does."""
    assert shell.run_script("renice")

    assert capsys.readouterr().out == (
        "renice(select, priority, *, reason='', force=False, dry_run=False, break_glass=''): "
        "Change the priority of tokens; higher runs first.\n"
    )


def test_what_is_followed_is_shown_line_by_line(
    shell: Shell, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stream at the prompt shows what happens until it ends."""
    assert shell.run_script("watch('a=b')")

    assert "token 7 is queued" in capsys.readouterr().out
    assert network.clients[0].asked == [Watch("a=b")]


def test_a_gate_that_is_lost_while_it_is_followed_is_told_like_any_other(
    shell: Shell, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether it goes in the middle, or was not there to begin with."""
    [client] = network.clients
    client.goes = True
    assert not shell.run_script("watch()")
    client.here = False
    assert not shell.run_script("watch()")

    assert capsys.readouterr().err.count("reconnect() looks for gate 'shop' again\n") == 2


def test_errors_of_the_runtime_are_one_line_and_end_a_script(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """What the gate refuses is no crash of the console; the rest of the script is left out."""
    assert not shell.run_script("token(404)\nprint('on')")

    assert capsys.readouterr() == ("", "UnknownToken: token 404 is not live\n")


def test_other_errors_have_a_traceback_of_the_script_alone(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """No frame of the console is shown, awaited or not."""
    for source in ("1 / 0", "await aio.tokens()\n1 / await aio.tokens()"):
        assert not shell.run_script(source)

        err = capsys.readouterr().err
        assert err.startswith('Traceback (most recent call last):\n  File "<script>", line')
        assert "_repl" not in err
        assert err.count("File") == 1


def test_a_script_that_cannot_be_read_does_not_run(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake in the last line is found before the first one runs."""
    assert not shell.run_script("print('on')\nps(")

    out, err = capsys.readouterr()
    assert out == ""
    assert "SyntaxError" in err


def test_a_script_may_have_blank_lines_in_functions(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """A script is read like a file, not like typing."""
    assert shell.run_script("def f():\n    x = 1\n\n    return x\nf()")

    assert capsys.readouterr().out == "1\n"


def test_exit_and_interrupts_are_the_callers(shell: Shell) -> None:
    """The console does not keep whoever wants to leave."""
    with pytest.raises(SystemExit):
        shell.run_script("raise SystemExit(3)")
    with pytest.raises(KeyboardInterrupt):
        shell.run_script("raise KeyboardInterrupt")


def test_a_lost_gate_is_told_and_can_be_found_again(
    shell: Shell, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    """`reconnect` looks for the same name, keeps things as they are when there is none, and then all names work."""
    network.clients[0].here = False
    assert not shell.run_script("ps()")
    assert "went away; reconnect() looks for gate 'shop' again\n" in capsys.readouterr().err
    assert not shell.run_script("reconnect()")
    assert "Unreachable: no gate 'shop' runs here" in capsys.readouterr().err

    network.clients.append(FakeClient())
    assert shell.run_script("reconnect()\nps()")

    assert "gate 'shop', pid 1, TokenGate 0.1" in capsys.readouterr().out
    assert network.names == [None, "shop", "shop"]
    assert [client.closed for client in network.clients] == [True, False]
    assert network.clients[1].asked == [Tokens()]


def test_help_teaches_on_one_screen(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """Without arguments it is one page of examples, each of which is a statement."""
    assert shell.run_script("help()\nhelp\nhelp(pause)")

    out = capsys.readouterr().out
    assert out.count(HELP) == 2
    assert "Pause tokens, queued or running, until they are resumed." in out
    assert len(HELP.splitlines()) <= 16
    for line in HELP.splitlines()[1:]:
        for example in line.strip().split("  ")[:1]:
            assert code.compile_command(example.removeprefix("await ")) is not None, example


def test_the_history_is_in_the_users_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the desktop's rules put it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert history_path() == tmp_path / "tokengate" / "history"

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert history_path() == tmp_path / ".local" / "state" / "tokengate" / "history"


@pytest.mark.parametrize("writable", [True, False])
def test_the_prompt_reads_until_the_end_and_keeps_the_history(
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    writable: bool,
) -> None:
    """The prompt names the gate, Ctrl-C gives a new one, Ctrl-D leaves; a history that cannot be kept is no error."""
    state = tmp_path / "state"
    if not writable:
        state.write_text("a file, where a directory should be")
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    typed = iter(["1 +", KeyboardInterrupt, "token(404)", "def f():", "    return 2", "", "f()", "await aio.pause(7)"])
    prompts: list[str] = []

    def read(prompt: str) -> str:
        prompts.append(prompt)
        line = next(typed, EOFError)
        if not isinstance(line, str):
            raise line
        readline.add_history(line)
        return line

    monkeypatch.setattr("builtins.input", read)
    before = readline.get_completer()

    shell.run_interactively()

    out, err = capsys.readouterr()
    assert set(prompts) == {"shop> ", "..... "}
    assert "gate 'shop', pid 1, TokenGate 0.1\nhelp() lists" in err
    assert "UnknownToken: token 404 is not live" in err
    assert "KeyboardInterrupt" in err
    assert out.startswith("2\nID")
    assert readline.get_completer() is before
    assert (state / "tokengate" / "history").exists() == writable
    readline.clear_history()


def test_the_completer_of_readline_offers_one_after_the_other(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readline asks with rising numbers until there are no more."""
    monkeypatch.setattr(readline, "get_line_buffer", lambda: "describe(")
    monkeypatch.setattr(readline, "get_endidx", lambda: len("describe("))

    assert [shell._complete("", n) for n in range(2)] == ["7", None]
