"""Each change of a log is found, and the numbers of the records that it concerns are named; no others are."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from audit_logs import SEGMENT, intent, write
from tiers import TORTURE, in_ci

from tokengate.audit import Entry, seal, verify
from tokengate.audit._chain import End
from tokengate.audit._check import Problem, check, problems_of
from tokengate.audit._record import encode


def chain(number: int, first: End | None = None, batch: int = 1) -> tuple[End, list[bytes]]:
    """Return the beginning of a chain, and lines with their ends."""
    first = end = first or End.first()
    lines = []
    for one in range(number):
        # A flipped bit of `J` or `*` makes a line break.
        line, end = end.add(encode(intent(one, selector="tenant=J*"), 1.0, 2.0), max(1, end.seq - one % batch))
        lines.append(line)
    return first, lines


def found(first: End, lines: list[bytes], end: int) -> list[tuple[str, tuple[str, ...]]]:
    checked = check([(SEGMENT, b"".join(lines))], first, end)
    return [(problem.what, problem.records) for problem in problems_of(checked, end)]


def flipped(text: bytes, bit: int) -> bytes:
    changed = bytearray(text)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def check_flips(bits: int, chains: int, seed: int) -> None:
    """Flip bits of records in chains of four; all bits for a number below zero."""
    chance = random.Random(seed)
    for _ in range(chains):
        first, lines = chain(4)
        owner = [number for number, line in enumerate(lines, 1) for _ in line]
        text = b"".join(lines)
        every = range(len(text) * 8)
        for bit in every if bits < 0 else chance.sample(every, bits):
            expected = [("damaged", (str(owner[bit // 8]),))]
            assert found(first, [flipped(text, bit)], 5) == expected, (bit, text)


def test_a_flipped_bit_names_its_record_and_no_other(seed: int) -> None:
    """Case 15, a sample: bits of contents, numbers, macs and line ends."""
    check_flips(40, 50, seed)


@in_ci
@pytest.mark.parametrize("part", range(10))
def test_every_flipped_bit_of_200_records_names_its_record(seed: int, part: int) -> None:
    """Case 15, whole."""
    check_flips(-1, 5, seed)


def test_a_flipped_bit_that_breaks_a_line_names_one_record() -> None:
    """The rest of its line is not a foreign one."""
    first, lines = chain(4)
    for letter in (b"J", b"*"):
        broken = lines[1].replace(letter, b"\n")
        assert found(first, [lines[0], broken, *lines[2:]], 5) == [("damaged", ("2",))]


def test_a_record_whose_arguments_look_like_the_beginning_of_one_hides_no_neighbour() -> None:
    """Each bit of the line ends between such records."""
    first, lines = chain(4)
    assert all(b'"args":{"seq":' in line for line in lines)
    for bit in range(8):
        text = b"".join(lines)
        at = (len(lines[0]) + len(lines[1]) - 1) * 8 + bit
        assert found(first, [flipped(text, at)], 5) == [("damaged", ("2",))]


def test_each_flipped_bit_of_the_key_file_names_the_file(directory: Path) -> None:
    """Case 15: no record is named."""
    write(directory, 2)
    text = (directory / "audit.key").read_bytes()
    for bit in range(len(text) * 8):
        with pytest.raises(ValueError, match="damaged"):
            End.parse(flipped(text, bit))
        if bit % 41 == 0:
            (directory / "audit.key").write_bytes(flipped(text, bit))
            assert [(problem.what, problem.records) for problem in verify(directory).problems] == [("key", ())]


def test_a_whole_chain_has_no_problem() -> None:
    """Also with several segments, and batches."""
    first, lines = chain(9, batch=3)
    segments = [("a", b"".join(lines[:4])), ("b", b""), ("c", b"".join(lines[4:]))]

    assert problems_of(check(segments, first, 10), 10) == []
    assert problems_of(check([], first, 1), 1) == []


CHANGES = {
    "deleted": (lambda x: x[:3] + x[5:], [("missing", ("4-5",))]),
    "the first deleted": (lambda x: x[1:], [("missing", ("1",))]),
    "the last deleted": (lambda x: x[:-2], [("missing", ("9-10",))]),
    "all deleted": (lambda _: [], [("missing", ("1-10",))]),
    "swapped": (lambda x: [x[0], x[2], x[1], *x[3:]], [("out of order", ("2-3",))]),
    "swapped at a distance": (lambda x: [x[0], x[4], *x[2:4], x[1], *x[5:]], [("out of order", ("2", "5"))]),
    "doubled": (lambda x: [*x[:4], x[3], *x[4:]], [("doubled", ("4",))]),
    "doubled at the end": (lambda x: [*x, x[3]], [("doubled", ("4",))]),
    "of another chain": (lambda x: [*x[:4], chain(10)[1][4], *x[4:]], [("foreign", ("4",))]),
    "nonsense": (lambda x: [*x[:4], b"nonsense\n", *x[4:]], [("foreign", ("4",))]),
    "nonsense at the end": (lambda x: [*x, b"nonsense\n"], [("foreign", ("10",))]),
    "a changed copy": (lambda x: [*x[:4], x[3].replace(b"stuck", b"stack"), *x[4:]], [("foreign", ("4",))]),
    "replaced": (lambda x: [*x[:4], b"nonsense\n", *x[5:]], [("damaged", ("5",))]),
    "two replaced by one": (lambda x: [*x[:4], b"no\n", *x[6:]], [("damaged", ("5",)), ("missing", ("6",))]),
    "one of two deleted, the other changed": (
        lambda x: [*x[:4], x[5].replace(b"stuck", b"stack"), *x[6:]],
        [("damaged", ("6",)), ("missing", ("5",))],
    ),
    "an empty line": (lambda x: [*x[:4], b"\n", *x[4:]], [("foreign", ("4",))]),
    "several": (
        lambda x: [*x[:1], x[1].replace(b"stuck", b"stack"), x[3], x[2], *x[5:7], x[6], *x[7:9]],
        [("damaged", ("2",)), ("missing", ("5", "10")), ("doubled", ("7",)), ("out of order", ("3-4",))],
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_lines_is_named(change: str) -> None:
    """Case 16."""
    first, lines = chain(10)
    make, expected = CHANGES[change]

    assert found(first, make(lines), 11) == expected


def test_a_log_cut_at_any_byte_has_the_rest_missing(directory: Path) -> None:
    """Case 16: the record that is cut is damaged."""
    first, lines = chain(4)
    text = b"".join(lines)
    ends = [len(b"".join(lines[:number])) for number in range(5)]
    for size in range(len(text)):
        whole = max(number for number in range(5) if ends[number] <= size)
        here = {problem[0]: problem[1] for problem in found(first, [text[:size]], 5)}
        broken = size > ends[whole]
        expected = {"damaged": (str(whole + 1),)} if broken else {}
        left = list(range(whole + 1 + broken, 5))
        if left:
            expected["missing"] = (f"{left[0]}-4" if len(left) > 1 else "4",)
        assert here == expected, size


def test_any_drawn_change_is_found_and_names_no_record_that_is_whole(seed: int) -> None:
    """Deletions, doubles, insertions and damage at once: named are those of which there is not exactly one."""
    chance = random.Random(seed)
    first, lines = chain(30)
    _, foreign = chain(30)
    for _ in range(2_000 if TORTURE else 200):
        played = list(lines)
        for _ in range(chance.randrange(1, 5)):
            at = chance.randrange(len(played) - 1)
            match chance.randrange(4):
                case 0:
                    played.pop(at)
                case 1:
                    played[at] = flipped(played[at], chance.randrange(len(played[at]) * 8 - 8))
                case 2:
                    played.insert(at, played[at])
                case 3:
                    played.insert(at, chance.choice(foreign))
        problems = found(first, played, 31)
        named = {one for what, ranges in problems if what != "foreign" for text in ranges for one in numbers(text)}

        assert bool(problems) is (played != lines)
        assert named == {number for number, line in enumerate(lines, 1) if played.count(line) != 1}


def numbers(text: str) -> Iterator[int]:
    first, _, last = text.partition("-")
    return iter(range(int(first), int(last or first) + 1))


def test_a_record_with_a_right_mac_that_follows_another_one_is_named() -> None:
    """Only the holder of its key can write it."""
    first, lines = chain(5)
    end = first
    for line in lines[:2]:
        end = end.after(line[-67:-3])
    forged, _ = attrs.evolve(end, mac=b"0" * 64).add(b'{"kind":"intent"}', 3)

    assert found(first, [*lines[:2], forged, *lines[3:]], 6) == [("foreign", ("3",)), ("foreign", ("4",))]


# --- With files -------------------------------------------------------------------------------------------------------


def what(directory: Path, **given: Path) -> list[tuple[str, tuple[str, ...]]]:
    return [(problem.what, problem.records) for problem in verify(directory, **given).problems]


def test_an_older_key_file_is_found(directory: Path) -> None:
    """Case 16; so is an older tail, and the key of another log."""
    write(directory, 2)
    old_key, old_log = ((directory / name).read_bytes() for name in ("audit.key", SEGMENT))
    write(directory, 2)
    new_key, new_log = ((directory / name).read_bytes() for name in ("audit.key", SEGMENT))
    assert what(directory) == []

    (directory / "audit.key").write_bytes(old_key)
    assert what(directory) == [("key", ())]

    (directory / "audit.key").write_bytes(new_key)
    (directory / SEGMENT).write_bytes(old_log)
    assert what(directory) == [("missing", (f"{old_log.count(10) + 1}-{new_log.count(10)}",))]

    (directory / SEGMENT).write_bytes(new_log)
    (directory / "audit.key").write_bytes(End.first().text())
    assert what(directory) == [("key", ())]


def test_a_key_one_batch_behind_is_noted_and_no_problem(directory: Path) -> None:
    """As after a kill between line and key."""
    first, lines = chain(5, batch=3)
    end = first
    for line in lines[:3]:
        end = end.after(line[-67:-3])
    directory.mkdir()
    (directory / SEGMENT).write_bytes(b"".join(lines))
    (directory / "audit.first-key").write_bytes(first.text())
    (directory / "audit.key").write_bytes(end.text())
    verification = verify(directory)

    assert verification.problems == ()
    assert "one batch behind" in verification.notes[0]


def test_with_heads_what_is_put_back_together_is_found(directory: Path, tmp_path: Path) -> None:
    """A log and its key put back, another chain, and a removed directory; without heads the first two are not seen."""
    heads = tmp_path / "shop.log"
    write(directory, 2)
    old = {name: (directory / name).read_bytes() for name in os.listdir(directory)}
    write(directory, 2)
    end = End.parse((directory / "audit.key").read_bytes())
    heads.write_text(
        f"INFO audit head: chain={end.chain} seq={end.seq - 1} mac={end.mac.decode()} directory='{directory}'\n"
    )

    assert what(directory, heads=heads) == []
    assert verify(directory, heads=heads).heads == f"heads of {heads} that were compared: 1, up to record {end.seq - 1}"
    for name, text in old.items():
        (directory / name).write_bytes(text)
    assert what(directory) == []
    assert what(directory, heads=heads) == [("head", (str(end.seq - 1),))]
    directory.rename(tmp_path / "gone")
    assert what(directory, heads=heads) == [("file", ()), ("head", ())]
    write(directory, 2)
    assert what(directory) == []
    assert what(directory, heads=heads) == [("head", ())]
    assert "no heads were compared" in verify(directory).heads


def test_a_record_rewritten_with_the_key_is_found_by_a_head(directory: Path, tmp_path: Path) -> None:
    """The holder of today's key can write another end; a head that was kept shows it."""
    first, lines = chain(3)
    _, others = chain(4, first)
    entry = encode(Entry(kind="intent", verb="pause"), 1.0, 2.0)
    end = first.after(lines[0][-67:-3]).after(lines[1][-67:-3])
    forged, forged_end = end.add(entry, 1)
    directory.mkdir()
    (directory / SEGMENT).write_bytes(b"".join([*lines[:2], forged]))
    (directory / "audit.first-key").write_bytes(first.text())
    (directory / "audit.key").write_bytes(forged_end.text())
    mac = others[2][-67:-3]
    (tmp_path / "log").write_text(f"audit head: chain={first.chain} seq=3 mac={mac.decode()} directory='{directory}'")

    assert what(directory) == []
    assert what(directory, heads=tmp_path / "log") == [("head", ("3",))]


