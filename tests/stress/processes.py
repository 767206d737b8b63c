"""Kill processes in every way there is, for as long as you like, and look into a ledger for what has run.

    python tests/stress/processes.py kill --rounds 2000 --seed 7    # kill -9 of random workers under load
    python tests/stress/processes.py exits --rounds 20000           # tokens of which some take their process along
    python tests/stress/processes.py actors --rounds 1000           # kill -9 of supervised actors
    python tests/stress/processes.py chaos --rounds 5000            # an operator's verbs at random, and kills
    python tests/stress/processes.py parent --rounds 100            # kill -9 of a parent with four busy workers
    python tests/stress/processes.py terminate --rounds 100         # end what nothing but a kill can end

A token first writes into a file that is opened for appending, so this ledger tells what has run, whatever the runtime
believes. All processes of a storm have a mark in their environment, by which those are found that are left over.

Progress goes to stderr; then the report follows, with `--json` as one line. The exit code is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import os
import random
import re
import resource
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import psutil
from _storm import (
    PATIENCE,
    Ledger,
    Outcomes,
    Storm,
    check_states,
    gate_of,
    marked,
    marking,
    own,
    server_descriptors,
    spread,
    until,
    workers,
)

from tokengate import ChildSpec, Gate, ProcessActor, Token, TokenState, checkpoint, token
from tokengate.errors import NotPicklable, WorkerDied
from tokengate.types import ProcessPool

# --- What tokens do ---------------------------------------------------------------------------------------------------


def write(ledger: str, what: str, number: int) -> None:
    """Append a line of 32 bytes to the ledger, at once: it stays if the process is killed right after.

    The kernel copies page by page, and stops between two pages when the process is killed. A line of 32 bytes never
    crosses pages, so it is written whole or not at all.
    """
    line = f"{what} {number} {os.getpid()}".ljust(31) + "\n"
    assert len(line) == 32, line
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, line.encode())
    os.close(descriptor)


@token(affinity="process", capacity=50_000)
def work(ledger: str, number: int, seconds: float, size: int) -> tuple[int, int, bytes]:
    """Be one of the load: take so long, and have a result of so many bytes."""
    write(ledger, "begun", number)
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        pass
    write(ledger, "ended", number)
    return number, os.getpid(), bytes(size)


@token(affinity="process", capacity=50_000)
def tiny(ledger: str, number: int) -> tuple[int, int, bytes]:
    """Be one of those that are sent by the dozen."""
    write(ledger, "begun", number)
    write(ledger, "ended", number)
    return number, os.getpid(), b""


@token(affinity="process", capacity=50_000, concurrency=8)
def walk(ledger: str, number: int, steps: int) -> Generator[None, None, tuple[int, int, bytes]]:
    """Take steps of a fifth of a millisecond."""
    write(ledger, "begun", number)
    for _ in range(steps):
        ends = time.perf_counter() + 0.0002
        while time.perf_counter() < ends:
            pass
        yield
    write(ledger, "ended", number)
    return number, os.getpid(), b""


@token(affinity="process", capacity=50_000, concurrency=8)
def tread(ledger: str, number: int, steps: int) -> tuple[int, int, bytes]:
    """Take steps of a fifth of a millisecond, as a plain function."""
    write(ledger, "begun", number)
    for _ in range(steps):
        ends = time.perf_counter() + 0.0002
        while time.perf_counter() < ends:
            pass
        checkpoint()
    write(ledger, "ended", number)
    return number, os.getpid(), b""


class Tally(ProcessActor):
    """Counts what it is told, in a process of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.told = 0

    def add(self, ledger: str, number: int, seconds: float) -> tuple[int, int, int]:
        write(ledger, "begun", number)
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends:
            pass
        self.told += 1
        write(ledger, "ended", number)
        return number, os.getpid(), self.told


FATES = ("value", "exit", "segfault", "unpicklable", "raise", "sys.exit")


