"""What is done when a log is opened: find where its chain ends, and what the last writer has left undone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from tokengate.audit._chain import RECORD, End, Keys, mac_in, mac_of
from tokengate.audit._files import FIRST_KEY, KEY, Files, segments_in
from tokengate.audit._record import Entry, ranges

_LIMIT: Final = 10_000_000  # records that a chain is followed for, if its key is lost


class _Seen(msgspec.Struct):
    """What is read of a line."""

    seq: int
    kind: str
    of: int = 0
    batch: int = 0


def find_end(files: Files) -> tuple[End, list[Entry]]:
    """Return where the chain ends, after making what a new one needs, and what is to be recorded of it.

    Raises:
        OSError: something cannot be read or written.
    """
    notes: list[Entry] = []
    key, first = (_readable(files, name, notes) for name in (KEY, FIRST_KEY))
    names = segments_in(files.path)
    last, lines = names[-1] if names else "", list[bytes]()
    for name in reversed(names):
        segment = _readable(files, name, notes)
        whole = segment.rfind(b"\n") + 1
        if whole < len(segment) and name == last:
            files.move_torn(name, whole)
            notes.append(Entry(kind="caught_up", args={"torn": name, "bytes": len(segment) - whole}))
        if lines := segment[:whole].splitlines():
            break
    end = _known(_parsed(key), _parsed(first), lines, notes)
    if end is None:
        if key or lines:
            notes.append(_tampered(f"{KEY} is damaged or gone; its chain ends, and is in {files.put_aside()}"))
        end = End.first()
        files.create(FIRST_KEY, end.text())
    else:
        end = _caught_up(end, lines, notes)
        if last and not any(note.kind == "tampered" for note in notes):
            files.go_on(last)
    files.keep(end)
    unknown = _open_intents(files, segments_in(files.path))
    return end, [*notes, *(Entry(kind="outcome", of=seq, outcome={"unknown": 1}) for seq in unknown)]


def _readable(files: Files, name: str, notes: list[Entry]) -> bytes:
    try:
        return files.read(name)
    except OSError as error:  # a link or a FIFO is in its place
        notes.append(_tampered(f"{name}: {error.strerror}"))
        return b""


def _parsed(text: bytes) -> End | None:
    try:
        return End.parse(text)
    except ValueError:
        return None


def _tampered(what: str) -> Entry:
    return Entry(kind="tampered", args={"what": what})


def _known(key: End | None, first: End | None, lines: Sequence[bytes], notes: list[Entry]) -> End | None:
    """Return the end of the chain by its key file; or by the first key and the lines, if that is not its key."""
    if key is not None and (first is None or key.chain == first.chain):
        return key
    keys = Keys(first.key) if first is not None else None
    for line in reversed(lines):
        found, (body, mac) = RECORD.match(line), mac_in(line)
        if first and keys and found and (seq := int(found[1])) < _LIMIT and mac_of(keys.of(seq), body) == mac:
            notes.append(_tampered(f"{KEY} is damaged or gone; its key was computed from the first"))
            return End(first.chain, seq + 1, keys.of(seq + 1), mac)
    return None


def _caught_up(end: End, lines: Sequence[bytes], notes: list[Entry]) -> End:
    """Return the end of the chain after the lines which the key file does not know of."""
    begin = next((i + 1 for i in range(len(lines) - 1, -1, -1) if mac_in(lines[i])[1] == end.mac), None)
    if begin is None:
        if end.seq > 1 and not (lines and end.mac in lines[0][:120]):
            notes.append(_tampered(f"record {end.seq - 1} is gone or changed: the log was cut, or is an older one"))
            return end
        begin = 0
    known, batches = end, set[int]()
    for line in lines[begin:]:
        body, mac = mac_in(line)
        if mac_of(end.key, body) != mac or not body.startswith(b'{"seq":%d,"prev":"%b"' % (end.seq, end.mac)):
            notes.append(_tampered(f"what follows record {end.seq - 1} is not of this chain"))
            break
        seen = msgspec.json.decode(line, type=_Seen)
        batches.add(seen.batch or seen.seq)
        end = end.after(mac)
    found = ranges(range(known.seq, end.seq))
    if len(batches) > 1:
        notes.append(_tampered(f"{KEY} is older than records {found[0]}"))
    elif found:
        notes.append(Entry(kind="caught_up", args={"records": found[0]}))
    return end


def _open_intents(files: Files, names: Sequence[str]) -> list[int]:
    """Return the seqs of the last writer's intents that have no outcome."""
    intents: set[int] = set()
    ended: set[int] = set()
    for name in reversed(names):
        opened = False
        for line in _readable(files, name, []).splitlines():
            try:
                seen = msgspec.json.decode(line, type=_Seen)
            except msgspec.DecodeError:
                continue
            if seen.kind == "intent":
                intents.add(seen.seq)
            elif seen.kind == "outcome":
                ended.add(seen.of)
            opened = opened or seen.kind == "opened"
        if opened:
            break
    return sorted(intents - ended)
