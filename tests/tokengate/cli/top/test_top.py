"""`tokengate top`: what keys do, how it looks, and that the terminal is put back."""

from __future__ import annotations

import contextlib
import io
import os
import select
import socket
import termios
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fake_gate import FakeGate, row, run
from rich.console import Console
from rich.live import Live

from tokengate.cli import _gate_option
from tokengate.cli._connection import Connection
from tokengate.cli.top._asker import Answer, Asker
from tokengate.cli.top._keys import HasFileno, Keys, keys_in
from tokengate.cli.top._screen import screen
from tokengate.cli.top._state import SORTS, TopState
from tokengate.cli.top._top import _run, _take
from tokengate.control._exceptions import BadSelector, NotSteerable, Unreachable
from tokengate.control.messages import (
    ActorOutcome,
    GateInfo,
    Info,
    Message,
    Outcome,
    Pause,
    Resume,
    Step,
    Terminate,
    TokenPage,
    TokenRow,
    Tokens,
)

LIMIT = 60.0  # seconds; reached only when a test fails

INFO = GateInfo("shop", 4711, "0.1", "3.13", "open", 4000.0, {"running": 3, "queued": 0}, 7, 2, 8, 1, ("x",), True)


def page(*rows: TokenRow) -> TokenPage:
    return TokenPage(rows, len(rows), len(rows), 0)


def state_of(*rows: TokenRow) -> TopState:
    state = TopState()
    state.show(INFO, page(*rows))
    return state


def press(state: TopState, *keys: str) -> Message | None:
    asked = None
    for key in keys:
        asked = state.press(key)
    return asked


def selected(state: TopState) -> int | None:
    return None if state.selected is None else state.selected.id


def drawn(state: TopState, height: int = 12, width: int = 80) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(screen(state, height))
    return [line.rstrip() for line in out.getvalue().splitlines()]


# --- Keys and what they do -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("j", 2), ("down", 2), ("j j", 3), ("j j j", 3), ("k", 1), ("j k", 1), ("page down", 3),
        ("page down,page up", 1),
    ],
)  # fmt: skip
def test_a_row_is_selected_with_arrows_or_letters(keys: str, expected: int) -> None:
    """The selection stays within the list."""
    state = state_of(row(1), row(2), row(3))
    press(state, *(keys.split(",") if "page" in keys else keys.split()))

    assert selected(state) == expected


def test_the_selected_token_stays_selected_wherever_its_row_goes() -> None:
    """It is the token that keys are for, not the line."""
    state = state_of(row(1), row(2), row(3))
    press(state, "j")
    state.show(INFO, page(row(9), row(3), row(2)))

    assert selected(state) == 2


@pytest.mark.parametrize(("left", "expected"), [([1, 3], 3), ([1], 1), ([], None)])
def test_when_the_selected_token_ends_its_line_stays_selected(left: list[int], expected: int | None) -> None:
    """Or the last one, if there are no more so many."""
    state = state_of(row(1), row(2), row(3))
    press(state, "j")
    state.show(INFO, page(*(row(id) for id in left)))

    assert selected(state) == expected


@pytest.mark.parametrize(
    ("token", "question"),
    [
        (row(7), Pause((7,))),
        (row(7, held="throttled", state="queued"), Pause((7,))),
        (row(7, held="pause_requested"), Resume((7,))),
        (row(7, held="paused", state="paused"), Resume((7,))),
    ],
)
def test_p_pauses_what_runs_and_resumes_what_is_held(token: TokenRow, question: Message) -> None:
    """One key for both, as a player has it."""
    assert press(state_of(token), "p") == question


def test_t_steps_the_selected_token() -> None:
    """One step."""
    assert press(state_of(row(7)), "t") == Step((7,))


def test_a_token_is_ended_only_after_enter_which_may_follow_a_reason() -> None:
    """Escape takes it back."""
    state = state_of(row(7))
    asked = press(state, "K", *"stuckk", "backspace", "enter")

    assert asked == Terminate((7,), reason="stuck")
    assert press(state, "K", "a") is None
    assert "end token 7 (resize); Enter does it, Esc does not; reason: a_" in drawn(state)[-1]
    assert press(state, "escape") is None
    assert (state.mode, state.note) == ("list", "nothing was done")
    assert press(state, "K", "enter") == Terminate((7,))