@token(affinity="process", capacity=50_000)
def meet(ledger: str, number: int, fate: str) -> Any:
    """End in one of several ways."""
    write(ledger, "begun", number)
    if fate == "exit":
        os._exit(3)
    if fate == "segfault":
        if number % 2:
            import ctypes

            ctypes.string_at(0)
        faulthandler._sigsegv()  # type: ignore[attr-defined]
    if fate == "unpicklable":
        return threading.Lock()
    if fate == "raise":
        raise ValueError(number)
    if fate == "sys.exit":
        sys.exit(number)
    return -number


@token(affinity="process", concurrency=8)
def sleep(ledger: str, number: int) -> None:
    write(ledger, "begun", number)
    time.sleep(600)


@token(affinity="process", concurrency=8)
def backtrack(ledger: str, number: int) -> None:
    """Be in C code that holds the interpreter's lock."""
    write(ledger, "begun", number)
    re.match(r"(a+)+$", "a" * 60 + "b")


@token(affinity="process", concurrency=8)
def loop(ledger: str, number: int) -> None:
    write(ledger, "begun", number)
    while True:
        pass


@token(affinity="process", concurrency=8)
def multiply(ledger: str, number: int) -> None:
    """Be in one call of NumPy's for some ten seconds."""
    import numpy as np

    matrix = np.ones((2_500, 2_500), dtype=np.int64)
    write(ledger, "begun", number)
    matrix @ matrix


@token(affinity="process")
def double(value: int) -> tuple[int, int]:
    return 2 * value, os.getpid()


# --- kill -------------------------------------------------------------------------------------------------------------

WORKERS = 4


class Load:
    """Tokens of all sizes, for as long as the storm goes on: some thousands in flight.

    Args:
        storm: whose they are.
        outcomes: where their ends are noted.
        steps: whether some of them take steps.
    """

    def __init__(self, storm: Storm, outcomes: Outcomes, *, steps: bool) -> None:
        self.submitted = 0
        self._storm = storm
        self._outcomes = outcomes
        self._chance = random.Random(storm.seed + 1)
        self._over = threading.Event()
        self._kinds = (work, tiny, walk, tread) if steps else (work, tiny)
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            kind = self._chance.choice(self._kinds)
            for _ in range({tiny: 500, work: 50}.get(kind, 10)):
                if self._over.is_set() or not self._submit(kind):
                    return  # what hangs is found when all is waited for

    def _submit(self, kind: Any) -> bool:
        chance, number = self._chance, self.submitted
        size = chance.choice((0, 0, 0, 0, 100, 100, 5_000, 5_000, 5_000, 200_000)) if kind is work else 0
        arguments: tuple[Any, ...] = ()
        if kind is work:
            arguments = (chance.choice((0, 0, 0, 0, 0.0001, 0.0001, 0.001, 0.005)), size)
        elif kind is not tiny:
            arguments = (chance.randint(0, 30),)
        right = lambda value: (value[0], len(value[2])) == (number, size)  # noqa: E731
        self.submitted += 1
        if self._outcomes.submit(kind, self._storm.ledger, number, *arguments, right=right):
            return True
        self.submitted -= 1
        return False


class Killer:
    """Kills random workers, and measures how soon there are others."""

    def __init__(self, storm: Storm, gate: Gate, outcomes: Outcomes) -> None:
        self.killed: set[int] = set()
        self.kills = 0
        self.replaced: list[float] = []
        self._storm = storm
        self._gate = gate
        self._outcomes = outcomes

    def volley(self) -> bool:
        """Kill one or several at once; tell whether others took their place."""
        chance, outcomes = self._storm.chance, self._outcomes
        single = chance.random() < 0.8
        if single:  # the time is only right if no other new one is on its way
            until(lambda: len(set(outcomes.born) & set(workers(self._gate))) >= WORKERS, 1.0)
        pids = workers(self._gate)
        aims = chance.sample(pids, min(1 if single else chance.randint(2, 6), len(pids)))
        known, at = set(outcomes.born), time.perf_counter()
        for pid in aims:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            self.killed.add(pid)
            self.kills += 1
        replaced = not known.isdisjoint(aims) and until(lambda: outcomes.born_after(known), 0.5, 0.0005)
        if replaced and single:
            self.replaced.append(min(when for _, when in outcomes.born_after(known)) - at)
        if not replaced:  # only spares were hit, or one that had been at work before has taken the place
            replaced = until(lambda: len(workers(self._gate)) >= len(pids))
        self._storm.expect(
            replaced, f"{aims} were killed, of {pids}; nobody has taken their place: {workers(self._gate)}"
        )
        return replaced


