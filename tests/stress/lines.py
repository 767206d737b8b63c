"""Interrupt each line of the runtime that a call executes in the main thread, and see that nothing is lost or deaf.

    python tests/stress/lines.py                                   # every line of every case
    python tests/stress/lines.py submit "direct call" --limit 1    # cases whose names contain one of these
    python tests/stress/lines.py --grain opcode --share 0.1 --seed 7 # a tenth of the bytecodes
    python tests/stress/lines.py --grain signal                      # where CPython looks for signals
    python tests/stress/lines.py --again 1,2,5                     # a second interrupt, so many lines after the first

For k = 1, 2, 3, ... a KeyboardInterrupt is raised at the k-th line of the call, until the call comes to its end. After
each, all tokens must end and calls of all kinds must be served within `--limit` seconds. Prints what was found, by
place, and one JSON line; exits 1 if there is anything, and 3 on a hang.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

import attrs
from interrupt_cases import CASES, Case
from interrupts import Bench, Grain, Place, Strike, in_thread, quiet

HANG = 120.0  # seconds without progress after which the script ends
MOST = 20_000  # lines of one call, at most


@attrs.frozen
class Fault:
    """Something that was wrong after an interrupt.

    Attributes:
        case: its name.
        at: which line of the call was interrupted.
        places: where that is; two, when a second interrupt followed.
        what: what was wrong.
    """

    case: str
    at: int
    places: tuple[Place, ...]
    what: tuple[str, ...]

    def __str__(self) -> str:
        places = " and then ".join(map(str, self.places)) or "nowhere"
        return f"{self.case}, line {self.at}: {places}\n    -> " + "; ".join(self.what)


class Broken(Exception):
    """The process is of no use any more, after what was found."""


class Run:
    """Goes through the lines of cases.

    Args:
        limit: seconds within which tokens must end and calls be served.
        grain: what is counted.
        choose: tells whether to interrupt at the k-th line.
        once: whether a place where something was found is not interrupted again.

    Attributes:
        grain: what is counted.
        faults: what was found.
        strikes: interrupts so far.
        swallowed: places where an interrupt struck and did not reach the caller: {place: case}.
    """

    def __init__(
        self,
        limit: float,
        *,
        grain: Grain = "line",
        choose: Callable[[int], bool] = lambda at: True,
        tell: Callable[[str], object] = lambda line: None,
        once: bool = False,
        processes: bool = True,
    ) -> None:
        self.limit = limit
        self.faults: list[Fault] = []
        self.strikes = 0
        self.swallowed: dict[Place, str] = {}
        self.grain = grain
        self._choose = choose
        self._tell = tell
        self._processes = processes
        self._once = once
        self._found: set[Place] = set()
        self._bench: Bench | None = None

    def bench(self) -> Bench:
        """Return the bench that is in use."""
        if self._bench is None:
            made, wrong = in_thread(lambda: Bench(self.limit, processes=self._processes), 20)
            if wrong:
                raise Broken(f"no gate can be opened in this process any more: Gate {wrong}")
            self._bench = made
            in_thread(made.deaf, 30)  # each kind once, so that all is made that is made at the first use
            made.forget()
        return self._bench

    def drop_bench(self) -> str:
        """Close the bench; return what was wrong with that."""
        bench, self._bench = self._bench, None
        if bench is None:
            return ""
        return bench.close()

    def case(self, case: Case, again: int = 0) -> None:
        """Interrupt a case at each point that is chosen, and again so many points later; 0 for once only."""
        at = 1
        while at < MOST:
            faults = len(self._found)
            faulthandler.dump_traceback_later(HANG, exit=True)
            if self._choose(at) and not self.once(case, at, again):
                break
            if len(self._found) == faults:  # else it is the next point now, with this number
                at += 1
        faulthandler.cancel_dump_traceback_later()

    def points(self, case: Case) -> int:
        """Return about how many points a case has."""
        bench = self.bench()

        def count() -> int:
            strike = Strike(MOST, grain=self.grain)
            with bench.gate.entered(), case.around(bench) as act:
                strike.run(act)
            return MOST - strike.left

        points, wrong = in_thread(count, self.limit + 10)
        bench.faults()
        if wrong:
            self.faults.append(Fault(case.name, 0, (), (f"the case {wrong}",)))
            self.drop_bench()
        return points or 0

    def once(self, case: Case, at: int, again: int = 0) -> bool:
        """Interrupt a case at one point; tell whether the call came so far.

        It has a thread of its own, which is called the main thread meanwhile, so that the next call finds nothing that
        is left behind in the thread.
        """
        bench = self.bench()
        strike = Strike(at, again=again, grain=self.grain, skip=self._found)
        wrong: list[str] = []
        errors: list[BaseException | None] = []

        def call() -> None:
            strike._thread = threading.get_ident()
            thread = threading.current_thread()
            with bench.gate.entered(), mock.patch.object(threading, "main_thread", return_value=thread):
                try:
                    with case.around(bench) as act:
                        errors.append(strike.run(act)[1])
                except AssertionError as failure:
                    wrong.append(str(failure))
                wrong.extend(bench.faults())

        raised = in_thread(call, self.limit * 8 + 25)[1]
        if raised:
            wrong.append(f"the case {raised}")
        self.strikes += len(strike.places)
        if strike.places and errors and not isinstance(errors[0], KeyboardInterrupt):
            ended = type(errors[0]).__name__ if errors[0] else "no error"
            self.swallowed.setdefault(strike.places[-1], f"{case.name}: {ended}")
        if wrong:
            fault = Fault(case.name, at, tuple(strike.places), tuple(wrong))
            self.faults.append(fault)
            self._tell(str(fault))
            if self._once:
                self._found.update(strike.places)
            if any(sign in one for one in wrong for sign in ("deaf", "returned", "raised", "not work")):
                self.drop_bench()
        return bool(strike.places)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", help="parts of the names of cases; all, if there are none")
    parser.add_argument("--exactly", action="store_true", help="whole names are given")
    parser.add_argument("--limit", type=float, default=5.0, help="seconds within which all must be served")
    parser.add_argument(
        "--grain",
        choices=("signal", "line", "opcode"),
        default="line",
        help="interrupt at lines, at bytecodes, or only where CPython looks for signals",
    )
    parser.add_argument("--again", default="", help="distances of a second interrupt: 1,2,5")
    parser.add_argument("--share", type=float, default=1.0, help="share of the lines that are interrupted")
    parser.add_argument("--once", action="store_true", help="interrupt no place again where something was found")
    parser.add_argument("--at", type=int, default=0, help="interrupt at this line only")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--findings", default="", help="file for what was found, by place")
    options = parser.parse_args()
    quiet()
    chance = random.Random(options.seed)
    chosen = [
        case
        for case in CASES
        if not options.cases
        or any(part == case.name if options.exactly else part in case.name for part in options.cases)
    ]
    again = tuple(int(number) for number in options.again.split(",") if number) or (0,)
    run = Run(
        options.limit,
        grain=options.grain,
        choose=(lambda at: at == options.at) if options.at else lambda at: chance.random() < options.share,
        tell=lambda line: print(line, flush=True),
        once=options.once,
    )
    began = time.monotonic()
    counts: dict[str, int] = {}
    broken = ""
    for case in chosen:
        before = run.strikes
        try:
            if options.at:
                run.once(case, options.at, again[0])
            else:
                for distance in again:
                    run.case(case, distance)
        except Broken as error:
            broken = str(error)
            print(f"- {case.name}: {broken}; the cases that follow are left out", flush=True)
            break
        counts[case.name] = run.strikes - before
        print(f"- {case.name}: {counts[case.name]} interrupts, {len(run.faults)} faults so far", flush=True)
    wrong = run.drop_bench()
    if options.findings:
        Path(options.findings).write_text(by_place(run))
    print(by_place(run))
    print(
        json.dumps(
            {
                "python": sys.version.split()[0],
                "seed": options.seed,
                "cases": len(chosen),
                "interrupts": run.strikes,
                "faults": len(run.faults),
                "places": len({fault.places for fault in run.faults}),
                "swallowed": len(run.swallowed),
                "close": wrong,
                "broken": broken,
                "seconds": round(time.monotonic() - began, 1),
            }
        ),
        flush=True,
    )
    return 1 if run.faults or wrong or broken else 0


def by_place(run: Run) -> str:
    """Return what was found, as text: each place with what follows from an interrupt there, and in which cases."""
    found: defaultdict[tuple[Place, ...], list[Fault]] = defaultdict(list)
    for fault in run.faults:
        found[fault.places].append(fault)
    lines = [f"# {len(run.faults)} faults at {len(found)} places ({run.strikes} interrupts)", ""]
    for places, faults in sorted(found.items()):
        lines.append("* " + (" and then ".join(map(str, places)) or "without an interrupt"))
        what = list(dict.fromkeys(one for fault in faults for one in fault.what))
        lines += [f"    - {one}" for one in what[:6]]
        lines.append(f"    in: {', '.join(dict.fromkeys(fault.case for fault in faults))}")
    if run.swallowed:
        lines += ["", "# Interrupts that did not reach the caller", ""]
        lines += [f"* {place} ({where})" for place, where in sorted(run.swallowed.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # a gate that is stuck must not keep it from ending
