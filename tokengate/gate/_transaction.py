"""The block of a transaction: `with gate.transaction("order 7") as tx:`, and `async with`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from types import TracebackType
from typing import Self

import trio

from actors import DeadlockError, TokenTerminated, WouldBlock, current_token, wait
from actors.lowlevel import blocking, loop_here
from tokengate._exceptions import GateState
from tokengate.policy._ports import TransactionLog
from tokengate.policy._transaction import Run, State, Transaction, Transactions, entered


class TransactionBlock:
    """A block of code whose tokens are undone together: by an error that leaves it, or by `roll_back`.

    Its tokens are those that its code makes, and those that these make. Its end waits for them. A rollback ends those
    that run, and then calls the compensations of the others, the one that began last first.

    Args:
        ledger: returns the transactions of the gate; called as the block begins.
        name: for operators; an open one of that name makes it `name~2`.
        log: returns what keeps it on disk; None if it is not durable.

    Attributes:
        name: as operators see it.
    """

    _transaction: Transaction | None = None  # here: a signal handler may raise in the constructor

    def __init__(
        self, ledger: Callable[[], Transactions], name: str, log: Callable[[], TransactionLog] | None = None
    ) -> None:
        self.name = name
        self._log = log
        self._unwritten: BaseException | None = None  # why its end is not on disk
        self._ledger = ledger
        self._pid = os.getpid()
        self._has_ended = False  # an attribute: reading it enters no function, where signal handlers run

    @property
    def state(self) -> str:
        """`new`, `open`, `committed`, `rolling_back`, `rolled_back`, or `stuck`: something could not be undone."""
        return "new" if self._transaction is None else self._root.state

    def roll_back(self) -> None:
        """Begin to undo the block, from any thread. Its end waits for that, and raises nothing if all is undone.

        From here on, tokens that its code sends are rejected.
        """
        self._begun.roll_back("")

    def __enter__(self) -> Self:
        if loop := loop_here():
            raise WouldBlock(f"transaction '{self.name}' would block this {loop} loop at its end; use 'async with'")
        self._enter()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A signal handler may raise at any point here; hence two loops, as in `Gate.__exit__`.
        interrupted: BaseException | None = None
        while not self._has_ended:
            try:
                while not self._has_ended:
                    try:
                        self._end(interrupted or error)
                    except BaseException as raised:
                        interrupted = raised
            except BaseException as raised:
                interrupted = raised
        self._tell(error, interrupted)

    async def __aenter__(self) -> Self:
        here = asyncio._get_running_loop()
        self._enter(visits=here is not None and not trio.lowlevel.in_trio_task())
        return self

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        interrupted: BaseException | None = None
        while not self._has_ended:
            try:
                while not self._has_ended:
                    try:
                        await self._end_async(interrupted or error)
                    except BaseException as raised:
                        interrupted = raised
            except BaseException as raised:
                interrupted = raised
        self._tell(error, interrupted)

    def __del__(self) -> None:
        # A signal handler has raised at the very entry of `__exit__`; or the block was entered by hand, and dropped.
        if self._transaction is not None and not self._has_ended and self._pid == os.getpid():
            self._transaction.is_left = True
            self._transaction.ledger.system.later(partial(self._transaction.roll_back, "its block was given up"))

    @property
    def _begun(self) -> Transaction:
        if self._transaction is None:
            raise GateState(f"transaction '{self.name}' has not begun; use 'with gate.transaction(...) as tx:'")
        return self._transaction

    @property
    def _root(self) -> Transaction:
        """The transaction whose rollback undoes this one."""
        return self._begun.by or self._begun

    @property
    def _run(self) -> Run:
        run = self._root.run
        assert run is not None
        return run

    def _end(self, error: BaseException | None) -> None:
        """Commit, or roll back and wait for that, unless this process is a fork."""
        transaction, mine = self._begun, self._pid == os.getpid()
        while mine and (error is None or transaction.state is State.COMMITTED) and not transaction.commit():
            wait(transaction.live())
        if mine and transaction.written is not None:
            with blocking():
                self._unwritten = transaction.written.exception()
        if mine and transaction.state is not State.COMMITTED:
            transaction.roll_back("")
            try:
                with blocking():  # meanwhile others have the turn and the thread of the step
                    self._run.wait(bool, self._root.go_on)
            except DeadlockError:  # so many steps wait that none is left that could have the thread
                self._run.wait(bool, self._root.go_on)
        self._leave()

    async def _end_async(self, error: BaseException | None) -> None:
        transaction, mine = self._begun, self._pid == os.getpid()
        while mine and (error is None or transaction.state is State.COMMITTED) and not transaction.commit():
            await wait(transaction.live())
        if mine and transaction.written is not None:
            await transaction.written.wait()
            self._unwritten = transaction.written._error
        if mine and transaction.state is not State.COMMITTED:
            transaction.roll_back("")
            if not isinstance(error, GeneratorExit):  # else nothing can be awaited any more
                with trio.CancelScope(shield=True) if trio.lowlevel.in_trio_task() else nullcontext():
                    await self._wait()
        self._leave()

    async def _wait(self) -> None:
        """Await the end of the rollback; meanwhile others have the turn of the step."""
        waiter = current_token()
        if waiter is not None:
            waiter.lend_turn()
        try:
            await self._run.wait_async(self._root.go_on)
        finally:
            if waiter is not None:
                waiter.take_turn_back()

    def _enter(self, *, visits: bool = False) -> None:
        if self._transaction is not None:
            raise GateState(f"transaction '{self.name}' has begun already; make a new one")
        ledger = self._ledger()
        hosts = ledger.system.asyncio_hosts
        home, log = hosts.here() if visits else None, None if self._log is None else self._log()
        transaction = Transaction(ledger, self.name, entered.get(), home, log)
        try:
            transaction = ledger.begin(transaction)
            self.name, self._transaction = transaction.name, transaction
            entered.set(transaction)
        except BaseException:  # of a signal handler, too: then the block does not begin
            ledger.remove(transaction)
            entered.set(transaction.outer)
            raise

    def _leave(self) -> None:
        transaction = self._begun
        transaction.is_left = True
        if entered.get() is transaction:
            entered.set(transaction.outer)
        self._has_ended = True

    def _tell(self, error: BaseException | None, interrupted: BaseException | None) -> None:
        """Raise what is to leave the block, if that is not the error that leaves it anyway.

        Args:
            error: that of the block; it leaves the block anyway.
            interrupted: what was raised while the tokens or the rollback were waited for.
        """
        root, first = self._root, interrupted or error or self._unwritten
        if root.state is State.ROLLED_BACK or root.state is State.STUCK:
            failure = root.failure(first if isinstance(first, Exception) else None)
            if failure is not None and (first is None or isinstance(first, Exception)):
                raise failure from first
            if first is not None:
                first.add_note(root.note)
            elif root.why:
                raise TokenTerminated(f"{root.reason}; {root.note}")
        if interrupted is not None:
            raise interrupted
        if self._unwritten is not None:
            raise self._unwritten
