"""The verbs that look at a gate, and those of its streams."""

from __future__ import annotations

from tokengate.control import messages as m
from tokengate.control._admission import admission, restricted
from tokengate.control._ports import ControlledGate
from tokengate.control.inspection import _queries
from tokengate.control.inspection._counters import Counts
from tokengate.control.inspection._feeds import Feed, Feeds
from tokengate.control.inspection._overview import overview_of
from tokengate.control.inspection._selector import parse_for
from tokengate.control.inspection._stacks import stack_of
from tokengate.control.inspection._views import page_of
from tokengate.control.stream._record import Entry


class QueryVerbs:
    """The verbs that look at a gate, and those of its streams.

    Args:
        gate: the gate.
        counts: the statistics of its actors and operations.
        feeds: its streams.
    """

    def __init__(self, gate: ControlledGate, counts: Counts, feeds: Feeds) -> None:
        self._gate = gate
        self._system = gate._open_system
        self._counts = counts
        self._feeds = feeds

    async def overview(self, _message: m.Overview) -> m.GateOverview:
        return await overview_of(self._system, await self.info(m.Info()), self._counts)

    async def info(self, _message: m.Info) -> m.GateInfo:
        return await _queries.gate_info(self._system, self._gate.state, self._gate.uptime, lambda: self._gate.restarts)

    async def tokens(self, message: m.Tokens) -> m.TokenPage:
        return await page_of(
            lambda: list(self._system.live.values()),
            parse_for(self._system.predictor, message.select),
            message.sort,
            message.limit,
            message.offset,
            self._system.clock(),
        )

    async def describe(self, message: m.Describe) -> m.TokenDescription:
        token = await _queries.find_any_token(self._system, message.token)
        return await _queries.describe(self._system, token, values=admission().shows(token))

    async def stack(self, message: m.Stack) -> m.TokenStack:
        token = await _queries.find_any_token(self._system, message.token)
        found = await stack_of(token)
        if restricted() is not None:
            _queries.find_token(self._system, token.id)  # it may have been moved out of sight meanwhile
        return found

    async def actors(self, message: m.Actors) -> tuple[m.ActorRow, ...]:
        places = _queries.places_called(self._system, message.name)
        return await _queries.actor_rows(places, self._counts, message.sample)

    async def describe_actor(self, message: m.DescribeActor) -> m.ActorDescription:
        return await _queries.describe_actor(self._system, message.name, self._counts)

    async def tree(self, message: m.Tree) -> tuple[m.TreeRow, ...]:
        return await _queries.tree_rows(self._system, message.root, own=message.system)

    async def statistics(self, message: m.Statistics) -> tuple[m.ActorRow, ...]:
        places = _queries.places_called(self._system, message.name)
        for place in places if message.changes else ():
            admission().reach(place)
        for place in places:
            if message.switch == "on":
                self._counts.switch_on(place)
            elif message.switch == "off":
                self._counts.switch_off(place)
        return await _queries.actor_rows(places, self._counts, 0.0)

    async def watch(self, message: m.Watch) -> Feed[Entry]:
        return self._feeds.follow(message)
