"""The typed methods of a plugin, as code that type checkers read; nothing here is run."""

from __future__ import annotations

from typing import assert_type

from tallies import FreezeTally, ResetTally, Tallies, Tally, TallyRow

from tokengate import Gate
from tokengate.control.registry import Plugin

gate = Gate("shop", plugins=[Tally()])
tally = gate.plugin(Tally)
control = gate.control

assert_type(tally, Tally)
assert_type(tally.verbs.all(), tuple[TallyRow, ...])
assert_type(tally.verbs.all("resize*"), tuple[TallyRow, ...])
assert_type(tally.verbs.reset("resize", at=4), TallyRow)
assert_type(tally.verbs.freeze("resize"), TallyRow)
assert_type(control.ask(Tallies()), tuple[TallyRow, ...])
assert_type(control.ask(ResetTally("resize")), TallyRow)


async def awaiting() -> None:
    assert_type(await control.aio.ask(FreezeTally("resize")), TallyRow)


class Other(Plugin):
    needs = (Tally,)


Gate("shop", plugins=[Tally])  # type: ignore[list-item]
gate.plugin("Tally")  # type: ignore[arg-type]
tally.verbs.reset()  # type: ignore[call-arg]
tally.verbs.reset("resize", 4)  # type: ignore[call-arg, arg-type]
tally.verbs.reset("resize", at="four")  # type: ignore[arg-type]
tally.verbs.rest("resize")  # type: ignore[attr-defined]
