"""A browser in a test: Chromium of the system, and what went wrong in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import attrs
import pytest

CHROMIUM: Final = "/usr/bin/chromium"


@attrs.define
class Opened:
    """A page in a browser.

    Attributes:
        page: of playwright.
        errors: what the console has said as an error, and what was raised; reports of the policy are among them.
        requests: `METHOD path?query` of all requests, in order.
        elsewhere: addresses of requests to other hosts.
    """

    page: Any
    errors: list[str] = attrs.field(factory=list)
    requests: list[str] = attrs.field(factory=list)
    elsewhere: list[str] = attrs.field(factory=list)

    def gone_to(self, path: str) -> int:
        """Return how many requests went to a path."""
        return sum(one.partition(" ")[2].partition("?")[0] == path for one in self.requests)


@contextmanager
def browser(
    url: str,
    cookie: tuple[str, str] | None,
    *,
    width: int = 1440,
    height: int = 900,
    theme: Literal["light", "dark"] = "light",
) -> Iterator[Opened]:
    """Open a browser with an empty profile; the test is skipped where there is none.

    Args:
        url: of the site, without a path.
        cookie: name and value of the cookie that it has already.
        width: of the window, in pixels.
        height: of the window, in pixels.
        theme: that the user prefers.
    """
    if not os.access(CHROMIUM, os.X_OK):
        pytest.skip(f"the page is tested in a browser, and there is no {CHROMIUM}")
    from playwright.sync_api import sync_playwright  # it takes half a second, and most tests need none

    host = urlsplit(url).hostname
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
        context.set_default_timeout(30_000)
        if cookie is not None:
            context.add_cookies([{"name": cookie[0], "value": cookie[1], "url": url, "sameSite": "Strict"}])
        opened = Opened(context.new_page())

        def asked(request: Any) -> None:
            parts = urlsplit(request.url)
            opened.requests.append(f"{request.method} {parts.path}{'?' if parts.query else ''}{parts.query}")
            if parts.scheme != "data" and parts.hostname != host:
                opened.elsewhere.append(request.url)

        opened.page.on("console", lambda said: opened.errors.append(said.text) if said.type == "error" else None)
        opened.page.on("pageerror", lambda error: opened.errors.append(str(error)))
        opened.page.on("request", asked)
        try:
            yield opened
        finally:
            context.close()
            chromium.close()
