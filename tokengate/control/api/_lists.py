"""The verbs that return handles: lists of tokens and actors, or one of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from actors import UnknownActor
from tokengate.control import messages as m
from tokengate.control.api._handles import ActorHandle, ActorList, HandleControl, TokenHandle, TokenList
from tokengate.control.api._question import Asker, Question, verb
from tokengate.control.messages import ActorRow, OneToken


class ListVerbs(Asker):
    """The verbs that return handles: lists of tokens and actors, or one of them."""

    @property
    def _blocking(self) -> HandleControl:
        """The control that sends the verbs of the handles."""
        raise NotImplementedError

    @verb
    def tokens(self, select: str = "", *, sort: str = "id", limit: int = 100, offset: int = 0) -> Question[TokenList]:
        """List live tokens.

        Args:
            select: which tokens, such as `operation=resize,tenant=acme,state!=running`; empty for all.
            sort: one of `messages.COLUMNS` (`id`, `age`, `running`, ...); a `-` before it reverses the order.
            limit: maximum number of rows, up to 10,000.
            offset: rows to skip.

        Returns:
            A sequence of handles; its own verbs are for exactly the tokens in it.

        Raises:
            BadSelector: the selector cannot be read.
            BadRequest: there is no such column, or a number is out of its range.
        """
        return Question(
            m.Tokens(select, sort=sort, limit=limit, offset=offset), lambda page: TokenList(self._blocking, page)
        )

    @verb
    def token(self, token: OneToken | str) -> Question[TokenHandle]:
        """Return a handle of one live token.

        Raises:
            UnknownToken: it has ended, or there never was one.
            BadRequest: the argument names no token.
        """
        return Question(m.Describe(token), lambda described: TokenHandle(self._blocking, described.row))

    @verb
    def actors(self, name: str = "", *, sample: float = 0.0) -> Question[ActorList]:
        """List actors and operations.

        Args:
            name: a path, the last part of one, or a pattern with `*`; empty for all.
            sample: seconds for which to observe how busy they are; 0 for not at all.

        Raises:
            UnknownActor: no actor has this name.
            BadRequest: a number is out of its range.
        """
        return Question(m.Actors(name, sample=sample), self._actor_list)

    @verb
    def actor(self, name: str) -> Question[ActorHandle]:
        """Return a handle of one actor or operation.

        Raises:
            UnknownActor: no actor has this name, or several have.
        """

        def only(rows: Sequence[ActorRow]) -> ActorHandle:
            if not rows:
                raise UnknownActor(f"no actor is called '{name}'; actors() lists them")
            if len(rows) > 1:
                some = ", ".join(row.path for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
                raise UnknownActor(f"{len(rows)} actors are called '{name}' ({some}); give the path of one")
            return ActorHandle(self._blocking, rows[0])

        return Question(m.Actors(name), only)

    @verb
    def statistics(self, name: str, switch: Literal["on", "off", "show"] = "show") -> Question[ActorList]:
        """Switch the statistics of actors on or off, or show them.

        Args:
            name: a path, the last part of one, or a pattern with `*`.
            switch: `on` (counts from zero), `off`, or `show`.

        Raises:
            UnknownActor: no actor has this name.
            BadRequest: there is no such switch.
        """
        return Question(m.Statistics(name, switch), self._actor_list)

    def _actor_list(self, rows: Iterable[ActorRow]) -> ActorList:
        return ActorList(self._blocking, tuple(rows))
