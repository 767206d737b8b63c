"""Verification of a log: its records, its key file, and the heads that were kept elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs
import msgspec

from tokengate.audit._chain import RECORD, End, Keys
from tokengate.audit._check import Checked, Problem, check, problems_of
from tokengate.audit._files import FIRST_KEY, KEY, content, segments_in
from tokengate.audit._record import MAX_LINE

_HEAD: Final = re.compile(r"audit head: chain=([0-9a-f]{16}) seq=([0-9]{1,18}) mac=([0-9a-f]{64}) directory='([^']*)'")
_MOST: Final = 10**9  # records of a chain
_MORE: Final = 10**7  # records that may have been removed, if no key says how many there were


@attrs.frozen
class Verification:
    """What was found.

    Attributes:
        directory: of the log.
        chain: its name; empty if its first key is not known.
        records: how many have a right mac.
        problems: what is wrong.
        notes: what is worth knowing, and not wrong.
        heads: which heads were compared, in words.
    """

    directory: str
    chain: str
    records: int
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    heads: str


@attrs.frozen
class _Head:
    chain: str
    seq: int
    mac: bytes
    directory: str


class _Batch(msgspec.Struct):
    seq: int
    batch: int = 0


def verify(directory: Path, key: Path | None = None, heads: Path | None = None) -> Verification:
    """Check a log, which may be written to meanwhile.

    Args:
        directory: of the log.
        key: a file with what `seal` has returned; None: the log is not sealed.
        heads: a log of the process, with heads of this chain; None: none was kept.

    Raises:
        OSError: `key` or `heads` cannot be read.
    """
    directory = directory.absolute()
    told = [] if heads is None else _heads_in(heads)
    problems: list[Problem] = []
    before = _key_in(directory)
    segments = list(_segments(directory, problems))
    after = _key_in(directory)
    first = _first_key(directory, key, problems, bool(segments))
    if first is None:
        lost = sorted({head.chain for head in told if head.directory == str(directory)})
        problems += [Problem("head", (), f"chain {chain} was written, and is not here") for chain in lost]
        return Verification(str(directory), "", 0, tuple(problems), (), _compared([], heads))
    seqs = [one.seq for one in (before, after) if one] + [head.seq + 1 for head in told]
    limit = max([1, *(seq for seq in seqs if seq < _MOST)])
    limit = max(limit, _end_of(segments, limit + sum(text.count(b"\n") + 1 for _, text in segments) + _MORE))
    checked = check(segments, first, limit, {head.seq for head in told}, None if before is None else before.seq)
    keys, notes = Keys(first.key), []
    right = [
        one and one.seq <= limit and (one.chain, one.key) == (first.chain, keys.of(one.seq)) for one in (before, after)
    ]
    last = max(checked.seqs, default=0)
    if after is None or not all(right):
        problems.append(Problem("key", (), f"{KEY} is damaged, gone, or of another chain"))
    elif after.seq <= last:
        batch = msgspec.json.decode(checked.last, type=_Batch)
        if after.seq == (batch.batch or batch.seq):
            notes.append(f"{KEY} is one batch behind: the process was killed, or is writing")
        else:
            problems.append(
                Problem("key", (), f"{KEY} is an older one: that of record {after.seq}, and {last} is there")
            )
    if checked.torn:
        notes.append(f"{checked.torn} bytes of a record are at the end: the process was killed, or is writing")
    problems += problems_of(checked, before.seq if before and all(right) else None)
    problems += _problems_of_heads(directory, first.chain, told, checked)
    ours = [head.seq for head in told if head.chain == first.chain]
    whole = sum(map(bool, checked.seqs))
    return Verification(str(directory), first.chain, whole, tuple(problems), tuple(notes), _compared(ours, heads))


def _key_in(directory: Path) -> End | None:
    try:
        return End.parse(content(directory, KEY))
    except (OSError, ValueError):
        return None


def _first_key(directory: Path, key: Path | None, problems: list[Problem], is_there: bool) -> End | None:
    try:
        return End.parse(key.read_bytes() if key else content(directory, FIRST_KEY))
    except ValueError as error:
        problems.append(Problem("key", (), f"{key or FIRST_KEY}: {error}; no record can be checked"))
    except OSError as error:
        if key:
            raise
        sealed = f"{FIRST_KEY}: {error.strerror}; if the log was sealed, give what was printed then with --key FILE"
        problems.append(Problem("key", (), sealed) if is_there else Problem("file", (), "there is no log"))
    return None


def _segments(directory: Path, problems: list[Problem]) -> Iterator[tuple[str, bytes]]:
    for name in segments_in(directory) if directory.is_dir() else ():
        try:
            yield name, content(directory, name)
        except OSError as error:
            problems.append(Problem("file", (), f"{name}: {error.strerror}"))


def _end_of(segments: Sequence[tuple[str, bytes]], most: int) -> int:
    """Return the number after that which the last record says it has, if that is not too high to be true."""
    for _, text in reversed(segments):
        for line in reversed(text[-2 * MAX_LINE :].splitlines()):
            if (found := RECORD.match(line)) and int(found[1]) < most:
                return int(found[1]) + 1
    return 1


def _heads_in(file: Path) -> list[_Head]:
    with file.open(errors="replace") as lines:
        found = _matches(lines)
    return [_Head(match[1], int(match[2]), match[3].encode(), match[4]) for match in found]


def _matches(lines: Iterable[str]) -> list[re.Match[str]]:
    return [match for line in lines if (match := _HEAD.search(line))]


def _problems_of_heads(directory: Path, chain: str, told: Sequence[_Head], checked: Checked) -> Iterator[Problem]:
    last = max(checked.seqs, default=0)
    ours = [head for head in told if head.chain == chain]
    here = {str(directory), *(head.directory for head in ours)}
    for other in sorted({head.chain for head in told if head.chain != chain and (not ours or head.directory in here)}):
        yield Problem("head", (), f"chain {other} was written, and this is chain {chain}")
    for head in ours:
        if head.seq > last:
            yield Problem("head", (str(head.seq),), f"it was written, and the log ends with {last}")
        elif checked.macs.get(head.seq, head.mac) != head.mac:
            yield Problem("head", (str(head.seq),), "another record has its number")


def _compared(seqs: Sequence[int], heads: Path | None) -> str:
    if seqs:
        return f"heads of {heads} that were compared: {len(seqs)}, up to record {max(seqs)}"
    return "no heads were compared: another chain, and a log put back together with its key, are not seen"