def kill(storm: Storm, rounds: int, seconds: float) -> None:
    """Kill random workers under load."""
    outcomes = Outcomes()
    load = Load(storm, outcomes, steps=False)
    with gate_of(storm, size=WORKERS) as gate:
        killer = Killer(storm, gate, outcomes)
        load.start()
        try:
            storm.expect(until(lambda: len(outcomes.born) >= 2), "the load does not run")
            steady, server = own(), server_descriptors()
            ends = time.monotonic() + seconds
            while killer.kills < rounds and (not killer.kills or time.monotonic() < ends) and killer.volley():
                time.sleep(storm.chance.random() * 0.01)
                storm.progress(killer.kills, rounds)
        finally:
            load.stop()
        if not outcomes.wait(load.submitted):
            storm.expect(False, f"{load.submitted - len(outcomes.states)} of {load.submitted} tokens never ended")
            faulthandler.dump_traceback()
        slack = {"descriptors": 16, "threads": 2}  # of a worker or two that were not there then
        until(lambda: all(own()[what] <= number + slack[what] for what, number in steady.items()))
        now = own()
        for what, number in steady.items():
            storm.expect(now[what] <= number + slack[what], f"{what} grow: from {number} to {now[what]}")
        until(lambda: server_descriptors() <= server + 4)
        now_server = server_descriptors()
        storm.expect(now_server <= server + 4, f"the server's descriptors grow: from {server} to {now_server}")
        check_states(storm, gate, outcomes, load.submitted)
    ledger = check_kills(storm, outcomes, killer.killed)
    storm.report |= {
        "kills": killer.kills,
        "tokens": load.submitted,
        "replaced_ms": spread(killer.replaced),
        "failed_without_a_trace": sum(not ledger.begun[number] for number in outcomes.errors),
        "failed_after_their_last_line": sum(bool(ledger.ended[number]) for number in outcomes.errors),
    }


def check_kills(storm: Storm, outcomes: Outcomes, killed: set[int]) -> Ledger:
    """See in the ledger that nothing ran twice, and that only those failed which a killed worker ran."""
    ledger = Ledger(storm.ledger)
    for number, state in outcomes.states.items():
        begun, ended, error = ledger.begun[number], ledger.ended[number], outcomes.errors.get(number)
        if state is TokenState.COMPLETED:
            storm.expect(len(begun) == len(ended) == 1, f"token number {number} is completed, and ran in {begun}")
            continue
        storm.expect(isinstance(error, WorkerDied), f"token number {number} is {state}: {error!r}")
        storm.expect(len(begun) <= 1, f"token number {number} failed, and ran in {begun}")
        pid = getattr(error, "pid", 0)
        storm.expect(pid in killed, f"token number {number} failed for {pid}, which nobody had killed")
        storm.expect(not begun or begun == [pid], f"token number {number} failed for {pid}, and ran in {begun}")
        storm.expect("SIGKILL" in str(error), f"the error does not name the signal: {error}")
    of_each = Counter(error.pid for error in outcomes.errors.values() if isinstance(error, WorkerDied))
    storm.expect(max(of_each.values(), default=0) <= 1, f"a kill failed several tokens: {of_each.most_common(3)}")
    return ledger


# --- actors -----------------------------------------------------------------------------------------------------------


