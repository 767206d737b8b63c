"""Policies: what operations and actors are held to, the states of that, and the flags that switch it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias, TypeVar

import attrs
from msgspec import Meta

from tokengate.control.messages._bases import Change, Listing, OnOne, OnTokens, Target

Row = TypeVar("Row")
Value: TypeAlias = str | float

_Key: TypeAlias = Annotated[
    str | None, Meta(description="Only that of this value of its key; without it, all.", extra={"metavar": "KEY"})
]


@attrs.frozen
class _OnPlace(OnOne[Row]):
    target: ClassVar[Target] = "place"
    name: Annotated[str, Meta(description="Name of the operation, or path of the actor.")]


@attrs.frozen
class PolicyRow:
    """A value of a policy.

    Attributes:
        operation: name of the operation, or path of the actor.
        field: its name, such as `retry.attempts`.
        value: as text, as `policy set` takes it: `5`, `30s`; `none` for what was taken away.
        source: `code`, the line of the file (`tokengate.toml:12`), or `live`.
    """

    operation: str
    field: str
    value: str
    source: str


@attrs.frozen
class Policies(Listing[PolicyRow]):
    """Show the values of policies, and the source of each.

    An operation is listed from its first call in the gate on, or from `gate.register`.
    Without a comparison, the text is a name, in which `*` is any part; with one, a selector of operations and actors.
    """

    examples: ClassVar = ("policies", "policies 'charge*'", "policies 'affinity!=process'")


@attrs.frozen
class SetPolicy(_OnPlace[tuple[PolicyRow, ...]]):
    """Change values of a policy, until `reset`; they win over the code and the file.

    Fields are those of a `[[policy]]` of a file, such as throttle[1].rate; the error about an unknown one names all.
    New times hold for tokens that are made from then on, all else from the next decision. `none` takes a part away.

    Raises:
        UnknownActor: no operation or actor has this name, or several have.
        BadRequest: a value cannot work; nothing has changed.
    """

    right: ClassVar = "administer"
    examples: ClassVar = ("policy set charge retry.attempts=5 timeout=3s", "policy set charge breaker=none")
    values: Annotated[dict[str, Value], Meta(description="Fields with their values.", extra={"metavar": "FIELD=VALUE"})]


@attrs.frozen
class ResetPolicy(_OnPlace[tuple[PolicyRow, ...]]):
    """Forget what operators have set of a policy; the file and the code hold again.

    Raises:
        UnknownActor: no operation or actor has this name, or several have.
        BadRequest: nothing of that was set.
    """

    right: ClassVar = "administer"
    examples: ClassVar = ("policy reset charge", "policy reset charge retry.attempts")
    field: Annotated[
        str, Meta(description="A field, or a part with all its fields; empty for all.", extra={"argument": True})
    ] = ""


@attrs.frozen
class BreakerRow:
    """The breaker of one key of an operation.

    Attributes:
        operation: name of the operation, or path of the actor.
        key: value of its key; empty if it has none.
        state: `closed`, `open`, or `half open`: attempts may probe.
        held: whether an operator holds it there.
        counted: attempts that count.
        bad: of these, those that are bad.
        running: attempts that have begun and not ended.
        probes_in: seconds until attempts may probe; None if it is not open, or held.
        no_key: tokens of the operation without the key, which no breaker holds.
    """

    operation: str
    key: str
    state: str
    held: bool
    counted: int
    bad: int
    running: int
    probes_in: float | None
    no_key: int = 0


@attrs.frozen
class Breakers(Listing[BreakerRow]):
    """List the breakers, by key.

    SELECTOR is of operations and actors, as of `policies`.
    """

    examples: ClassVar = ("breakers", "breakers charge")


@attrs.frozen
class _OnBreaker(_OnPlace[tuple[BreakerRow, ...]]):
    key: _Key = attrs.field(default=None, kw_only=True)


@attrs.frozen
class OpenBreaker(_OnBreaker):
    """Open breakers of an operation until `auto`: new attempts are refused.

    Without a key, those of new keys are open, too.
    """

    examples: ClassVar = ("breaker open charge", "breaker open charge --key acme")


@attrs.frozen
class CloseBreaker(_OnBreaker):
    """Close breakers of an operation until `auto`, whatever fails.

    Without a key, those of new keys stay closed, too.
    """

    examples: ClassVar = ("breaker close charge",)


@attrs.frozen
class AutoBreaker(_OnBreaker):
    """Let breakers of an operation change by themselves again; one that was opened lets attempts probe."""

    examples: ClassVar = ("breaker auto charge",)


@attrs.frozen
class ResetBreaker(_OnBreaker):
    """Make breakers of an operation as good as new: closed, with nothing counted."""

    examples: ClassVar = ("breaker reset charge --key acme",)


@attrs.frozen
class BudgetRow:
    """What one key of an operation may spend.

    Attributes:
        operation: name of the operation, or path of the actor.
        budget: its name; budgets of one name, limit, period and key share their figures.
        key: value of its key; empty if it has none.
        limit: what may be spent in a period.
        per: seconds of a period; None: there is one only.
        reserved: what attempts that run have reserved and not spent.
        spent: what was spent in the period.
        waiting: number of tokens that it keeps back.
        no_key: tokens of the operation without the key, which no budget holds.
    """

    operation: str
    budget: str
    key: str
    limit: float
    per: float | None
    reserved: float
    spent: float
    waiting: int
    no_key: int = 0


@attrs.frozen
class Budgets(Listing[BudgetRow]):
    """List the budgets, by key.

    SELECTOR is of operations and actors, as of `policies`.
    """

    examples: ClassVar = ("budgets", "budgets charge")


@attrs.frozen
class ResetBudget(_OnPlace[tuple[BudgetRow, ...]]):
    """Forget what was spent of budgets of an operation; the next use begins a period."""

    examples: ClassVar = ("budget reset charge --key acme",)
    key: _Key = attrs.field(default=None, kw_only=True)


FlagMode: TypeAlias = Literal["off", "observe", "enforce"]


@attrs.frozen
class FlagRow:
    """A flag.

    Attributes:
        selector: for which tokens it is.
        mode: `off`, `observe` or `enforce`.
        percent: of the tokens, or of the values of `by`, for which it is so.
        by: a tag or parameter, each value of which is on one side; empty: each token by itself.
        source: the line of the file, or `live`.
        would: {rule: how often it would have acted, had the mode been `enforce`}.
    """

    selector: str
    mode: str
    percent: float
    by: str
    source: str
    would: dict[str, int]


@attrs.frozen
class Flags(Listing[FlagRow]):
    """List the flags, or the one with SELECTOR.

    Of those that match a token, the last one decides. `would` counts what the rules of tokens with the mode `observe`
    would have done.
    """

    examples: ClassVar = ("flags", "flags --json")


@attrs.frozen
class SetFlag(Change[FlagRow]):
    """Leave out the rules of tokens, only count them, or have them hold.

    `off` leaves them out, `observe` counts what they would do, with levels of their own, `enforce` has them hold. A
    second flag with the same selector replaces the first. The flag wins over those of the file, until `reset`.

    Raises:
        BadSelector: the selector cannot be read.
        BadRequest: a value cannot work.
    """

    right: ClassVar = "administer"
    examples: ClassVar = ("flag set operation=resize observe", "flag set tenant=acme off --percent 10 --by user")
    select: Annotated[str, Meta(description="Which tokens: a selector; `*` for all.")]
    mode: Annotated[FlagMode, Meta(description="What becomes of their rules.")]
    percent: Annotated[
        float, Meta(description="Of the tokens, or of the values of `by`.", ge=0, le=100, extra={"metavar": "PERCENT"})
    ] = attrs.field(default=100.0, kw_only=True)
    by: Annotated[
        str | None,
        Meta(description="A tag or parameter; each value of it is always on one side.", extra={"metavar": "NAME"}),
    ] = attrs.field(default=None, kw_only=True)


@attrs.frozen
class ResetFlag(Change[FlagRow]):
    """End the flag that an operator has set for a selector.

    Raises:
        BadSelector: the selector cannot be read.
        BadRequest: there is none.
    """

    right: ClassVar = "administer"
    examples: ClassVar = ("flag reset operation=resize",)
    select: Annotated[str, Meta(description="The selector of the flag.")]


@attrs.frozen
class Reloaded:
    """What reading the file again has brought.

    Attributes:
        file: its path.
        changed: `OPERATION: FIELD=VALUE` for each value of a policy that is another one now.
        left_out: parts that do not fit the policy of the code, with the reason.
    """

    file: str
    changed: tuple[str, ...]
    left_out: tuple[str, ...]


@attrs.frozen
class Reload(Change[Reloaded]):
    """Read the gate's file again. Levels, windows and states stay, and so does what operators have set.

    Raises:
        BadRequest: the gate has no file, or the file has an error; nothing has changed.
    """

    right: ClassVar = "administer"
    examples: ClassVar = ("reload", "reload -g shop")


@attrs.frozen
class RetryNow(OnTokens):
    """Begin the next attempt of tokens now.

    It does not wait until it is due; throttles and breakers hold as always.
    """

    verb_name: ClassVar = "retry"
    examples: ClassVar = ("retry 42", "retry 42 --stop", "retry 'operation=charge,held=delayed'")
    stop: Annotated[bool, Meta(description="Have no further attempt follow; a token that waits for one fails.")] = (
        attrs.field(default=False, kw_only=True)
    )


@attrs.frozen
class Extend(OnTokens):
    """Give tokens more time.

    Their deadline comes later, and so does the limit of what they do now: to wait, or to run.

    Raises:
        BadSelector: the selector cannot be read.
        BadRequest: `select` names no token, or the time cannot work.
    """

    examples: ClassVar = ("extend 42 30s", "extend operation=charge 5m")
    seconds: Annotated[
        float | str,
        Meta(description="How much more: seconds, or `30s`, `5m`, `1h`.", extra={"metavar": "TIME", "last": True}),
    ]
