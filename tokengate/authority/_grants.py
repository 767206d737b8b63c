"""Grants: which caller has which right, and where."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import attrs

from actors import Token
from actors.lowlevel import ActorPlace, Place
from tokengate.authority._decide import NOBODY
from tokengate.control._admission import Caller
from tokengate.control.inspection._selector import Selector
from tokengate.control.messages import RIGHTS
from tokengate.control.stream._record import Record
from tokengate.policy._policies import PlaceName, operation_of

_KNOWN: Final = 1_000  # callers for which rights are kept; clients come and go


@attrs.frozen
class Scope:
    """Where a right holds.

    Attributes:
        each: one of the selectors of each group must match; without groups, it holds everywhere.
    """

    each: tuple[tuple[Selector, ...], ...] = ()

    @property
    def everywhere(self) -> bool:
        return not self.each

    @property
    def terms(self) -> int:
        """The number of terms of its selectors."""
        return sum(selector.terms for group in self.each for selector in group)

    def has(self, token: Token[Any], now: float) -> bool:
        """Tell whether the right holds for a token."""
        for group in self.each:  # generators would take three times as long, for each token of a list
            for selector in group:
                if selector.matches(token, now):
                    break
            else:
                return False
        return True

    def has_record(self, record: Record, now: float) -> bool:
        """Tell whether the right holds for the record of a token; `now` is of the clock of its times."""
        return self._each_has(lambda one: one.matches_record(record, now))

    def has_place(self, place: Place) -> bool:
        """Tell whether the right holds for all of an actor or operation."""
        if isinstance(place, ActorPlace):
            return self.has_actor(place.path)
        return self.has_named(PlaceName(operation_of(place), place.path, place.affinity))

    def has_named(self, named: PlaceName) -> bool:
        """Tell whether the right holds for all of an actor or operation, which need not be in this process."""
        if not named.operation:
            return self.has_actor(named.actor)
        return self._each_has(lambda one: "operation" in _fields(one) <= _OF_OPERATIONS and one.matches_place(named))

    def has_actor(self, path: str) -> bool:
        """Tell whether the right holds for all of the actor with a path, which may have ended."""
        named = PlaceName("", path, "")
        return self._each_has(lambda one: _fields(one) == {"actor"} and one.matches_place(named))

    def covers(self, selector: Selector) -> bool:
        """Tell whether the right holds for all tokens of a selector: it has all terms of one of each group."""
        return self._each_has(lambda one: set(one.parts) <= set(selector.parts))

    def _each_has(self, test: Callable[[Selector], bool]) -> bool:
        return all(any(map(test, group)) for group in self.each)

    def and_(self, other: Scope) -> Scope:
        """Return where this right and another one hold."""
        return Scope((*self.each, *other.each))

    def __str__(self) -> str:
        return " and ".join("|".join(selector.text for selector in group) for group in self.each) or "*"


EVERYWHERE: Final = Scope()


_OF_OPERATIONS: Final = frozenset({"operation", "actor", "affinity"})


def _fields(selector: Selector) -> set[str]:
    """Return the fields that a selector has terms about; an empty text stands for tags."""
    return {"" if part.is_tag else part.name for part in selector.parts}


@attrs.frozen
class Grant:
    """A `[[grant]]`.

    Attributes:
        line: of the file.
        users: uids.
        groups: gids.
        principals: `process`, `process:interventions`, `api:ci`.
        rights: what it allows.
        selector: where; None: everywhere.
    """

    line: int
    users: frozenset[int]
    groups: frozenset[int]
    principals: frozenset[str]
    rights: frozenset[str]
    selector: Selector | None = None

    def is_for(self, caller: Caller) -> bool:
        """Tell whether it is for a caller."""
        if caller.principal in self.principals:
            return True
        return caller.principal == f"uid:{caller.owner}" and (
            caller.owner in self.users or not self.groups.isdisjoint(caller.groups)
        )


class Rights:
    """What the grants of a file allow; without grants, this user and root may do everything.

    Args:
        grants: of the file.
        user: that of the gate.
    """

    def __init__(self, grants: Iterable[Grant], user: int) -> None:
        self.grants = tuple(grants)
        self.tags = frozenset(
            part.name
            for grant in self.grants
            for part in (() if grant.selector is None else grant.selector.parts)
            if part.is_tag
        )
        self._user = user
        self._known: dict[Caller, Mapping[str, Scope]] = {}

    def scope(self, caller: Caller, right: str) -> Scope | None:
        """Return where a caller has a right; None: nowhere."""
        return self.of(caller).get(right)

    def of(self, caller: Caller) -> Mapping[str, Scope]:
        """Return {right: where a caller has it}, without those that it has nowhere."""
        try:
            return self._known[caller]
        except KeyError:
            if len(self._known) > _KNOWN:
                self._known.clear()
            found = ((right, self._scope(caller, right)) for right in RIGHTS)
            self._known[caller] = {right: scope for right, scope in found if scope is not None}
            return self._known[caller]

    def are_own(self, caller: Caller) -> bool:
        """Tell whether a caller is this user or root, or code of the process, and no API token of these."""
        is_own = caller.owner in (self._user, 0) and (caller.owner != NOBODY or caller.principal == "process")
        return is_own and not caller.principal.startswith("api:")

    def are_granted(self, caller: Caller) -> bool:
        """Tell whether a grant gives a caller its rights."""
        return bool(self.grants) and (not caller.principal.startswith("process") or self._names(caller))

    def _scope(self, caller: Caller, right: str) -> Scope | None:
        if caller.rights is not None and right not in caller.rights:
            return None
        if caller.owner == NOBODY and caller.is_of_user:
            return None
        if caller.principal.startswith("api:"):
            assert caller.owner is not None
            owners = self._scope(attrs.evolve(caller, principal=f"uid:{caller.owner}"), right)
            if owners is None or not self._names(caller):
                return owners
            own = self._granted(caller, right)
            return None if own is None else owners.and_(own)
        if caller.principal == "process" and not self._names(caller):
            return EVERYWHERE
        if caller.is_rule and not self._names(caller):
            return EVERYWHERE if right in ("view", "operate") else None
        if not self.grants:
            return EVERYWHERE if caller.owner in (self._user, 0) else None
        return self._granted(caller, right)

    def _names(self, caller: Caller) -> bool:
        return any(grant.is_for(caller) for grant in self.grants)

    def _granted(self, caller: Caller, right: str) -> Scope | None:
        """Return where grants for a caller allow a right."""
        found = [grant for grant in self.grants if right in grant.rights and grant.is_for(caller)]
        if not found:
            return None
        if any(grant.selector is None for grant in found):
            return EVERYWHERE
        return Scope((tuple(grant.selector for grant in found if grant.selector is not None),))