def actors(storm: Storm, rounds: int, seconds: float) -> None:
    """Kill the processes of supervised actors under load: each crash costs one message and one instance's state."""
    outcomes, chance = Outcomes(), storm.chance
    counts: defaultdict[int, list[int]] = defaultdict(list)  # {pid: what it had been told, as its answers say}
    killed: set[int] = set()
    replaced: list[float] = []
    children = [ChildSpec(f"tally-{n}", Tally, restart="permanent") for n in range(3)]
    number = 0
    logging.disable(logging.ERROR)  # each crash is told of
    with gate_of(storm, children=children, intensity=1_000_000, size=1) as gate:
        refs = [gate.find(spec.id) for spec in children]
        proxies = [ref.proxy() for ref in refs]

        def send(which: int, times: int) -> None:
            nonlocal number
            for _ in range(times):
                arguments = number, chance.choice((0, 0, 0.0001, 0.002))

                def right(value: Any, number: int = number) -> bool:
                    counts[value[1]].append(value[2])
                    return bool(value[0] == number)

                outcomes.submit(proxies[which].add, storm.ledger, *arguments, right=right)
                number += 1

        ends = time.monotonic() + seconds
        for done in range(rounds):
            if done and time.monotonic() > ends:
                break
            which = chance.randrange(3)
            send(which, chance.randint(1, 30))
            pid, at = refs[which].proxy().add(storm.new_ledger(), -1, 0).result(PATIENCE)[1], 0.0
            counts[pid].append(counts[pid][-1] + 1 if counts[pid] else 1)
            send(which, chance.randint(0, 30))
            time.sleep(chance.random() * 0.003)
            killed.add(pid)
            at = time.perf_counter()
            _kill_if_there(pid, signal.SIGKILL)
            try:
                other = refs[which].proxy().add(storm.new_ledger(), -1, 0).result(PATIENCE)
            except WorkerDied:  # it was sent before anybody knew
                other = (-1, pid, 0)
            if other[1] != pid:
                replaced.append(time.perf_counter() - at)
                counts[other[1]].append(other[2])
            storm.progress(done + 1, rounds)
        storm.expect(outcomes.wait(number), f"{number - len(outcomes.states)} of {number} messages never ended")
        twice = [one for one, times in outcomes.told.items() if times != 1]
        storm.expect(not twice and not outcomes.wrong, f"ends that were told twice: {twice[:5]}; {outcomes.wrong[:3]}")
    check_kills(storm, outcomes, killed)
    for pid, told in counts.items():
        storm.expect(told == sorted(told), f"process {pid} counted {told}")
    storm.report |= {
        "kills": len(killed),
        "messages": number,
        "states": {str(state): times for state, times in Counter(outcomes.states.values()).items()},
        "restarted_ms": spread(replaced),
    }


# --- chaos ------------------------------------------------------------------------------------------------------------


class Operator:
    """Does to random tokens what chance says, and sees that the answers are true."""

    def __init__(self, storm: Storm, gate: Gate, outcomes: Outcomes) -> None:
        self.answers: Counter[str] = Counter()  # {verb and outcome: how often}
        self.ended: set[int] = set()  # numbers of the tokens that were to end
        self._storm = storm
        self._gate = gate
        self._outcomes = outcomes
        self._paused: dict[int, Token[Any]] = {}

    def act(self) -> None:
        """Do one thing to one token."""
        chance, control = self._storm.chance, self._gate.control
        target = self._target()
        if target is None:
            return
        number, one = target
        verb = chance.choices(
            ("pause", "resume", "step", "terminate", "cancel", "renice", "limit"), (6, 6, 4, 2, 1, 1, 1)
        )[0]
        if verb in ("resume", "step") and self._paused and chance.random() < 0.9:
            number, one = chance.choice(list(self._paused.items()))
        if verb == "pause":
            outcome = control.pause(one, wait=0.2)[0]
            if outcome.outcome == "paused":
                self._paused[number] = one
                self._check_pause(number, one)
        elif verb == "resume":
            outcome = control.resume(one)[0]
            self._paused.pop(number, None)
        elif verb == "step":
            outcome = control.step(one, chance.randint(1, 5), wait=chance.choice((0.0, 0.05)))[0]
            self._paused[number] = one
        elif verb == "terminate":
            mode = chance.choice(("cancel", "interrupt", "kill"))
            self.ended.add(number)
            outcome = control.terminate(one, mode=mode, wait=0.2)[0]
            verb = f"terminate {mode}"
        elif verb == "cancel":
            self.ended.add(number)
            self.answers[f"cancel {one.cancel()}"] += 1
            return
        elif verb == "renice":
            outcome = control.renice(one, chance.randint(-2, 2))[0]
        else:
            outcome = control.limit(one, wall_time=600.0)[0]
        self.answers[f"{verb} {outcome.outcome}"] += 1

    def _target(self) -> tuple[int, Token[Any]] | None:
        """Choose one, of those that run if there are any, most of the time."""
        live = list(self._outcomes.live.items())
        running = [(number, one) for number, one in live if one.started_at is not None]
        choice = running if running and self._storm.chance.random() < 0.85 else live
        return self._storm.chance.choice(choice) if choice else None

    def _check_pause(self, number: int, one: Token[Any]) -> None:
        """See that a token that is paused stands still, by its ledger and by its process."""
        if one.started_at is None or one.done():
            return
        before = Ledger(self._storm.ledger)
        if not before.begun[number]:
            return  # it is stopped right before its first line
        pid, seen = before.begun[number][0], ""

        def stands_still() -> bool:
            nonlocal seen
            try:
                seen = psutil.Process(pid).status()
            except psutil.NoSuchProcess:
                seen = psutil.STATUS_DEAD
            return seen == psutil.STATUS_STOPPED or one.done()

        # One that waits for a processor is stopped as soon as it gets one, before it runs a line.
        self._storm.expect(until(stands_still), f"token number {number} is paused, and process {pid} is {seen}")
        self._storm.expect(one.done() or one.state is TokenState.PAUSED, f"token number {number} is {one.state}")

    def finish(self) -> None:
        """Let go of everything that is held."""
        held = list(self._outcomes.live.values())
        for at in range(0, len(held), 100):
            self._gate.control.resume(held[at : at + 100])


