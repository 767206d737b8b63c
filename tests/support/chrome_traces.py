"""The rules of the Chrome trace format, and what a trace of tokens must be: read from the file, by code of its own."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

Item = dict[str, Any]


class Slice(NamedTuple):
    """A slice of a trace; `within` are the names of the slices that it is in, the outermost first."""

    start: int
    end: int
    name: str
    args: Item
    within: tuple[str, ...]


class Checked(NamedTuple):
    """What a trace says.

    Attributes:
        lines: {id of a token's line: its slices, each after those that it is in}.
        tracks: {name of a track of a worker, in all gates: the same}.
        arrows: {(uid of the parent, uid of the child)}, with how many there are.
        instants: those of kinds of events, in order.
        lacks: what the file says that it lacks.
    """

    lines: dict[str, list[Slice]]
    tracks: dict[str, list[Slice]]
    arrows: list[tuple[str, str]]
    instants: list[Item]
    counters: list[Item]
    lacks: list[str]


def check_trace(text: bytes | str) -> Checked:
    """Return what a trace says, after a look whether it keeps all rules of the format."""
    trace = json.loads(text)
    assert set(trace) == {"displayTimeUnit", "traceEvents", "otherData"}
    items: list[Item] = trace["traceEvents"]
    processes, threads = _names(items)
    # A reader sorts by time, and keeps the order of the file among equal times.
    ordered = sorted((item for item in items if item["ph"] != "M"), key=lambda item: item["ts"])
    for item in ordered:
        assert type(item["ts"]) is int, item
        assert item["ts"] > 0, item
        assert item["pid"] in processes, item
        if item["ph"] in "Xisf":
            assert (item["pid"], item["tid"]) in threads, item
    lines = _lines(ordered)
    slices: dict[tuple[int, int], list[Slice]] = _tracks(ordered)
    arrows = _arrows(ordered, slices)
    for item in ordered:
        assert item["ph"] in "beXsfiC", item
        if item["ph"] == "C":
            assert item["args"].keys() == {"running", "queued"}, item
            assert min(item["args"].values()) >= 0, item
    return Checked(
        lines,
        {
            threads[key]: [one for other, found in slices.items() if threads[other] == threads[key] for one in found]
            for key in slices
        },
        arrows,
        [item for item in ordered if item["ph"] == "i" and not item["name"].startswith("lacks ")],
        [item for item in ordered if item["ph"] == "C"],
        trace["otherData"]["lacks"],
    )


def _names(items: Iterable[Item]) -> tuple[dict[int, str], dict[tuple[int, int], str]]:
    """Return the names of processes and threads, each of which is named once."""
    processes: dict[int, str] = {}
    threads: dict[tuple[int, int], str] = {}
    for item in items:
        if item["ph"] == "M" and item["name"] == "process_name":
            assert item["pid"] not in processes, item
            processes[item["pid"]] = item["args"]["name"]
        elif item["ph"] == "M" and item["name"] == "thread_name":
            assert (item["pid"], item["tid"]) not in threads, item
            threads[item["pid"], item["tid"]] = item["args"]["name"]
    assert len(set(threads.values())) >= len(threads) - len(processes), threads
    return processes, threads


def _lines(ordered: Iterable[Item]) -> dict[str, list[Slice]]:
    """Return the slices of lines; each begin has its end, and those that begin in another one end in it."""
    lines: dict[str, list[Slice]] = defaultdict(list)
    opened: dict[tuple[int, str, str], list[tuple[Item, int]]] = defaultdict(list)
    for item in ordered:
        if item["ph"] not in "be":
            continue
        stack, line = opened[item["pid"], item["cat"], item["id"]], lines[item["id"]]
        if item["ph"] == "b":
            within = tuple(one["name"] for one, _ in stack)
            stack.append((item, len(line)))
            line.append(Slice(item["ts"], item["ts"], item["name"], item.get("args", {}), within))
        else:
            assert stack, f"an end without a begin: {item}"
            begin, place = stack.pop()
            assert begin["name"] == item["name"], f"{item} ends {begin}"
            line[place] = line[place]._replace(end=item["ts"])
    assert not any(opened.values()), "a begin without an end"
    return dict(lines)


def _tracks(ordered: Iterable[Item]) -> dict[tuple[int, int], list[Slice]]:
    """Return the slices of threads, of which two are one in the other, or have no time in common."""
    tracks: dict[tuple[int, int], list[Slice]] = defaultdict(list)
    opened: dict[tuple[int, int], list[Slice]] = defaultdict(list)
    for item in ordered:
        if item["ph"] != "X":
            continue
        assert type(item["dur"]) is int, item
        assert item["dur"] > 0, item
        key, start, end = (item["pid"], item["tid"]), item["ts"], item["ts"] + item["dur"]
        around = opened[key] = [one for one in opened[key] if start < one.end]
        for one in around:
            assert end <= one.end, f"{item} begins in {one}, and ends after it"
            assert start > one.start, f"{item} begins with {one}"
        tracks[key].append(Slice(start, end, item["name"], item["args"], tuple(one.name for one in around)))
        around.append(tracks[key][-1])
    return dict(tracks)


def _arrows(ordered: Iterable[Item], tracks: dict[tuple[int, int], list[Slice]]) -> list[tuple[str, str]]:
    """Return the arrows; each has two ends, and each of these is in the innermost slice that it should be in."""
    starts: dict[int, Item] = {}
    arrows = []
    for item in ordered:
        if item["ph"] == "s":
            assert item["id"] not in starts, item
            starts[item["id"]] = item
        elif item["ph"] == "f":
            assert item["bp"] == "e", item
            start = starts.pop(item["id"])
            assert (start["name"], start["cat"]) == (item["name"], item["cat"])
            parent, child = _innermost(tracks, start), _innermost(tracks, item)
            assert child.args["parent"] == int(parent.args["uid"].split(".")[1]), (parent, child)
            arrows.append((parent.args["uid"], child.args["uid"]))
    assert not starts, f"arrows with one end: {starts}"
    return arrows


def _innermost(tracks: dict[tuple[int, int], list[Slice]], end: Item) -> Slice:
    around = [one for one in tracks[end["pid"], end["tid"]] if one.start <= end["ts"] < one.end]  # in order of start
    assert around, f"an end of an arrow in no slice: {end}"
    return around[-1]
