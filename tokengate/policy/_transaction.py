"""Transactions: which tokens are members of one, how they ended, and their rollback."""

from __future__ import annotations

import contextvars
import enum
import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from typing import Any, ClassVar, Final, Protocol, TypeAlias

import attrs

from actors import (
    ActorSystem,
    LimitExceeded,
    NotDurable,
    Reply,
    Token,
    TokenFailed,
    TokenRejected,
    TokenState,
    WorkerDied,
    wait,
)
from actors.lowlevel import ActorPlace, OperationPlace, Place, place_of
from tokengate._exceptions import CompensationFailed
from tokengate.policy._attempt import End
from tokengate.policy._events import TransactionStuck
from tokengate.policy._governed import Governed
from tokengate.policy._joined import Joined
from tokengate.policy._joint import Joint
from tokengate.policy._policies import policies_in
from tokengate.policy._ports import TransactionLog
from tokengate.policy._times import grace
from tokengate.policy._together import Together
from tokengate.policy._undo import Done, Effect, Ended, Undo, effect_of, is_undone, steps_of

_logger = logging.getLogger("tokengate.policy")

# The innermost transaction of the blocks around this code.
entered: Final[contextvars.ContextVar[Transaction | None]] = contextvars.ContextVar("transaction", default=None)

_STATES: Final = {End.COMPLETED: TokenState.COMPLETED, End.STOPPED: TokenState.TERMINATED} | dict.fromkeys(
    (End.FAILED, End.CRASHED, End.LOST), TokenState.FAILED
)


class State(enum.StrEnum):
    """The state of a transaction; operators read these values."""

    OPEN = "open"
    COMMITTED = "committed"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    STUCK = "stuck"  # something could not be undone, or not yet


class Mark(Protocol):
    """An event that threads and tasks wait for."""

    made: bool

    async def wait(self) -> None:
        """Await it (trio and asyncio)."""


class Run(Protocol):
    """A call of a function on a thread of its own.

    Attributes:
        over: made when the function has returned.
    """

    @property
    def over(self) -> Mark: ...
    def begin(self, fn: Callable[[], object], /) -> None: ...
    def wait(self, interrupted: Callable[[], object], fn: Callable[[], object], /) -> None: ...
    async def wait_async(self, fn: Callable[[], object], /) -> None: ...
    def settle(self, seconds: float, /) -> None: ...


class Submit(Protocol):
    """Sends the token of a compensation."""

    def __call__(
        self, transaction: Transaction, operation: Any, done: Done[Any], tags: Mapping[str, str]
    ) -> Token[Any]:
        """Send it, from any thread; closing systems accept it."""
        ...