def chaos(storm: Storm, rounds: int, seconds: float) -> None:
    """Let an operator pause, step and end tokens at random, beside random kills, and some stops from outside."""
    outcomes = Outcomes()
    load = Load(storm, outcomes, steps=True)
    killed: set[int] = set()
    with gate_of(storm, size=3) as gate:
        operator = Operator(storm, gate, outcomes)
        load.start()
        try:
            storm.expect(until(lambda: len(outcomes.born) >= 2), "the load does not run")
            ends = time.monotonic() + seconds
            for done in range(rounds):
                if done and time.monotonic() > ends:
                    break
                operator.act()
                if storm.chance.random() < 0.05:
                    for pid in storm.chance.sample(pids := workers(gate), min(1, len(pids))):
                        killed.add(pid)
                        _kill_if_there(pid, signal.SIGKILL)
                if storm.chance.random() < 0.3:
                    time.sleep(storm.chance.random() * 0.003)
                storm.progress(done + 1, rounds)
        finally:
            load.stop()
            operator.finish()
        if not outcomes.wait(load.submitted):
            storm.expect(False, f"{load.submitted - len(outcomes.states)} of {load.submitted} tokens never ended")
            for number, one in list(outcomes.live.items())[:10]:
                print(number, one, one.started_at, file=sys.stderr)
            faulthandler.dump_traceback()
        check_states(storm, gate, outcomes, load.submitted)
    ledger = Ledger(storm.ledger)
    for number, state in outcomes.states.items():
        begun, ended, error = ledger.begun[number], ledger.ended[number], outcomes.errors.get(number)
        storm.expect(len(begun) <= 1 and len(ended) <= 1, f"token number {number} is {state}, and ran in {begun}")
        if state is TokenState.COMPLETED:
            storm.expect(len(begun) == len(ended) == 1, f"token number {number} is completed, and ran in {begun}")
        elif state is TokenState.FAILED:
            pid = getattr(error, "pid", 0)
            storm.expect(isinstance(error, WorkerDied), f"token number {number} failed: {error!r}")
            storm.expect(pid in killed, f"token number {number} failed for {pid}, which nobody had killed: {error!r}")
        else:
            storm.expect(state is TokenState.TERMINATED, f"token number {number} is {state}: {error!r}")
            storm.expect(number in operator.ended, f"token number {number} is terminated, and was not to be: {error!r}")
    storm.report |= {"tokens": load.submitted, "kills": len(killed), "answers": dict(sorted(operator.answers.items()))}


