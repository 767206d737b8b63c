"""Read the stacks of all threads while tokens run and each collection lets other threads run, as a finalizer may.

    python tests/stress/frames.py --seconds 60

It reads them as recovery, inspection and interrupts do. CPython 3.11 crashes within seconds, or hangs, if a collection
begins while a frame of another thread is read. Prints one JSON line with the number of tokens and of reads; exits 1 if
a token has a wrong result, a read fails, or all threads hang.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

from actors.lowlevel import find_step, thread_frames, tokens_of
from actors.system._recovery import _locals
from tokengate import Gate, token

HANGS = 60.0  # seconds without an end after which all threads hang
SLEEP = 0.0002  # seconds for which a collection lets other threads run

readers: set[int] = set()  # idents of the threads that read stacks
reads: Counter[str] = Counter()
failures: list[str] = []
ended = threading.Event()


@token(affinity="cpu")
def leaf(number: int) -> int:
    def depth(left: int) -> int:
        return 0 if left == 0 else 1 + depth(left - 1)

    return depth(number % 17)


@token(affinity="cpu")
def branch(number: int) -> int:
    return leaf(number) + leaf(number + 5)


def let_others_run(phase: str, _info: object) -> None:
    if phase == "stop" and threading.get_ident() in readers:
        time.sleep(SLEEP)


def read(name: str, look: Callable[[], object]) -> None:
    readers.add(threading.get_ident())
    try:
        while not ended.is_set():
            look()
            reads[name] += 1
    except Exception as error:
        failures.append(f"{name}: {error!r}")


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    seconds: float = parser.parse_args().seconds
    faulthandler.enable()
    faulthandler.dump_traceback_later(seconds + HANGS, exit=True)
    gc.callbacks.append(let_others_run)
    tokens = 0
    with Gate("frames") as gate:
        live = gate._system.live
        looks: dict[str, Callable[[], object]] = {
            "variables": lambda: _locals(waiting=True),
            "tokens": lambda: [tokens_of(frame) for frame in thread_frames().values()],
            "steps": lambda: [find_step(token) for token in list(live.values())[:3]],
        }
        threads = [threading.Thread(target=read, args=each) for each in looks.items()]
        for thread in threads:
            thread.start()
        gc.set_threshold(20)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            sent = [branch.submit(number) for number in range(100)]
            expected = [number % 17 + (number + 5) % 17 for number in range(100)]
            if [one.result(HANGS) for one in sent] != expected:
                failures.append("a result is wrong")
            tokens += len(sent)
        ended.set()
        for thread in threads:
            thread.join(HANGS)
    print(json.dumps({"tokens": tokens, "reads": reads, "failures": failures}))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
