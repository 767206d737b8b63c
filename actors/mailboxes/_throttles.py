"""Throttles: what lets tokens begin by the rules that they are held to: limits of rate and concurrency, delays, costs.

A mailbox calls `admit` when a drainer takes a token. A token that may not begin yet is set aside in its mailbox and
waits here, in a queue for its mailbox and its set of rules. It gets the grants of all of these at once or none, so that
a token that one rule keeps back uses up no other. Of the waiting tokens the highest priority goes
first, and within it the longest wait. Tokens of a mailbox without a free drainer are passed over, so that a busy or
suspended actor holds up no other. A mailbox calls `let_go` whenever that may change.

A queue stands in one place at a time: at the rule that keeps it back longest, among those that may go, or at its
mailbox, if that has no free drainer. So a change looks at the queues that it concerns only. An entry of a heap is out
of date once its queue has another version.

A token's grants end with its attempt (`end_locked`), or when it leaves its mailbox without being taken (`forget`). A
mailbox calls `admit` and `forget` under its lock, so no mailbox is called with the lock held here.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Set
from heapq import heappop, heappush
from itertools import count
from typing import Any, Protocol, TypeAlias, TypeVar

import attrs

from actors.concurrency._alarm import Alarm
from actors.concurrency._convoy import await_free
from actors.concurrency._trio_host import TrioHost
from actors.mailboxes._fair_lanes import fair_key
from actors.mailboxes._fair_line import FairLine
from actors.mailboxes._line import Line
from actors.mailboxes._rule import BEGINS, REFUSED, WAITS, Rule, Verdict
from actors.tokens._ports import TokenPolicy
from actors.tokens._token import Token

R = TypeVar("R", bound=Rule)

# Tokens that are refused in a row at most before other tasks, or other threads, have their turn.
_REFUSED_AT_ONCE = 64


class ThrottledMailbox(Protocol):
    """A mailbox, as far as what it has set aside is let go."""

    def turns(self) -> int: ...

    def let_begin(self, tokens: list[Token[Any]], /) -> object: ...

    def refuse(self, tokens: list[Token[Any]], /) -> object: ...


_versions = count()


@attrs.define(eq=False)
class _Queue:
    """The waiting tokens of one mailbox that the same rules are for, in a line."""

    mailbox: ThrottledMailbox
    rules: tuple[Rule, ...]
    fair: bool
    line: Line | FairLine[Token[Any]]  # the latter if keys take turns
    version: int = -1  # of its entry in a heap

    def entry(self) -> _Entry:
        """Return a new entry for a heap; all entries made before are out of date."""
        self.version = next(_versions)
        return (*self.line.first()[:2], self.version, self)


_Chosen: TypeAlias = dict[ThrottledMailbox, list[Token[Any]]]
"""Waiting tokens whose turn has come, by mailbox."""

_Entry: TypeAlias = tuple[int, int, int, _Queue]
"""An entry of a heap: the negated priority and the number of the first token; the queue's version; the queue."""


def _first_of(heap: list[_Entry]) -> _Queue | None:
    """Return the first queue of a heap, and remove entries that are out of date before it."""
    while heap:
        _, _, version, queue = heap[0]
        if version == queue.version and queue.line:
            return queue
        heappop(heap)
    return None