def _kill_if_there(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


# --- exits ------------------------------------------------------------------------------------------------------------


def exits(storm: Storm, rounds: int, seconds: float) -> None:
    """Run tokens of which some take their process along, and others have no result that could travel."""
    outcomes = Outcomes()
    weights = (0.973, 0.01, 0.001, 0.001, 0.01, 0.005)
    fates = storm.chance.choices(FATES, weights, k=rounds)
    fates[:4] = FATES[:4]  # each at least once
    ends = time.monotonic() + seconds
    started = time.perf_counter()
    with gate_of(storm) as gate:
        for number, fate in enumerate(fates):
            if number >= len(FATES) and time.monotonic() > ends:
                del fates[number:]
                break
            right = lambda value, number=number: value == -number  # noqa: E731
            if not outcomes.submit(meet, storm.ledger, number, fate, right=right):
                break
            storm.progress(number + 1, rounds)
        storm.expect(outcomes.wait(len(fates)), f"only {len(outcomes.states)} of {len(fates)} tokens ended")
        took = time.perf_counter() - started
        check_states(storm, gate, outcomes, len(fates))
    ledger = Ledger(storm.ledger)
    for number, fate in enumerate(fates):
        begun, error = ledger.begun[number], outcomes.errors.get(number)
        storm.expect(len(begun) == 1, f"token number {number} ({fate}) ran in {begun}")
        storm.expect(_fits(fate, begun, error), f"token number {number} ({fate}) ended with {error!r}")
    storm.report |= {"tokens": len(fates), "fates": dict(Counter(fates)), "per_second": round(len(fates) / took)}


def _fits(fate: str, begun: list[int], error: BaseException | None) -> bool:
    """Tell whether an error is what a fate is to come to."""
    if fate in ("exit", "segfault"):
        code = 3 if fate == "exit" else -signal.SIGSEGV
        word = "code 3" if fate == "exit" else "SIGSEGV"
        return isinstance(error, WorkerDied) and (error.exit_code, [error.pid]) == (code, begun) and word in str(error)
    if fate == "unpicklable":
        return isinstance(error, NotPicklable)
    if fate == "raise":
        return type(error) is ValueError
    if fate == "sys.exit":
        return type(error) is SystemExit
    return error is None


# --- parent -----------------------------------------------------------------------------------------------------------

BUSY = (sleep, backtrack, loop, loop)  # the last one is paused


def parent(storm: Storm, rounds: int, seconds: float) -> None:
    """Kill processes that have busy workers, and see how long these live on."""
    lived: list[float] = []
    ends = time.monotonic() + seconds
    for done in range(rounds):
        if done and time.monotonic() > ends:
            break
        number = storm.chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGABRT, signal.SIGTERM))
        with marking() as mark:
            command = [sys.executable, __file__, "busy", storm.new_ledger()]
            victim = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert victim.stdout is not None
            try:
                line = victim.stdout.readline()
                storm.expect(line, "the parent did not come to have busy workers")
                if not line:
                    break
                pids = json.loads(line)
                alive = marked(mark)
                storm.expect(set(pids) <= set(alive), f"of {pids} only {sorted(alive)} are alive before the kill")
                storm.expect(len(alive) >= 6, f"there are {sorted(alive)}: not a parent, a server, four workers")
                time.sleep(storm.chance.random() * 0.02)
                started = time.perf_counter()
                os.kill(victim.pid, number)
                left = [process for pid, process in alive.items() if pid != victim.pid]
                until(lambda left=left: not any(_lives(process) for process in left), look=0.001)
                lived.append(time.perf_counter() - started)
                left = [process for process in left if _lives(process)]
                storm.expect(not left, f"{PATIENCE} s after {number.name} to their parent, there are {left}")
                storm.expect(not (later := marked(mark)), f"{PATIENCE} s after {number.name}, there are {later}")
                for process in left:
                    process.kill()
            finally:
                victim.kill()
                victim.wait()
                victim.stdout.close()
        storm.progress(done + 1, rounds)
    storm.report |= {"parents": len(lived), "workers_outlived_ms": spread(lived)}


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def busy(ledger: str) -> None:
    """Be a parent with four busy workers, of which one is stopped, and say their pids."""
    with Gate("busy", processes=ProcessPool(size=4), control_socket=False) as gate:
        tokens = [operation.submit(ledger, number) for number, operation in enumerate(BUSY)]
        if not until(lambda: len(Ledger(ledger).begun) == len(BUSY)):
            return
        gate.control.pause(tokens[-1])
        pids = {pid for pids in Ledger(ledger).begun.values() for pid in pids}
        print(json.dumps(sorted(pids)), flush=True)
        threading.Event().wait(60)
        os._exit(1)


