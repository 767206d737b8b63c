"""All verbs of control."""

from __future__ import annotations

from collections.abc import Sequence

from actors import UnknownActor
from tokengate.control import messages as m
from tokengate.control.api._actors import ActorVerbs
from tokengate.control.api._authority import AuthorityVerbs
from tokengate.control.api._following import follows
from tokengate.control.api._handles import ActorHandle, HasHandles, TokenHandle, TokenList, actor_list
from tokengate.control.api._policies import PolicyVerbs
from tokengate.control.api._tokens import TokenVerbs
from tokengate.control.messages import ActorRow, OneToken, TokenPage
from tokengate.control.registry._verbs import asks, by_hand


def _token_list(owner: HasHandles, page: TokenPage) -> TokenList:
    return TokenList(owner._blocking, page)


class Verbs(TokenVerbs, ActorVerbs, PolicyVerbs, AuthorityVerbs, HasHandles):
    """Each verb once: the message that it sends, and what it makes of the answer."""

    info = asks(m.Info)
    overview = asks(m.Overview)
    health = asks(m.Health)
    tokens = asks(m.Tokens, _token_list)
    actors = asks(m.Actors, actor_list)
    statistics = asks(m.Statistics, actor_list)

    watch = follows(m.Watch)

    @by_hand
    def token(self, token: OneToken | str) -> TokenHandle:
        """Return a handle of one live token.

        Args:
            token: its id, a Token, or its handle.

        Raises:
            UnknownToken: it has ended, or there never was one.
            BadRequest: the argument names no token.
        """
        return self._put(m.Describe(token), lambda _, described: TokenHandle(self._blocking, described.row))

    @by_hand
    def actor(self, name: str) -> ActorHandle:
        """Return a handle of one actor or operation.

        Args:
            name: its path, or the last part of it.

        Raises:
            UnknownActor: no actor has this name, or several have.
        """

        def only(_: object, rows: Sequence[ActorRow]) -> ActorHandle:
            if not rows:
                raise UnknownActor(f"no actor is called '{name}'; actors() lists them")
            if len(rows) > 1:
                some = ", ".join(row.path for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
                raise UnknownActor(f"{len(rows)} actors are called '{name}' ({some}); give the path of one")
            return ActorHandle(self._blocking, rows[0])

        return self._put(m.Actors(name), only)
