"""A gate with tokens that wait, and the admin daemon's page of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import httpx
import trio
from admin_site import Served, served

from tokengate import Gate, Token, token
from tokengate.control.transport._discovery import find_gates

HOSTILE = "</td><img src=x onerror=alert(1)><b hx-post='/ui/act' hx-trigger='load'>\u202e\x1b[31m"
"""A text that would do something, if it became markup or reached a terminal."""


@token(affinity="io", capacity=200_000)
async def charge(number: int, card: str = "") -> None:
    """Run until it is ended."""
    await trio.sleep_forever()


@token(affinity="io", show="*", guard="never", capacity=200_000)
async def keep(number: int, note: str = "") -> None:
    """Run until the gate closes; no verb changes it."""
    await trio.sleep_forever()


@attrs.define
class Shop:
    """A gate, and the page of it.

    Attributes:
        gate: it.
        site: the page.
        client: with a session of this user.
        tokens: some of `charge`, made first; the first runs.
    """

    gate: Gate
    site: Served
    client: httpx.Client
    tokens: Sequence[Token[Any]]
    kept: list[Token[Any]] = attrs.field(factory=list)

    def keep(self, note: str = "", **tags: str) -> Token[Any]:
        """Submit a token that no verb changes; its arguments are shown."""
        self.kept.append(keep.with_options(tags=tags).submit(1, note))
        return self.kept[-1]

    def end(self) -> None:
        """End all tokens, and close the gate; once."""
        if self.tokens or self.kept:
            for one in (*self.tokens, *self.kept):
                one.cancel()
            self.tokens, self.kept = (), []
            self.gate.close()

    @property
    def name(self) -> str:
        """Name of the gate, as queries have it."""
        (found,) = find_gates()
        return found.path.stem

    def get(self, path: str, **query: object) -> str:
        """Return the text of a page, which must be there."""
        answer = self.client.get(path, params={name: str(value) for name, value in query.items()})
        assert answer.status_code == 200, answer.text
        return answer.text


@contextmanager
def shop(count: int = 3, *, plugins: Sequence[Any] = (), config: Any = None) -> Iterator[Shop]:
    """Open a gate with tokens, and serve the page.

    Args:
        count: of tokens of `charge`.
        plugins: of the gate.
        config: path of its file.
    """
    with Gate("shop", plugins=list(plugins), config=config) as gate, served() as site, site.client() as client:
        tokens = [charge.with_options(tags={"tenant": ("acme", "globex")[n % 2]}).submit(n) for n in range(count)]
        made = Shop(gate, site, client, tokens)
        yield made
        made.end()
