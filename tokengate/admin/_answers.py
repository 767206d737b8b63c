"""Answers that are errors, and the headers of all answers."""

from __future__ import annotations

from html import escape
from typing import Final

import msgspec
from starlette.responses import HTMLResponse, Response

from tokengate.admin._problems import Problem

_PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{0} {1}</title>
<h1>{0} {1}</h1><p>{2}</p><p>{3}</p><p>Request {4}</p></html>"""


def answer_to(problem: Problem, request_id: str, as_page: bool = False) -> Response:
    """Return a problem as an answer: problem details, RFC 9457; or a page, for a browser that was led there."""
    texts = (str(problem.status), problem.name, problem.detail, problem.remedy, request_id)
    if as_page:
        return HTMLResponse(_PAGE.format(*map(escape, texts)), problem.status, problem.headers)
    body = {
        "type": f"urn:tokengate:error:{problem.name}",
        "title": problem.name,
        "status": problem.status,
        "detail": problem.detail,
        "request": request_id,
        "remedy": problem.remedy,
    }
    encoded = msgspec.json.encode(body)
    return Response(encoded, problem.status, problem.headers, media_type="application/problem+json")


def headers_of(nonce: str) -> dict[str, str]:
    """Return the headers that every answer has.

    Args:
        nonce: of its scripts, styles and htmx elements; empty: it has none of these.
    """
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}' 'strict-dynamic'; style-src 'self' 'nonce-{nonce}'; "
        "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types htmx default"
    )
    return {
        "Content-Security-Policy": policy if nonce else "default-src 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
