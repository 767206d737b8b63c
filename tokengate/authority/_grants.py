"""Grants: which caller has which right, and where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from actors import Token
from actors.lowlevel import ActorPlace, Place
from tokengate.authority._decide import NOBODY
from tokengate.control._admission import Caller
from tokengate.control.inspection._selector import Selector
from tokengate.control.messages import RIGHTS
from tokengate.policy._policies import PlaceName, operation_of

ROLES: Final[Mapping[str, frozenset[str]]] = {
    "viewer": frozenset({"view"}),
    "operator": frozenset({"view", "operate", "terminate", "approve"}),
    "admin": frozenset(RIGHTS),
}

_OF_ACTORS: Final = ("actor", "affinity")
_OF_OPERATIONS: Final = ("operation", "affinity")


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

    def has(self, token: Token[Any], now: float) -> bool:
        """Tell whether the right holds for a token."""
        return all(any(selector.matches(token, now) for selector in group) for group in self.each)

    def has_place(self, place: Place) -> bool:
        """Tell whether the right holds for all of an actor or operation."""
        return all(any(_is_about(selector, place) for selector in group) for group in self.each)

    def and_(self, other: Scope) -> Scope:
        """Return where this right and another one hold."""
        return Scope((*self.each, *other.each))

    def __str__(self) -> str:
        return " and ".join("|".join(selector.text for selector in group) for group in self.each) or "*"


EVERYWHERE: Final = Scope()


def _is_about(selector: Selector, place: Place) -> bool:
    """Tell whether a selector has terms about a place only, and these match."""
    fields = _OF_ACTORS if isinstance(place, ActorPlace) else _OF_OPERATIONS
    if any(part.is_tag or part.name not in fields for part in selector.parts):
        return False
    return selector.matches_place(PlaceName(operation_of(place), place.path, place.affinity))


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
        self._known: dict[tuple[Caller, str], Scope | None] = {}

    def scope(self, caller: Caller, right: str) -> Scope | None:
        """Return where a caller has a right; None: nowhere."""
        key = (caller, right)
        if key not in self._known:
            if len(self._known) > 10_000:  # clients come and go
                self._known.clear()
            self._known[key] = self._scope(caller, right)
        return self._known[key]

    def are_granted(self, caller: Caller) -> bool:
        """Tell whether a grant gives a caller its rights."""
        return bool(self.grants) and (not caller.principal.startswith("process") or self._names(caller))

    def of(self, caller: Caller) -> dict[str, str]:
        """Return {right: where it holds, as text}."""
        found = ((right, self.scope(caller, right)) for right in RIGHTS)
        return {right: str(scope) for right, scope in found if scope is not None}

    def _scope(self, caller: Caller, right: str) -> Scope | None:
        if caller.owner == NOBODY:
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
