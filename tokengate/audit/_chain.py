"""The chain of records: each has a mac with a key of its own, and each key follows from the one before it.

`mac = HMAC(key_n, the line before it)`, `key_(n+1) = HMAC(key_n, "next")`: the holder of a key cannot compute those
before it, so records that are there cannot be changed unseen.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from binascii import hexlify
from typing import Final, Self

import attrs

RECORD: Final = re.compile(rb'\{"seq":([0-9]{1,18}),"prev":"([0-9a-f]{64})",')
"""How each line begins: seq, and mac of the record before."""

_BLOCK: Final = 1_024  # keys that are computed together
_KEY_FILE: Final = re.compile(rb"([0-9a-f]{16}) ([0-9]{20}) ([0-9a-f]{64}) ([0-9a-f]{64}) ([0-9a-f]{16})\n")


@attrs.frozen
class End:
    """The end of a chain: what its next record needs.

    Attributes:
        chain: name of the chain.
        seq: number of the next record.
        key: of the next record.
        mac: of the record before, in hexadecimal digits; of the first, what tells chains apart.
    """

    chain: str
    seq: int
    key: bytes = attrs.field(repr=False)
    mac: bytes

    @classmethod
    def first(cls, key: bytes | None = None) -> Self:
        """Return the beginning of the chain of a first key; None makes a new one."""
        key = key or secrets.token_bytes(32)
        mac = mac_of(key, b"chain")
        return cls(mac[:16].decode(), 1, key, mac)

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Return what a key file says.

        Raises:
            ValueError: a bit of it has changed, or it is no key file.
        """
        found = _KEY_FILE.fullmatch(text)
        if found is None or _check(text[:-18]) != found[5]:
            raise ValueError("it is damaged, or no key file")
        return cls(found[1].decode(), int(found[2]), bytes.fromhex(found[3].decode()), found[4])

    def text(self) -> bytes:
        """Return the text of a key file; all have the same length."""
        text = b"%b %020d %b %b" % (self.chain.encode(), self.seq, hexlify(self.key), self.mac)
        return b"%b %b\n" % (text, _check(text))

    def add(self, entry: bytes, batch: int) -> tuple[bytes, End]:
        """Return the line of the next record, and the end of the chain after it.

        Args:
            entry: a JSON object.
            batch: seq of the first record that is written together with it.
        """
        beside = b"" if batch == self.seq else b'"batch":%d,' % batch
        body = b'{"seq":%d,"prev":"%b",%b%b' % (self.seq, self.mac, beside, entry[1:-1])
        mac = mac_of(self.key, body)
        return b'%b,"mac":"%b"}\n' % (body, mac), self.after(mac)

    def after(self, mac: bytes) -> End:
        """Return the end of the chain after a record that is there, with this mac."""
        return End(self.chain, self.seq + 1, next_key(self.key), mac)


class Keys:
    """The keys of a chain by number, computed in blocks of which the latest are kept.

    Args:
        first: key of record 1.
    """

    def __init__(self, first: bytes) -> None:
        self._blocks = {0: [first]}  # {number: its keys so far}
        self._firsts = [first]  # the first key of each block

    def of(self, seq: int) -> bytes:
        """Return the key of a record."""
        number, index = divmod(seq - 1, _BLOCK)
        while len(self._firsts) <= number:
            block = self._blocks.setdefault(len(self._firsts) - 1, [self._firsts[-1]])
            self._firsts.append(next_key(_grown(block, _BLOCK)[-1]))
            if len(self._blocks) >= 64:
                self._blocks.clear()
        if number not in self._blocks:
            self._blocks[number] = [self._firsts[number]]
        return _grown(self._blocks[number], index + 1)[index]


def _grown(keys: list[bytes], number: int) -> list[bytes]:
    while len(keys) < number:
        keys.append(next_key(keys[-1]))
    return keys


def next_key(key: bytes) -> bytes:
    """Return the key of the record after that of a key."""
    return hmac.digest(key, b"next", "sha256")


def mac_of(key: bytes, body: bytes) -> bytes:
    """Return the mac of a line, of which `body` is what comes before it."""
    return hexlify(hmac.digest(key, body, "sha256"))


def mac_in(line: bytes) -> tuple[bytes, bytes]:
    """Return what a line has before its mac, and the mac; empty if it has none."""
    whole = line[-74:-66] == b',"mac":"' and line[-2:] == b'"}'
    return (line[:-74], line[-66:-2]) if whole else (line, b"")


def _check(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:16].encode()
