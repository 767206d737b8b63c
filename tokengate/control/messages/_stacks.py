"""Stacks: where the code of a token is."""

from __future__ import annotations

from typing import Literal

import attrs


@attrs.frozen
class Frame:
    """A line of a stack.

    Attributes:
        file: path of the source file.
        line: number of the line.
        function: qualified name of the function.
        source: text of the line; empty if the file cannot be read.
    """

    file: str
    line: int
    function: str
    source: str = ""


@attrs.frozen
class TokenStack:
    """Where the code of a token is.

    Attributes:
        token: its id.
        operation: what it runs.
        where: `thread` (it runs on a thread), `task` (a task that waits), `generator` (between two steps),
            `process` (it runs in a child process), or `nowhere` (it has not begun).
        thread: name of the thread, if it runs on one.
        frames: the outermost first; none if it has not begun, or if its process does not answer.
        held: as in `TokenRow`.
        pid: of its child process, if it runs in one.
    """

    token: int
    operation: str
    where: Literal["thread", "task", "generator", "process", "nowhere"]
    thread: str | None
    frames: tuple[Frame, ...]
    held: str = ""
    pid: int | None = None
