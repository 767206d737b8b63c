"""Types of control's verbs, as code that type checkers read; nothing here is run."""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import Any, assert_type

from tokengate import Gate
from tokengate.control import messages as m
from tokengate.control.api._answers import Outcomes
from tokengate.control.api._following import AsyncFollowing, Following
from tokengate.control.api._handles import ActorHandle, ActorList, TokenHandle, TokenList

control = Gate("shop").control
aio = control.aio
token = control.token(5)

assert_type(control.renice(5, 9), Outcomes)
assert_type(control.renice("tenant=acme", priority=9, force=True), Outcomes)
assert_type(control.renice([5, token], 9, dry_run=True), Outcomes)
assert_type(control.retag(5, {"tenant": "acme"}, remove=["trial"]), Outcomes)
assert_type(control.limit(5, memory="2GiB", cpu_time=None), Outcomes)
assert_type(control.tokens("state=queued", sort="-age"), TokenList)
assert_type(control.throttle("*", rate=2.0), m.ThrottleRow)
assert_type(control.retry(5, stop=True), Outcomes)
assert_type(control.extend(5, "30s"), Outcomes)
assert_type(control.policies("charge*"), tuple[m.PolicyRow, ...])
assert_type(control.set_policy("charge", {"retry.attempts": 5}), tuple[m.PolicyRow, ...])
assert_type(control.open_breaker("charge", key="acme"), tuple[m.BreakerRow, ...])
assert_type(control.reset_budget("charge"), tuple[m.BudgetRow, ...])
assert_type(control.set_flag("tenant=acme", "off", percent=10), m.FlagRow)
assert_type(control.reload(), m.Reloaded)
assert_type(control.describe(5), m.TokenDescription)
assert_type(control.describe_actor("mailer"), m.ActorDescription)
assert_type(control.suspend("mailer"), m.ActorOutcome)
assert_type(control.actor("mailer"), ActorHandle)
assert_type(control.visit("mailer", lambda _: 1), int)
assert_type(control.watch("tenant=acme"), Following)
assert_type(control.ask(m.Renice(5, 9)), tuple[m.Outcome, ...])
assert_type(control.ask(m.Info()), m.GateInfo)

assert_type(token, TokenHandle)
assert_type(token.renice(9), Outcomes)
assert_type(token.kill(grace=2.0), Outcomes)
assert_type(token.stack(), m.TokenStack)
assert_type(control.actor("mailer").drain(1.0, reopen=True), m.ActorOutcome)
assert_type(control.actor("mailer").statistics("on"), ActorList)
assert_type(control.actor("mailer").set_state(count=1), m.ActorOutcome)


async def awaiting() -> None:
    assert_type(await aio.renice(5, 9), Outcomes)
    assert_type(await aio.token(5), TokenHandle)
    assert_type(await aio.get_state("mailer"), dict[str, Any] | Any)
    assert_type(await aio.ask(m.Describe(token)), m.TokenDescription)
    assert_type(aio.watch(), AsyncFollowing)
    await aio.renice(5)  # type: ignore[call-arg]


# Nine mistakes, each an error of both checkers.
control.renice(5)  # type: ignore[call-arg]
control.renice(5, "high")  # type: ignore[arg-type]
control.renice(5, 9, fource=True)  # type: ignore[call-arg]
control.reniece(5, 9)  # type: ignore[attr-defined]
control.terminate(5, "murder")  # type: ignore[arg-type]
control.pause(5.5)  # type: ignore[arg-type]
control.drain("mailer", 1.0, 2)  # type: ignore[call-arg, arg-type]
token.renice(5, 9)  # type: ignore[call-arg, arg-type]
m.Renice(5)  # type: ignore[call-arg]
