"""Tokens that another token runs for, and those that run for others, as what they are held to."""

from __future__ import annotations

import math
import threading
from collections.abc import Hashable, Mapping
from functools import partial
from typing import Any

import attrs

from actors import ActorDead, KeyReused, Token, TokenRejected, TokenState
from actors.lowlevel import place_of, system_of
from tokengate.policy._governed import Governed
from tokengate.policy._identity import same_arguments
from tokengate.policy._joint import Joint
from tokengate.policy._place_rules import PlaceRules
from tokengate.policy._policy import Policy
from tokengate.policy._times import Times


class SameCall(Joint):
    """The tokens of calls with one key.

    Attributes:
        arguments: those of the calls, positional and by keyword.
    """

    __slots__ = ("arguments",)

    def __init__(self, joints: Joints, key: str | int, first: Token[Any]) -> None:
        self.arguments: tuple[tuple[Any, ...], Mapping[str, Any]] = (first.args, first.kwargs)
        super().__init__(joints, key, first)


class Joints:
    """The joints of a place.

    Args:
        governor: the rules of the place.
    """

    def __init__(self, governor: PlaceRules) -> None:
        self.lock = threading.RLock()
        self._governor = governor
        self._by_key: dict[Hashable, SameCall] = {}
        self._policies: tuple[Policy, Policy] | None = None  # the latest policy of a first token, and its run's

    def join(self, joined: Joined, key: str | int) -> tuple[Joint, bool]:
        """Have a token join the run of its key, which is made if there is none; return whether it was made.

        Raises:
            KeyReused: the arguments are others.
        """
        token = joined.token
        while True:
            with self.lock:
                joint = self._by_key.get(key)
                if joint is None or (joint.run._done and not joint.given_up):
                    joint = self._by_key[key] = SameCall(self, key, token)
                    joined.join(joint)
                    return joint, True
            if not same_arguments(token._call, joint.arguments, (token.args, token.kwargs)):
                raise KeyReused(
                    f"{token._describe()} was refused: token {joint.run.id} has the same key, {key!r}, "
                    "and other arguments; give each piece of work a key of its own"
                )
            with self.lock:
                if not joint.is_over and (joint.given_up or not joint.run._done):
                    joined.join(joint)
                    return joint, False

    # For joints

    def make_run(self, joint: Joint, first: Token[Any]) -> Token[Any]:
        place, context = place_of(first), first._context
        run = place.token(first.operation, first._call, first._args, first.kwargs, first.priority, first.tags)
        run._context = None if context is None else context.copy()
        run.parent = first.parent
        own = first._extras.policy
        run._own_extras().policy = governed = Joined(run, self._governor, self)
        governed.policy = self._policy_of_run(governed.policy if own is None else own.policy)
        governed.runs_for = joint
        run.add_done_callback(joint)
        return run

    def _policy_of_run(self, policy: Policy) -> Policy:
        """Return the policy of a run for tokens with this one: the deadlines are theirs."""
        if policy.deadline is None:
            return policy
        latest = self._policies
        if latest is None or latest[0] is not policy:
            latest = self._policies = policy, attrs.evolve(policy, deadline=None)
        return latest[1]

    def send_later(self, run: Token[Any]) -> None:
        place = place_of(run)
        place.system.senders.add(run)
        place.system.later(partial(place._send_late, run))

    def end_run(self, joint: Joint, state: TokenState) -> None:
        run = joint.run
        if state is TokenState.EXPIRED:
            governed = run._extras.policy
            if isinstance(governed, Joined):
                governed.expire()
        elif not run._cancel(why := "all tokens that it ran for have ended") and not run._done:
            system = system_of(place_of(run))
            system.later(partial(system.reconciler.ask_to_end, run, why, interrupt=False))

    def forget(self, joint: Joint) -> None:
        if isinstance(joint, SameCall) and self._by_key.get(key := joint.key) is joint:
            del self._by_key[key]
            joint.arguments = (), {}  # the tokens keep the joint, and are to keep no arguments


class Joined(Governed):
    """What a token is held to that another one runs for, or that runs for others.

    Args:
        token: the token.
        governor: the rules of its place.
        joints: of the place.

    Attributes:
        key: under which it joins others; None: none.
        joint: that it is a member of; None until it has joined one.
        runs_for: the tokens that it runs for; None if it runs for itself, or does not run.
    """

    __slots__ = ("_joints", "joint", "key", "runs_for")

    def __init__(self, token: Token[Any], governor: PlaceRules, joints: Joints) -> None:
        super().__init__(token, governor)
        self._joints = joints
        self.key: str | int | None = None
        self.joint: Joint | None = None
        self.runs_for: Joint | None = None

    @property
    def token(self) -> Token[Any]:
        return self._token

    @property
    def run(self) -> Token[Any] | None:
        return None if self.joint is None else self.joint.run

    @property
    def deadline(self) -> float | None:
        if self.runs_for is None:
            return super().deadline
        return None if self.runs_for.until == math.inf else self.runs_for.until

    def enter(self) -> Token[Any] | None:
        if self.key is None or self.passed_door:
            return super().enter()
        self._check_deadline()
        joint, is_new = self._joints.join(self, self.key)
        self._follow()
        return self._sent(joint.run) if is_new else None

    def _sent(self, run: Token[Any]) -> Token[Any] | None:
        """Return a new run, which is to be put into the mailbox, or None if it is refused."""
        governed, system = run._extras.policy, system_of(place_of(run))
        try:
            if system.guarded:
                system.check_intake(run)
            return governed.enter() if isinstance(governed, Joined) else run
        except (ActorDead, TokenRejected) as refusal:
            place_of(run).reject(run, refusal)
            return None

    def _check_deadline(self) -> None:
        """Note when the token ends at the latest.

        Raises:
            TokenRejected: that is over.
        """
        created_at = self._token.created_at
        times = Times(self.policy, created_at, self.inherited)
        times.enter("delayed", created_at)  # it neither waits to begin nor runs: its deadline counts only
        if times.deadline <= created_at:
            raise self._refused("deadline", "its deadline has passed")
        self.times = times if times.deadline < math.inf else None

    def join(self, joint: Joint) -> None:
        """Join others; under the lock of the joints."""
        self.passed_door = True
        self.joint = joint
        joint.add(self._token, self.deadline)

    def _follow(self) -> None:
        """Do what follows from having joined, without the lock."""
        token = self._token
        system = token._place.system
        if system.on_token_queued is not None:
            system.tell(system.on_token_queued, token)
        if self.times is not None:
            self._set_alarm()
        if token._extras.cancel_requested:  # before it had joined
            token._cancel(token._extras.cancel_requested)

    def leave(self) -> bool:
        return self.joint is not None and self.joint.remove(self._token)

    def end(
        self, token: Token[Any], state: TokenState, value: Any, error: BaseException | None
    ) -> tuple[TokenState, Any, BaseException | None] | None:
        if self.joint is None:
            return super().end(token, state, value, error)
        self._ended = True
        self.joint.note_end(token, state)
        self._clear_alarm()
        return state, value, error

    def expire(self) -> None:
        """End the token, which runs for others, as at a deadline: that of the last one of them is over."""
        now = self.governor.clock()
        if self.times is None:
            self.times = Times(self.policy, self._token.created_at)
        self.times.inherit(now)
        self._set_alarm()
