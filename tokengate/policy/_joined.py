"""Tokens that another token runs for, and those that run for others, as what they are held to."""

from __future__ import annotations

import math
import threading
from collections.abc import Hashable, Mapping
from functools import partial
from typing import Any

import attrs

from actors import ActorDead, KeyReused, Token, TokenRejected, TokenState
from actors.lowlevel import Rule, place_of, system_of
from tokengate.policy._batch import argument_of, cost_of
from tokengate.policy._governed import Governed
from tokengate.policy._identity import same_arguments
from tokengate.policy._joint import Joint
from tokengate.policy._place_rules import PlaceRules, unreadable
from tokengate.policy._policy import Policy
from tokengate.policy._rules import Delay
from tokengate.policy._times import Times, grace
from tokengate.policy._together import Together
from tokengate.policy._values import Key


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
        self._open: dict[Hashable, Together] = {}  # batches that a token may join
        self._policies: tuple[Policy, Policy] | None = None  # the latest policy of a first token, and its run's

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self._by_key)

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
                arguments = joint.arguments
            if not same_arguments(token._call, arguments, (token.args, token.kwargs)):
                raise KeyReused(
                    f"{token._describe()} was refused: token {joint.run.id} has the same key, {key!r}, "
                    "and other arguments; give each piece of work a key of its own"
                )
            with self.lock:
                if not joint.is_over and (joint.given_up or not joint.run._done):
                    joined.join(joint)
                    return joint, False

    def fill(self, joined: Joined, cost: float) -> tuple[Joint, bool]:
        """Have a token join the batch that is open for its key, or a new one; return whether that was made.

        Args:
            joined: the token, whose keys are known.
            cost: how much of the size of a batch it takes.
        """
        governor, token, before = self._governor, joined.token, None
        batch, call, keys = governor.policy.batch, token._call, joined.keys
        assert batch is not None
        # What keeps tokens apart: the key, the priority, the loop of the program that they are to run in.
        slot = None if batch.by is None else keys.get(batch.by), token.priority, getattr(call, "host", None)
        now = governor.clock()
        with self.lock:
            together = self._open.get(slot)
            if together is not None and not (
                together.filling.takes(cost) and together.filling.batch == batch and not together.given_up
            ):
                before, together = together, None
                before.filling.close()
            is_new = together is None
            if together is None:
                together = self._open[slot] = Together(self, slot, token, batch, now)
            # Before it joins: its run may be asked for its rules at any moment.
            together.calls[token] = keys, argument_of(token.operation, token.args, token.kwargs)
            joined.join(together)
            joined.give_estimate(together.run)
            together.filling.add(cost, now, joined.deadline)
            if together.filling.is_full:
                del self._open[slot]
            due_sooner = self._put_off(before), self._put_off(together) and not is_new
        mailbox = place_of(token).mailbox
        if before is not None and due_sooner[0]:
            mailbox.ask_again(before.run)
        if due_sooner[1]:
            mailbox.ask_again(together.run)
        return together, is_new

    @staticmethod
    def _put_off(together: Together | None) -> bool:
        """Have a run wait until its batch is due; return whether that is another time than before."""
        if together is None:
            return False
        governed = together.run._extras.policy
        return isinstance(governed, Joined) and governed.put_off(together.filling.due_at)

    # For joints

    def make_run(self, joint: Joint, first: Token[Any]) -> Token[Any]:
        place, context = place_of(first), first._context
        run = place.token(first.operation, first._call, first._args, first.kwargs, first.priority, first.tags)
        run._context = None if context is None else context.copy()
        run.parent = first.parent
        own = first._extras.policy
        run._own_extras().policy = governed = Joined(run, self._governor, self)
        governed.options = own.options if isinstance(own, Governed) else None
        governed.policy = self._policy_of_run(governed.policy if own is None else own.policy)
        governed.runs_for = joint
        if isinstance(own, Joined):
            governed.keys, governed.is_fair, governed.fair_key = own.keys, own.is_fair, own.fair_key
            if own.delay is not None:
                governed.put_off_first(own.delay)
            if own.alternatives is not None:
                governed.alternatives = own.alternatives.for_run()
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
        governed, system, why = run._extras.policy, system_of(place_of(run)), "all tokens that it ran for have ended"
        if not isinstance(governed, Joined):
            return
        if isinstance(joint, Together):
            with self.lock:
                self.forget(joint)
            if not run._cancel(why):
                seconds = self._governor.grace or grace(0.0)
                system.later(partial(system.reconciler.end, run, why, seconds))
        elif state is TokenState.EXPIRED:
            governed.expire()
        elif not run._cancel(why):
            system.later(partial(system.reconciler.ask_to_end, run, why, interrupt=False))

    def forget(self, joint: Joint) -> None:
        if self._open.get(joint.key) is joint:
            del self._open[joint.key]
        elif isinstance(joint, SameCall) and self._by_key.get(key := joint.key) is joint:
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

    key: str | int | None = None
    joint: Joint | None = None
    runs_for: Joint | None = None

    def __init__(self, token: Token[Any], governor: PlaceRules, joints: Joints) -> None:
        super().__init__(token, governor)
        self.token = token
        self._joints = joints

    @property
    def run(self) -> Token[Any] | None:
        joint = self.joint
        return joint.run if joint is not None and self.token in joint.members else None

    @property
    def deadline(self) -> float | None:
        if self.runs_for is None:
            return super().deadline
        return None if self.runs_for.until == math.inf else self.runs_for.until

    def enter(self, token: Token[Any]) -> Token[Any] | None:
        batch = self.governor.policy.batch
        if self.passed_door or (self.key is None and (batch is None or self._batch is not None)):
            return super().enter(token)
        self._check_deadline()
        if self.key is not None:
            joint, is_new = self._joints.join(self, self.key)
        else:
            joint, is_new = self._joints.fill(self, self._read_cost())
        self._follow()
        return self._sent(joint.run) if is_new else None

    @property
    def _batch(self) -> Together | None:
        """The batch that the token runs for, if it does."""
        return self.runs_for if isinstance(self.runs_for, Together) else None

    def _read_cost(self) -> float:
        """Read the keys of a token that is to join a batch, and return how much of its size it takes.

        Raises:
            TokenRejected: that cannot be told, or the call does not have one argument.
        """
        token, batch = self.token, self.governor.policy.batch
        self.read_keys(token)
        try:
            argument_of(token.operation, token.args, token.kwargs)
            return 1.0 if batch is None else cost_of(batch, token.args, token.kwargs)
        except Exception as error:
            raise unreadable(token, "what it takes of a batch", error) from error

    def read_keys(self, token: Token[Any]) -> None:
        if self._batch is None:  # else they are those of its first token
            super().read_keys(token)

    def give_estimate(self, run: Token[Any]) -> None:
        """Have the run of a batch reserve what this one would."""
        policy = run._extras.policy
        if policy is not None:
            policy.estimate += self.estimate

    # As a run of a batch

    def put_off(self, due_at: float) -> bool:
        """Have it wait until a time, before its first attempt; return whether that is another one than before."""
        delay = self._delay
        if due_at == (-math.inf if delay is None else delay.at):
            return False
        self._delay = Delay(due_at, None)
        self.due_at = due_at if due_at > -math.inf else None
        return True

    def count(self, name: Key | None, key: str | int | None) -> int:
        """Return how many tokens it runs for that have this value of a key; None: the throttle has no keys."""
        batch = self._batch
        if batch is None:
            return 1
        return sum(name is None or keys.get(name) == key for keys in batch.keys)

    def rules(self, token: Token[Any], now: float) -> tuple[Rule, ...]:
        rules, batch = super().rules(token, now), self._batch
        if batch is None or self.falls_back:
            return rules
        others = {tuple(keys.items()): keys for keys in batch.keys if keys != self.keys}.values()
        return tuple(dict.fromkeys((*rules, *(rule for keys in others for rule in self.governor.rules_of(keys, now)))))

    def may_begin(self, token: Token[Any], now: float) -> bool:
        batch = self._batch
        if batch is not None and not batch.send():
            self._refusal = self._refused(token, "", "all tokens of its batch have ended")
            return False
        return super().may_begin(token, now)

    def _sent(self, run: Token[Any]) -> Token[Any] | None:
        """Return a new run, which is to be put into the mailbox, or None if it is refused."""
        governed, system = run._extras.policy, system_of(place_of(run))
        try:
            if system.guarded and isinstance(getattr(governed, "runs_for", None), SameCall):
                system.check_intake(run)
            return governed.enter(run) if isinstance(governed, Joined) else run
        except (ActorDead, TokenRejected) as refusal:
            other = place_of(run)._refuse(run, refusal)
            if other is not None:
                other.send(run)
            return None

    def _check_deadline(self) -> None:
        """Note when the token ends at the latest.

        Raises:
            TokenRejected: that is over.
        """
        created_at = self.token.created_at
        times = Times(self.policy, created_at, self.inherited)
        times.enter("delayed", created_at)  # it neither waits to begin nor runs: its deadline counts only
        if times.deadline <= created_at:
            raise self._refused(self.token, "deadline", "its deadline has passed")
        self.times = times if times.deadline < math.inf else None
        self.deadline_at = times.deadline

    def join(self, joint: Joint) -> None:
        """Join others; under the lock of the joints."""
        self.passed_door = True
        self.joint, self.uid = joint, joint.run.id
        joint.add(self.token, self.deadline)
        if self.member is not None:
            self.member.join(joint)

    def _follow(self) -> None:
        """Do what follows from having joined, without the lock."""
        token = self.token
        system = token._place.system
        if system.on_token_queued is not None:
            system.tell(system.on_token_queued, token)
        if self.times is not None:
            self._set_alarm(token)
        if token._extras.cancel_requested:  # before it had joined
            token._cancel(token._extras.cancel_requested)

    def leave(self) -> bool:
        joint = self.joint
        return super().leave() if joint is None else joint.remove(self.token)

    def end(
        self, token: Token[Any], state: TokenState, value: Any, error: BaseException | None
    ) -> tuple[TokenState, Any, BaseException | None] | None:
        joint, batch = self.joint, self._batch
        if joint is not None:
            self._ended = True
            joint.note_end(token, state)
            self.joint = None  # which keeps what the others have been given
            self.alarm_at = math.inf
            return state, value, error
        if batch is not None and state is TokenState.COMPLETED:
            try:
                batch.take_results(value)
            except Exception as mismatch:
                state, value, error = TokenState.FAILED, None, mismatch
        return super().end(token, state, value, error)

    def expire(self) -> None:
        """End the token, which runs for others, as at a deadline: that of the last one of them is over."""
        times = self.times = self.times_of(self.token) or Times(self.policy, self.token.created_at)
        times.inherit(self.governor.clock())
        self._set_alarm(self.token)
