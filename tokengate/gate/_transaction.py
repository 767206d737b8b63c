"""The block of a transaction: `with gate.transaction("order 7") as tx:`, and `async with`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import nullcontext
from types import TracebackType
from typing import Self

import trio

from actors import DeadlockError, TokenTerminated, WouldBlock, current_token, wait
from actors.lowlevel import blocking, loop_here
from tokengate._exceptions import GateState
from tokengate.policy._transaction import Run, State, Transaction, Transactions, entered


class TransactionBlock:
    """A block of code whose tokens are undone together: by an error that leaves it, or by `roll_back`.

    Its tokens are those that its code makes, and those that these make. Its end waits for them. A rollback ends those
    that run, and then calls the compensations of the others, the one that began last first.

    Args:
        ledger: returns the transactions of the gate; called as the block begins.
        name: for operators; an open one of that name makes it `name~2`.

    Attributes:
        name: as operators see it.
    """

    def __init__(self, ledger: Callable[[], Transactions], name: str) -> None:
        self.name = name
        self._ledger = ledger
        self._transaction: Transaction | None = None
        self._pid = os.getpid()

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
        if self._pid != os.getpid():
            return  # a fork of the process that it is in
        transaction = self._begun
        try:
            while error is None and not transaction.commit():
                wait(transaction.live())
        except BaseException as raised:
            error = raised
        interrupted: BaseException | None = None
        # A signal handler may raise at any point here, as in `Gate.__exit__`.
        while not self._is_over:
            try:
                while not self._is_over:
                    try:
                        transaction.roll_back("")
                        self._wait_here()
                    except BaseException as raised:
                        interrupted = raised
            except BaseException as raised:
                interrupted = raised
        self._leave()
        self._tell(error, interrupted, exc_type is not None)

    async def __aenter__(self) -> Self:
        here = asyncio._get_running_loop()
        self._enter(visits=here is not None and not trio.lowlevel.in_trio_task())
        return self

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pid != os.getpid():
            return
        transaction = self._begun
        try:
            while error is None and not transaction.commit():
                await wait(transaction.live())
        except BaseException as raised:
            error = raised
        interrupted: BaseException | None = None
        waiter = current_token()
        while not self._is_over:
            transaction.roll_back("")
            if isinstance(error, GeneratorExit) or isinstance(interrupted, GeneratorExit):
                break  # nothing can be awaited any more
            if waiter is not None:
                waiter.lend_turn()
            try:
                with trio.CancelScope(shield=True) if trio.lowlevel.in_trio_task() else nullcontext():
                    await self._run.wait_async(self._root.go_on)
            except BaseException as raised:
                interrupted = raised
            finally:
                if waiter is not None:
                    waiter.take_turn_back()
        self._leave()
        self._tell(error, interrupted, exc_type is not None)

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

    @property
    def _is_over(self) -> bool:
        transaction = self._begun
        return transaction.state is State.COMMITTED or (self._root.run is not None and self._run.over.made)

    def _enter(self, *, visits: bool = False) -> None:
        if self._transaction is not None:
            raise GateState(f"transaction '{self.name}' has begun already; make a new one")
        ledger = self._ledger()
        hosts = ledger.system.asyncio_hosts
        self._transaction = transaction = ledger.begin(self.name, hosts.here() if visits else None)
        self.name = transaction.name
        entered.set(transaction)

    def _leave(self) -> None:
        transaction = self._begun
        transaction.is_left = True
        if entered.get() is transaction:
            entered.set(transaction.outer)

    def _wait_here(self) -> None:
        """Wait for the end of the rollback; meanwhile others have the turn and the thread of the step."""
        try:
            with blocking():
                self._run.wait(bool, self._root.go_on)
        except DeadlockError:  # so many steps wait that none is left that could have the thread
            self._run.wait(bool, self._root.go_on)

    def _tell(self, error: BaseException | None, interrupted: BaseException | None, raised: bool) -> None:
        """Raise what is to leave the block, if that is not the error that leaves it anyway.

        Args:
            error: that of the block, or of the wait for its tokens.
            interrupted: what was raised while the rollback was waited for.
            raised: whether the error leaves the block anyway.
        """
        root = self._root
        if root.state is State.COMMITTED:
            return
        first = interrupted or error
        if first is not None and not isinstance(first, Exception):
            first.add_note(root.note)
        else:
            failure = root.failure(first)
            if failure is not None:
                raise failure from first
            if first is not None:
                first.add_note(root.note)
            elif root.why:
                raise TokenTerminated(f"{root.reason}; {root.note}")
        if first is not None and (first is not error or not raised):
            raise first
