"""What the shop shows of its supervisors: the tree as it is just now on a terminal, else a line for each restart."""

from __future__ import annotations

import sys
from collections import deque

import trio
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.tree import Tree

from tokengate import Gate
from tokengate.errors import TokenGateError
from tokengate.events import ChildStarted, GaveUp, RestartScheduled
from tokengate.types import ChildInfo, current_gate

PERIOD = 0.1  # seconds between two looks

COLOURS = {"running": "green", "restarting": "yellow", "starting": "yellow", "stopping": "magenta", "stopped": "red"}


async def screen() -> None:
    """Show the tree for as long as the gate is open; a child like any other, and the first one."""
    gate = current_gate()
    assert gate is not None
    events: deque[object] = deque()
    unsubscribe = gate.subscribe(events.append)  # called on the thread of the supervisors, so it only takes a note
    console = Console()
    try:
        await (draw(gate, events, console) if console.is_terminal else tell(events))
    finally:
        unsubscribe()


def say(line: str) -> None:
    """Print a line in one go: `print` writes its end separately, and several threads of the shop print."""
    sys.stdout.write(f"{line}\n")


async def tell(events: deque[object]) -> None:
    """Print a line for each restart, and for a supervisor that gives up."""
    while True:
        while events:
            event = events.popleft()
            if isinstance(event, RestartScheduled):
                say(f"{event.supervisor}: restarts {event.child}, {why(event)}")
            elif isinstance(event, GaveUp):
                say(f"{event.supervisor}: gives up, more than {event.intensity} restarts in {event.period:g} s")
        await trio.sleep(PERIOD)


async def draw(gate: Gate, events: deque[object], console: Console) -> None:
    """Draw the tree anew whenever something may have changed; what is printed goes above it."""
    restarting: dict[str, RestartScheduled] = {}  # by path, while it waits
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            while events:
                event = events.popleft()
                if isinstance(event, RestartScheduled):
                    restarting[event.child] = event
                elif isinstance(event, ChildStarted):
                    restarting.pop(event.child, None)
            tree = Tree(f"[bold]{escape(gate.name)}[/]")
            await grow(tree, gate, "/", restarting)
            live.update(tree, refresh=True)
            await trio.sleep(PERIOD)


async def grow(tree: Tree, gate: Gate, path: str, restarting: dict[str, RestartScheduled]) -> None:
    """Add the children of a supervisor, and theirs, in the order of their start."""
    with trio.move_on_after(PERIOD):  # one that is being restarted itself answers later
        try:
            supervisor = gate.find(path).proxy()
            children: list[ChildInfo] = await supervisor.which_children()
            for child in reversed(children):
                spec = await supervisor.get_child_spec(child.id)
                strategy = f", {spec.kwargs.get('strategy', 'one_for_one')}" if child.supervisor else ""
                branch = tree.add(describe(child, strategy, restarting.get(child.path)))
                if child.supervisor and child.status == "running":
                    await grow(branch, gate, child.path, restarting)
        except TokenGateError:
            tree.add("[dim]does not answer: it stops, or is being restarted[/]")


def describe(child: ChildInfo, strategy: str, event: RestartScheduled | None) -> str:
    restarts = f", {child.restarts} restart{'s' * (child.restarts > 1)}" if child.restarts else ""
    reason = f" [dim]{escape(why(event))}[/]" if event is not None and child.status == "restarting" else ""
    return f"{escape(child.id)} [{COLOURS[child.status]}]{child.status}[/]{strategy}{restarts}{reason}"


def why(event: RestartScheduled) -> str:
    return f"attempt {event.attempt}, in {event.delay:.2f} s, after {event.reason}"
