"""What an operation is: its function and its options, the same for all gates."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, cast

import attrs

from actors import ActorSystem, Limits, Overflow
from actors.lowlevel import LOOP_AFFINITIES, OperationPlace, Properties
from tokengate.operations._options import Affinity, FeatureSource, check_affinity
from tokengate.policy._policy import Batch, Policy
from tokengate.policy._undo import Undo

# Tokens that run at once by default if a running token does not occupy a thread all the time.
SUSPENDABLE_CONCURRENCY = 1_000


@attrs.frozen(eq=False)
class OperationSpec:
    """What an operation is, apart from the options of a single call; each gate has one place for it."""

    name: str
    qualified_name: str
    function: Callable[..., Any]
    affinity: Affinity
    binds: bool  # whether it binds to instances, as an attribute of a class
    generator: bool
    coroutine: bool
    concurrency: int | None
    capacity: int
    overflow: Overflow
    properties: Properties
    policy: Policy | None
    limits: Limits
    context: tuple[ContextVar[Any], ...]
    undo: Undo = attrs.field(factory=Undo)
    consent: bool = False  # whether each call waits until a person agrees to it
    features: FeatureSource = "auto"  # what the features of its tokens are computed by
    inferred: bool = False  # whether the affinity follows from the function only, so that a gate may choose another

    @property
    def batch(self) -> Batch | None:
        """What its tokens are put together by; None: each runs by itself."""
        return None if self.policy is None else self.policy.batch

    def with_affinity(self, affinity: str) -> OperationSpec:
        """Return the same operation with another affinity.

        Raises:
            BadOperation: it cannot have that one.
        """
        check_affinity(self.name, affinity, self.coroutine)
        return attrs.evolve(self, name=f"{self.name}@{affinity}", affinity=cast("Affinity", affinity))

    def in_gate(self, coroutines: Affinity) -> OperationSpec:
        """Return the operation as a gate serves it that has an affinity of its own for coroutine functions."""
        return attrs.evolve(self, affinity=coroutines) if self.inferred and self.coroutine else self

    def make_place(self, system: ActorSystem, path: str) -> OperationPlace:
        """Make the place with this path where a system serves the operation."""
        concurrency = self.concurrency
        if concurrency is None and self.affinity == "process":
            concurrency = system.processes.pool.size
        elif concurrency is None:
            suspendable = self.generator or self.affinity in LOOP_AFFINITIES
            concurrency = SUSPENDABLE_CONCURRENCY if suspendable else system.dispatcher.size
        place = system.operation_place(
            path,
            self.affinity,
            generator=self.generator,
            concurrency=concurrency,
            capacity=self.capacity,
            overflow=self.overflow,
            properties=self.properties,
            limits=self.limits,
            context=self.context,
        )
        place.undo = self.undo
        place.features = (self.features, self.function)
        if self.policy is not None or self.consent or system.policies is not None:
            from tokengate.policy._policies import policies_of  # here, so that `import tokengate` takes less time

            name = self.name.partition("@")[0]
            policies_of(place).govern(place, self.policy, self.function, name, consent=self.consent)
        return place
