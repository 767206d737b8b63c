"""The verbs for tokens: find the tokens of a message, and do the verb to each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import trio

from actors import Token, TokenGateError
from actors.lowlevel import AFFINITIES, OperationPlace, Place
from tokengate.control import messages as m
from tokengate.control._exceptions import BadRequest
from tokengate.control._ports import ControlledGate
from tokengate.control.inspection import _past_tokens, _queries
from tokengate.control.inspection._selector import parse
from tokengate.control.inspection._turns import in_turns, next_turn
from tokengate.control.inspection._views import chunks
from tokengate.control.steering import _limits, _outcomes, _steering
from tokengate.control.steering._outcomes import Pending
from tokengate.control.steering._reconciler import Reconciler

# Tokens that are changed between two checkpoints: less than a millisecond for every verb.
_AT_ONCE = 100

_Act: TypeAlias = Callable[[Token[Any]], m.Outcome | Pending]


class TokenVerbs:
    """The verbs for the tokens of a gate.

    Args:
        gate: the gate.
    """

    def __init__(self, gate: ControlledGate) -> None:
        self._gate = gate
        self._system = gate._open_system
        self._reconciler = Reconciler(self._system.system_host.start_task)

    async def pause(self, message: m.Pause) -> tuple[m.Outcome, ...]:
        tokens = await self._select(message)
        return await self._do(
            message,
            tokens,
            "pause",
            lambda token: _steering.pause(self._reconciler, token, stop_clock=message.stop_clock),
            wait=message.wait,
            guarded=True,
        )

    async def resume(self, message: m.Resume) -> tuple[m.Outcome, ...]:
        return await self._do(message, await self._select(message), "resume", _steering.resume)

    async def step(self, message: m.Step) -> tuple[m.Outcome, ...]:
        """Answer `Step`; a running token is paused first, so that its steps are counted from a fixed point."""
        wait, give_up_at = message.wait, trio.current_time() + message.wait
        tokens = await self._select(message)
        free = [token for token in tokens if isinstance(token, Token) and _runs_free(token)]
        if free and not message.dry_run:
            await self._do(message, free, "pause", self._pause_to_step, wait=wait, guarded=True)
            wait = max(0.0, give_up_at - trio.current_time())
        return await self._do(
            message,
            tokens,  # selected before the pause: the selector may have `state=running`
            "step",
            lambda token: _steering.step(self._reconciler, token, message.n),
            wait=wait,
            guarded=True,
        )

    def _pause_to_step(self, token: Token[Any]) -> m.Outcome | Pending:
        return _steering.pause(self._reconciler, token, stop_clock=False)

    async def terminate(self, message: m.Terminate) -> tuple[m.Outcome, ...]:
        """Answer `Terminate`; `kill` waits for the grace before it leaves code behind."""
        return await self._do(
            message,
            await self._select(message),
            "end",
            lambda token: _steering.terminate(self._reconciler, token, message.mode, message.reason),
            wait=max(message.wait, message.grace) if message.mode == "kill" else message.wait,
            guarded=True,
        )

    async def renice(self, message: m.Renice) -> tuple[m.Outcome, ...]:
        tokens = await self._select(message)
        return await self._do(message, tokens, "renice", lambda token: _steering.renice(token, message.priority))

    async def retag(self, message: m.Retag) -> tuple[m.Outcome, ...]:
        if not message.set and not message.remove:
            raise BadRequest("retag needs tags to set or to remove")
        tokens = await self._select(message)
        return await self._do(
            message, tokens, "retag", lambda token: _steering.retag(token, message.set, message.remove)
        )

    async def reroute(self, message: m.Reroute) -> tuple[m.Outcome, ...]:
        if bool(message.affinity) == bool(message.actor):
            raise BadRequest(f"reroute needs either an affinity ({', '.join(map(repr, AFFINITIES))}) or an actor")
        if message.affinity not in ("", *AFFINITIES):
            raise BadRequest(f"affinity is '{message.affinity}'; choose one of {', '.join(map(repr, AFFINITIES))}")
        target: Place | None = _queries.actor_called(self._system, message.actor) if message.actor else None

        def act(token: Token[Any]) -> m.Outcome:
            if token.done():
                return _outcomes.ended(token)
            if target is not None:
                return _steering.reroute(token, target)
            place = token._place
            if not isinstance(place, OperationPlace):
                return _outcomes.outcome(token, "refused", "only tokens of operations can change their affinity")
            try:
                return _steering.reroute(token, self._gate._place_with(place, message.affinity))
            except TokenGateError as error:
                return _outcomes.outcome(token, "refused", str(error))

        return await self._do(message, await self._select(message), "reroute", act)

    async def limit(self, message: m.Limit) -> tuple[m.Outcome, ...]:
        changes = _limits.changes_of(message)
        tokens = await self._select(message)
        return await self._do(
            message, tokens, "limit", lambda token: _limits.limit(token, changes, force=message.force)
        )

    # The target of a message

    async def _select(self, message: m.OnTokens) -> list[Token[Any] | m.Outcome]:
        """Return the tokens of a message, and the outcomes for ids of no live token."""
        found: list[Token[Any] | m.Outcome] = []
        if isinstance(message.select, tuple):
            past: dict[int, m.Outcome] | None = None
            for number, id in enumerate(dict.fromkeys(message.select)):
                token = self._system.live.get(id)
                if token is None and past is None:
                    past = _past_tokens.ended_lately(self._system)
                found.append(token or (past or {}).get(id) or _past_tokens.not_live(self._system, id))
                if number % 1_000 == 999:
                    await next_turn()
            return found
        selector, size = parse(message.select), 1_000
        if len(self._system.live) > size:
            await next_turn()  # the first turn comes at once, which is too early for so many tokens
        now = self._system.clock()
        async for chunk in in_turns(chunks(_queries.live_tokens(self._system), max(1, size // (1 + selector.terms)))):
            found.extend(token for token in chunk if selector.matches(token, now))
        return found

    async def _do(
        self,
        message: m.OnTokens,
        tokens: list[Token[Any]] | list[Token[Any] | m.Outcome],
        verb: str,
        act: _Act,
        *,
        wait: float = 0.0,
        guarded: bool = False,
    ) -> tuple[m.Outcome, ...]:
        """Do a verb to each token, and return the outcomes.

        Args:
            message: the message.
            tokens: its tokens; an outcome is returned as it is.
            verb: name of the verb in refusals.
            act: does the verb to one token, or begins it.
            wait: seconds to wait for pending outcomes.
            guarded: whether this verb needs `force` for tokens with a guard.
        """
        steps: list[m.Outcome | Pending] = []
        for number, token in enumerate(tokens):
            steps.append(token if isinstance(token, m.Outcome) else self._act(message, token, verb, act, guarded))
            if number % _AT_ONCE == _AT_ONCE - 1:
                await next_turn()
        return await _outcomes.settle(steps, wait)

    @staticmethod
    def _act(message: m.OnTokens, token: Token[Any], verb: str, act: _Act, guarded: bool) -> m.Outcome | Pending:
        refusal = _steering.forbidden(token, verb, force=message.force, guarded=guarded)
        if refusal is not None:
            return refusal
        return _outcomes.outcome(token, "would") if message.dry_run else act(token)


def _runs_free(token: Token[Any]) -> bool:
    """Tell whether a token runs, without a hold or for some steps."""
    return token.started_at is not None and (token._hold is None or token._hold.word != "paused")
