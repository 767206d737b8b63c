"""Each key of a file has a line."""

from __future__ import annotations

import random
import tomllib
from typing import Any

import pytest

from tokengate.config import _lines
from tokengate.config._lines import KeyPath, lines_of


def has(values: Any, path: KeyPath) -> bool:
    for key in path:
        try:
            values = values[key]
        except (KeyError, IndexError):
            return False
    return True


def paths(values: Any, path: KeyPath = ()) -> list[KeyPath]:
    pairs = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [found for key, value in pairs for found in ((*path, key), *paths(value, (*path, key)))]


def drawn(chance: random.Random) -> str:
    """Draw a file whose statements have a line each."""
    lines: list[str] = []
    for _ in range(chance.randint(1, 5)):
        lines += [f"[[{chance.choice(['policy', 'throttle'])}]]"]
        keys = [
            "timeout = 5 # a comment",
            "retry.attempts = 3",
            'retry.on = ["A", "B"]',
            "",
            "# key = 1",
            '"odd key" = 1',
        ]
        keys += ["breaker = { slow = 1, key = { a = 1 } }", "list = [{ rate = 1 }, { rate = 2 }]", 'text = "[x]"']
        lines += chance.sample(keys, chance.randint(0, len(keys)))
        for sub in chance.sample(["budget", "x.y"], chance.randint(0, 2)):
            name = lines[-1 - next(n for n, line in enumerate(reversed(lines)) if line.startswith("[["))].strip("[]")
            lines += [f"[{name}.{sub}]", "limit = 1"]
        if chance.random() < 0.5:
            name = [line for line in lines if line.startswith("[[") and "." not in line][-1].strip("[]")
            lines += [f"  [[{name}.{chance.choice(['in', 'on'])}]]", "x = 1"] * chance.randint(1, 3)
    return "\n".join(lines) + "\n"


def test_the_line_of_a_key_is_the_last_of_the_first_head_that_has_it(seed: int) -> None:
    """A head of the file is its first lines; the model parses all of them."""
    chance = random.Random(seed)
    for _ in range(15):
        text = drawn(chance)
        lines = text.split("\n")
        heads = [tomllib.loads("\n".join(lines[:number])) for number in range(len(lines) + 1)]
        expected = {path: next(n for n, head in enumerate(heads) if has(head, path)) for path in paths(heads[-1])}

        assert lines_of(text) == expected, text


def test_what_is_within_a_value_of_several_lines_has_its_own_line() -> None:
    """Also a table in a list, and what is in it."""
    lists = "a = [\n  1,\n  # comment\n  2,\n]\nb = [\n  { c = 1 }, { d = 2 },\n  { e = [\n    3,\n  ] },\n]\n"
    text = f'{lists}f = """\n[[x]]\n"""\ng = 1'

    found = lines_of(text)

    assert {path: found[path] for path in [("a",), ("a", 0), ("a", 1), ("b",), ("b", 0, "c"), ("b", 1, "d")]} == {
        ("a",): 1, ("a", 0): 2, ("a", 1): 4, ("b",): 6, ("b", 0, "c"): 7, ("b", 1, "d"): 7,
    }  # fmt: skip
    assert (found["b", 2, "e"], found["b", 2, "e", 0]) == (8, 9)
    assert (found["f",], found["g",]) == (14, 15)
    assert set(found) == set(paths(tomllib.loads(text)))


def test_lines_end_as_on_any_system() -> None:
    """A carriage return before the end of a line changes nothing."""
    text = "[[policy]]\r\nretry = { attempts = 3,\tmax_wait = 1 }\r\n[policy.x]\r\ny = [\r\n1]\r\n"

    assert lines_of(text) == lines_of(text.replace("\r\n", "\n"))


def test_each_statement_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the lines of a file of 1,000 lines cost no more than the file itself."""
    calls: list[str] = []
    parsed = _lines._parsed
    monkeypatch.setattr(_lines, "_parsed", lambda text: calls.append(text) or parsed(text))

    lines_of("[[policy]]\nretry = { attempts = 3 }\n" * 500)

    assert len(calls) == 1_001
