"""The verbs for tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from tokengate.control import messages as m
from tokengate.control.api._answers import Outcomes
from tokengate.control.api._question import Asker, Question, verb
from tokengate.control.api._targets import OneToken, Target, id_of, selected
from tokengate.control.messages import KEEP, NO_LIMIT, Keep, Mode, OnTokens, TokenDescription, TokenStack


class TokenVerbs(Asker):
    """The verbs for tokens."""

    @verb
    def describe(self, token: OneToken | str) -> Question[TokenDescription]:
        """Tell all of one token: arguments (as types and sizes), times, what it waits for, children, process, limits.

        Raises:
            UnknownToken: it has ended, or there never was one.
            BadRequest: this names no token.
        """
        return Question(m.Describe(id_of(token)))

    @verb
    def stack(self, token: OneToken | str) -> Question[TokenStack]:
        """Tell where the code of a token is, line by line.

        Raises:
            UnknownToken: it has ended, or there never was one.
            BadRequest: this names no token.
        """
        return Question(m.Stack(id_of(token)))

    @verb
    def pause(
        self,
        target: Target,
        *,
        force: bool = False,
        stop_clock: bool = False,
        wait: float | None = None,
        dry_run: bool = False,
    ) -> Question[Outcomes]:
        """Hold tokens, queued or running.

        Args:
            target: which: ids, tokens, handles, or a selector (`*` for all).
            force: do it to protected ones, too.
            stop_clock: let the time not count for their time limits.
            wait: seconds to wait for running ones to be paused before answering `pause_requested`;
                they are paused after that all the same. None is 0.02, or what the `Control` was made with.
            dry_run: only tell which they are.

        Returns:
            One outcome for each token; `OUTCOMES` says what its word means.

        Raises:
            BadSelector: the selector cannot be read.
            BadRequest: the target names no token, or a number is out of its range.
        """
        return self._on(target, m.Pause(stop_clock=stop_clock, wait=self._seconds(wait), force=force, dry_run=dry_run))

    @verb
    def resume(self, target: Target, *, force: bool = False, dry_run: bool = False) -> Question[Outcomes]:
        """Let tokens that are held go on; arguments, result and errors are those of `pause`."""
        return self._on(target, m.Resume(force=force, dry_run=dry_run))

    @verb
    def step(
        self, target: Target, n: int = 1, *, force: bool = False, wait: float | None = None, dry_run: bool = False
    ) -> Question[Outcomes]:
        """Let paused tokens run some steps and hold them again; one that runs is paused first.

        The other arguments, result and errors are those of `pause`.

        Args:
            target: which.
            n: how many steps; at least 1.
            force: do it to protected ones, too.
            wait: seconds to wait for that before answering `step_requested`; it goes on after that. None is 0.02, or
                what the `Control` was made with.
            dry_run: only tell which they are.
        """
        return self._on(target, m.Step(n=n, wait=self._seconds(wait), force=force, dry_run=dry_run))

    @verb
    def terminate(
        self,
        target: Target,
        mode: Mode = "interrupt",
        *,
        force: bool = False,
        wait: float | None = None,
        reason: str = "an operator ended it",
        grace: float = 1.0,
        dry_run: bool = False,
    ) -> Question[Outcomes]:
        """End tokens; result and errors are those of `pause`.

        Args:
            target: which.
            mode: how far to go: ask (`cancel`), also raise in Python code that runs (`interrupt`), also leave behind
                what cannot be ended (`kill`). A token in a child process is ended by killing that, at once, in both.
            force: do it to protected ones, too.
            wait: seconds to wait for the end before telling what was asked for, which goes on after that. None is
                0.02, or what the `Control` was made with.
            reason: what the token's error says.
            grace: seconds that code gets to end after `kill` has asked, before it is left behind. With this mode the
                answer comes after the longer one of `wait` and `grace`, or at the end of the last token. Processes get
                none.
            dry_run: only tell which they are.
        """
        wait = self._seconds(wait)
        message = m.Terminate(mode=mode, wait=wait, reason=reason, grace=grace, force=force, dry_run=dry_run)
        return self._on(target, message)

    @verb
    def renice(
        self, target: Target, priority: int, *, force: bool = False, dry_run: bool = False
    ) -> Question[Outcomes]:
        """Give tokens another priority; higher goes first. A queued one moves at once, to the end of its new lane.

        The other arguments, result and errors are those of `pause`.
        """
        return self._on(target, m.Renice(priority=priority, force=force, dry_run=dry_run))

    @verb
    def retag(
        self,
        target: Target,
        set: Mapping[str, str] | None = None,
        remove: Iterable[str] = (),
        *,
        force: bool = False,
        dry_run: bool = False,
    ) -> Question[Outcomes]:
        """Change tags of tokens; result and errors are those of `pause`.

        Args:
            target: which.
            set: {tag: its new value}.
            remove: tags to take away; one, or several.
            force: do it to protected ones, too.
            dry_run: only tell which they are.
        """
        removed = (remove,) if isinstance(remove, str) else tuple(remove)
        return self._on(target, m.Retag(set=dict(set or {}), remove=removed, force=force, dry_run=dry_run))

    @verb
    def reroute(
        self, target: Target, *, affinity: str = "", actor: str = "", force: bool = False, dry_run: bool = False
    ) -> Question[Outcomes]:
        """Send queued tokens elsewhere, at once; running ones when they are tried again.

        Result and errors are those of `pause`.

        Args:
            target: which.
            affinity: `io`, `cpu` or `process`, for tokens of operations. Either this or `actor`.
            actor: the path of an actor that has what the token calls.
            force: do it to protected ones, too.
            dry_run: only tell which they are.

        Raises:
            UnknownActor: no actor has this name, or several have.
        """
        return self._on(target, m.Reroute(affinity=affinity, actor=actor, force=force, dry_run=dry_run))

    @verb
    def limit(
        self,
        target: Target,
        *,
        memory: float | str | Keep | None = KEEP,
        address_space: float | str | Keep | None = KEEP,
        cpu_time: float | str | Keep | None = KEEP,
        wall_time: float | str | Keep | None = KEEP,
        force: bool = False,
        dry_run: bool = False,
    ) -> Question[Outcomes]:
        """Set what tokens may use of their child processes, queued or running.

        What uses more than that already is ended for it. Each limit is a number, or text such as `2GiB`, `500MB`, `30s`
        or `5m`; None lifts it, `KEEP` leaves it as it is. Result and errors are those of `pause`.

        Args:
            target: which.
            memory: bytes of resident memory.
            address_space: bytes of address space.
            cpu_time: seconds of processor time, from the token's beginning.
            wall_time: seconds from the token's beginning.
            force: lower those of protected ones, too; that may end them.
            dry_run: only tell which they are.

        Raises:
            BadRequest: no limit is given, or one has a value that cannot work.
        """
        given = {"memory": memory, "address_space": address_space, "cpu_time": cpu_time, "wall_time": wall_time}
        limits: dict[str, Any] = {
            name: NO_LIMIT if value is None else value for name, value in given.items() if value is not KEEP
        }
        return self._on(target, m.Limit(**limits, force=force, dry_run=dry_run))

    def _on(self, target: Target, message: OnTokens) -> Question[Outcomes]:
        selector, ids = selected(target)
        if not selector and not ids:
            return Question(None, lambda _: Outcomes(()))
        return Question(attrs.evolve(message, selector=selector, ids=ids), lambda answer: Outcomes(tuple(answer)))

    def _seconds(self, wait: float | None) -> float:
        return self._wait if wait is None else wait
