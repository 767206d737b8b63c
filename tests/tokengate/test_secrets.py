"""A secret is passed on everywhere, and what operators see and what is logged has its class only."""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import trio
from gated_code import LIMIT, Door, share

from tokengate import AsyncioActor, CpuActor, Gate, IoActor, ProcessActor, Secret, Token, checkpoint, token
from tokengate.control import messages as m
from tokengate.errors import ActorDead, NotPicklable

CANARY = "canary-8d1f"


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("vault", threads=2, control_socket=False, shutdown=LIMIT) as opened:
        yield opened
        opened.close(drain=False)


def hold(secret: Secret[str], door: Door, **options: Any) -> None:
    door.reached.set()
    while not door.is_open:
        checkpoint()
    raise LookupError(f"{secret} and {options} of {len(secret.reveal())} letters")


async def hold_in_trio(secret: Secret[str], door: Door, **options: Any) -> None:
    door.reached.set()
    while not door.is_open:
        await trio.lowlevel.checkpoint()
    raise LookupError(f"{secret} and {options} of {len(secret.reveal())} letters")


async def hold_in_asyncio(secret: Secret[str], door: Door, **options: Any) -> None:
    door.reached.set()
    while not door.is_open:
        await asyncio.sleep(0)
    raise LookupError(f"{secret} and {options} of {len(secret.reveal())} letters")


class Cpu(CpuActor):
    show = "*"

    def __init__(self, secret: Secret[str]) -> None:
        super().__init__()
        self.secret = self.other = secret
        self.many = [secret, {"api": secret}]

    def hold(self, secret: Secret[str], door: Door, **options: Any) -> None:
        hold(secret, door, **options)


class Io(IoActor):
    show = "*"

    def __init__(self, secret: Secret[str]) -> None:
        super().__init__()
        self.secret = self.other = secret
        self.many = [secret, {"api": secret}]

    async def hold(self, secret: Secret[str], door: Door, **options: Any) -> None:
        await hold_in_trio(secret, door, **options)


class Asyncio(AsyncioActor):
    show = "*"

    def __init__(self, secret: Secret[str]) -> None:
        super().__init__()
        self.secret = self.other = secret
        self.many = [secret, {"api": secret}]

    async def hold(self, secret: Secret[str], door: Door, **options: Any) -> None:
        await hold_in_asyncio(secret, door, **options)


class Process(ProcessActor):
    show = "*"

    def __init__(self, secret: Secret[str]) -> None:
        super().__init__()
        self.secret = self.other = secret
        self.many = [secret, {"api": secret}]

    def hold(self, secret: Secret[str], door: Door, **options: Any) -> None:
        door.reached.set()
        while not door.is_open:
            checkpoint()
        raise LookupError(f"{secret} and {options} of {len(secret.reveal())} letters")


@token(affinity="process", show="*")
def hold_in_process(secret: Secret[str], door: Door, **options: Any) -> None:
    door.reached.set()
    while not door.is_open:
        checkpoint()
    raise LookupError(f"{secret} and {options} of {len(secret.reveal())} letters")


BEGIN: dict[str, Callable[[Gate], Callable[..., Token[Any]]]] = {
    "cpu": lambda gate: token(show="*")(hold).submit,
    "io": lambda gate: token(show="*")(hold_in_trio).submit,
    "asyncio": lambda gate: token(show="*", affinity="asyncio")(hold_in_asyncio).submit,
    "process": lambda gate: hold_in_process.submit,
    "cpu actor": lambda gate: gate.spawn(Cpu, Secret(CANARY), name="actor").proxy().hold,
    "io actor": lambda gate: gate.spawn(Io, Secret(CANARY), name="actor").proxy().hold,
    "asyncio actor": lambda gate: gate.spawn(Asyncio, Secret(CANARY), name="actor").proxy().hold,
    "process actor": lambda gate: gate.spawn(Process, Secret(CANARY), name="actor").proxy().hold,
}


def text_of(answer: Any) -> str:
    """An answer as Python prints it, and as JSON."""
    inner = getattr(answer, "answer", answer)
    return repr(answer) + repr(inner) + msgspec.json.encode(inner).decode()


@pytest.mark.parametrize("kind", BEGIN)
def test_what_is_seen_of_a_token_has_no_secret(kind: str, gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    """Rows, arguments, attributes, stacks, streams, errors and logs, though all values are shown."""
    caplog.set_level(logging.DEBUG)
    control, door = gate.control, share(Door()) if "process" in kind else Door()
    with control.watch("*") as events:
        begin = BEGIN[kind](gate)
        state = control.ask(m.GetState("spawned/actor")) if "actor" in kind else None
        sent = begin(Secret(CANARY), door, more=Secret(CANARY), few=[Secret(CANARY)])
        door.wait_reached()
        described = control.describe(sent.id)
        seen = [
            state,
            control.tokens(),
            described,
            control.stack(sent.id),
            control.info(),
            control.tree(),
            control.actors(),
        ]
        door.open()
        error = str(sent.exception(LIMIT))  # not raised, so that no frame keeps the door
        while not seen[-1:] or getattr(seen[-1], "kind", "") != "token.finished":
            seen.append(next(events))
    arguments = {argument.name: (argument.type, argument.value) for argument in described.arguments}

    assert error.startswith("Secret(***) and {'more': Secret(***), 'few': [Secret(***)]} of 11 letters")
    assert arguments["secret"] == arguments["more"] == ("Secret", None)
    assert arguments["few"] == ("list", "[<Secret>]")
    assert CANARY not in "".join(map(text_of, seen))
    assert CANARY not in caplog.text + error + repr(sent)


def test_a_dead_letter_has_no_secret(gate: Gate, until: Callable[[Callable[[], bool]], None]) -> None:
    """A message to an actor that has ended, as a stream and as an event."""
    heard: list[object] = []
    gate.subscribe(heard.append)
    ref = gate.spawn(Cpu, Secret(CANARY), name="actor")
    ref.stop()
    with gate.control.watch() as events:
        with pytest.raises(ActorDead) as caught:
            ref.tell({"key": Secret(CANARY)})
        item = next(events)
        while item.kind != "token.dead_letter":
            item = next(events)
    until(lambda: bool(heard))

    assert CANARY not in repr(item) + repr(heard) + repr(caught.value)


@token(affinity="process")
def same(secret: Secret[str]) -> tuple[Secret[str], str, bool, str]:
    from tokengate import Secret as Imported  # of this process

    return secret, secret.reveal(), secret == Imported(CANARY) and type(secret) is Imported, f"{secret}"


def test_a_secret_crosses_to_a_child_process_and_back(gate: Gate) -> None:
    """There it is the same class as the one that code there imports, and it is shown as little."""
    secret, revealed, equal, text = same(Secret(CANARY))

    assert type(secret) is Secret
    assert secret == Secret(CANARY)
    assert (revealed, equal, text) == (CANARY, True, "Secret(***)")


@token(affinity="process")
def nothing(secret: object) -> None: ...


def test_one_that_cannot_be_pickled_is_not_shown_by_the_error(gate: Gate) -> None:
    """The error names its type."""
    with pytest.raises(NotPicklable) as caught:
        nothing(Secret((CANARY, threading.Lock())))

    assert "a Secret" in str(caught.value)
    assert CANARY not in "".join(traceback.format_exception(caught.value))