class Member:
    """What a transaction keeps of a token that it may have to undo, or only to end.

    Args:
        transaction: that it is a member of; a block that ends well gives it to the one around it.
        token: the token.
        undo: how it is undone; None if it is not.
    """

    __slots__ = (
        "_batch_run",
        "_ends",
        "_orders",
        "_returned",
        "_together",
        "args",
        "kwargs",
        "order",
        "token",
        "transaction",
        "undo",
    )

    def __init__(self, transaction: Transaction, token: Token[Any], undo: Undo | None) -> None:
        self.transaction = transaction
        self.token = token
        self.undo = undo
        # The token drops them at its end.
        self.args: tuple[Any, ...] = token.args
        self.kwargs: Mapping[str, Any] = token.kwargs
        self.order = 0  # of the beginning of its latest attempt, among all members of the gate; 0: none has begun
        self._orders = transaction.ledger.orders
        self._ends: tuple[End, ...] = ()
        self._together: Together | None = None  # the batch that it is in, until it has ended
        self._batch_run: Token[Any] | None = None  # what ran for it there
        self._returned: tuple[TokenState, Any] | None = None  # the outcome of code that was left behind

    def move(self, place: Place) -> None:
        self.undo = undo_at(place)

    def join(self, joint: Joint) -> None:
        if isinstance(joint, Together):
            self._together = joint

    def begin(self) -> None:
        self.order = next(self._orders)

    def end(self, how: End) -> None:
        self._ends = (*self._ends, how)

    @property
    def id(self) -> int:
        return self.token.id

    @property
    def error(self) -> BaseException | None:
        """What the token has ended with."""
        return self.token._error

    def note_return(self, state: TokenState, value: Any) -> None:
        if self._returned is None:
            self._returned = state, value
            self.transaction.note_return(self)

    @property
    def ends(self) -> tuple[End, ...]:
        """How its attempts have ended; the last one is `LEFT_BEHIND` as long as the code runs on."""
        if self._batch_run is not None:
            return self._ends_in(self._batch_run)
        *before, last = self._ends or ((End.STOPPED,) if self.order else (None,))
        token = self.token
        if last is None:
            return ()
        if last not in _BY_ITSELF and self._returned is not None:
            last = End.COMPLETED if self._returned[0] is TokenState.COMPLETED else End.STOPPED
        elif last not in _BY_ITSELF and token.affinity != "process":
            last = End.LEFT_BEHIND if self.transaction.ledger.system.is_sealed(token) else last
        return (*before, last)

    def _ends_in(self, run: Token[Any]) -> tuple[End, ...]:
        """How its part of a batch has ended, which the run has begun."""
        token = self.token
        if token.state is TokenState.COMPLETED:
            return (End.COMPLETED,)
        if token.state is TokenState.FAILED:
            return (End.LOST if isinstance(token._error, WorkerDied | LimitExceeded) else End.FAILED,)
        return (End.STOPPED if run.done() else End.LEFT_BEHIND,)

    def note_leaving(self) -> None:
        """Note, as it has ended, what became of it in a batch, and the end of the code there if that runs on."""
        together, self._together = self._together, None
        if together is not None and together.was_sent(self.token):
            self.order = next(self._orders)
            self._batch_run = run = together.run
            if not run.done():
                run.add_done_callback(lambda _: self.note_return(TokenState.TERMINATED, None))

    @property
    def ended(self) -> Ended:
        """What is known of it, once its token has ended."""
        undo = self.undo
        effect = effect_of(self.ends)
        return Ended(self.token.id, self.order, effect, undo is not None and undo.on_any)

    @property
    def is_of_use(self) -> bool:
        """Whether a rollback may have to undo it."""
        return self.undo is not None and is_undone(self.ended.effect, on_any=self.undo.on_any)

    @property
    def outcome(self) -> TokenState:
        """How its code has ended, as its compensation is told."""
        return _STATES.get(self.ends[-1], TokenState.EXPIRED)

    @property
    def returned(self) -> tuple[TokenState, Any] | None:
        """The outcome of its code, if that was left behind and has returned."""
        return self._returned

    @property
    def done(self) -> Done[Any]:
        """The call, as its compensation is given it."""
        state = self.outcome
        value = self.token._value if self._returned is None else self._returned[1]
        held = self.token._extras.policy
        key = getattr(held.runs_for, "key", None) if isinstance(held, Joined) else None
        return Done(self.args, dict(self.kwargs), value if state is TokenState.COMPLETED else None, state, key)

    @property
    def name(self) -> str:
        return f"{self.token.operation} (token {self.token.id})"


@attrs.frozen
class Kept:
    """What an earlier run of the gate has left of a member, which is undone with the others.

    Attributes:
        id: the uid of its token, as a number.
        order: of its beginning, among all members of the gate.
        name: for operators.
    """

    id: int
    order: int
    name: str
    is_of_use: ClassVar = True
    error: ClassVar = None


Step: TypeAlias = Member | Kept


def undo_at(place: Place) -> Undo | None:
    """Return how tokens of a place are undone; None if they are not."""
    undo = place.undo if isinstance(place, OperationPlace) else None
    return undo if isinstance(undo, Undo) and undo.operation is not None else None


_BY_ITSELF: Final = (End.COMPLETED, End.FAILED, End.CRASHED, End.LOST)


