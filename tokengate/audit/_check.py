"""Checks of lines: each record by itself, so that a damaged one hides no other; then their numbers and order.

The mac of a record covers its number. So what lies between records 6 and 9 is 7 and 8, or is not of this chain.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

import attrs
import msgspec

from tokengate.audit._chain import RECORD, End, Keys, mac_in, mac_of
from tokengate.audit._record import ranges

_BEGIN: Final = b'{"seq":'
_MAC: Final = re.compile(rb',"mac":"[0-9a-f]{64}"\}')


@attrs.frozen
class Problem:
    """What is wrong with records, or with a file.

    Attributes:
        what: `damaged`, `missing`, `doubled`, `out of order`, `foreign`; or `key`, `file`, `head`.
        records: numbers, as ranges such as `7-9`; of foreign lines, the record that they follow.
        why: where, and more.
    """

    what: str
    records: tuple[str, ...] = ()
    why: str = ""

    def __str__(self) -> str:
        which = f"{'after ' if self.what == 'foreign' else ''}{', '.join(self.records)}"
        return ": ".join(filter(None, (f"{self.what} {which}".strip(), self.why)))


@attrs.define
class Checked:
    """What is known of the lines of a log.

    Attributes:
        seqs: the number of each record in the order of the lines; 0 for what is damaged or foreign.
        bad: {index in seqs: where it is, and the number that it says it has}.
        problems: of records with a right mac.
        macs: {number: mac} of the wanted records.
        retired: the last record that was removed on record; 0 if none was.
        last: the last line with a right mac.
        torn: how many bytes of the next record are at the end; 0: none. A process that is killed leaves such a part.
    """

    seqs: array[int] = attrs.field(factory=lambda: array("q"))
    bad: dict[int, tuple[str, int]] = attrs.field(factory=dict)
    problems: list[Problem] = attrs.field(factory=list)
    macs: dict[int, bytes] = attrs.field(factory=dict)
    retired: int = 0
    last: bytes = b""
    torn: int = 0


def check(
    segments: Iterable[tuple[str, bytes]], first: End, limit: int, wanted: Collection[int] = (), end: int | None = None
) -> Checked:
    """Check each record by itself.

    Args:
        segments: names and contents, the oldest first.
        first: the beginning of the chain.
        limit: a number that no record reaches.
        wanted: numbers of the records to return the macs of.
        end: number of the first record that the key file does not tell of: a part of it or of a later one may be at
            the end; None: not known.
    """
    checker = _Checker(first, limit, wanted)
    last = ("", b"")
    for segment in segments:
        if last[0]:
            checker.read(*last)
        last = segment
    checker.read(*last, end)
    return checker.checked


def problems_of(checked: Checked, end: int | None) -> list[Problem]:
    """Return all problems of the lines.

    Args:
        checked: what is known of them.
        end: number of the next record; None if that is not known.
    """
    seqs, bad = checked.seqs, checked.bad
    goods = sorted(set(seqs) - {0})
    begin = min(checked.retired + 1, goods[0] if goods else 1)
    stop = max(end or 0, goods[-1] + 1 if goods else begin)
    doubled, once, met = [], [], {0}
    for seq in seqs:
        if seq in met:
            doubled += [seq] if seq else []
        else:
            once.append(seq)
            met.add(seq)
    moved = {seq for seq, right in zip(once, goods, strict=True) if seq != right}
    followed = begin - 1  # the record before
    after: dict[int, list[int]] = {}  # {record: indices of the bad lines that follow it}
    for index, seq in enumerate(seqs):
        if not seq:
            after.setdefault(followed, []).append(index)
        elif seq not in moved:
            followed = max(followed, seq)
    if end is None:
        stop += len(after.get(stop - 1, ()))
    damaged: list[int] = []
    missing: list[str] = []
    foreign: list[tuple[int, int]] = []
    for before, next_good in pairwise([begin - 1, *goods, stop]):
        gap, lines = range(before + 1, next_good), after.pop(before, [])
        if gap or lines:
            here, others = _assigned(gap, {index: bad[index][1] for index in lines})
            damaged += here
            missing += _rest(gap, here)
            foreign += [(before, index) for index in others]
    foreign += [(before, index) for before, lines in after.items() for index in lines]
    named = {
        "damaged": ranges(damaged),
        "missing": missing,
        "doubled": ranges(sorted(set(doubled))),
        "out of order": ranges(sorted(moved)),
    }
    return [
        *checked.problems,
        *(Problem(what, tuple(records)) for what, records in named.items() if records),
        *(Problem("foreign", (str(before),), bad[index][0]) for before, index in foreign),
    ]


def _assigned(gap: range, said: dict[int, int]) -> tuple[list[int], list[int]]:
    """Return which records of a gap bad lines are, and the lines for which none is left.

    Args:
        gap: the numbers that are not found between two records.
        said: {index of a bad line: the number that it says it has}.
    """
    right = {number: index for index, number in reversed(said.items()) if number in gap}
    number = min(len(gap), len(said))
    here = set(right)
    for one in gap:
        if len(here) >= number:
            break
        here.add(one)
    others = [index for index in said if index not in right.values()]
    return sorted(here), others[number - len(right) :]


def _rest(gap: range, here: Sequence[int]) -> Iterator[str]:
    """Return the ranges of a gap without some of its numbers, which are sorted."""
    for before, after in pairwise([gap.start - 1, *here, gap.stop]):
        if after - before > 1:
            yield str(before + 1) if after - before == 2 else f"{before + 1}-{after - 1}"


class _Checker:
    def __init__(self, first: End, limit: int, wanted: Collection[int]) -> None:
        self.checked = Checked()
        self._limit = limit
        self._wanted = wanted
        self._key = Keys(first.key).of
        self._seq = 0  # of the line before, if that is whole
        self._mac = first.mac  # of that line
        self._open = False  # whether the line before is damaged at its end

    def read(self, name: str, text: bytes, end: int | None = None) -> None:
        """Check the lines of a segment."""
        lines = text.split(b"\n")
        tail = lines.pop()
        self._open = False
        for number, line in enumerate(lines, 1):
            seq = self._seq + 1
            if seq < self._limit and line.startswith(b'{"seq":%d,"prev":"%b",' % (seq, self._mac)):
                body, mac = mac_in(line)
                if mac_of(self._key(seq), body) == mac:
                    self._good(seq, line, mac)
                    continue
            self._look_into(line, f"{name}:{number}")
        if end is not None and self._seq + 1 >= end and self._is_part_of_next(tail):
            self.checked.torn = len(tail)
        elif tail and self._look_into(tail, f"{name}:{len(lines) + 1}"):
            self._has_wrong_end()

    def _is_part_of_next(self, tail: bytes) -> bool:
        """Tell whether what follows the last line may be the beginning of the next record, which is not whole."""
        begin = b'{"seq":%d,"prev":"%b",' % (self._seq + 1, self._mac)
        return tail[: len(begin)] == begin[: len(tail)] and not _MAC.search(tail)

    def _look_into(self, line: bytes, where: str) -> bool:
        """Take a line that is not the next record; return whether it is a record."""
        if self._is_record(line):
            return True
        starts = (found.start() for found in RECORD.finditer(line))
        for begin, end in pairwise(sorted({0, *starts, len(line)}) if line else [0, 0]):
            part = line[begin:end]
            found = _MAC.search(part)
            if found and self._is_record(part[: found.end()]):
                part = part[found.end() :]
                if part or end < len(line):
                    self._has_wrong_end()
                if len(part) <= 1:  # what was the end of its line
                    continue
            self._bad(part, where, begins=begin == 0 and part.startswith(_BEGIN))
        return False

    def _is_record(self, line: bytes) -> bool:
        found = RECORD.match(line)
        if found is None or not 0 < (seq := int(found[1])) < self._limit:
            return False
        body, mac = mac_in(line)
        if mac_of(self._key(seq), body) != mac:
            return False
        if self._seq and seq == self._seq + 1 and found[2] != self._mac:
            self.checked.problems.append(Problem("foreign", (str(seq),), "it does not follow the record before"))
        self._good(seq, line, mac)
        return True

    def _good(self, seq: int, line: bytes, mac: bytes) -> None:
        self.checked.seqs.append(seq)
        self.checked.last = line
        self._seq, self._mac, self._open = seq, mac, False
        if seq in self._wanted:
            self.checked.macs[seq] = mac
        if b'"kind":"retired"' in line:
            retired = msgspec.json.decode(line, type=_Retired)
            if retired.kind == "retired":
                self.checked.retired = max(self.checked.retired, int(retired.args["through"]))

    def _bad(self, part: bytes, where: str, begins: bool) -> None:
        """Note what is no record; what follows a record without its end belongs to it."""
        if not self._open or begins:
            found = RECORD.match(part)
            self.checked.bad[len(self.checked.seqs)] = where, int(found[1]) if found else 0
            self.checked.seqs.append(0)
        self._seq, self._open = 0, not part.endswith(b'"}')

    def _has_wrong_end(self) -> None:
        why = "the end of its line was changed"
        self.checked.problems.append(Problem("damaged", (str(self.checked.seqs[-1]),), why))


class _Retired(msgspec.Struct):
    kind: str
    args: dict[str, Any] = {}
