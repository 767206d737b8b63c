"""The plugin: predicts what tokens need, and acts by rules."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import trio

from actors import ActorSystem, Observer, Token
from actors.lowlevel import SYSTEM, Worker
from supervisors import ChildSpec, RestartScheduled
from tokengate._exceptions import BadPolicy
from tokengate.authority._events import InterventionsFrozen
from tokengate.config._file import Config
from tokengate.control._safe_text import class_name
from tokengate.control.messages import HealthPart
from tokengate.control.registry._plugin import Plugin
from tokengate.control.stream._queued import Queued
from tokengate.predict._action import action_of
from tokengate.predict._actor import RuleActor
from tokengate.predict._engine import Engine
from tokengate.predict._forecast import Forecasts
from tokengate.predict._gate_host import GateHost
from tokengate.predict._host import RULES as RULES_CALLER
from tokengate.predict._intervention import RuleState
from tokengate.predict._kept import Kept
from tokengate.predict._kinds import InterventionRow, RuleRow
from tokengate.predict._kinds import Interventions as _Interventions
from tokengate.predict._kinds import Rules as _Rules
from tokengate.predict._leaks import LeakWatch
from tokengate.predict._learner import Learner
from tokengate.predict._ledger import Ledger
from tokengate.predict._metrics import families
from tokengate.predict._model_directory import ModelDirectory
from tokengate.predict._models import Models
from tokengate.predict._outcomes import CalibrationRow
from tokengate.predict._retry_loops import RetryLoops
from tokengate.predict._rule import MODES, Budget, Mode, Rule
from tokengate.predict._rules_file import RULES
from tokengate.predict._sample import Estimator
from tokengate.predict._steered import SteeredTokens
from tokengate.predict._submit import SubmitRules
from tokengate.predict._undo import Undoing
from tokengate.predict._verbs import PredictVerbs
from tokengate.telemetry import Telemetry

_logger = logging.getLogger("tokengate.predict")

_HANGS: Final = 5.0  # seconds after which a pass of learning counts as one that hangs
_SAVED: Final = 600.0  # seconds between two times that models are written
_TOLD: Final = 60.0  # seconds between two records of what rules did at submit
_FRESH: Final = 0.25  # seconds for which saturation is not read again
_CLOSE_SECONDS: Final = 1.0
_UNDONE_A_SECOND: Final = 500
_CONTROL: Final = f"{SYSTEM}/control"


class Predict(Plugin):
    """Predicts what tokens need from records of others, and acts by rules: `Gate("shop", plugins=[Predict()])`.

    Args:
        tags: names of the tags that are learned from.
        rules: the rules; one of the gate's file with the same name has its place.
        mode: no rule goes further than this: `observe`, `propose` or `act`.
        budget: of all rules together: targets a minute and the share of running tokens.
        models: directory of what was learned, read when the gate opens, written each 10 minutes and when it closes; it
            also keeps which rules lost trust. None: nothing is kept.
        estimators: estimators of one's own, beside the two that are built in.

    Raises:
        ValueError: an argument has a value that cannot work (`BadPolicy`, where it is one of a rule).
    """

    needs: ClassVar[tuple[type[Plugin], ...]] = (Telemetry,)

    def __init__(
        self,
        tags: Iterable[str] = (),
        rules: Iterable[Rule] = (),
        mode: Mode = "act",
        budget: str = "20/min, 10%",
        models: str | os.PathLike[str] | None = None,
        estimators: Iterable[Estimator] = (),
    ) -> None:
        names = (tags,) if isinstance(tags, str) else tuple(tags)
        if not all(isinstance(name, str) and name for name in names):
            raise ValueError(f"tags of Predict is {tags!r}; it must hold names of tags, such as ('tenant',)")
        if mode not in MODES:
            raise ValueError(f"mode of Predict is {mode!r}; use one of {', '.join(MODES)}")
        if not isinstance(models, str | os.PathLike | None):
            raise ValueError(f"models of Predict is {models!r}; it must be the path of a directory, or None")
        self._tags = names
        self._mode: Mode = mode
        self._budget = Budget.of(budget, "Predict")
        self._own_rules = _named(rules)
        self._file_rules: tuple[Rule, ...] = ()
        self._estimators = _checked(estimators)
        self._directory = None if models is None else ModelDirectory(Path(models))
        self._ledger: Ledger | None = None
        self.failed = ""  # the class of the error that the latest look has raised; empty: it has not

    # The gate

    def prepare(self, config: Config, /) -> Callable[[], Iterable[str]]:
        """Return a function that has the rules of a file in force."""
        rules = config.of(RULES)

        def take() -> list[str]:
            before = {rule.name: rule for rule in self._file_rules}
            self._file_rules = rules
            if self._ledger is not None:
                self._ledger.take(self._rules, self._kept.trust)
            changed = [rule.name for rule in rules if before.get(rule.name) != rule]
            return [f"rule {name}" for name in sorted({*changed, *before.keys() - {rule.name for rule in rules}})]

        return take

    @property
    def _rules(self) -> list[Rule]:
        named = {rule.name: rule for rule in (*self._own_rules, *self._file_rules)}
        return list(named.values())

    def observer(self, gate: Any, /) -> Observer:
        """Begin to learn.

        Raises:
            BadStateDirectory: the directory of the models cannot be used.
        """
        system: ActorSystem = gate._system
        telemetry: Telemetry = gate.plugin(Telemetry)
        self._stream = gate._stream
        self._system = system
        self._models = Models(self._tags, self._estimators, notice=self._notice)
        if self._directory is not None:
            self._directory.open(self._models, gate.name)
        self._kept = Kept(None if self._directory is None else self._directory.path)
        self._leaks = LeakWatch()
        self._loops = RetryLoops()
        self._saturated = (-_FRESH, 0.0)  # (when it was read, the fullest resource)
        self._forecasts = Forecasts(
            system, self._models, self._tags, self._loops, self._leaks, self._saturation, self._features_off
        )
        host, steered = GateHost(gate, self._kept, self._say), SteeredTokens()
        self._ledger = ledger = Ledger(host, self._mode, self._budget)
        ledger.take(self._rules, self._kept.trust)
        self._undoing = Undoing(host, ledger)
        self._engine = Engine(host, self._forecasts, ledger, self._undoing, steered)
        self._submit = SubmitRules(ledger, steered, self._forecasts, host)
        self._learner = Learner(
            gate._stream.run, self._models, self._loops, self._forecasts.chosen, system.clock, self._leave_directory
        )
        self._saved_at = self._told_at = time.monotonic()
        self._reverts = False
        self._looking = trio.Lock()  # while a look is under way, on the system loop
        telemetry.watch_memory(self._note_memory)
        telemetry.add_metrics(self._metrics)
        gate._stream.attach(self._learner if not self._estimators else _queued(self._learner, self._forecasts))
        system.predictor = self._forecasts
        self._forecasts.at_submit = self._ask_at_submit
        system.add_intake(self._forecasts.note)
        return _Listener(self)

    def _metrics(self, core: Any) -> Iterable[Any]:
        done = [(one.rule.name, dict(one.done)) for one in self._open.states]
        return families(core, self._models.calibration(), done)

    def child(self, gate: Any, /) -> ChildSpec:
        """Return the spec of what looks at tokens for rules."""

        def note(failed: str) -> None:
            self.failed = failed

        # The freeze is read from its file when it is first asked for; until then it holds.
        return ChildSpec("rules", RuleActor, args=(gate._authority.freeze.is_on, self._look, note))

    def answers(self, gate: Any, /) -> PredictVerbs:
        """Return what answers the verbs about rules, interventions and calibration."""
        freeze = gate._authority.freeze
        return PredictVerbs(
            self._open, self._undoing, self._models, gate._system, self._keep_trust, lambda: freeze.holds
        )

    def health(self, _gate: Any, /) -> Iterable[HealthPart]:
        """Return whether predictions are made, and rules are looked at."""
        why, learner = "", self._learner
        busy = learner.busy_since
        if busy is not None and self._system.clock() - busy > _HANGS:
            why = f"prediction hangs: an estimator has not returned for {self._system.clock() - busy:.0f} s"
        elif learner.failed:
            why = f"prediction cannot learn: {learner.failed}"
        elif self._forecasts.failed:
            why = f"prediction fails: {self._forecasts.failed}; see the log of the gate"
        elif self.failed:
            why = f"rules cannot be looked at: {self.failed}"
        return (HealthPart("predict", "degraded" if why else "ok", why=why),)

    def opened(self, _gate: Any, /) -> None:
        """Undo what rules did to durable tokens before a crash."""
        if self._kept.tokens:
            self._begin(self._undo_kept)

    def closing(self, gate: Any, /) -> None:
        """Undo what rules did, while control still answers."""
        active, over = self._open.active, threading.Event()
        self._engine.is_closing = self._submit.is_closing = True

        async def undo() -> None:
            try:
                async with self._looking:  # which ends soon, since nothing more is done
                    await self._undoing.undo_all("the gate closes")
                    await self._submit.undo_due(self._system.clock(), all=True)
            finally:
                over.set()

        left = len(active) + self._submit.active
        self._begin(undo)
        if not over.wait(_CLOSE_SECONDS + left / _UNDONE_A_SECOND):
            left = len(active) + self._submit.active
            _logger.warning("gate '%s' closes, and %d interventions are not undone", gate.name, left)

    def _begin(self, work: Callable[[], Awaitable[object]]) -> None:
        """Run something on the system loop, which nothing of it ends."""

        async def run() -> None:
            try:
                await work()
            except Exception as error:
                _logger.exception("what rules did could not be undone")
                self.failed = type(error).__name__

        host = self._system.system_host
        host.call_soon(lambda: host.start_task(run, "undo of interventions"))

    # What is asked

    @property
    def _open(self) -> Ledger:
        if self._ledger is None:
            raise RuntimeError("Predict has no gate that was opened; use 'with gate:'")
        return self._ledger

    def calibration(self, operation: str = "") -> tuple[CalibrationRow, ...]:
        """Return how right predictions were.

        Args:
            operation: of which; empty for all.
        """
        return self._models.calibration(operation)

    def rules(self) -> tuple[RuleRow, ...]:
        """Return the rules: their modes, the tokens that they mean now, and what is left of their budgets."""
        rows: tuple[RuleRow, ...] = self.gate.control.ask(_Rules())
        return rows

    def interventions(self) -> tuple[InterventionRow, ...]:
        """Return the latest interventions, the oldest first."""
        rows: tuple[InterventionRow, ...] = self.gate.control.ask(_Interventions())
        return rows

    # Once a second, on the system loop

    async def _look(self) -> None:
        async with self._looking:
            await self._look_alone()

    async def _look_alone(self) -> None:
        now = self._system.clock()
        if self._reverts:
            self._reverts = False
            await self._undoing.undo_all("rules are frozen")
            await self._submit.undo_due(now, all=True)
        await self._submit.undo_due(now)
        await self._engine.look()
        for one in self._open.states:
            if self._kept.trust.get(one.rule.name, "") != one.trust.lost:
                await trio.to_thread.run_sync(self._keep_trust, one)
        wall = time.monotonic()
        if wall - self._told_at >= _TOLD:
            self._told_at = wall
            self._tell_submits()
        if wall - self._saved_at >= _SAVED:
            self._saved_at = wall
            await trio.to_thread.run_sync(self._save)

    def _tell_submits(self) -> None:
        """Have it on record how many tokens rules have changed at submit."""
        told = self._submit.told()
        if not told:
            return
        counts = {f"{rule}: {did}": number for (rule, did), number in told.items()}
        self._say("intervention.at_submit", f"rules asked at submit: {counts}", None, dict(counts))
        log = self.gate._authority.recorder.log
        if log is not None:
            from tokengate.audit import Entry  # here, since few gates have a log

            log.add(Entry(kind="rules", caller=RULES_CALLER, outcome=counts))

    async def _undo_kept(self) -> None:
        """Undo what rules did to durable tokens in an earlier opening."""
        live = {token.uid: token for token in list(self._system.live.values())}
        for entry in list(self._kept.tokens.values()):
            uid, action = entry["uid"], action_of(entry["verb"])
            await self._undoing.undo_after_restart(uid, live.get(uid), action, entry["before"], entry["set"])
            await trio.to_thread.run_sync(self._kept.set_token, uid, action.verb, None)

    # Learning

    def _ask_at_submit(self, token: Token[Any]) -> None:
        self._submit.ask(token)

    def _note_memory(self, worker: Worker, token: Token[Any], size: int) -> None:
        verdict = self._leaks.add(worker, size)
        if verdict == "confirmed":
            text = f"the memory of process {worker.pid} grows with each token of '{token.operation}'"
            self._say("model.leak", text, token, {"process": worker.pid, "bytes": size})

    def _saturation(self) -> float | None:
        at, value = self._saturated
        now = self._system.clock()
        if now - at >= _FRESH:
            value = max(self.gate.plugin(Telemetry).load.saturation.values(), default=0.0)
            self._saturated = now, value
        return value

    def _features_off(self, operation: str, why: str) -> None:
        self._say("model.features_off", f"features of '{operation}' are switched off: {why}", None, {"why": why})

    def _notice(self, kind: str, operation: str, details: Mapping[str, Any]) -> None:
        said = ", ".join(f"{name} {value}" for name, value in details.items())
        self._say(kind, f"predictions of '{operation}': {said}", None, {"operation": operation, **details})

    def _say(self, kind: str, text: str, token: Token[Any] | None, details: dict[str, Any]) -> None:
        self._stream.collector.put(kind, text, token=token, details=details)

    def _keep_trust(self, one: RuleState) -> None:
        self._kept.set_trust(one.rule.name, one.trust.lost)

    def _save(self) -> None:
        """Write what was learned; on a thread that may block."""
        if self._directory is not None:
            self._directory.save(self._models, self.gate.name)

    def _leave_directory(self) -> None:
        try:
            self._save()
        finally:
            if self._directory is not None:
                self._directory.close()


class _Listener(Observer):
    """Notes what the actors and the operators of a gate do, for its predictor."""

    def __init__(self, predict: Predict) -> None:
        self._predict = predict

    def event(self, event: object, /) -> None:
        predict = self._predict
        if type(event) is InterventionsFrozen:
            predict._reverts = predict._reverts or event.revert
        elif type(event) is RestartScheduled and event.reason.error is not None:
            predict._loops.restarted(event.child, class_name(type(event.reason.error)))


def _queued(learner: Learner, forecasts: Forecasts) -> Queued:
    """Return a sink that learns on a thread of its own, since estimators of users may hang."""

    def take(items: Any) -> None:
        learner.learn(items)
        forecasts.ask_own()

    return Queued("predict", take, lambda: learner.close(0.0), raw=True, idle=0.05)


def _named(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    found: dict[str, Rule] = {}
    for rule in rules:
        if not isinstance(rule, Rule):
            raise ValueError(f"rules of Predict has {rule!r}; it must hold Rule(name=..., select=..., do=...)")
        if rule.name in found:
            raise BadPolicy("Predict", "rules", rule.name, "two rules have this name; use different ones")
        found[rule.name] = rule
    return tuple(found.values())


def _checked(estimators: Iterable[Estimator]) -> tuple[Estimator, ...]:
    found = tuple(estimators)
    for one in found:
        if getattr(one, "target", None) not in ("run", "memory"):
            raise ValueError(f"estimators of Predict has {one!r}; its target must be 'run' or 'memory'")
        for name in ("learn", "predict"):
            if not callable(getattr(one, name, None)):
                raise ValueError(f"estimators of Predict has {one!r}, which has no method {name}(sample)")
    return found