class Transaction:
    """The tokens of a block, until all of them have ended and the block with them, or until they are undone.

    All but `state`, `undone` and `failed` is used under the lock of the ledger.

    Args:
        ledger: the transactions of the gate.
        name: which gets a number if another one has it.
        outer: the one around it, in this gate or another one.
        home: host of the asyncio loop that it is entered in; None if it is none of the program's.
        log: what keeps it on disk; None if it is not durable.

    Attributes:
        number: by which it is known on disk, with all that is within it.
        kept: {id: the step} of what earlier runs of the gate have left of it.
        awaits_owner: whether it is one of an earlier run whose block has not begun again.
        owner: uid, as a number, of the durable token whose code has begun it; None if none has.
        repeats: whether compensations that have failed are sent again.
        written: set when its end is on disk; None before it is written, and if it is not.
        members: {id of a token: the member}, until the rollback has ended all of them.
        size: number of its members, including those that are not kept any more.
        undone: {id of a token that was undone: its name}.
        failed: {id of a token: the error of its compensation}.
        error: the latest of these as text.
        skipped: ids of the tokens that an operator has decided not to undo.
        running: ids of the tokens whose code was left behind, until it has returned.
        why: why it was rolled back.
        by: the transaction whose rollback undoes this one, if that is another one.
        run: of the rollback.
        is_left: whether the code of its block has ended.
        context: in which its compensations are made: that around the block, without its token.
    """

    def __init__(
        self,
        ledger: Transactions,
        name: str,
        outer: Transaction | None,
        home: Any = None,
        log: TransactionLog | None = None,
    ) -> None:
        self.ledger = ledger
        self.name = name
        self.outer = outer
        self.home = home
        self.log = log
        self.number = 0
        self.kept: dict[int, Kept] = {}
        self.owner: int | None = None
        self.awaits_owner = self.repeats = False
        self.written: Reply[Any] | None = None
        self._is_inner = False  # whether another one keeps it on disk
        self.state = State.OPEN
        self.size = 0
        self.undone: dict[int, str] = {}
        self.failed: dict[int, BaseException] = {}
        self.error = ""
        self.skipped: list[int] = []
        self.running: set[int] = set()
        self.why = ""
        self.by: Transaction | None = None
        self.run: Run | None = None
        self.is_left = False
        self.context = contextvars.copy_context()
        self.context.run(entered.set, None)
        self.members: dict[int, Member] = {}
        self._steps: dict[int, Step] = {}  # {id: the member} of what is to be undone, and was not yet
        self._todo: list[int] = []  # ids of the steps that follow, in this order
        self._is_planned = False

    # Members

    def take(self, token: Token[Any]) -> None:
        """Note a new member; its door may ask again.

        Raises:
            NotDurable: the transaction is, and the token, or what undoes it, is not.
        """
        if token.id in self.members:
            return
        undo = undo_at(place_of(token))
        if self.log is not None:
            self.log.check(token, undo)
        member, held = Member(self, token, undo), token._extras.policy
        if member.undo is not None or (isinstance(held, Governed) and held.alternatives):
            policies_in(self.ledger.system).governed(token).member = member
        self.members[token.id] = member
        self.size += 1
        token.add_done_callback(partial(self.ledger.forget, member))

    @property
    def holds_its_code(self) -> bool:
        """Whether tokens of its block are members, or refused: until its block has ended, or its rollback."""
        return not self.is_left or (self.by or self).state is State.ROLLING_BACK

    def live(self) -> list[Token[Any]]:
        """Return the members that have not ended."""
        return [member.token for member in list(self.members.values()) if not member.token.done()]

    def go_on_from(self, begun: Transaction) -> None:
        """Be the transaction of a block that begins again."""
        self.outer, self.home, self.context, self.awaits_owner = begun.outer, begun.home, begun.context, False

    def _give_to(self, other: Transaction) -> None:
        for member in self.members.values():
            member.transaction = other
        other.members.update(self.members)
        other.size += self.size
        self.members.clear()

    # The end of the block

    def commit(self) -> bool:
        """End well, and give the members to the transaction around it; return False if some have not ended."""
        with self.ledger.lock:  # what a signal handler interrupts here is called again
            if self.state is State.OPEN:
                if self.live():
                    return False
                self.state = State.COMMITTED
            if self.state is State.COMMITTED:
                outer = self.ledger.innermost(self.outer)
                if outer is not None:
                    self._give_to(outer)
                self._note_over()
                self.members.clear()
                self.ledger.remove(self)
            return True

    # Rollback

    def roll_back(self, why: str) -> None:
        """Begin to end and undo the members, if it is open; `run` tells when that is over.

        Args:
            why: it is rolled back: a part of a sentence.
        """
        with self.ledger.lock:
            if self.state is not State.OPEN:
                return
            for inner in self.ledger.inside(self):
                inner._give_to(self)
                inner.by, inner.why = self, why
                self.ledger.remove(inner)
                inner.state = State.ROLLING_BACK
            self.why = why
            if self.log is not None and not self._is_inner:
                self.log.roll_back(self)
            run = self._new_run()
        run.begin(self.go_on)

    def repeat(self) -> bool:
        """Begin the compensations again that have failed; return whether there are any."""
        with self.ledger.lock:
            if self.state is not State.STUCK or not self.failed:
                return False
            self._todo = sorted(self.failed, key=lambda step: self._steps[step].order, reverse=True)
            self.failed.clear()
            self.repeats = True
            run = self._new_run()
        run.begin(self.go_on)
        return True

    def skip(self, step: int) -> bool:
        """Leave a step undone that is stuck; return whether there was one.

        Args:
            step: id of the token.
        """
        with self.ledger.lock:
            if self.state is not State.STUCK or step not in self._steps:
                return False
            if self.log is not None:
                self.log.undone(self, self._steps[step], skipped=True)
            self._drop(step)
            self.skipped.append(step)
            self._settle()
        return True

    def note_return(self, member: Member) -> None:
        """Undo a member whose code was left behind, and has returned."""
        step, run = member.token.id, None
        with self.ledger.lock:
            if step not in self.running:
                return
            self.running.discard(step)
            if member.is_of_use:
                self._todo.append(step)
            else:
                self._drop(step)
            if self.state is State.STUCK and not self._todo:
                self._settle()
            elif self.state is State.STUCK:
                run = self._new_run()
        if run is not None:
            run.begin(self.go_on)

    def go_on(self) -> None:
        """End the members, and undo what is to be undone; on the thread of the run."""
        try:
            self._end_members()
            self._plan()
            self._undo_all()
            if self.log is not None:
                self.log.wait()
        except Exception as error:
            _logger.exception("the rollback of transaction '%s' has broken off", self.name)
            self._plan()
            with self.ledger.lock:
                self.failed |= dict.fromkeys(self._steps.keys() - self.running, error)
                self._settle()
        with self.ledger.lock:
            stuck = TransactionStuck(
                self.name, {step: _text_of(one) for step, one in self.failed.items()}, (*self.running,)
            )
        if stuck.failed or stuck.running:
            self.ledger.system.publish(stuck)

    def _new_run(self) -> Run:
        self.run = run = self.ledger.new_run(f"{self.ledger.system.name}-rollback")
        self.state = State.ROLLING_BACK
        return run

    def _end_members(self) -> None:
        live, host = self.live(), self.ledger.system.system_host
        for token in live:
            host.call_soon(partial(self._end, token))
        wait([token for token in live if not isinstance(token._place, ActorPlace)])
        messages = [token for token in live if isinstance(token._place, ActorPlace)]
        wait(messages, max(map(self._grace, messages), default=0.0))
        for token in messages:
            token._terminate(self.reason)  # its code is not interrupted, and goes on

    def _end(self, token: Token[Any]) -> None:
        reconciler, held = self.ledger.system.reconciler, token._extras.policy
        if isinstance(held, Joined) and held.runs_for is not None:
            return  # it ends with the last of the tokens that it runs for
        if isinstance(token._place, ActorPlace):
            reconciler.ask_to_end(token, self.reason, interrupt=False)
        else:
            reconciler.end(token, self.reason, self._grace(token))

    def _grace(self, token: Token[Any]) -> float:
        ran = 0.0 if token.started_at is None else self.ledger.system.clock() - token.started_at
        return grace(ran) if self.ledger.grace is None else self.ledger.grace

    def _plan(self) -> None:
        """Note the steps, once all members have ended."""
        with self.ledger.lock:
            if self._is_planned:
                return
            self._todo, running = steps_of(self._ended())
            known: dict[int, Step] = {**self.members, **self.kept}
            self._steps = {step: known[step] for step in (*self._todo, *running)}
            self.running.update(running)
            if self.log is not None:
                self.log.release(self._superfluous())
            self.members.clear()
            self._is_planned = True

    def _superfluous(self) -> list[Member]:
        return [one for one in self.members.values() if one.id not in self._steps]

    def _ended(self) -> list[Ended]:
        ended = [member.ended for member in self.members.values() if member.undo is not None]
        return ended + [Ended(one.id, one.order, Effect.COMPLETED) for one in self.kept.values()]

    def _next(self) -> Step | None:
        """Return the member to undo next; if there is none, the rollback is over for now."""
        with self.ledger.lock:
            if self._todo:
                return self._steps[self._todo.pop(0)]
            self._settle()
            return None

    def _settle(self) -> None:
        self.state = State.STUCK if self._steps else State.ROLLED_BACK
        if not self._steps:
            self._note_over()
            self.ledger.remove(self)

    def _note_over(self) -> None:
        """Have it forgotten on disk, if it is there; under the lock."""
        if self.log is not None and not self._is_inner and self.written is None:
            self.written = self.log.end(self)

    def _undo_all(self) -> None:
        while (member := self._next()) is not None:
            self._undo(member)

    def _undo(self, member: Step) -> None:
        step = member.id
        tags = {"transaction": self.name, "undoes": str(step)}
        problem: BaseException | None = None
        try:
            if self.log is not None:
                token = self.log.undo(self, member, tags)
            else:
                assert isinstance(member, Member)
                assert member.undo is not None
                token = self.ledger.submit(self, member.undo.operation, member.done, tags)
            wait([token])
            problem = token.exception()
            if problem is None and self.log is not None:
                self.log.undone(self, member)
        except Exception as error:  # such as that of a gate that has closed
            problem = error.with_traceback(None)
        with self.ledger.lock:
            if problem is None:
                self.undone[step] = member.name
                self._drop(step)
            else:
                self.failed[step], self.error = problem, _text_of(problem)

    def _drop(self, step: int) -> None:
        self._steps.pop(step, None)
        self.failed.pop(step, None)
        self.running.discard(step)

    # What became of it

    @property
    def reason(self) -> str:
        """Why members are ended."""
        return f"transaction '{self.name}' was rolled back{self.why and f', since {self.why}'}"

    @property
    def note(self) -> str:
        """What became of the rollback, in a sentence."""
        lists = {"undone": list(self.undone.values()), "not undone": self.left()}
        parts = "; ".join(f"{what}: {', '.join(names)}" for what, names in lists.items() if names)
        return f"transaction '{self.name}' was rolled back; {parts or 'there was nothing to undo'}"

    def left(self) -> list[str]:
        """Return what is not undone."""
        steps: dict[int, Step] = self._steps if self._is_planned else {**self.members, **self.kept}
        return [step.name for step in list(steps.values()) if step.is_of_use]

    def failure(self, error: Exception | None = None) -> CompensationFailed | None:
        """Return the error of a rollback that is stuck; None if it is not.

        Args:
            error: that of the block, if there is one.
        """
        with self.ledger.lock:
            errors = [
                self.failed.get(step) or member.error or RuntimeError(f"{member.name} could not be undone")
                for step, member in self._steps.items()
            ]
        if not errors:
            return None
        found = [one if isinstance(one, Exception) else TokenFailed(repr(one)) for one in errors]
        return CompensationFailed(self.note, [error, *found] if error else found)