# --- terminate --------------------------------------------------------------------------------------------------------


def terminate(storm: Storm, rounds: int, seconds: float) -> None:
    """End tokens that are where only a kill ends them, beside others that must not notice."""
    victims: dict[str, Any] = {"sleep": sleep, "regex": backtrack, "loop": loop}
    try:
        import numpy  # noqa: F401
    except ImportError:
        pass
    else:
        victims["numpy"] = multiply
    gone: defaultdict[str, list[float]] = defaultdict(list)
    following: defaultdict[str, list[float]] = defaultdict(list)
    ends = time.monotonic() + seconds
    with gate_of(storm, size=2) as gate:
        for done in range(rounds):
            if done and time.monotonic() > ends:
                break
            for name, victim in victims.items():
                number = 2 * done
                ledger = storm.new_ledger()
                target = victim.submit(ledger, number)
                if not until(lambda ledger=ledger: Path(ledger).read_text().endswith("\n"), look=0.0005):
                    storm.expect(False, f"{name}: it did not begin")
                    return
                (pid,) = Ledger(ledger).begun[number]
                time.sleep(storm.chance.random() * 0.01)
                mode = storm.chance.choice(("interrupt", "kill"))
                beside = [double.submit(value) for value in range(5)]
                descriptor = os.pidfd_open(pid)
                started = time.perf_counter()
                (outcome,) = gate.control.terminate(target, mode=mode)
                ended = select.select([descriptor], [], [], PATIENCE)[0]
                gone[name].append(time.perf_counter() - started)
                os.close(descriptor)
                result, other = double.submit(number).result(PATIENCE)
                following[name].append(time.perf_counter() - started)
                storm.expect(ended, f"{name}: process {pid} lives")
                storm.expect(outcome.outcome == "killed", f"{name}, {mode}: {outcome}")
                storm.expect(target.state is TokenState.TERMINATED, f"{name}: it is {target.state}")
                storm.expect(result == 2 * number and other != pid, f"{name}: the next has {result} from {other}")
                values = [one.result(PATIENCE)[0] for one in beside]
                storm.expect(values == [0, 2, 4, 6, 8], f"{name}: those beside it have {values}")
            storm.progress(done + 1, rounds)
    for name, times in gone.items():
        storm.report[name] = {"gone_ms": spread(times), "next_result_ms": spread(following[name])}
        storm.expect(statistics.median(times) < 10.0, f"{name}: it took {statistics.median(times):.3f} s")


# --- The script -------------------------------------------------------------------------------------------------------

STORMS: dict[str, tuple[Callable[[Storm, int, float], None], int]] = {
    "kill": (kill, 2_000),
    "actors": (actors, 1_000),
    "chaos": (chaos, 5_000),
    "exits": (exits, 20_000),
    "parent": (parent, 100),
    "terminate": (terminate, 100),
}


def run(name: str, rounds: int, seconds: float, seed: int) -> dict[str, Any]:
    """Run a storm, and return its report."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        storm = Storm(name, seed, directory)
        STORMS[name][0](storm, rounds, seconds)
    storm.report["seconds"] = round(time.perf_counter() - started, 1)
    storm.report["failures"] = storm.failures[:20]
    return storm.report


def tell(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(report), flush=True)
        return
    for name, value in report.items():
        print(f"{name:30} {value}", flush=True)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("storm", choices=STORMS)
    parser.add_argument("--rounds", type=int, help="kills, tokens, parents or tokens of each kind")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further round after so many")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--json", action="store_true", help="report in one line")
    options = parser.parse_args(arguments)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no files of processes that crash
    rounds = options.rounds or STORMS[options.storm][1]
    print(f"{options.storm}: {rounds} rounds, seed {options.seed}", file=sys.stderr, flush=True)
    report = run(options.storm, rounds, options.seconds, options.seed)
    tell(report, options.json)
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["busy"]:
        busy(sys.argv[2])
    else:
        sys.exit(main(sys.argv[1:]))
