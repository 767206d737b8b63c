"""Templates: all text of programs and operators is escaped, and control and bidirectional characters are shown."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from tokengate.admin._guard import nonce_of
from tokengate.control._safe_text import printable
from tokengate.control.rendering._cells import duration, factors_in_words, features_in_words, share, size, tags_in_words

HERE: Final = Path(__file__).parent


def visible(value: object) -> object:
    """Return text with escapes for what is not printed, such as ESC or U+202E; markup of templates stays as it is."""
    if isinstance(value, Markup):
        return value
    return "" if value is None else printable(str(value))


def clock(epoch: float | None) -> str:
    """Return a time of the day, `14:03:59`, with the date before it if that is not today's; `-` for None."""
    if epoch is None:
        return "-"
    at = time.localtime(epoch)
    return time.strftime("%H:%M:%S" if at[:3] == time.localtime()[:3] else "%Y-%m-%d %H:%M:%S", at)


def count(number: float | None) -> str:
    """Return a number with a comma between thousands, `100,312`; `-` for None."""
    return "-" if number is None else f"{number:,}" if isinstance(number, int) else f"{number:,.3g}"


def short(number: int) -> str:
    """Return a number in at most four characters: `38`, `1.2k`, `10k`, `3.1M`."""
    for unit in ("", "k", "M", "G"):
        if number < 999.5 or unit == "G":
            break
        number = number / 1000  # type: ignore[assignment]
    return f"{number:.1f}{unit}" if unit and number < 9.95 else f"{number:.0f}{unit}"


def tail(path: str) -> str:
    """Return the last two parts of a path."""
    return "/".join(path.rsplit("/", 2)[-2:])


def limit(of_one: tuple[str, float]) -> tuple[str, str]:
    """Return the name and the value of a limit of a token as text."""
    name, value = of_one
    return name.replace("_", " "), duration(value) if name.endswith("time") else size(int(value))


def token_in(text: str) -> str:
    """Return the id of the token that a text of `waits_for` begins with, or the empty text."""
    found = re.match(r"token (\d+)", text)
    return found[1] if found else ""


SIGNS: Final = {
    **dict.fromkeys(("running", "open", "ok", "enforce"), ("●", "good")),
    **dict.fromkeys(("queued", "created", "observe", "unchanged"), ("○", "calm")),
    **dict.fromkeys(("paused", "suspended"), ("❚❚", "held")),
    **dict.fromkeys(
        (
            "held",
            "throttled",
            "delayed",
            "joined",
            "consent",
            "recording",
            "draining",
            "starting",
            "restarting",
            "stopping",
        ),
        ("◷", "held"),
    ),
    **dict.fromkeys(("completed", "done", "approved", "applied", "resumed", "stepped"), ("✓", "good")),
    **dict.fromkeys(("failed", "rejected", "denied", "refused", "unknown", "vacant", "dead"), ("✗", "bad")),
    **dict.fromkeys(("terminated", "cancelled", "killed", "abandoned", "off", "closed"), ("■", "calm")),
    **dict.fromkeys(("expired", "degraded", "awaiting", "changed", "pending", "would"), ("▲", "warn")),
    **dict.fromkeys(("hung", "gone"), ("✗", "bad")),
}
"""{state, status or outcome: its sign, and the class of its colour}; the word always stands beside them."""


def sign(word: str) -> tuple[str, str]:
    """Return the sign and the class of the colour of a state, status or outcome."""
    return SIGNS.get(word, ("▲", "warn") if word.endswith("_requested") else ("·", "calm"))


_ENVIRONMENT: Final = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    finalize=visible,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters.update(
    {one.__name__: one for one in (duration, size, clock, count, share, sign, short, tail, limit, token_in)},
    tags=tags_in_words,
    factors=factors_in_words,
    features=features_in_words,
)


def render(request: Request, name: str, status: int = 200, **values: Any) -> Response:
    """Return a template as an answer; it has `nonce`, for each element with hx- attributes, beside the values.

    Args:
        request: to answer.
        name: of the template.
        status: of the answer.
        values: for the template.
    """
    return HTMLResponse(_ENVIRONMENT.get_template(name).render(nonce=nonce_of(request), **values), status)
