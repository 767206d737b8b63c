"""Transactions: blocks of code whose tokens are undone together."""

from __future__ import annotations

from typing import Annotated, ClassVar

import attrs
from msgspec import Meta

from tokengate.control.messages._bases import Listing, OnOne, OnTokens


@attrs.frozen
class TransactionRow:
    """A transaction.

    Attributes:
        name: unique among those that are not over.
        state: `open`, `rolling_back`, `rolled_back`, or `stuck`: something could not be undone, or not yet.
        members: number of its tokens.
        undone: number of those that were undone.
        failed: the steps in which it is stuck: ids of tokens whose compensation has failed, or whose code runs on.
        error: that of the latest compensation that has failed; empty if none has.
    """

    name: str
    state: str
    members: int
    undone: int
    failed: tuple[int, ...] = ()
    error: str = ""


@attrs.frozen
class Transactions(Listing[TransactionRow]):
    """List the transactions that are not over.

    In SELECTOR, which is a name, `*` stands for any text.
    """

    examples: ClassVar = ("transactions", "transactions 'order*'")


@attrs.frozen
class CompensateTransaction(OnOne[TransactionRow]):
    """Roll back an open transaction; repeat the steps in which one is stuck.

    Raises:
        BadRequest: there is no such transaction, or it is rolled back already.
    """

    right: ClassVar = "terminate"
    examples: ClassVar = ("transaction compensate 'order 7'",)


@attrs.frozen
class SkipTransaction(OnOne[TransactionRow]):
    """Leave a step undone in which a transaction is stuck; what it has done stays done.

    Raises:
        BadRequest: there is no such transaction, or it is not stuck in this step.
    """

    right: ClassVar = "override"
    examples: ClassVar = ("transaction skip 'order 7' 12",)
    step: Annotated[int, Meta(description="The step: the id of a token, as the list has it under `failed`.")]


@attrs.frozen
class Compensate(OnTokens):
    """Roll back the open transactions that tokens are members of.

    The tokens may have ended.
    """

    right: ClassVar = "terminate"
    examples: ClassVar = ("compensate 12",)
