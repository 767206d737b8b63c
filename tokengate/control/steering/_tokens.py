"""The verbs for tokens: find the tokens of a message, and do the verb to each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import trio

from actors import Token
from actors.lowlevel import AFFINITIES, Place
from tokengate.control import messages as m
from tokengate.control._admission import Found, Guarded, admission
from tokengate.control._exceptions import BadRequest, NotSteerable
from tokengate.control._ports import ControlledGate
from tokengate.control.inspection import _past_tokens, _queries
from tokengate.control.inspection._selector import NEEDS_PREDICT, parse_for
from tokengate.control.inspection._turns import in_turns, next_turn
from tokengate.control.inspection._views import chunks
from tokengate.control.steering import _attempts, _estimates, _limits, _outcomes, _preempt, _steering, _transactions
from tokengate.control.steering._outcomes import Pending

_ENDED: Final = "an operator ended it"

# Tokens that are changed in one turn: less than a millisecond for every verb.
_AT_ONCE = 100

_Act: TypeAlias = Callable[[Token[Any]], m.Outcome | Pending]


def _unguarded(_token: Token[Any]) -> str:
    return ""


class TokenVerbs:
    """The verbs for the tokens of a gate.

    Args:
        gate: the gate.
    """

    def __init__(self, gate: ControlledGate) -> None:
        self._gate = gate
        self._system = gate._open_system
        self._reconciler = self._system.reconciler

    async def pause(self, message: m.Pause) -> tuple[m.Outcome, ...]:
        pause = partial(_steering.pause, self._reconciler, stop_clock=message.stop_clock)
        return await self._do(message, pause, wait=message.wait, guarded=_called("pause"))

    async def resume(self, message: m.Resume) -> tuple[m.Outcome, ...]:
        return await self._do(message, _steering.resume)

    async def step(self, message: m.Step) -> tuple[m.Outcome, ...]:
        """Answer `Step`; a running token is paused first, so that its steps are counted from a fixed point."""
        wait, give_up_at = message.wait, trio.current_time() + message.wait
        guarded = _called("step")
        tokens = await self._planned(message, guarded)
        free = [token for token in tokens if isinstance(token, Token) and _runs_free(token)]
        if free:
            pause = partial(_steering.pause, self._reconciler, stop_clock=False)
            await self._do(message, pause, free, wait=wait, guarded=guarded)
            wait = max(0.0, give_up_at - trio.current_time())
        # The tokens were selected before the pause, since the selector may have `state=running`.
        step = partial(_steering.step, self._reconciler, n=message.n)
        return await self._do(message, step, tokens, wait=wait, guarded=guarded)

    async def terminate(self, message: m.Terminate) -> tuple[m.Outcome, ...]:
        """Answer `Terminate`; `kill` waits for the grace before it leaves code behind."""
        end = partial(_steering.terminate, self._reconciler, mode=message.mode, reason=message.reason or _ENDED)
        wait = max(message.wait, message.grace) if message.mode == "kill" else message.wait
        return await self._do(message, end, wait=wait, guarded=_called("end"), of_runs=False)

    async def renice(self, message: m.Renice) -> tuple[m.Outcome, ...]:
        return await self._do(message, lambda token: _steering.renice(token, message.priority))

    async def retag(self, message: m.Retag) -> tuple[m.Outcome, ...]:
        if not message.set and not message.remove:
            raise BadRequest("retag needs tags to set or to remove")
        return await self._do(message, lambda token: _steering.retag(token, message.set, message.remove), of_runs=False)

    async def reroute(self, message: m.Reroute) -> tuple[m.Outcome, ...]:
        if bool(message.affinity) == bool(message.actor):
            raise BadRequest(f"reroute needs either an affinity ({', '.join(map(repr, AFFINITIES))}) or an actor")
        if message.affinity not in ("", *AFFINITIES):
            raise BadRequest(f"affinity is '{message.affinity}'; choose one of {', '.join(map(repr, AFFINITIES))}")
        target = message.affinity or _queries.actor_called(self._system, message.actor)

        def act(token: Token[Any]) -> m.Outcome:
            to = _steering.destination(self._gate, token, target)
            return to if isinstance(to, m.Outcome) else _steering.reroute(token, to)

        return await self._do(message, act)

    async def preempt(self, message: m.Preempt) -> tuple[m.Outcome, ...]:
        target: Place | str = message.to
        if target and target not in AFFINITIES:
            target = _queries.actor_called(self._system, message.to)
        changes = {} if message.memory == m.KEEP else {"memory": _limits.limit_in("memory", message.memory)}

        def act(token: Token[Any]) -> m.Outcome | Pending:
            to = _steering.destination(self._gate, token, target) if target else None
            if isinstance(to, m.Outcome):
                return to
            return _preempt.preempt(self._gate, token, to, changes, message.reason)

        return await self._do(message, act, wait=message.wait, guarded=_called("preempt"))

    async def limit(self, message: m.Limit) -> tuple[m.Outcome, ...]:
        changes = _limits.changes_of(message)
        return await self._do(
            message,
            lambda token: _limits.limit(token, changes),
            guarded=lambda token: "lower the limits of" if _limits.lowers(token, changes) else "",
        )

    async def estimate(self, message: m.Estimate) -> tuple[m.Outcome, ...]:
        changes, predictor = _estimates.changes_of(message), self._system.predictor
        if predictor is None:
            raise BadRequest(f"estimate {NEEDS_PREDICT}")
        return await self._do(message, partial(_estimates.estimate, predictor, changes=changes))

    async def retry(self, message: m.RetryNow) -> tuple[m.Outcome, ...]:
        return await self._do(message, partial(_attempts.retry, stop=message.stop))

    async def extend(self, message: m.Extend) -> tuple[m.Outcome, ...]:
        seconds = _attempts.seconds_of(message.seconds)
        return await self._do(message, lambda token: _attempts.extend(token, seconds))

    async def compensate(self, message: m.Compensate) -> tuple[m.Outcome, ...]:
        """Answer `Compensate`; tokens that have ended may be members, too."""

        def act(token: Token[Any]) -> m.Outcome:
            try:
                name = _transactions.compensate(self._gate, token.id, asked)
            except NotSteerable as error:
                return _outcomes.outcome(token, "refused", str(error))
            if name:
                return _outcomes.outcome(token, "rolling_back", f"transaction '{name}'")
            return _outcomes.outcome(token, "refused", "it is a member of no open transaction")

        ledger = self._gate._transactions
        members = {} if ledger is None else ledger.members()
        found = [
            members.get(one.token, one) if isinstance(one, m.Outcome) else one for one in await self._select(message)
        ]
        guarded = _called("compensate")
        found = await admission().plan(message, found, guarded)
        asked = {one.id for one in found if isinstance(one, Token)}
        return await self._do(message, act, found, guarded=guarded, of_runs=False, of_ended=True)

    # The target of a message

    async def _planned(self, message: m.OnTokens, guarded: Guarded, *, of_runs: bool = True) -> list[Found]:
        """Return the tokens that a message may act on, and the outcomes of the others; see `_do`."""
        found = await self._select(message)
        if of_runs:
            async for at in in_turns(range(0, len(found), 1_000)):
                some = found[at : at + 1_000]
                found[at : at + 1_000] = [
                    one if isinstance(one, m.Outcome) else _steering.joined(one) or one for one in some
                ]
        return await admission().plan(message, found, guarded)

    async def _select(self, message: m.OnTokens) -> list[Found]:
        """Return the tokens of a message that its sender may see, and the outcomes for ids of no live token."""
        found: list[Found] = []
        sees = admission().sees
        if isinstance(message.select, tuple):
            past: dict[int, m.Outcome] | None = None
            waiting = await _past_tokens.on_disk(self._system, message.select)
            async for id in in_turns(dict.fromkeys(message.select), 1_000):
                token = self._system.live.get(id) or waiting.get(id)
                if token is not None and not sees(token):
                    token = None
                if token is None and past is None:
                    past = _past_tokens.ended_lately(self._system)
                found.append(token or (past or {}).get(id) or _past_tokens.not_live(self._system, id))
            return found
        selector, size, live = parse_for(self._system.predictor, message.select), 1_000, self._system.live
        if len(live) > size:
            await next_turn()  # the first turn comes at once, which is too early for so many tokens
        now, everything = self._system.clock(), admission().sees_all
        terms = selector.terms + admission().terms
        async for chunk in in_turns(chunks(list(live.values()), max(1, size // (1 + terms)))):
            found.extend(token for token in chunk if selector.matches(token, now) and (everything or sees(token)))
        return found

    async def _do(
        self,
        message: m.OnTokens,
        act: _Act,
        tokens: Sequence[Found] | None = None,
        *,
        wait: float = 0.0,
        guarded: Guarded = _unguarded,
        of_runs: bool = True,
        of_ended: bool = False,
    ) -> tuple[m.Outcome, ...]:
        """Do a verb to each token, and return the outcomes.

        Args:
            message: the message.
            act: does the verb to one token that has not ended, or begins it.
            tokens: those that were planned, in which an outcome is returned as it is; None plans those of the message.
            wait: seconds to wait for pending outcomes.
            guarded: returns what refusals call a verb for which the guard counts.
            of_runs: whether the verb is for tokens that run or are queued, and for none that another one runs for.
            of_ended: whether it is for tokens that have ended, too.
        """
        judge, caller = admission().judge, admission().caller

        def begun(token: Found) -> m.Outcome | Pending:
            if isinstance(token, m.Outcome):
                return token
            refusal = judge(token, guarded(token)) or (_steering.joined(token) if of_runs else None)
            if refusal is not None:
                return refusal
            if token.done() and not of_ended:
                return _outcomes.ended(token)
            token._own_extras().steered_by = caller.principal
            return act(token)

        found = await self._planned(message, guarded, of_runs=of_runs) if tokens is None else tokens
        return await _outcomes.settle([begun(token) async for token in in_turns(found, _AT_ONCE)], wait)


def _called(doing: str) -> Guarded:
    return lambda _token: doing


def _runs_free(token: Token[Any]) -> bool:
    """Tell whether a token runs, without a hold or for some steps."""
    return token.started_at is not None and (token._extras.hold is None or token._extras.hold.word != "paused")
