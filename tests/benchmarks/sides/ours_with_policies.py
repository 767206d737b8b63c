"""TokenGate: operations that are held to policies and throttles, each submitted and answered as a bare one is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from sides._workload import Run
from sides.from_submits import gather, same

from tokengate import Breaker, Gate, Policy, Retry, Throttle, token

_RATE = Throttle(rate=1_000_000, burst=1_000_000)


@contextmanager
def held(policy: Policy | None = None, *, keys: int = 0, beside: int = 0, throttles: Any = ()) -> Iterator[Run]:
    """Submit calls and get their results.

    Args:
        policy: of the operation.
        keys: number of values of the argument; 0: as many as there are calls.
        beside: throttles that are set for other tenants.
        throttles: fields of others that are set for the operation.
    """
    operation = token(same if policy is None else token_of_key, policy=policy)
    with Gate("benchmark", control_socket=False) as gate:
        for number in range(beside):
            gate.control.throttle(f"tenant=t{number}", concurrency=1)
        for limits in throttles:
            gate.control.throttle("operation=same", **limits)
        submit = operation.submit
        yield partial(gather, (lambda value: submit(value % keys)) if keys else submit)


def token_of_key(value: int) -> int:
    return value


bare = held
beside_1, beside_10, beside_100, beside_1000 = (partial(held, beside=number) for number in (1, 10, 100, 1_000))
under_1000_keys = partial(held, keys=1_000, throttles=({"concurrency": 1_000, "key": "value"},))
deadline = partial(held, Policy(deadline=3_600))
rate = partial(held, Policy(throttle=_RATE))
breaker = partial(held, Policy(breaker=Breaker()))
all_three = partial(held, Policy(deadline=3_600, throttle=_RATE, breaker=Breaker(), retry=Retry(OSError)))
fair_1 = partial(held, Policy(fair="value"), keys=1)
fair_1000 = partial(held, Policy(fair="value"), keys=1_000)


@contextmanager
def beside_policies() -> Iterator[Run]:
    """Submit calls without a policy, in a gate where others have one."""
    other = token(policy=Policy(deadline=3_600, throttle=_RATE, breaker=Breaker()))(token_of_key)
    with held() as run:
        other.submit(1).result()
        yield run
