"""The runaway of the shop, found and ended in six calls by a client that decides from the answers alone."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemons import own_place
from programs import LIMIT, Program
from tiers import in_ci

pytestmark = [pytest.mark.usefixtures("programs"), in_ci]

ROOT = Path(__file__).parents[3]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The runtime directory of a shop in which the check of the second order has run away."""
    with (
        own_place(monkeypatch, tmp_path) as directory,
        Program("-m", "tokengate", "run", "examples/shop.py:gate", "--", "--runaway", "2", cwd=ROOT) as shop,
    ):
        for line in shop.stdout:
            if "order 1:" in line:
                break
        yield directory
        shop.kill()


class Calls:
    """A client that counts its calls."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.made: list[str] = []

    async def __call__(self, tool: str, **arguments: Any) -> Any:
        self.made.append(tool)
        result = await self._client.call_tool(tool, arguments)
        text = result.content[0].text
        assert not result.is_error, text
        return json.loads(text)


def culprit(overview: Any) -> int | None:
    """Return the token at the end of the longest chain of those that wait for each other; None if none waits."""
    waits = {one["row"]["id"]: " ".join(one["waits_for"]) for one in overview.get("waits", ())}
    longest: list[int] = []
    for token in waits:
        chain = [token]
        while found := re.match(r"token (\d+)", waits.get(chain[-1], "")):
            chain.append(int(found[1]))
        longest = max(longest, chain, key=len)
    return longest[-1] if longest else None


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_an_assistant_finds_and_ends_the_runaway_in_six_calls(place: Path, mode: str) -> None:
    """Gates, overview, stack, terminate, apply, and a look whether the shop goes on."""
    import anyio  # the SDK takes a second to import, which other tests need not wait for
    from mcp.client.client import Client
    from mcp.client.stdio import StdioServerParameters, stdio_client

    async def session() -> list[str]:
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "tokengate", "mcp", "--runtime-dir", str(place)],
            env={"PYTHONPATH": str(ROOT)},
        )
        with anyio.fail_after(LIMIT):
            async with Client(stdio_client(server), mode=mode) as client:
                assert {"gates", "show", "terminate", "apply"} <= {
                    one.name for one in (await client.list_tools()).tools
                }
                while culprit(await Calls(client)("show", what="overview")) is None:
                    pass  # it has not run away yet
                call = Calls(client)
                (gate,) = (await call("gates"))["gates"]
                overview = await call("show", what="overview", gate=gate["gate"])
                runaway = culprit(overview)
                stack = await call("show", what="stack", token=runaway)
                assert stack["operation"] == "check_fraud"
                made = await call(
                    "terminate", verb="terminate", select=[runaway], reason="it loops, and all wait for it"
                )
                row = made["row"]
                assert (row["targets"], row["needs"]) == (1, "nothing")
                done = await call("apply", number=row["number"], digest=row["digest"])
                assert done["counts"].keys() <= {"terminated", "interrupt_requested"}
                after = await call("show", what="overview")
                assert after["info"]["uptime"] > overview["info"]["uptime"]
                made_calls = call.made
                while culprit(await call("show", what="overview")) == runaway:
                    pass  # its thread has not been stopped yet
                return made_calls[:6]

    assert anyio.run(session) == ["gates", "show", "show", "terminate", "apply", "show"]
