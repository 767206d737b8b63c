"""Frames, and parcels: what both sides use."""

from __future__ import annotations

import os
import pickle
import random
import threading
from typing import Any

import pytest

from actors._child import _wire
from actors._child._payload import INLINE, Payload, open_payload, unnamed_file
from actors._child._pickling import Packer
from actors._child._shared_page import OUTBOX_SIZE, SIZE, Page


def test_frames_are_what_was_packed_however_they_are_cut(seed: int) -> None:
    """A read may end anywhere."""
    chance = random.Random(seed)
    sent = [(kind, number, -number, os.urandom(chance.randrange(300))) for kind, number in enumerate(range(20))]
    data = b"".join(_wire.pack(*one) for one in sent)
    frames = _wire.Frames()
    found: list[_wire.Frame] = []
    while data:
        cut = chance.randrange(1, 400)
        found.extend(frames.feed(data[:cut]))
        data = data[cut:]

    assert [(one.kind, one.number, one.extra, bytes(one.payload)) for one in found] == sent


def test_the_largest_frame_fits_the_outbox() -> None:
    """A payload that travels in its frame does so from there."""
    assert _wire.HEADER.size + INLINE <= OUTBOX_SIZE


def packed(item: Any) -> Payload:
    return Packer().pack(item)


def unpacked(payload: Payload) -> Any:
    stream, buffers = open_payload(*payload.to_file())
    return pickle.loads(stream, buffers=buffers)


@pytest.mark.parametrize("size", [0, 1, 16_383, 16_384, 65_535, 65_536, 1_000_000])
def test_buffers_of_every_size_come_out_of_a_file_as_they_were(size: int) -> None:
    """In the pickle or beside it, empty ones as well."""
    item = [bytearray(b"a" * size), b"b" * size, pickle.PickleBuffer(bytearray(b"c" * size)), "d" * size, bytearray()]
    first, second, third, *rest = unpacked(packed(item))

    assert (first, second, bytes(third)) == (b"a" * size, b"b" * size, b"c" * size)
    assert rest == ["d" * size, bytearray()]


def test_large_buffers_are_beside_the_pickle() -> None:
    """They are not copied into it, and can be written to where they are."""
    data = bytearray(b"x" * 100_000)
    payload = packed([pickle.PickleBuffer(data)])
    (back,) = unpacked(payload)
    back[:1] = b"y"

    assert sum(map(len, payload.pieces)) < 100
    assert payload.inline() is None
    assert bytes(back[:2]) == b"yx"
    assert data[:1] == b"x"


def test_a_parcel_that_may_travel_in_a_frame_is_one_piece() -> None:
    """Of several pieces, they are joined."""
    assert pickle.loads(packed({"a": 1}).inline() or b"") == {"a": 1}
    assert packed(["x" * INLINE]).inline() is None
    several = packed([["x" * 40], "y" * 60_000])

    assert pickle.loads(several.inline() or b"") == [["x" * 40], "y" * 60_000]


def test_results_are_packed_one_after_the_other() -> None:
    """Nothing of one is in the next, after one that failed or was large as well."""
    packer = Packer()
    shared = ["shared"]
    sent: list[Any] = [shared, [shared, shared], "x" * 100_000, list(range(5_000)), shared]
    back: list[Any] = []
    for item in sent:
        payload = packer.pack(item)
        inline = payload.inline()
        back.append(pickle.loads(inline) if inline is not None else unpacked(payload))
        payload.clear()
        with pytest.raises(TypeError):
            packer.pack([shared, threading.Lock()])

    assert back == sent


def test_functions_packed_one_after_the_other_share_no_globals() -> None:
    """Each result is complete in itself."""
    packer = Packer()
    namespace: dict[str, Any] = {"__name__": "__main__", "value": 5}
    exec("def f(): return value", namespace)
    pickles: list[bytes] = []
    for _ in range(2):
        payload = packer.pack(namespace["f"])
        pickles.append(payload.inline() or b"")
        payload.clear()

    assert [pickle.loads(one)() for one in pickles] == [5, 5]


def test_an_unnamed_file_is_in_no_folder_and_not_inherited() -> None:
    """It goes with its last descriptor."""
    descriptor = unnamed_file("tests")
    try:
        assert os.fstat(descriptor).st_nlink == 0
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)


def test_without_memory_files_an_unlinked_one_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on Linux."""
    monkeypatch.delattr(os, "memfd_create")
    descriptor = unnamed_file("tests")
    try:
        assert os.fstat(descriptor).st_nlink == 0
    finally:
        os.close(descriptor)


def test_both_sides_of_a_page_see_the_same() -> None:
    """Each has a view of its own; a word can be any signed number."""
    descriptor = unnamed_file("tests")
    os.ftruncate(descriptor, SIZE)
    mine, theirs = Page(descriptor), Page(descriptor)
    os.close(descriptor)
    mine.word[3] = -(2**63)
    theirs.outbox[:2] = b"ab"

    assert theirs.word[3] == -(2**63)
    assert bytes(mine.outbox[:3]) == b"ab\0"
    mine.close()
    theirs.close()