def test_force_needs_a_reason() -> None:
    """Enter alone asks for it."""
    state = state_of(row(7))

    assert press(state, "F", "enter") is None
    assert "end token 7 (resize) by force; force needs a reason; reason: _" in drawn(state)[-1]
    assert press(state, *"stuck", "enter") == Terminate((7,), reason="stuck", force=True)


def test_enter_never_ends_another_token_than_the_one_that_was_named() -> None:
    """If that ends while the question stands, the question is withdrawn."""
    state = state_of(row(7), row(8))
    press(state, "K")
    state.show(INFO, page(row(8)))

    assert press(state, "enter") is None
    assert state.mode == "list"


@pytest.mark.parametrize("key", ["p", "t", "K", "F"])
def test_without_tokens_there_is_nothing_to_steer(key: str) -> None:
    """It is said."""
    state = state_of()

    assert press(state, key, *(["enter"] if key in "KF" else [])) is None
    assert selected(state) is None


def test_s_goes_through_the_columns_and_round() -> None:
    """Each is asked of the gate at once."""
    state = state_of(row(7))
    seen = []
    for _ in SORTS:
        state.stale = False
        press(state, "s")
        assert state.stale
        seen.append(state.question.sort)

    assert seen == [*SORTS[1:], SORTS[0]]


def test_a_selector_is_typed_after_a_slash() -> None:
    """Keys are letters then; enter takes it, escape leaves it as it was."""
    state = state_of(row(7))
    press(state, "/", *"op=qx", "backspace", "enter")

    assert state.question.select == "op=q"
    assert state.stale
    press(state, "/", *"x", "up", "escape")
    assert state.question.select == "op=q"
    assert press(state, "q") is None
    assert state.closed


def test_a_selector_that_the_gate_cannot_read_is_given_up() -> None:
    """The last good one holds, and the reason is shown."""
    state = state_of(row(7))
    press(state, "/", *"id=7", "enter")
    state.show(INFO, page(row(7)))
    press(state, "/", *"!!", "enter")
    state.refuse("'id=7!!' is no selector")

    assert state.question.select == "id=7"
    assert "'id=7!!' is no selector" in drawn(state)[-1]


@pytest.mark.parametrize(
    ("answer", "note"),
    [
        ((Outcome(7, "resize", "pause_requested", "in C code"),), "pause requested (in C code)"),
        (ActorOutcome("/a", "done"), "done"),
    ],
)
def test_what_came_of_a_key_is_told(answer: Any, note: str) -> None:
    """On the last line, until the next key."""
    state = state_of(row(7))
    state.answer(answer)

    assert drawn(state)[-1] == note
    press(state, "j")
    assert note not in drawn(state)[-1]


# --- How it looks ----------------------------------------------------------------------------------------------------


def test_the_header_tells_how_the_gate_is() -> None:
    """Name, time, threads, restarts, tokens by state."""
    head = "\n".join(drawn(state_of(row(7)))[:3])

    assert [part for part in ("shop@4711", "1h06m", "threads 8, 1 blocked, 1 abandoned", "restarts 2", "3 running",
                              "1 live, by -running") if part not in head] == []  # fmt: skip


@pytest.mark.parametrize("height", [1, 8, 24, 100])
@pytest.mark.parametrize("help", [False, True])
def test_it_fits_the_terminal_and_shows_the_selected_row(height: int, help: bool) -> None:
    """Whatever its size, and wherever the selected row is."""
    state = state_of(*(row(id) for id in range(100, 400)))
    state.help = help
    for position in (0, 150, 299):
        state.position = position
        lines = drawn(state, height)
        assert len(lines) <= max(height, 7 + help)
        assert any(line.startswith(f"{100 + position}  ") for line in lines)


