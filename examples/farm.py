"""A render farm that knows how long its renders will take, with a rule of each mode:

    python examples/farm.py                 # watch it, and stop it with Ctrl-C
    python examples/farm.py --seconds 20
    python examples/farm.py --without       # the same renders in the order in which they come

Three machines render scenes of one frame to some hundred. After some seconds the farm has seen enough of them to say
how long one will take, and its rules begin to work:

    short-first   acts: what will take long gets a lower priority as it is submitted, for half a minute at most
    stuck         proposes: a render that has run for four times its p95 is to be ended; now and then one hangs
    late-first    only observes: what will miss its deadline would get a higher priority

The first one is below, the other two are in `farm.toml`. Ask the farm from another terminal (docs/prediction.md):

    tokengate calibration                        # how right its predictions were
    tokengate ps 'run.p50>40ms'                  # what will take long: expected beside actual
    tokengate rules                              # the modes, and how many tokens each means now
    tokengate interventions                      # what they did, or would have done; also show N, undo N
    tokengate proposals                          # what waits for a person: apply N, deny N
    tokengate rules mode late-first act          # and it does what it has only written down
    tokengate freeze --revert --reason "a drill" # all of them stop, and what they did is undone
    tokengate unfreeze                           # they go on
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import attrs
import trio

from tokengate import Gate, Policy, Token, TokenState, token
from tokengate.predict import Feature, Predict, Rule

MACHINES: Final = 3
FRAME: Final = 0.002  # seconds
SCENES: Final = 52.0  # that are asked for in a second: nearly what the machines can do
DEADLINE: Final = 1.0  # seconds, for one of five
HANGS: Final = 6.0  # seconds

SHORT_FIRST: Final = Rule(
    name="short-first", select="operation=render,run.p50>40ms,urgent!=yes", do="renice -1", mode="act", expires="30s"
)
RULES: Final = Path(__file__).with_suffix(".toml")


@token(concurrency=MACHINES)
async def render(frames: Annotated[int, Feature()], luck: float, hangs: bool = False) -> int:
    """Render a scene: as long as its frames and chance make it."""
    await trio.sleep(FRAME * frames * luck + (HANGS if hangs else 0.0))
    return frames


@attrs.define
class Tally:
    """What became of the renders so far."""

    asked: int = 0
    ended: int = 0
    late: int = 0
    stopped: int = 0
    waited: float = 0.0  # seconds
    slowdown: float = 0.0  # (wait + run) / run, all together
    reniced: int = 0

    def note(self, one: Token[int]) -> None:
        """Count a render that has ended."""
        self.reniced += one.priority < 0
        if one.state is not TokenState.COMPLETED or one.started_at is None or one.finished_at is None:
            self.late += one.state is TokenState.EXPIRED
            self.stopped += one.state is TokenState.TERMINATED
            return
        wait, run = one.started_at - one.created_at, one.finished_at - one.started_at
        self.ended += 1
        self.waited += wait
        self.slowdown += (wait + run) / run

    def __str__(self) -> str:
        ended = max(1, self.ended)
        return (
            f"{self.asked} asked, {self.ended} rendered, {self.late} late, {self.stopped} stopped; waits of "
            f"{self.waited / ended:.2f} s, slowdown {self.slowdown / ended:.1f}; {self.reniced} were reniced"
        )


def ask(tally: Tally, seconds: float, look: Callable[[], None], seed: int = 0) -> None:
    """Submit scenes at random times, the same ones for the same seed, and look once a second.

    Args:
        tally: of what becomes of them.
        seconds: that it takes.
        look: is called each second.
        seed: of the scenes.
    """
    chance, over = random.Random(seed), deque[Token[int]]()
    urgent = render.with_options(policy=Policy(deadline=DEADLINE), tags={"urgent": "yes"})
    began = time.monotonic()
    due, looked = began, began
    while (now := time.monotonic()) - began < seconds:
        while due <= now:
            due += chance.expovariate(SCENES)
            tally.asked += 1
            frames = min(400, int(4 * chance.paretovariate(1.1)))
            operation = urgent if tally.asked % 5 == 0 else render
            one = operation.submit(frames, chance.lognormvariate(0, 0.15), tally.asked % 400 == 3)
            one.add_done_callback(over.append)
        while over:
            tally.note(over.popleft())
        if now - looked >= 1:
            looked = now
            look()
        time.sleep(0.002)
    while over:
        tally.note(over.popleft())


class Screen:
    """Prints a line each second, and one for each intervention.

    Args:
        predict: of the farm; None: it predicts nothing.
        tally: of its renders.
    """

    def __init__(self, predict: Predict | None, tally: Tally) -> None:
        self._predict = predict
        self._tally = tally
        self._seen = 0

    def look(self) -> None:
        """Print what is new."""
        say(str(self._tally))
        if self._predict is not None:
            for one in self._predict.interventions():
                if one.state == "proposed" and not one.proposal:
                    return  # its proposal is being made
                if one.number > self._seen:
                    self._seen = one.number
                    hint = f"; tokengate apply {one.proposal}" if one.proposal else ""
                    why = f", {one.why}" if one.why else ""
                    say(f"  {one.number}: {one.rule}, {one.verb} of {one.target}: {one.state}{why}{hint}")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without", action="store_true", help="predict nothing, and have no rules")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end it after that (default: never)")
    parser.add_argument("--models", metavar="DIR", help="keep what was learned in this directory")
    chosen = parser.parse_args(arguments)
    tally = Tally()
    predict = None if chosen.without else Predict(rules=[SHORT_FIRST], models=chosen.models)
    plugins, rules = ([], None) if predict is None else ([predict], RULES)
    gate = Gate("farm", shutdown=1.0, plugins=plugins, config=rules)
    try:
        with gate:
            gate.register(render)
            ask(tally, chosen.seconds, Screen(predict, tally).look)
            if predict is not None:
                for row in predict.calibration("render"):
                    say(f"{row.target}: {row.n} learned, calibrated: {'yes' if row.calibrated else f'no, {row.why}'}")
            gate.close(drain=False)
    except KeyboardInterrupt:
        pass
    say(str(tally))


if __name__ == "__main__":
    main(sys.argv[1:])
