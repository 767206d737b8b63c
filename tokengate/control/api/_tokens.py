"""The verbs for tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tokengate.control import messages as m
from tokengate.control.api._answers import Outcomes
from tokengate.control.api._question import Asker, Question, verb
from tokengate.control.messages import KEEP, Mode, OneToken, OnTokens, Target, TokenDescription, TokenStack


class TokenVerbs(Asker):
    """The verbs for tokens."""

    @verb
    def describe(self, token: OneToken | str) -> Question[TokenDescription]:
        """Describe one token: arguments (as types and sizes), times, what it waits for, children, process, limits.

        Raises:
            UnknownToken: it has ended, or there never was one.
            BadRequest: the argument names no token.
        """
        return Question(m.Describe(token))

    @verb
    def stack(self, token: OneToken | str) -> Question[TokenStack]:
        """Return the stack of a token.

        Raises:
            UnknownToken: it has ended, or there never was one.
            BadRequest: the argument names no token.
        """
        return Question(m.Stack(token))

    @verb
    def pause(
        self,
        select: Target,
        *,
        force: bool = False,
        stop_clock: bool = False,
        wait: float | None = None,
        dry_run: bool = False,
    ) -> Question[Outcomes]:
        """Pause tokens, queued or running.

        Args:
            select: which tokens: ids, tokens, handles, or a selector (`*` for all).
            force: include tokens whose guard requires it.
            stop_clock: do not count the pause for their time limits.
            wait: seconds to wait until running tokens are paused; after that the outcome is `pause_requested`, and they
                are paused later. None takes the `wait` of the `Control`, which is 0.02 unless given.
            dry_run: change nothing, and return which tokens would be affected.

        Returns:
            An outcome for each token; `OUTCOMES` explains them.

        Raises:
            BadSelector: the selector cannot be read.
            BadRequest: the target names no token, or a number is out of its range.
        """
        return self._on(m.Pause(select, stop_clock=stop_clock, wait=self._seconds(wait), force=force, dry_run=dry_run))

    @verb
    def resume(self, select: Target, *, force: bool = False, dry_run: bool = False) -> Question[Outcomes]:
        """Let paused tokens run on; arguments, result and errors are those of `pause`."""
        return self._on(m.Resume(select, force=force, dry_run=dry_run))

    @verb
    def step(
        self, select: Target, n: int = 1, *, force: bool = False, wait: float | None = None, dry_run: bool = False
    ) -> Question[Outcomes]:
        """Let paused tokens run some steps, and pause them again; a running token is paused first.

        The other arguments, result and errors are those of `pause`.

        Args:
            select: which tokens.
            n: number of steps; at least 1.
            force: include tokens whose guard requires it.
            wait: seconds to wait until they have run; after that the outcome is `step_requested`, and they run on. None
                takes the `wait` of the `Control`.
            dry_run: change nothing, and return which tokens would be affected.
        """
        return self._on(m.Step(select, n=n, wait=self._seconds(wait), force=force, dry_run=dry_run))

    @verb
    def terminate(
        self,
        select: Target,
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
            select: which tokens.
            mode: `cancel` asks the token to end; `interrupt` also raises an error in its Python code; `kill` also
                leaves its code behind if that does not end. With `interrupt` and `kill`, the child process of a token
                is killed at once.
            force: include tokens whose guard requires it.
            wait: seconds to wait for the end; after that the outcome says what was requested, which is still pursued.
                None takes the `wait` of the `Control`.
            reason: the text of the token's error.
            grace: with `kill`, seconds until code that does not end is left behind; a child process gets none. The
                answer comes after the longer one of `wait` and `grace`, or when the last token has ended.
            dry_run: change nothing, and return which tokens would be affected.
        """
        wait = self._seconds(wait)
        message = m.Terminate(select, mode, wait=wait, reason=reason, grace=grace, force=force, dry_run=dry_run)
        return self._on(message)

    @verb
    def renice(
        self, select: Target, priority: int, *, force: bool = False, dry_run: bool = False
    ) -> Question[Outcomes]:
        """Change the priority of tokens; higher runs first. A queued token moves to the end of its new lane at once.

        The other arguments, result and errors are those of `pause`.
        """
        return self._on(m.Renice(select, priority=priority, force=force, dry_run=dry_run))

    @verb
    def retag(
        self,
        select: Target,
        set: Mapping[str, str] | None = None,
        remove: Iterable[str] = (),
        *,
        force: bool = False,
        dry_run: bool = False,
    ) -> Question[Outcomes]:
        """Change tags of tokens; result and errors are those of `pause`.

        Args:
            select: which tokens.
            set: {tag: new value}.
            remove: names of tags to remove; one, or several.
            force: include tokens whose guard requires it.
            dry_run: change nothing, and return which tokens would be affected.
        """
        return self._on(m.Retag(select, set, remove, force=force, dry_run=dry_run))

    @verb
    def reroute(
        self, select: Target, *, affinity: str = "", actor: str = "", force: bool = False, dry_run: bool = False
    ) -> Question[Outcomes]:
        """Move queued tokens to another place, at once; running tokens stay where they are.

        Result and errors are those of `pause`.

        Args:
            select: which tokens.
            affinity: `io`, `cpu` or `process`, for tokens of operations. Either this or `actor`.
            actor: the path of an actor that has the method that the token calls.
            force: include tokens whose guard requires it.
            dry_run: change nothing, and return which tokens would be affected.

        Raises:
            UnknownActor: no actor has this name, or several have.
        """
        return self._on(m.Reroute(select, affinity=affinity, actor=actor, force=force, dry_run=dry_run))

    @verb
    def limit(
        self,
        select: Target,
        *,
        memory: float | str | None = KEEP,
        address_space: float | str | None = KEEP,
        cpu_time: float | str | None = KEEP,
        wall_time: float | str | None = KEEP,
        force: bool = False,
        dry_run: bool = False,
    ) -> Question[Outcomes]:
        """Limit what tokens may use in their child processes, queued or running.

        A token that uses more already is ended. Each limit is a number, or text such as `2GiB`, `500MB`, `30s` or `5m`;
        None lifts it, `KEEP` leaves it as it is. Result and errors are those of `pause`.

        Args:
            select: which tokens.
            memory: bytes of resident memory.
            address_space: bytes of address space.
            cpu_time: seconds of processor time from the token's start.
            wall_time: seconds from the token's start.
            force: lower limits of tokens whose guard requires it, too, which may end them.
            dry_run: change nothing, and return which tokens would be affected.

        Raises:
            BadRequest: no limit is given, or one has a value that cannot work.
        """
        return self._on(
            m.Limit(
                select,
                memory=memory,
                address_space=address_space,
                cpu_time=cpu_time,
                wall_time=wall_time,
                force=force,
                dry_run=dry_run,
            )
        )

    def _on(self, message: OnTokens) -> Question[Outcomes]:
        if not message.select:
            return Question(None, lambda _: Outcomes(()))
        return Question(message, lambda answer: Outcomes(tuple(answer)))

    def _seconds(self, wait: float | None) -> float:
        return self._wait if wait is None else wait
