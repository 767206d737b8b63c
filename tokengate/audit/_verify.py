"""Verification of a log: its records, its key file, and the heads that were kept elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs
import msgspec

from tokengate.audit._chain import RECORD, End, Keys
from tokengate.audit._check import Checked, Problem, check, problems_of
from tokengate.audit._files import FIRST_KEY, KEY, content, segments_in
from tokengate.audit._record import MAX_LINE

_HEAD: Final = re.compile(r"audit head: chain=([0-9a-f]{16}) seq=([0-9]{1,18}) mac=([0-9a-f]{64}) directory='([^']*)'")
_MOST: Final = 10_000_000  # records that a chain is followed beyond what the log has


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
    problems: list[Problem] = []
    notes: list[str] = []
    told = [] if heads is None else _heads_in(heads)
    before = _key_in(directory)
    segments = list(_segments(directory, problems))
    after = _key_in(directory)
    try:
        first = End.parse(key.read_bytes() if key else content(directory, FIRST_KEY))
    except FileNotFoundError:
        if key:
            raise
        sealed = f"{FIRST_KEY} is not there; if the log was sealed, give what was printed then with --key FILE"
        problems.append(Problem("key", (), sealed) if segments else Problem("file", (), "there is no log"))
        first = None
    except ValueError as error:
        problems.append(Problem("key", (), f"{key or FIRST_KEY}: {error}; no record can be checked"))
        first = None
    checked = Checked()
    if first is not None:
        end = _end_of(segments)
        limit = max(end, after.seq if after and after.seq < end + _MOST else 0, *(head.seq + 1 for head in told), 1)
        checked = check(segments, first, limit, {head.seq for head in told})
        last = max(checked.seqs, default=0)
        keys = Keys(first.key)
        for one in (before, after):
            if one and (one.chain != first.chain or one.seq > limit or keys.of(one.seq) != one.key):
                before = after = None
        if after is None:
            problems.append(Problem("key", (), f"{KEY} is damaged, gone, or of another chain"))
        elif after.seq <= last:
            if after.seq == msgspec.json.decode(checked.last, type=_Batch).first:
                notes.append(f"{KEY} is one batch behind: the process was killed, or is writing")
            else:
                problems.append(
                    Problem("key", (), f"{KEY} is an older one: of record {after.seq}, and {last} is there")
                )
        problems += problems_of(checked, before.seq if before else None)
        problems += _problems_of_heads(directory, first.chain, told, checked)
    elif told:
        others = sorted({head.chain for head in told if head.directory == str(directory)})
        problems += [Problem("head", (), f"chain {chain} is not here") for chain in others]
    compared = sorted(head.seq for head in told if first and head.chain == first.chain)
    words = "no heads were compared: another chain, and a log put back together with its key, are not seen"
    if compared:
        words = f"{len(compared)} heads of {heads} were compared, up to record {compared[-1]}"
    whole = sum(1 for seq in checked.seqs if seq)
    return Verification(str(directory), first.chain if first else "", whole, tuple(problems), tuple(notes), words)


class _Batch(msgspec.Struct):
    seq: int
    batch: int = 0

    @property
    def first(self) -> int:
        return self.batch or self.seq


def _key_in(directory: Path) -> End | None:
    try:
        return End.parse(content(directory, KEY))
    except (OSError, ValueError):
        return None


def _segments(directory: Path, problems: list[Problem]) -> Iterator[tuple[str, bytes]]:
    try:
        names = segments_in(directory)
    except OSError:
        return
    for name in names:
        try:
            yield name, content(directory, name)
        except OSError as error:
            problems.append(Problem("file", (), f"{name}: {error.strerror}"))


def _end_of(segments: Sequence[tuple[str, bytes]]) -> int:
    """Return the number after that which the last record says it has."""
    for _, text in reversed(segments):
        for line in reversed(text[-2 * MAX_LINE :].splitlines()):
            if (found := RECORD.match(line)) and int(found[1]) < _MOST:
                return int(found[1]) + 1
    return 1


def _heads_in(file: Path) -> list[_Head]:
    with file.open(errors="replace") as lines:
        found = [match for line in lines if (match := _HEAD.search(line))]
    return [_Head(match[1], int(match[2]), match[3].encode(), match[4]) for match in found]


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
