"""What observers cost: tell to an idle-handed cpu actor, with no observer and with one that counts three events.

Prints a JSON line; seconds are medians over interleaved rounds.

    python tests/benchmarks/observers.py
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

from actors import ActorSystem, CpuActor, Observer, Token

MESSAGES = 5_000
ROUNDS = 11


class Sink(CpuActor):
    def on_receive(self, message: object) -> None:
        pass


class Counting(Observer):
    def __init__(self) -> None:
        self.queued = self.started = self.finished = 0

    def token_queued(self, token: Token[Any], /) -> None:
        self.queued += 1

    def token_started(self, token: Token[Any], /) -> None:
        self.started += 1

    def token_finished(self, token: Token[Any], /) -> None:
        self.finished += 1


def seconds(ref: Any) -> float:
    started = time.perf_counter()
    for number in range(MESSAGES):
        ref.tell(number)
    ref.ask(None)
    return time.perf_counter() - started


def main() -> None:
    system = ActorSystem("observers")
    system.open()
    ref = system.start_actor(Sink, (), {})
    counting = Counting()
    plain, observed = [], []
    seconds(ref)
    for _ in range(ROUNDS):
        plain.append(seconds(ref))
        system.add_observer(counting)
        observed.append(seconds(ref))
        system.remove_observer(counting)
    system.close(5.0)
    without, beside = statistics.median(plain) / MESSAGES, statistics.median(observed) / MESSAGES
    print(
        json.dumps(
            {
                "workload": "tell",
                "python": sys.version.split()[0],
                "no_observer_us": round(without * 1e6, 2),
                "counting_observer_us": round(beside * 1e6, 2),
                "ratio": round(beside / without, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
