"""The metrics of all gates, in the text format of Prometheus."""

from __future__ import annotations

import asyncio
import re
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tokengate.admin._guard import principal_of
from tokengate.admin._problems import Problem, read_as
from tokengate.admin._site import site_of
from tokengate.telemetry._kinds import Metrics

_SECONDS: Final = 5.0  # for each gate to answer; a scrape has 10 by default

_METRIC: Final = re.compile(r"(# HELP .*\n# TYPE .*\n)((?:[^#\n].*\n)*)")  # what it means, and its samples
_NAME: Final = re.compile(r"^([\w:]+)(?:\{(.*)\})? ", re.M)  # of a sample, with its labels

_UP: Final = "tokengate_admin_gate_up"


class _Metric(msgspec.Struct):
    text: str


def routes() -> list[BaseRoute]:
    """Return the route of the metrics."""
    return [Route("/metrics", _metrics)]


async def _metrics(request: Request) -> Response:
    names = [one.name for one in await site_of(request).gates.listed() if one.state != "gone"]
    texts = await asyncio.gather(*(_of(request, name) for name in names))
    said = {name: text for name, text in zip(names, texts, strict=True) if text is not None}
    up = "".join(f'{_UP}{{gate="{name}"}} {int(bool(text))}\n' for name, text in said.items())
    found = {f"# HELP {_UP} Whether the gate has answered with its metrics.\n# TYPE {_UP} gauge\n": up}
    for name, text in said.items():
        label = f'\\1{{gate="{name}",\\2}} '
        for head, samples in _METRIC.findall(text):
            found[head] = found.get(head, "") + _NAME.sub(label, samples)
    body = "".join(f"{head}{samples}" for head, samples in found.items())
    return Response(body, media_type="text/plain; version=0.0.4; charset=utf-8")


async def _of(request: Request, gate: str) -> str | None:
    """Return the metrics of a gate; empty if it does not say them, None if it has none, being without Telemetry."""
    try:
        async with asyncio.timeout(_SECONDS):
            said = await site_of(request).gates.shared(gate, Metrics(), principal_of(request))
        found = read_as(list[_Metric], said)
    except (Problem, TimeoutError) as error:
        return None if isinstance(error, Problem) and error.name == "UnknownVerb" else ""
    return "".join(f"{one.text.rstrip()}\n" for one in found)
