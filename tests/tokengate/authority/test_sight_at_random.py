"""Case 4: 1,000 random tokens, tags, grants, verbs: nothing outside is changed, counted, streamed, named, throttled.

The ledger of the test has the tokens themselves, and reads grants in its own way: as {what: value}.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import attrs
import msgspec
import pytest
import trio
from gated_code import LIMIT
from sighted import InProcess, OnSocket, Reader, Way, authority_of, rights

from actors import Token, TokenState, UnknownActor
from tokengate import Gate, IoActor, checkpoint, token
from tokengate.authority._decide import ROLES
from tokengate.control import messages as m
from tokengate.errors import Refused, UnknownToken
from tokengate.policy._policies import policies_in

Until = Callable[[Callable[[], bool]], None]
Terms: TypeAlias = Mapping[str, str]

TOKENS: Final = 1_000
VALUES: Final = {
    "tenant": ("acme", "globex", "initech"),
    "tier": ("free", "paid"),
    "operation": ("charge", "resize", "Clerk.serve"),
    "actor": ("spawned/left", "spawned/right"),
    "affinity": ("cpu", "io"),
}
OF_PLACES: Final = ("operation", "actor", "affinity")


@token
def charge() -> None:
    checkpoint()


@token
async def resize() -> None:
    await trio.sleep_forever()


@token
async def batch(tags: list[dict[str, str]]) -> None:
    for one in tags:
        charge.with_options(tags=one).submit()
    await trio.sleep_forever()


class Clerk(IoActor):
    def serve(self) -> None: ...


def text_of(terms: Terms) -> str:
    return ",".join(f"{name}={value}" for name, value in terms.items())


def fits(token: Token[Any], terms: Terms) -> bool:
    """Tell whether a token has what terms say."""
    return all(
        (getattr(token, name) if name in OF_PLACES else token.tags.get(name)) == one for name, one in terms.items()
    )


@attrs.frozen
class Look:
    """What verbs change of a token, and its own code does not.

    Attributes:
        is_ended: whether it was asked to end, or was ended.
        rest: empty once it has ended.
    """

    is_ended: bool
    rest: tuple[object, ...]

    @classmethod
    def of(cls, token: Token[Any]) -> Look:
        hold, extras = token._extras.hold, token._extras
        rest = (token.priority, dict(token.tags), token.actor, bool(hold and hold.word), token.deadline)
        ended = bool(extras.cancel_requested) or token.state is TokenState.TERMINATED
        return cls(ended, () if token.done() else rest)

    def differs(self, other: Look) -> bool:
        changed = bool(self.rest and other.rest) and self.rest != other.rest
        return changed or self.is_ended is not other.is_ended


@attrs.frozen
class Drawn:
    """A grant: what it allows, and where."""

    roles: str
    terms: Terms

    @property
    def rights(self) -> set[str]:
        return set[str]().union(*(ROLES.get(name, {name}) for name in self.roles.split()))


@attrs.define
class Shop:
    """A gate with many tokens, and the ledger of these.

    Attributes:
        tokens: {id: token} of all that were sent.
        grants: those of the caller.
    """

    gate: Gate
    random: random.Random
    tokens: dict[int, Token[Any]] = attrs.field(factory=dict)
    grants: tuple[Drawn, ...] = ()

    def fill(self) -> None:
        """Send tokens until there are 1,000 that have not ended; they stay queued, or run until they are ended."""
        chosen, sent = self.random, []
        for place in ("operations/charge", "spawned/left", "spawned/right"):
            self.gate.control.drain(place, reopen=True)
            self.gate.control.suspend(place)
        while len(self.live) + len(sent) < TOKENS:
            kind = chosen.random()
            if kind < 0.1:
                sent.append(resize.with_options(tags=self.tags()).submit())
            elif kind < 0.2:
                ref = self.gate.find(chosen.choice(("spawned/left", "spawned/right")))
                sent.append(ref.proxy().serve())
            else:
                sent.append(charge.with_options(tags=self.tags()).submit())
        self.tokens.update((one.id, one) for one in sent)
        self.collect()

    def collect(self) -> None:
        """Note the tokens that code of tokens has made."""
        for one in list(self.gate._system.live.values()):
            if not one.serves_operators:
                self.tokens.setdefault(one.id, one)

    def tags(self) -> dict[str, str]:
        names = self.random.sample(("tenant", "tier"), self.random.randint(0, 2))
        return {"mark": f"m{self.random.randrange(10**9):09}", **{name: self.pick(name) for name in names}}

    def pick(self, name: str) -> str:
        return self.random.choice(VALUES[name])

    @property
    def live(self) -> list[Token[Any]]:
        return [one for one in self.tokens.values() if not one.done()]

    def terms(self) -> dict[str, str]:
        """Draw terms; an affinity stands with an operation only."""
        names: list[str] = self.random.sample(
            ["tenant", "tier", "operation", "actor"], self.random.choice((1, 1, 1, 2, 2, 3))
        )
        if "operation" in names and "actor" not in names and self.random.random() < 0.3:
            names.append("affinity")
        return {name: self.pick(name) for name in names}

    def grant(self) -> None:
        """Draw the grants of the caller, and have them decide."""
        roles = ("viewer", "operator", "operator", "admin", "operate view", "terminate", "arguments view")
        count = self.random.choice((1, 1, 1, 2, 3))
        self.grants = tuple(Drawn(self.random.choice(roles), self.terms()) for _ in range(count))
        authority_of(self.gate).take(rights(*((one.roles, text_of(one.terms)) for one in self.grants)))

    def where(self, *asked: str) -> list[Terms]:
        """Return the terms of the grants that give one of these rights."""
        return [one.terms for one in self.grants if one.rights.intersection(asked)]

    def inside(self, *asked: str) -> set[int]:
        """Return the ids of the live tokens for which the caller has one of these rights."""
        where = self.where(*asked)
        return {one.id for one in self.live if any(fits(one, terms) for terms in where)}

    def has_place(self, path: str, operation: str, *asked: str) -> bool:
        """Tell whether the caller has one of these rights for all of a place."""
        own = {"operation": operation, "affinity": "cpu"} if operation else {"actor": path}
        return any(terms.items() <= own.items() for terms in self.where(*asked))

    def unused(self) -> int:
        return self.random.randrange(10**8, 10**9)


PLACES: Final = {"operations/charge": "charge", "spawned/left": "", "spawned/right": ""}


@contextmanager
def shop_of(gate: Gate, seed: int) -> Iterator[Shop]:
    for name in ("left", "right"):
        gate.spawn(Clerk, name=name)
    charge.submit().result(LIMIT)  # its place is made by its first token
    shop = Shop(gate, random.Random(seed))
    tags = [shop.tags() for _ in range(20)]
    for place in ("operations/charge", "spawned/left", "spawned/right"):
        gate.control.suspend(place)
    for tenant in VALUES["tenant"]:
        batch.with_options(tags={"tenant": tenant}).submit(tags)
    try:
        yield shop
    finally:
        authority_of(gate).take(rights(("admin", "")))
        gate.control.lift("*")
        gate.close(drain=False)


def looked_at(shop: Shop, way: Way) -> None:
    """Each verb that looks tells of what is inside, and of nothing else."""
    seen, total = shop.inside("view"), shop.unused()
    page = way.ask(m.Tokens(limit=10 * TOKENS))
    assert {row.id for row in page.rows} == seen
    assert (page.matching, page.live) == (len(seen), len(seen))
    assert all(row.parent is None or row.parent in seen for row in page.rows)
    some = shop.terms()
    page = way.ask(m.Tokens(text_of(some), limit=3))
    assert page.matching == sum(fits(shop.tokens[id], some) for id in seen)
    made_by = shop.random.choice([one for one in shop.live if one.operation == "batch"] or [None])
    if made_by is not None:
        page = way.ask(m.Tokens(f"parent={made_by.id}", limit=TOKENS))
        children = {one.id for one in shop.live if one.parent == made_by.id}
        assert {row.id for row in page.rows} == (children & seen if made_by.id in seen else set())

    info = way.ask(m.Info())
    assert sum(info.tokens.values()) == len(seen)
    assert info.sight
    assert (info.restarts, info.threads, info.blocked, info.processes, info.cores, info.memory) == (
        0,
        0,
        0,
        None,
        None,
        None,
    )

    for one in (*shop.random.sample(shop.live, 3), *filter(None, (made_by,))):
        if one.id in seen:
            found = way.ask(m.Describe(one.id))
            assert set(found.children) == {two.id for two in shop.live if two.parent == one.id} & seen
            assert way.ask(m.Stack(one.id)).token == one.id
            continue
        for message in (m.Describe, m.Stack):
            said = [refusal(way, message(id), id) for id in (one.id, total)]
            assert said[0] == said[1]

    paths = {path for path, operation in PLACES.items() if shop.has_place(path, operation, "view")}
    rows = way.ask(m.Actors())
    known = {row.path for row in rows}
    assert known.intersection(PLACES) == paths
    assert {id for row in rows for id in row.running} <= seen
    assert {row.path for row in way.ask(m.Tree())} <= known
    for path in PLACES:
        for message in (m.Actors(path), m.Statistics(path)):
            if path in paths:
                way.ask(message)
            else:
                with pytest.raises(UnknownActor, match="no actor or operation is called"):
                    way.ask(message)
    for throttle in way.ask(m.Throttles()):
        assert covered(throttle.selector, shop.where("view")), throttle
    for listing in (m.Policies(), m.Breakers(), m.Budgets(), m.Flags(), m.Transactions(), m.Proposals()):
        marks = re.findall(r"m\d{9}", msgspec.json.encode(way.ask(listing), enc_hook=str).decode())
        assert marks == []


def refusal(way: Way, message: m.Message[Any], id: int) -> str:
    """Return the text by which an id is unknown, without the id."""
    with pytest.raises(UnknownToken) as found:
        way.ask(message)
    return str(found.value).replace(str(id), "ID")


def covered(select: str, where: list[Terms]) -> bool:
    """Tell whether a selector has all terms of one of some grants."""
    terms = set(select.split(","))
    return any(terms >= {f"{name}={one}" for name, one in grant.items()} for grant in where)


def verb(shop: Shop) -> m.OnTokens:
    """Draw a verb on tokens, with a selector or with ids of every sort."""
    chosen = shop.random
    live = [one.id for one in shop.live]
    ids = (*chosen.sample(live, min(30, len(live))), shop.unused(), *chosen.sample(sorted(shop.tokens), 5))
    select = chosen.choice((text_of(shop.terms()), "*", tuple(dict.fromkeys(ids)), tuple(dict.fromkeys(ids))))
    made: m.OnTokens = chosen.choice(
        (
            m.Pause(select, wait=0),
            m.Resume(select),
            m.Renice(select, chosen.randint(0, 9)),
            m.Retag(select, {"note": "seen"}),
            m.Retag(select, {"tenant": shop.pick("tenant")}),
            m.Reroute(select, affinity=chosen.choice(("io", "cpu"))),
            m.Reroute(select, actor=chosen.choice(("spawned/left", "spawned/right"))),
            m.Preempt(select, to=chosen.choice(("", "io", "cpu", "spawned/left", "spawned/right")), wait=0),
            m.Extend(select, 5.0),
            m.RetryNow(select),
            m.Compensate(select),
            m.Terminate(chosen.choice((ids, select)), wait=0, mode="cancel"),
        )
    )
    return attrs.evolve(made, reason="a test", dry_run=chosen.random() < 0.1)


def steered(shop: Shop, way: Way) -> None:
    """A verb on tokens changes nothing outside, and its answer names nothing outside."""
    message = verb(shop)
    names = [name for one in shop.grants for name in one.terms]
    moves = isinstance(message, m.Retag) and "tenant" in message.set and "tenant" in names
    right = "administer" if moves else message.right
    may, seen = shop.inside(right), shop.inside(right, "view")
    before = {id: Look.of(one) for id, one in shop.tokens.items()}
    try:
        outcomes = way.ask(message)
    except Refused:
        assert not shop.where(right)
        outcomes = ()
    except UnknownActor:
        assert isinstance(message, m.Reroute | m.Preempt)
        actor = message.to if isinstance(message, m.Preempt) else message.actor
        assert not shop.has_place(actor, "", right, "view")
        outcomes = ()
    changed = {id for id, one in shop.tokens.items() if before[id].differs(Look.of(one))}
    assert changed <= may, (message, shop.grants)
    hidden = {(one.operation, one.outcome, one.note) for one in outcomes if one.token not in seen}
    assert len(hidden) <= 1, hidden
    assert all(outcome == "unknown" and operation == "" for operation, outcome, _ in hidden)
    if isinstance(message.select, str):
        assert {one.token for one in outcomes} <= seen
    if message.dry_run:
        assert changed == set()


def throttled(shop: Shop, way: Way) -> None:
    """A throttle is for no token outside; only those are lifted that are for none."""
    selected = policies_in(shop.gate._system).selected
    terms = shop.terms()
    others = [text_of(shop.terms()) for _ in range(2)]
    for other in others:
        shop.gate.control.throttle(other, rate=1_000_000)
    before = {one.name for one in selected.all()}
    try:
        row = way.ask(m.SetThrottle(text_of(terms), rate=1_000_000))
    except Refused:
        where = shop.where("operate")
        assert len(where) != 1
        assert {one.name for one in selected.all()} == before
    else:
        assert covered(row.selector, shop.where("operate"))
        assert covered(row.selector, [terms])
        own = dict(term.split("=") for term in row.selector.split(","))
        assert {one.id for one in shop.live if fits(one, own)} <= shop.inside("operate")
        assert {one.name for one in selected.all()} == before | {row.selector}
    before = {one.name for one in selected.all()}
    mine = {name for name in before if covered(name, shop.where("operate"))}
    try:
        lifted = {row.selector for row in way.ask(m.Lift("*"))}
    except Refused:
        lifted = set()
    assert lifted == mine
    assert {one.name for one in selected.all()} == before - mine
    shop.gate.control.lift("*")


def held(shop: Shop, way: Way) -> None:
    """A verb on a place needs all of the place."""
    path, operation = shop.random.choice(tuple(PLACES.items()))
    right, message = shop.random.choice(
        (
            ("operate", m.Unsuspend(path)),
            ("operate", m.Drain(path, wait=0)),
            ("operate", m.Statistics(path, "on")),
            ("terminate", m.Restart(path, reason="a test")),
        )
    )
    place: Any = shop.gate._system.place_at(path)
    before = (place.suspended, place.drained, getattr(place, "starts", 0))
    if shop.has_place(path, operation, right) and operation and isinstance(message, m.Restart):
        return  # an operation cannot be restarted
    try:
        way.ask(message)
    except Refused:
        assert not shop.has_place(path, operation, right)
    except UnknownActor:
        assert not shop.has_place(path, operation, right, "view")
    else:
        assert shop.has_place(path, operation, right)
        return
    assert (place.suspended, place.drained, getattr(place, "starts", 0)) == before


def followed(shop: Shop, way: Way, until: Until) -> None:
    """Streams tell of all tokens inside, and of no other."""
    readers: list[Reader] = [way.follow(m.Watch("operation=*")), way.follow(m.Watch())]
    try:
        queued = [one for one in shop.live if one.started_at is None]
        ended = shop.random.sample(queued, min(20, len(queued)))
        seen = shop.inside("view")
        shop.gate.control.terminate([one.id for one in ended], wait=LIMIT)
        shop.fill()
        seen |= shop.inside("view")
        until(lambda: readers[0].tokens >= {one.id for one in ended} & seen)
    finally:
        for reader in readers:
            reader.close()
    assert readers[0].tokens <= seen
    assert readers[1].tokens <= seen


@pytest.mark.parametrize("way_in", [InProcess, OnSocket])
def test_nothing_outside_of_the_selector_exists(
    way_in: type[InProcess | OnSocket], seed: int, rounds: Callable[[int], int], until: Until
) -> None:
    """Nothing outside is changed, counted, streamed, named or throttled, by whatever grants and verbs."""
    with Gate("sight", threads=2, shutdown=LIMIT) as gate, shop_of(gate, seed) as shop:
        way = way_in(gate)
        try:
            for number in range(rounds(8)):
                shop.fill()
                shop.grant()
                if shop.where("view"):
                    looked_at(shop, way)
                if number % 4 == 0 and shop.where("view"):
                    followed(shop, way, until)
                for _ in range(3):
                    steered(shop, way)
                shop.random.choice((throttled, held))(shop, way)
        finally:
            way.close()
