"""What a session sees of a gate: fragments of the admin page, as the browser gets them."""

from __future__ import annotations

import re
import time
from html import unescape
from typing import Any, Final

import attrs
import trio
from admin_site import Served
from gated_code import LIMIT

from tokengate import Gate, Token, TokenState, token

HOSTILE: Final = "<img src=x onerror=alert(1)> \u202e\x1b[31m 'q\" {{7*7}}"
"""A text of a program that would act if it were taken for markup, for a template, or for a terminal's."""


@token(guard="force")
async def charge() -> None:
    await trio.sleep_forever()


@token(guard="approval")
async def transfer() -> None:
    await trio.sleep_forever()


@attrs.frozen
class Page:
    """What a session sees of a gate.

    Attributes:
        site: that serves it.
        gate: the gate.
        cookie: of the session.
    """

    site: Served
    gate: Gate
    cookie: str = "own"

    @property
    def name(self) -> str:
        """Name of the gate, as queries have it."""
        server = self.gate._control_server
        assert server is not None
        assert server.path is not None
        return server.path.stem

    def get(self, path: str, **query: Any) -> str:
        """Return a fragment."""
        with self.site.client(self.cookie) as client:
            return client.get(path, params={"gate": self.name, **query}).text

    def screen(self, name: str, **query: Any) -> str:
        """Return a screen."""
        return self.get("/ui/screen", screen=name, **query)

    def drawer(self, name: str, open: str) -> str:
        """Return the drawer of a screen."""
        return self.get("/ui/drawer", screen=name, open=open)

    def shows(self, text: str, path: str, **query: Any) -> str:
        """Return a fragment as soon as it has a text; what is shown may be a second old."""
        deadline = time.monotonic() + LIMIT
        while text not in words(shown := self.get(path, **query)):
            assert time.monotonic() < deadline, (text, words(shown))
            time.sleep(0.02)
        return shown

    def post(self, path: str, **fields: Any) -> str:
        """Send a form."""
        with self.site.client(self.cookie) as client:
            answer = client.post(path, params={"gate": self.name}, data=fields)
        assert answer.status_code == 200, answer.text
        return answer.text

    def act(self, verb: str, **fields: Any) -> str:
        """Send the form of a verb."""
        return self.post("/ui/act", verb=verb, **fields)

    def apply(self, dialog: str, **fields: Any) -> str:
        """Apply the proposal that a dialog shows, as its form does."""
        return self.post("/ui/apply", **{name: hidden(dialog, name) for name in ("number", "digest")}, **fields)


def hidden(html: str, name: str) -> str:
    """Return the value of a hidden field of a form."""
    found = re.search(rf'<input type="hidden" name="{name}" value="([^"]*)"', html)
    assert found, html
    return unescape(found[1])


def words(html: str) -> str:
    """Return the text of a fragment, without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def begun(operation: Any, count: int = 1, **options: Any) -> list[Token[Any]]:
    """Return tokens of an operation that have begun."""
    made = [operation.with_options(**options).submit() for _ in range(count)]
    deadline = time.monotonic() + LIMIT
    while any(one.state is not TokenState.RUNNING for one in made):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return made


def assert_inert(html: str) -> None:
    """A fragment has `HOSTILE` as text, if at all."""
    assert "<img" not in html
    assert "\u202e" not in html
    assert "\x1b" not in html
    assert "49" not in re.findall(r"'q\S* (\S+)", unescape(html))