class Transactions:
    """The transactions of a gate that are not over.

    Args:
        system: of the gate.
        submit: sends the token of a compensation.
        new_run: makes a call on a thread of its own, with this name.

    Attributes:
        grace: seconds that code of members has to end; None: a tenth of the time it had.
    """

    def __init__(self, system: ActorSystem, submit: Submit, new_run: Callable[[str], Run]) -> None:
        self.system = system
        self.submit = submit
        self.new_run = new_run
        self.lock = threading.RLock()  # a finalizer that runs here may end a token
        self.orders = count(1)
        self.grace: float | None = None
        self._all: dict[str, Transaction] = {}
        self._is_closing = False
        system.add_intake(self.note)

    def begin(self, transaction: Transaction) -> Transaction:
        """Add a new transaction, under a name that no other one has.

        Returns:
            it, or one of an earlier run of the gate that it goes on with.

        Raises:
            TokenRejected: the one around it accepts no members any more, or the gate closes.
            NotDurable: of it and the one around it, only one is durable.
        """
        name = transaction.name
        with self.lock:
            outer = self.innermost(transaction.outer)
            problem = "its gate is closing" if self._is_closing else ""
            if outer is not None and outer.state is not State.OPEN:
                problem = f"transaction '{outer.name}' around it was rolled back"
            if problem:
                raise TokenRejected(f"transaction '{name}' cannot begin: {problem}", "transaction")
            log = transaction.log
            if outer is not None and outer.log is not log:
                durable, plain = (outer, transaction) if log is None else (transaction, outer)
                raise NotDurable(
                    f"transaction '{name}' cannot begin within '{outer.name}': '{durable.name}' is durable, and "
                    f"'{plain.name}' is not; begin both with durable=True"
                )
            if outer is not None:
                transaction.number, transaction._is_inner = outer.number, True
            elif log is not None:
                found: Transaction = log.begin(transaction)
                if found is not transaction:
                    found.go_on_from(transaction)
                    return found
            self.add(transaction)
            return transaction

    def add(self, transaction: Transaction) -> None:
        """Add a transaction, under a name that no other one has."""
        name = transaction.name
        with self.lock:
            names = (name, *(f"{name}~{number}" for number in range(2, len(self._all) + 2)))
            transaction.name = next(one for one in names if one not in self._all)
            self._all[transaction.name] = transaction

    def remove(self, transaction: Transaction) -> None:
        """Forget a transaction that is over, or has not begun after all."""
        if self._all.get(transaction.name) is transaction:
            del self._all[transaction.name]

    def all(self) -> list[Transaction]:
        """Return those that are not over, the oldest first."""
        return list(self._all.values())

    def named(self, name: str) -> Transaction | None:
        """Return the one with a name."""
        return self._all.get(name)

    def of(self, id: int) -> Transaction | None:
        """Return the one that a token is a member of, by its id."""
        return next((one for one in self.all() if id in one.members), None)

    def members(self) -> dict[int, Token[Any]]:
        """Return {id: token} of the members that may have to be undone, also those that have ended."""
        return {id: member.token for one in self.all() for id, member in list(one.members.items())}

    def inside(self, transaction: Transaction) -> list[Transaction]:
        """Return the open ones that are within another one."""
        found = []
        for one in self.all():
            outer = one.outer
            while outer is not None and outer is not transaction:
                outer = outer.outer
            if outer is not None and one.state is State.OPEN:
                found.append(one)
        return found

    def innermost(self, transaction: Transaction | None) -> Transaction | None:
        """Return a transaction, or else the nearest one around it, of this gate whose tokens are its members."""
        while transaction is not None and not (transaction.ledger is self and transaction.holds_its_code):
            transaction = transaction.outer
        return transaction

    # For tokens

    def note(self, token: Token[Any]) -> None:
        """Make a new token a member of the transaction whose block it is made in.

        Raises:
            TokenRejected: it was rolled back.
        """
        context = token._context
        inside = None if context is None else context.get(entered)
        if inside is None:
            return
        try:
            with self.lock:
                transaction = self.innermost(inside)
                if transaction is None:
                    return
                if transaction.state is State.OPEN:
                    transaction.take(token)
                    return
        except NotDurable as error:
            place_of(token).reject(token, TokenRejected(str(error), "transaction"))
            raise
        raise TokenRejected(f"{token._describe()} was refused: {transaction.reason}", "transaction")

    def forget(self, member: Member, _token: object = None) -> None:
        """Keep nothing of a member that has ended, if it will not be undone."""
        with self.lock:
            member.note_leaving()
            if not member.is_of_use:
                member.transaction.members.pop(member.token.id, None)

    # For the gate

    def close(self) -> list[Mark]:
        """Let no transaction begin, and roll back those that are open; return what tells that this is over."""
        with self.lock:
            self._is_closing = True
        for one in self.all():
            if not one.awaits_owner:  # else the next opening goes on with it
                one.roll_back("its gate was closed")
        return [one.run.over for one in self.all() if one.run is not None]

    def left(self, seconds: float) -> tuple[str, ...]:
        """Wait for the end of rollbacks in a system that is closed; return what was not undone.

        Args:
            seconds: to wait for each.
        """
        for one in self.all():
            if one.run is not None:
                one.run.settle(seconds)
        return tuple(f"{one.name}: {name}" for one in self.all() if not one.awaits_owner for name in one.left())


def _text_of(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # of a class of users
        return type(error).__name__
