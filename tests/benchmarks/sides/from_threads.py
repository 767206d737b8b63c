"""Workloads of the main thread with actors whose `tell`, `ask` and `stop` are for threads: ours and pykka's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sides._workload import bursts


def tell(ref: Any, number: int) -> None:
    """Tell an actor a number of messages, and wait until it has handled all."""
    tell = ref.tell
    for message in range(number):
        tell(message)
    ref.ask(None)


def ask(ref: Any, number: int) -> None:
    """Ask one at a time."""
    ask = ref.ask
    for message in range(number):
        ask(message)


def ask_all(refs: Sequence[Any]) -> None:
    """Ask each actor without waiting, then get all answers."""
    for answer in [ref.ask(1, block=False) for ref in refs]:
        answer.get()


def ask_in_flight(ref: Any, number: int) -> None:
    """Have 1,000 asks of one actor in flight, and then the next 1,000."""
    for size in bursts(number, 1_000):
        ask_all([ref] * size)


def fan_out(refs: Sequence[Any], number: int) -> None:
    """Ask all actors at once, a number of times."""
    for _ in range(number):
        ask_all(refs)


def spawn_in_turn(spawn: Callable[[], Any], refs: list[Any], number: int) -> None:
    """Start an actor and ask it, and then the next; all stay alive in `refs`."""
    for _ in range(number):
        ref = spawn()
        ref.ask(1)
        refs.append(ref)


def spawn_at_once(spawn: Callable[[], Any], refs: list[Any], number: int) -> None:
    """Start a number of actors, then ask all; they stay alive in `refs`."""
    started = [spawn() for _ in range(number)]
    ask_all(started)
    refs += started