class Throttles:
    """The grants of a system, and the tokens that wait for some.

    Args:
        host: the loop on which tokens are let go when their time has come.
        clock: the system's.
    """

    def __init__(self, host: TrioHost, clock: Callable[[], float]) -> None:
        self._host = host
        self._clock = clock
        self._lock = threading.Lock()
        self.lock = self._lock  # for the states of policies
        self._queues: dict[tuple[ThrottledMailbox, tuple[Rule, ...], bool], _Queue] = {}  # none is empty
        self._waiting: dict[Token[Any], _Queue] = {}  # {token that is kept back: its queue}
        self.grants: dict[Token[Any], tuple[Rule, ...]] = {}  # {token: the rules of which it has a grant}
        self._suspended: set[Token[Any]] = set()  # those with grants that wait for other tokens
        self._numbers = count()  # serial numbers of waiting tokens
        self._changed: set[Rule] = set()  # those at which queues stand that may go now, or sooner than before
        self._timed: list[tuple[float, int, Rule]] = []  # heap: when a rule is to be looked at
        self._ready: list[_Entry] = []  # heap of queues that may go
        self._parked: dict[ThrottledMailbox, set[_Queue]] = {}  # those that may go, of mailboxes without free drainers
        self._handed: dict[ThrottledMailbox, int] = {}  # {mailbox: tokens chosen and not let go yet}
        self._alarm = Alarm("throttles", host, clock, self._due, self.let_go)
        self._sleeps_until = math.inf  # in seconds of the clock; never later than the next token is due

    # For what makes rules

    def rules_changed(self) -> None:
        """Ask about all waiting tokens anew, since rules have come or gone; those that none concerns go on."""
        with self._lock:
            free = self._line_up_again()
        _let_begin(free)
        self.let_go()

    def limits_changed(self, rules: Iterable[Rule]) -> None:
        """Look again at what some rules keep back: they may let more go, or later."""
        with self._lock:
            self._changed.update(rules)
        self.let_go()

    def count(self, token: Token[Any], rule: Rule, now: float) -> None:
        """Have a token that has begun, or is about to, count for a new rule; under the lock.

        The caller has `end` called once the token is done.
        """
        if self.lacking(token, (rule,)):
            self.grants[token] = (*self.grants.get(token, ()), rule)
            rule.count(token, now)
            if token in self._suspended:
                rule.note_waits(token, True)
        self._note_waits(token)

    def remove(self, rules: Set[Rule]) -> None:
        """End all grants of some rules, which are no more; `rules_changed` follows."""
        with self._lock:
            self._end_grants(rules)

    # For mailboxes

    def admit(self, token: Token[Any], mailbox: ThrottledMailbox) -> Verdict:
        """Decide about a token at its turn; one that waits, waits here, and its mailbox, with its lock held, has it."""
        if self._lock.locked():
            await_free(self._lock)
        with self._lock:
            policy = token._extras.policy or _found(token)
            if policy is None:
                return BEGINS
            now = self._clock()
            rules = policy.rules(token, now)
            lacking = rules
            if rules:
                lacking = self.lacking(token, rules)
                if lacking and not _are_due(lacking, token, now):
                    self._give_back(token, now, keep=True)
                    self._wait(token, mailbox, rules, next(self._numbers))
                    return WAITS
            if not policy.may_begin(token, now):
                self._give_back(token, now)
                return REFUSED
            if lacking:
                self.grant(token, lacking, now)
            return BEGINS

    def admit_here(self, token: Token[Any]) -> bool:
        """Tell whether a token that is in no mailbox may begin now; then it has its grants."""
        with self._lock:
            policy = token._extras.policy or _found(token)
            if policy is None:
                return True
            now = self._clock()
            rules = self.lacking(token, policy.rules(token, now))
            if not (_are_due(rules, token, now) and policy.may_begin(token, now)):
                return False
            if rules:
                self.grant(token, rules, now)
            return True

    def keep_back(self, token: Token[Any], mailbox: ThrottledMailbox, delay: Rule) -> None:
        """Keep a token back by a rule of its own, before it is asked about; its mailbox, with its lock held, has it."""
        with self._lock:
            self._wait(token, mailbox, (delay,), next(self._numbers))

    def note_waits(self, token: Token[Any]) -> None:
        """Note that a running token waits for another one, or no longer does; a waiting one does not count."""
        with self._lock:
            waits = self._note_waits(token)
        if waits:
            self.let_go()

    def _note_waits(self, token: Token[Any]) -> bool:
        granted, waits = self.grants.get(token), bool(token._extras.waits)
        if not granted or waits is (token in self._suspended):
            return False
        (self._suspended.add if waits else self._suspended.discard)(token)
        for rule in granted:
            rule.note_waits(token, waits)
            self._changed.add(rule)
        return waits

    def forget(self, tokens: Iterable[Token[Any]]) -> None:
        """Note that tokens have left a mailbox untaken; the mailbox then calls `let_go` without its lock."""
        with self._lock:
            for token in tokens:
                self.forget_locked(token, keep=True)

    def let_go(self, mailbox: ThrottledMailbox | None = None, at_hand: int = 0) -> None:
        """Let all waiting tokens go that may begin, as far as their mailboxes have free drainers.

        Args:
            mailbox: the one that may have a free drainer since the latest call.
            at_hand: the number of drainers that are about to take a token there, and count as free.
        """
        if not self._waiting:
            return
        let: _Chosen = {}
        refusals = 0
        while True:
            with self._lock:
                self._note_handed(let)
                if mailbox is not None:
                    self._unpark(mailbox)
                let, refused = self._choose(mailbox, at_hand)
                look = not (let or refused) and self._next_due() < self._sleeps_until
            for receiver, tokens in refused.items():
                receiver.refuse(tokens)
                refusals += len(tokens)
            for receiver, tokens in let.items():
                receiver.let_begin(tokens)
            if let:
                at_hand = 0  # it has its token
            elif not refused:
                break
            elif refusals >= _REFUSED_AT_ONCE:
                self._host.call_soon(self.let_go)
                break
        if look:
            self._host.call_soon(self._alarm.look)

    def begin(self, token: Token[Any], now: float) -> None:
        """Note that the code of a token begins; under the lock."""
        for rule in self.grants.get(token, ()):
            rule.begin(token, now)

    def end(self, token: Token[Any]) -> None:
        """End the grants of a token that has ended."""
        with self._lock:
            (self.forget_locked if token.started_at is None else self.end_locked)(token)
        self.let_go()

    def keeper(self, token: Token[Any], now: float) -> tuple[Rule, float] | None:
        """Return the rule that keeps a token back longest, and when it lets the token go; None if none does."""
        with self._lock:
            queue = self._waiting.get(token)
            found = [(rule, rule.due_at(token, now)) for rule in (() if queue is None else queue.rules)]
            return max(found, key=lambda one: one[1], default=None)

    def changed_locked(self, rule: Rule) -> None:
        """Note, under the lock, that a rule may let tokens go sooner; the caller calls `let_go` without it."""
        self._changed.add(rule)

    def end_locked(self, token: Token[Any]) -> None:
        """End the grants of an attempt that has ended, under the lock; the caller calls `let_go` without it."""
        granted = self.grants.pop(token, None)
        if granted is None:
            return
        now = self._clock()
        if token in self._suspended:
            self._suspended.discard(token)
            for rule in granted:
                rule.note_waits(token, False)
        for rule in granted:
            rule.end(token, now)
            if rule.blocked:
                self._changed.add(rule)

    # All below, up to the loop, runs under the lock

    def lacking(self, token: Token[Any], rules: tuple[R, ...]) -> tuple[R, ...]:
        """Return those of some rules of which a token has no grant."""
        granted = self.grants.get(token)
        return tuple(rule for rule in rules if rule not in granted) if granted else rules

    def grant(self, token: Token[Any], rules: tuple[Rule, ...], now: float) -> None:
        """Give a token the grants of some rules that are due, or for which it does not wait."""
        for rule in rules:
            rule.grant(token, now)
        self.grants[token] = self.grants.get(token, ()) + rules

    def _end_grants(self, rules: Set[Rule]) -> None:
        for token, granted in list(self.grants.items()):
            if not rules.isdisjoint(granted):
                del self.grants[token]
                if others := tuple(rule for rule in granted if rule not in rules):
                    self.grants[token] = others
                else:
                    self._suspended.discard(token)

    def forget_locked(self, token: Token[Any], *, keep: bool = False) -> None:
        """Note that a token has left its mailbox unbegun, or has been refused; under the lock.

        Args:
            token: the token.
            keep: whether it keeps the grants that it had before its turn: it may be queued again.
        """
        policy = token._extras.policy
        if policy is not None:
            policy.unbegun(token, self._clock())
        self._give_back(token, self._clock(), keep=keep)
        self._leave(token)

    def _note_handed(self, let: _Chosen) -> None:
        """Note that mailboxes have queued the tokens that were chosen."""
        for mailbox, tokens in let.items():
            self._handed[mailbox] -= len(tokens)
            if not self._handed[mailbox]:
                del self._handed[mailbox]
            self._unpark(mailbox)

    def _give_back(self, token: Token[Any], now: float, *, keep: bool = False) -> None:
        """Take back the grants of a token that has not begun; with `keep`, except those that it had before its turn."""
        granted = self.grants.pop(token, ())
        kept = tuple(rule for rule in granted if rule.at_once) if keep else ()
        if kept:
            self.grants[token] = kept
        for rule in granted:
            if rule not in kept:
                rule.give_back(token, now)
                self._changed.add(rule)

    def _wait(self, token: Token[Any], mailbox: ThrottledMailbox, rules: tuple[Rule, ...], number: int) -> None:
        policy = token._extras.policy
        fair = policy is not None and policy.is_fair
        queue = self._queues.get((mailbox, rules, fair))
        if queue is None:
            queue = _Queue(mailbox, rules, fair, FairLine(fair_key) if fair else Line())
            self._queues[mailbox, rules, fair] = queue
        queue.line.append(token, number)
        self._waiting[token] = queue
        for rule in rules:
            rule.waiting.add(token)
        if queue.line.first()[2] is token:
            self._stand(queue, self._clock())

    def _leave(self, token: Token[Any], begins: bool = False) -> None:
        """Remove a token from its queue, if it waits; with `begins` its key has had its turn."""
        queue = self._waiting.pop(token, None)
        if queue is None:
            return
        was_first = queue.line.first()[2] is token
        if begins and isinstance(queue.line, FairLine):
            queue.line.pop(next(self._numbers))
        else:
            queue.line.remove(token)
        for rule in queue.rules:
            rule.waiting.discard(token)
        if not queue.line:
            del self._queues[queue.mailbox, queue.rules, queue.fair]
            if queue.mailbox in self._parked:
                self._parked[queue.mailbox].discard(queue)
        elif was_first:
            self._stand(queue, self._clock())

    def _line_up_again(self) -> list[tuple[Token[Any], ThrottledMailbox]]:
        """Queue all waiting tokens again for the present throttles; return those that match none, in order."""
        waiting = []
        for queue in list(self._queues.values()):
            while queue.line:
                lower, number, token = queue.line.first()
                waiting.append((number, lower, token, queue.mailbox))
                self._leave(token)
        waiting.sort(key=lambda entry: entry[0])
        free = []
        for number, lower, token, mailbox in waiting:
            policy = token._extras.policy
            rules = () if policy is None else policy.rules(token, self._clock())
            if rules:
                self._wait(token, mailbox, rules, number)
            else:
                free.append((lower, token, mailbox))
        free.sort(key=lambda entry: entry[0])
        return [(token, mailbox) for _, token, mailbox in free]

    def _stand(self, queue: _Queue, now: float) -> bool:
        """Put a queue where it belongs, since its first token or a rule has changed; return whether it may go."""
        token = queue.line.first()[2]
        due, last = -math.inf, None
        for rule in queue.rules:
            at = rule.due_at(token, now)
            if at > due:
                due, last = at, rule
        if last is not None and due > now:
            heappush(last.blocked, queue.entry())
            self._changed.add(last)
            return False
        heappush(self._ready, queue.entry())
        return True

    def _unpark(self, mailbox: ThrottledMailbox) -> None:
        """Have the queues of a mailbox chosen again, which may have a free drainer."""
        for queue in self._parked.pop(mailbox, ()):
            heappush(self._ready, queue.entry())

    def _note_due(self, now: float) -> None:
        """Have one queue of each rule that lets tokens go by now chosen again; once it has gone, look again."""
        while self._timed and self._timed[0][0] <= now:
            rule = heappop(self._timed)[2]
            rule.alarm_at = math.inf
            self._changed.add(rule)
        more = set()
        while self._changed:
            rule = self._changed.pop()
            while (queue := _first_of(rule.blocked)) is not None:
                due = rule.due_at(queue.line.first()[2], now)
                if due > now:
                    if due < rule.alarm_at:
                        rule.alarm_at = due
                        heappush(self._timed, (due, next(self._numbers), rule))
                    break
                heappop(rule.blocked)
                if self._stand(queue, now):
                    more.add(rule)
                    break
        self._changed = more

    def _choose(self, mailbox: ThrottledMailbox | None, at_hand: int) -> tuple[_Chosen, _Chosen]:
        """Give grants to the waiting tokens that may begin; return these, and some that are refused at their turn.

        Args:
            mailbox: one with drainers that are about to take a token.
            at_hand: how many.
        """
        let: _Chosen = {}
        refused: _Chosen = {}
        now, left = self._clock(), _REFUSED_AT_ONCE
        while left:
            self._note_due(now)
            queue = _first_of(self._ready)
            if queue is None:
                break
            heappop(self._ready)
            token = queue.line.first()[2]
            policy = token._extras.policy
            if max(rule.due_at(token, now) for rule in queue.rules) > now:
                self._stand(queue, now)
            elif self._turns(queue.mailbox) + (at_hand if queue.mailbox is mailbox else 0) <= 0:
                self._parked.setdefault(queue.mailbox, set()).add(queue)
            elif policy is not None and policy.is_shed(token, now):
                self._leave(token, begins=True)
                refused.setdefault(queue.mailbox, []).append(token)
                left -= 1
            else:
                self.grant(token, queue.rules, now)
                self._leave(token, begins=True)
                let.setdefault(queue.mailbox, []).append(token)
                self._handed[queue.mailbox] = self._handed.get(queue.mailbox, 0) + 1
        return let, refused

    def _turns(self, mailbox: ThrottledMailbox) -> int:
        """Return how many more tokens a mailbox has drainers for.

        It is read without the mailbox's lock. A drainer that gets free afterwards calls `let_go`, which sees that.
        """
        return mailbox.turns() - self._handed.get(mailbox, 0)

    def _next_due(self) -> float:
        """Return when the next waiting token is due; `inf` if time alone lets none go."""
        return self._timed[0][0] if self._timed else math.inf

    # For the alarm, without the lock

    def _due(self) -> float:
        with self._lock:
            self._sleeps_until = self._next_due()
            return self._sleeps_until


def _found(token: Token[Any]) -> TokenPolicy | None:
    """Return what a token is held to of which nothing was said at the door; None if no rule concerns it."""
    governor = token._place.governor
    return None if governor is None else governor.found(token)


def _are_due(rules: tuple[Rule, ...], token: Token[Any], now: float) -> bool:
    """Tell whether a token may have the grants of some rules now.

    Tokens that wait for one go first; if they do not use it up, `let_go` will find this token, too.
    """
    for rule in rules:  # noqa: SIM110  # `all` over a generator takes twice as long
        if rule.waiting or rule.due_at(token, now) > now:
            return False
    return True


def _let_begin(tokens: Iterable[tuple[Token[Any], ThrottledMailbox]]) -> None:
    """Have tokens queued again in their mailboxes, in order."""
    by_mailbox: dict[ThrottledMailbox, list[Token[Any]]] = {}
    for token, mailbox in tokens:
        by_mailbox.setdefault(mailbox, []).append(token)
    for mailbox, those in by_mailbox.items():
        mailbox.let_begin(those)
