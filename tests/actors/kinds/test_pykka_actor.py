"""A program that was written for pykka works on our actors when its base class is another one."""

from __future__ import annotations

import sqlite3
from types import SimpleNamespace
from typing import Any

import pykka
import pytest

from actors import CpuActor


class Ported(CpuActor):
    """The base class that replaces `pykka.ThreadingActor` in such a program."""

    dispatcher = "pinned"
    expected = (Exception,)


def library_program(base: Any) -> list[Any]:
    """Run a lending library: a catalogue in a database, a desk, and a few readers; return what its user sees."""
    seen: list[Any] = []

    class Catalogue(base):  # type: ignore[misc]
        def __init__(self, titles: list[str]) -> None:
            super().__init__()
            self.titles = titles
            self.rules = pykka.traversable(SimpleNamespace(limit=2))

        def on_start(self) -> None:
            self.db = sqlite3.connect(":memory:")  # only for the thread that connects
            self.db.execute("CREATE TABLE books (title PRIMARY KEY, reader)")
            self.db.executemany("INSERT INTO books VALUES (?, NULL)", [(title,) for title in self.titles])

        def on_stop(self) -> None:
            seen.append(("lent at the end", self.db.total_changes - len(self.titles)))
            self.db.close()

        def lend(self, title: str, reader: str) -> int:
            query = "UPDATE books SET reader = ? WHERE title = ? AND reader IS NULL"
            if not self.db.execute(query, (reader, title)).rowcount:
                raise LookupError(f"{title} is not here")
            return self.db.execute("SELECT count(*) FROM books WHERE reader = ?", (reader,)).fetchone()[0]

    class Desk(base):  # type: ignore[misc]
        def __init__(self, catalogue: Any) -> None:
            super().__init__()
            self._catalogue, self._self = catalogue.proxy(), self.actor_ref.proxy()
            self.log: list[str] = []

        def on_receive(self, message: dict[str, str]) -> str:
            self._self.note.defer(f"{message['reader']} asks")
            try:
                count = self._catalogue.lend(message["title"], message["reader"]).get(timeout=30)
            except LookupError as error:
                return f"sorry, {error}"
            return "the last one" if count == self._catalogue.rules.limit.get() else "here you are"

        def note(self, line: str) -> None:
            self.log.append(line)

    class Reader(base):  # type: ignore[misc]
        def read(self, desk: Any, titles: list[str]) -> list[str]:
            answers = [desk.ask({"title": title, "reader": self.name}, block=False) for title in titles]
            return list(pykka.get_all(answers, timeout=30))

        def on_start(self) -> None:
            self.name = f"reader {len(pykka.ActorRegistry.get_by_class(Reader))}"

    catalogue = Catalogue.start(["Emma", "Ulysses", "Walden"])
    desk = Desk.start(catalogue)
    readers = []
    for _ in range(2):
        readers.append(Reader.start().proxy())
        seen.append(readers[-1].name.get(timeout=30))
    seen.append(readers[0].read(desk, ["Emma", "Walden"]).get(timeout=30))
    seen.append(readers[1].read(desk, ["Emma", "Ulysses"]).map(lambda answers: [*answers, "bye"]).get(timeout=30))
    catalogue.proxy().rules.limit = 9
    seen.append(catalogue.ask(pykka.messages.ProxyGetAttr(attr_path=("rules", "limit"))))
    try:
        catalogue.proxy().lend("Emma", "a thief").get(timeout=30)
    except LookupError as error:
        seen.append((str(error), catalogue.is_alive()))
    seen.append(desk.proxy().log.get(timeout=30))
    pykka.ActorRegistry.broadcast("unread", target_class=Reader)
    seen.append(pykka.ActorRegistry.stop_all(timeout=30))
    seen.append((desk.is_alive(), catalogue.actor_stopped.wait(30), pykka.ActorRegistry.get_all()))
    try:
        desk.tell({"title": "Emma", "reader": "nobody"})
    except pykka.ActorDeadError as error:
        seen.append(str(error) == f"{desk} not found")
    return seen


@pytest.mark.parametrize("base", [pykka.ThreadingActor, Ported], ids=["pykka", "ported"])
def test_a_program_for_pykka_does_the_same_on_our_actors(base: Any) -> None:
    """Threads, hooks, proxies, futures, the registry and errors: its user sees no difference."""
    assert library_program(base) == [
        "reader 1",
        "reader 2",
        ["here you are", "the last one"],
        ["sorry, Emma is not here", "here you are", "bye"],
        9,
        ("Emma is not here", True),
        ["reader 1 asks", "reader 1 asks", "reader 2 asks", "reader 2 asks"],
        ("lent at the end", 3),
        [True, True, True, True],
        (False, True, []),
        True,
    ]