# --- The terminal ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        ("jk", ["j", "k"]),
        ("\x1b[A\x1b[B\x1bOA\x1bOB", ["up", "down", "up", "down"]),
        ("\x1b", ["escape"]),
        ("\r\n\x7f\x08", ["enter", "enter", "backspace", "backspace"]),
        ("\x1b[5~\x1b[6~", ["page up", "page down"]),
        ("\x1b[15~\x1b[1;5Aq", ["q"]),
        ("ü", ["ü"]),
        ("", []),
    ],
)
def test_what_a_terminal_sends_are_keys(sent: str, keys: list[str]) -> None:
    """Sequences that mean no key of ours are none, and never their letters."""
    assert keys_in(sent) == keys


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    outside, inside = os.openpty()
    yield outside, inside
    os.close(outside)
    os.close(inside)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, Unreachable])
def test_the_terminal_is_put_back(terminal: tuple[int, int], error: type[BaseException] | None) -> None:
    """However the block ends."""
    _, inside = terminal
    before = termios.tcgetattr(inside)

    def use() -> None:
        with Keys(inside):
            assert termios.tcgetattr(inside) != before
            if error is not None:
                raise error

    if error is None:
        use()
    else:
        with pytest.raises(error):
            use()

    assert termios.tcgetattr(inside) == before


def test_keys_come_at_once_and_whole(terminal: tuple[int, int]) -> None:
    """Without enter; a character and a sequence whose bytes come apart are still one key."""
    outside, inside = terminal
    with Keys(inside) as keys:
        assert keys.read(0) == []
        os.write(outside, "ü".encode()[:1])
        assert keys.read(5) == []
        os.write(outside, "ü".encode()[1:] + b"\x1b[A")
        assert keys.read(5) == ["ü", "up"]


def test_an_answer_is_not_waited_for_till_the_next_key(terminal: tuple[int, int]) -> None:
    """What can be read ends the waiting for keys, and takes none away."""
    outside, inside = terminal
    wakes, woken = socket.socketpair()
    with wakes, woken, Keys(inside) as keys:
        wakes.send(b"!")
        assert keys.read(60, woken) == []
        os.write(outside, b"q")
        assert keys.read(60, woken) == ["q"]


class Typed:
    """Keys, each of which is typed when all has been answered that was asked before; Ctrl-C after them."""

    def __init__(self, state: TopState, *keys: str) -> None:
        self.state = state
        self.keys = list(keys)

    def read(self, _timeout: float, answers: HasFileno) -> list[str]:
        if self.state.silence is not None:
            assert select.select([answers], [], [], LIMIT)[0]
            return []
        if not self.keys:
            raise KeyboardInterrupt
        return [self.keys.pop(0)]


def play(monkeypatch: pytest.MonkeyPatch, answers: dict[type[Message], Any], *keys: str) -> tuple[FakeGate, TopState]:
    gate = FakeGate({Info: INFO, Tokens: page(row(7), row(8))} | answers)
    monkeypatch.setattr(_gate_option, "connect", gate.connect)
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24)
    state = state_of(row(7), row(8))
    with (
        Connection(None, "table") as connection,
        Live(console=console, screen=True, auto_refresh=False) as live,
        Asker(connection) as asker,
    ):
        _run(asker, state, Typed(state, *keys), live, 1000.0)  # type: ignore[arg-type]
    return gate, state


def test_keys_reach_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what it did is seen at once."""
    gate, _ = play(monkeypatch, {Pause: (Outcome(8, "resize", "paused"),)}, "j", "p", "q")

    assert gate.asked == [Pause((8,)), Info(), Tokens(sort="-running", limit=500)]


@pytest.mark.parametrize("kind", [Pause, Tokens])
def test_an_error_of_a_question_is_shown_and_survived(monkeypatch: pytest.MonkeyPatch, kind: type[Message]) -> None:
    """A selector that cannot be read, a token that cannot be steered."""
    error = {Pause: NotSteerable("it is the runtime's own"), Tokens: BadSelector("'!' is no selector")}[kind]
    keys = {Pause: ["p", " ", "q"], Tokens: ["/", "!", "enter", "q"]}[kind]
    _, state = play(monkeypatch, {kind: error}, *keys)

    assert state.closed
    assert state.selector == ""


@pytest.mark.parametrize("kind", [Pause, Info])
def test_a_gate_that_goes_away_ends_it(monkeypatch: pytest.MonkeyPatch, kind: type[Message]) -> None:
    """The error is told below, when the terminal has been put back."""
    with pytest.raises(Unreachable):
        play(monkeypatch, {kind: Unreachable("gate 'shop' went away")}, "p" if kind is Pause else " ", "q")


class Hung:
    """A client of a gate that does not answer, until it is closed."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.closed = threading.Event()

    def ask(self, _message: Message) -> Any:
        self.asked.set()
        assert self.closed.wait(LIMIT)
        raise Unreachable("gate 'shop' went away")

    def close(self) -> None:
        self.closed.set()


