"""Workloads of all libraries whose actors are tasks of one asyncio loop."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from typing import Any

from sides._workload import Run, bursts


class Library(ABC):
    """One library: how its system is opened, and how its actors are started, told and asked.

    `message` is what its actors answer.
    """

    message: Any = 1

    @abstractmethod
    async def open(self, stack: AsyncExitStack) -> None:
        """Open the system; the stack closes it."""

    @abstractmethod
    async def spawn(self, name: str) -> Any:
        """Start an actor that answers, and return its ref."""

    async def tell(self, ref: Any, number: int) -> None:
        """Tell an actor a number of messages."""
        tell, message = ref.tell, self.message
        for _ in range(number):
            tell(message)

    async def ask_all(self, refs: Sequence[Any]) -> None:
        """Ask each actor without waiting, then get all answers."""
        await asyncio.gather(*[ref.ask(self.message) for ref in refs])


class Workloads:
    """The workloads of a library, which runs each one in the loop on which its actors are."""

    def __init__(self, library: Callable[[], Library]) -> None:
        self._library = library

    def tell(self) -> AbstractContextManager[Run]:
        """Tell a thousand at a time, and wait until these are handled."""

        async def run(library: Library, refs: list[Any], number: int) -> None:
            for size in bursts(number, 1_000):
                await library.tell(refs[0], size)
                await refs[0].ask(library.message)

        return self._with(1, run)

    def ask(self) -> AbstractContextManager[Run]:
        """Ask one at a time."""

        async def run(library: Library, refs: list[Any], number: int) -> None:
            ask, message = refs[0].ask, library.message
            for _ in range(number):
                await ask(message)

        return self._with(1, run)

    def ask_in_flight(self) -> AbstractContextManager[Run]:
        """Have 1,000 asks of one actor in flight, and then the next 1,000."""

        async def run(library: Library, refs: list[Any], number: int) -> None:
            for size in bursts(number, 1_000):
                await library.ask_all(refs * size)

        return self._with(1, run)

    def fan_out(self) -> AbstractContextManager[Run]:
        """Ask 100 actors at once, a number of times."""

        async def run(library: Library, refs: list[Any], number: int) -> None:
            for _ in range(number):
                await library.ask_all(refs)

        return self._with(100, run)

    def spawn_in_turn(self) -> AbstractContextManager[Run]:
        """Start an actor and ask it, and then the next; all stay alive."""

        async def run(library: Library, refs: list[Any], number: int) -> None:
            for _ in range(number):
                ref = await library.spawn(f"actor-{len(refs)}")
                await ref.ask(library.message)
                refs.append(ref)

        return self._with(0, run)

    def spawn_at_once(self) -> AbstractContextManager[Run]:
        """Start a number of actors, then ask all; they stay alive."""

        async def run(library: Library, refs: list[Any], number: int) -> None:
            started = [await library.spawn(f"actor-{len(refs) + n}") for n in range(number)]
            await library.ask_all(started)
            refs += started

        return self._with(0, run)

    @contextmanager
    def _with(self, actors: int, run: Callable[[Library, list[Any], int], Awaitable[None]]) -> Iterator[Run]:
        """Yield a function that does a number of operations with so many actors."""
        library, stack = self._library(), AsyncExitStack()

        async def start() -> list[Any]:
            await library.open(stack)
            return [await library.spawn(f"actor-{n}") for n in range(actors)]

        async def in_loop(number: int) -> None:
            await run(library, refs, number)

        with asyncio.Runner() as runner:
            refs = runner.run(start())
            try:
                yield lambda number: runner.run(in_loop(number))
            finally:
                runner.run(stack.aclose())
