"""What a decorated call costs beyond the plain function while no gate is open: at most 150 ns.

Prints the same kind of line as `run.py`; the limit takes the place of the peer, and the figures are nanoseconds.

    python tests/benchmarks/off.py [--quick] [--pairs N]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from _harness import Sides, Size, limit, main, workload

from tokengate import token


def plain(a: int, b: int = 1) -> int:
    return a + b


decorated = token(plain)


def nanoseconds(call: Callable[[], object], number: int) -> float:
    started = time.perf_counter_ns()
    for _ in range(number):
        call()
    return (time.perf_counter_ns() - started) / number


@workload("off", figure="extra_ns", at_most=1)
def no_gate(size: Size) -> Iterator[Sides]:
    number = size.of(200_000)

    def ours() -> Mapping[str, float]:
        without = nanoseconds(lambda: plain(1), number)
        return {"extra_ns": nanoseconds(lambda: decorated(1), number) - without}

    yield ours, limit("extra_ns", 150)


if __name__ == "__main__":
    main([no_gate], __doc__ or "")
