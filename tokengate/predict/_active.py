"""The interventions that are in force, and what is asked of them at each decision."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from tokengate.predict._intervention import Intervention


class ActiveInterventions:
    """The interventions in force, and those that were done in the look that is under way."""

    def __init__(self) -> None:
        self._all: dict[int, Intervention] = {}  # {number: intervention}
        self._by_target: dict[tuple[str, str], Intervention] = {}  # {(verb, name of the target): intervention}
        self._touched: defaultdict[str, Counter[int]] = defaultdict(Counter)  # {operation: {token id: interventions}}
        self._moved: Counter[str] = Counter()  # {operation: tokens that rules have moved to another place}
        self._held: Counter[str] = Counter()  # {rule: interventions about what runs, which need a budget}
        self._done: list[Intervention] = []

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Intervention]:
        return iter(tuple(self._all.values()))

    def add(self, made: Intervention) -> None:
        """Add one that is about to be done."""
        self._all[made.number] = made
        self._by_target[made.action.verb, made.target.name] = made
        self._count(made, 1)

    def _count(self, made: Intervention, by: int) -> None:
        touched = self._touched[made.operation]
        touched[made.target.id] += by
        if not touched[made.target.id]:
            del touched[made.target.id]
        if not touched:
            del self._touched[made.operation]
        if made.action.verb == "reroute":
            self._moved[made.operation] += by
        if not made.action.kind.is_free and made.holds:
            self._held[made.rule] += by

    def remove(self, made: Intervention, *, is_done: bool = False) -> None:
        """Take one out that is over.

        Args:
            made: the intervention.
            is_done: whether it counts until the next look, since it ends a token or an attempt.
        """
        if self._all.pop(made.number, None) is None:
            return
        del self._by_target[made.action.verb, made.target.name]
        if is_done:
            self._done.append(made)
        else:
            self._count(made, -1)

    def forget_done(self) -> None:
        """Count those no more that were done in the look before."""
        for made in self._done:
            self._count(made, -1)
        self._done.clear()

    def has(self, verb: str, target: str) -> bool:
        """Tell whether one has set, by a verb, what another one would set."""
        return (verb, target) in self._by_target

    def touched(self, operation: str, besides: int = 0) -> int:
        """Return how many live tokens of an operation they are about, without one by its id."""
        found = self._touched.get(operation)
        return 0 if found is None else len(found) - (besides in found)

    def moved(self, operation: str) -> int:
        """Return how many tokens of an operation were moved to another place."""
        return self._moved[operation]

    def held(self, rule: str | None = None) -> int:
        """Return how many are about what runs and need a budget, of a rule or of all."""
        return self._held.total() if rule is None else self._held[rule]

    def of(self, rule: str) -> int:
        """Return how many are of a rule."""
        return sum(one.rule == rule for one in self._all.values())