class TypedAfter:
    """Keys that are typed once the gate has been asked, and has not answered for some seconds."""

    def __init__(self, hung: Hung, state: TopState, seconds: float, *keys: str) -> None:
        self.hung, self.state, self.seconds = hung, state, seconds
        self.keys = list(keys)
        self.seen: list[str] = []

    def read(self, _timeout: float, _answers: HasFileno) -> list[str]:
        if self.state.silence is None:
            return []
        assert self.hung.asked.wait(LIMIT)
        self.state.silence = self.seconds
        self.seen = drawn(self.state)
        if not self.keys:
            raise KeyboardInterrupt
        return [self.keys.pop(0)]


@pytest.mark.parametrize("keys", [["j", "q"], ["j"]])
def test_keys_work_while_the_gate_does_not_answer(monkeypatch: pytest.MonkeyPatch, keys: list[str]) -> None:
    """It says so and for how long; q and Ctrl-C end it at once, and no thread stays behind."""
    hung = Hung()
    monkeypatch.setattr(_gate_option, "connect", lambda *_: hung)
    state = state_of(row(7), row(8))
    state.stale = True
    typed = TypedAfter(hung, state, 3.0, *keys)
    before = set(threading.enumerate())
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24)
    with (
        contextlib.nullcontext() if "q" in keys else pytest.raises(KeyboardInterrupt),
        Connection(None, "table") as connection,
        Live(console=console, screen=True, auto_refresh=False) as live,
        Asker(connection) as asker,
    ):
        _run(asker, state, typed, live, 1000.0)  # type: ignore[arg-type]

    assert selected(state) == 8
    assert "shop@4711 does not answer (3 s)" in typed.seen[0]
    assert hung.closed.is_set()
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("keys", [["p"], ["t"], ["K", "enter"]])
def test_a_gate_that_does_not_answer_is_asked_for_nothing_more(keys: list[str]) -> None:
    """It might do it much later, when nobody wants it any more; after a moment without an answer keys still work."""
    state = state_of(row(7))
    state.silence = 0.5
    assert press(state, *keys) is not None
    state.silence = 1.0

    assert press(state, *keys) is None
    assert drawn(state)[-1] == "the gate does not answer; nothing was asked for"


def test_an_answer_to_a_question_that_was_changed_meanwhile_is_not_shown() -> None:
    """Neither rows of another selector are, nor is the new selector given up for an error of the old one."""
    state = state_of(row(7))
    old = state.question
    press(state, "/", *"id=8", "enter")
    _take(state, Answer((Info(), old), (INFO, page(row(9)))))
    _take(state, Answer((Info(), old), error=BadSelector("'!'")))

    assert (state.stale, state.selector, selected(state), state.note) == (True, "id=8", 7, "")
    _take(state, Answer((Info(), state.question), (INFO, page(row(8)))))
    assert (state.stale, selected(state)) == (False, 8)


def test_a_fault_of_our_own_is_not_taken_for_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the command, as it would in its own thread."""
    with pytest.raises(ZeroDivisionError):
        play(monkeypatch, {Pause: ZeroDivisionError()}, "p", "q")


def test_it_needs_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pipe, it says what does without."""
    gate, result = run(monkeypatch, ["top"], {})

    assert result.exit_code == 2
    assert "top needs a terminal, and prints no JSON; 'tokengate ps -w' does without" in result.stderr
    assert gate.asked == []
