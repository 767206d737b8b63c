"""The person or script behind a request."""

from __future__ import annotations

import attrs

from tokengate.control.transport._protocol import OnBehalfOf


@attrs.frozen
class Principal:
    """The caller behind a request, as its session or API token says; gates decide what it may do.

    Attributes:
        name: `uid:1000` for a session, `api:ci` for an API token.
        owner: uid of the user behind it.
        groups: of that user.
        rights: those that the ceiling, and the role of an API token, leave to it; None: all that a gate grants.
        login: public id of the session, or name of the API token with digits of its hash; for records, not secret.
        request: id of the request that it makes now, under which gates record it; principals are equal without it.
    """

    name: str
    owner: int
    groups: tuple[int, ...] = ()
    rights: frozenset[str] | None = None
    login: str = ""
    request: str = attrs.field(default="", eq=False)

    @property
    def on_behalf_of(self) -> OnBehalfOf:
        """The same, as gates take it."""
        rights = None if self.rights is None else tuple(sorted(self.rights))
        return OnBehalfOf(self.name, self.owner, self.groups, rights, self.request)

    def may(self, right: str) -> bool:
        """Whether the ceiling leaves it a right."""
        return self.rights is None or right in self.rights