def test_a_sealed_log_needs_its_key(directory: Path, tmp_path: Path) -> None:
    """What `seal` has returned verifies it; the log goes on, and a second seal has nothing to remove."""
    write(directory, 1)
    (tmp_path / "key").write_text(seal(directory))
    write(directory, 1)

    assert not (directory / "audit.first-key").exists()
    assert what(directory) == [("key", ())]
    assert what(directory, key=tmp_path / "key") == []
    with pytest.raises(FileNotFoundError):
        seal(directory)


def test_a_damaged_first_key_is_named_and_no_record(directory: Path) -> None:
    """Without it nothing can be said of the records."""
    write(directory, 1)
    text = (directory / "audit.first-key").read_bytes()
    (directory / "audit.first-key").write_bytes(flipped(text, 500))
    (problem,) = verify(directory).problems

    assert problem == Problem("key", (), "audit.first-key: it is damaged, or no key file; no record can be checked")


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_a_link_or_a_fifo_in_the_place_of_a_segment_is_named(directory: Path, kind: str) -> None:
    """It is not followed, and not waited for."""
    write(directory, 1)
    (directory / SEGMENT).rename(directory / "elsewhere")
    if kind == "link":
        (directory / SEGMENT).symlink_to(directory / "elsewhere")
    else:
        os.mkfifo(directory / SEGMENT)
    problems = verify(directory).problems

    assert [problem.what for problem in problems] == ["file", "missing"]
    assert SEGMENT in problems[0].why
