"""Forecasts: what is known and expected of each token of a gate."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar
from weakref import ReferenceType, WeakKeyDictionary, ref

import attrs

from actors import ActorSystem, Prediction, Quantiles, Token, TokenRejected
from actors.lowlevel import OperationPlace, memory, place_of, process_drain
from tokengate.control.stream._collector import digest_of
from tokengate.predict._features import NO_FEATURES, Extractor, extractor_of
from tokengate.predict._leaks import LeakWatch
from tokengate.predict._models import Models
from tokengate.predict._outlook import Outlook, Spread
from tokengate.predict._retry_loops import RetryLoops
from tokengate.predict._sample import Sample, Target

_logger = logging.getLogger("tokengate.predict")

T = TypeVar("T", bound="Quantiles | Spread | None")

_UNASKED: Final = object()
_WANTED: Final = object()  # an estimator of the user is being asked, on the thread that learns
_LEAST: Final = 1e-9  # seconds; what an operator estimates may be 0
_WAITING: Final = 10_000  # tokens for which estimators of the user are to be asked


class Forecast:
    """What is known and expected of one token.

    Attributes:
        features: {name: a finite number}.
        outlook: what is expected of it before it runs, once that was asked for.
        run: the p95 of its seconds that an operator has set; None: none has.
        memory: the same of its bytes.
    """

    __slots__ = ("features", "memory", "outlook", "run")

    def __init__(self, features: Mapping[str, float] = NO_FEATURES) -> None:
        self.features = features
        self.outlook: Any = _UNASKED
        self.run: float | None = None
        self.memory: float | None = None

    @property
    def said(self) -> Mapping[str, float] | None:
        """What was predicted before it ran, {field of a selector: number}; None if nothing has asked."""
        outlook: Outlook | None = self.outlook
        if outlook is None or outlook is _UNASKED or outlook is _WANTED:
            return None
        found: dict[str, float] = {"n": outlook.n, "calibrated": float("run" in outlook.calibrated)}
        for name, spread in (("run", outlook.run), ("memory", outlook.memory)):
            if spread is not None:
                found |= {f"{name}.p50": spread.p50, f"{name}.p95": spread.p95}
        if outlook.failing is not None:
            found["failing"] = outlook.failing
        return found


class Forecasts:
    """The predictor of a gate; see `actors.tokens._ports.Predictor`.

    Args:
        system: of the gate.
        models: what was learned.
        tags: the names of the tags that are learned from.
        loops: the calls that fail again and again.
        leaks: the workers whose memory grows.
        saturation: returns how full the fullest resource is, 0 to 1.
        off: called with an operation and a reason when its features are switched off.
    """

    def __init__(
        self,
        system: ActorSystem,
        models: Models,
        tags: tuple[str, ...],
        loops: RetryLoops,
        leaks: LeakWatch,
        saturation: Callable[[], float | None],
        off: Callable[[str, str], object],
    ) -> None:
        self._system = system
        self._models = models
        self._tags = tags
        self._loops = loops
        self._leaks = leaks
        self._saturation = saturation
        self._off = off
        self._extractors: WeakKeyDictionary[Any, Extractor] = WeakKeyDictionary()
        self._making = threading.Lock()
        self.at_submit: Callable[[Token[Any]], object] | None = None  # asks the rules that need no look
        self._memory: int | None = None  # bytes that the machine or its container has, once that was asked for
        self.failed = ""  # the class of the error that the models have raised; empty: they have not
        self.wanted: deque[tuple[ReferenceType[Token[Any]], Forecast]] = deque(maxlen=_WAITING)

    # At submit, in the thread of the sender

    def note(self, token: Token[Any]) -> None:
        """Compute the features of a new token, and ask the rules that need no look about it."""
        try:
            self._note(token)
        except BaseException:  # an interrupt: its sender learns of it, and the token is over
            place_of(token).reject(token, TokenRejected(f"{token!r} was given up by its sender"))
            raise

    def _note(self, token: Token[Any]) -> None:
        place = token._place
        if place.serves_operators or token._extras.forecast is not None:
            return
        features = NO_FEATURES
        if isinstance(place, OperationPlace):
            extractor = self._extractor(place, token.operation)
            if extractor.is_on:
                features = extractor.of(token.args, token.kwargs)
        if features:
            token._own_extras().forecast = Forecast(features)
        if self._models.asks_own(token.operation):
            self._want(token, self._of(token))
        if self.at_submit is not None:
            self.at_submit(token)

    def _extractor(self, place: OperationPlace, name: str) -> Extractor:
        found = self._extractors.get(place)
        if found is None:
            with self._making:
                found = self._extractors.get(place)
                if found is None:
                    found = self._extractors[place] = extractor_of(place, name, self._off)
        return found

    # What is expected

    def ask_own(self) -> None:
        """Ask the estimators of the user about the tokens that wait for that; on the thread that learns."""
        while self.wanted:
            known, forecast = self.wanted.popleft()
            token = known()
            if token is not None and forecast.outlook is _WANTED and not token.done():
                forecast.outlook = self._asked(self.sample(token), own=True)

    def _asked(self, sample: Sample, *, own: bool) -> Outlook | None:
        """Return what the models say of a call; None, too, if they raise, which health says then."""
        try:
            return self._models.outlook(sample, own=own)
        except Exception as error:
            if not self.failed:
                _logger.exception("'%s' could not be predicted; tokens go on without it", sample.operation)
            self.failed = type(error).__name__
            return None

    def _want(self, token: Token[Any], forecast: Forecast) -> None:
        """Have the estimators of the user asked about a token."""
        forecast.outlook = _WANTED
        self.wanted.append((ref(token), forecast))  # weakly: an estimator may hang, and results are to be freed

    def sample(self, token: Token[Any]) -> Sample:
        """Return what a prediction of a token is made from."""
        forecast = token._extras.forecast
        features = NO_FEATURES if forecast is None else forecast.features
        return Sample(token.operation, token.affinity, token.priority, self.chosen(token.tags), features)

    def chosen(self, tags: Mapping[str, str]) -> Mapping[str, str]:
        """Return the tags that are learned from."""
        return {name: tags[name] for name in self._tags if name in tags} if tags and self._tags else NO_TAGS

    def _of(self, token: Token[Any]) -> Forecast:
        extras = token._own_extras()
        if extras.forecast is None:
            extras.forecast = Forecast()
        forecast: Any = extras.forecast
        return forecast  # type: ignore[no-any-return]

    def outlook(self, token: Token[Any], *, own: bool) -> Outlook | None:
        """Return what is expected of a token before it runs; it is computed once.

        Args:
            token: the token.
            own: whether code of users may run.
        """
        forecast = self._of(token)
        if forecast.outlook is _UNASKED and not own and self._models.asks_own(token.operation):
            self._want(token, forecast)
        if forecast.outlook is _WANTED and not own:
            return None
        if forecast.outlook is _UNASKED or forecast.outlook is _WANTED:
            forecast.outlook = self._asked(self.sample(token), own=own)
        found: Outlook | None = forecast.outlook
        return found

    def predicted(self, token: Token[Any]) -> Prediction | None:
        return self._prediction(token, self._system.clock(), self.outlook(token, own=True))

    def uncalibrated(self, token: Token[Any], uses: frozenset[str]) -> tuple[str, ...]:
        """Return those of some predictions for a token that are not calibrated.

        Args:
            token: the token.
            uses: the predictions: `run`, `memory`, `failing`, `late`.
        """
        if not uses:
            return ()
        forecast: Any = token._extras.forecast
        outlook = self.outlook(token, own=False)
        known = frozenset() if outlook is None else outlook.calibrated
        said = () if forecast is None else (name for name in ("run", "memory") if getattr(forecast, name) is not None)
        return tuple(sorted(uses - known - set(said)))  # what a person has estimated needs no calibration

    def shown(self, token: Token[Any], now: float) -> Prediction | None:
        return self._prediction(token, now, self.outlook(token, own=False))

    def expected(self, token: Token[Any]) -> Prediction | None:
        return self._prediction(token, None, self.outlook(token, own=False))

    def predict(
        self,
        place: OperationPlace,
        operation: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        priority: int,
        tags: Mapping[str, str],
    ) -> Prediction | None:
        features = self._extractor(place, operation).of(args, kwargs)
        outlook = self._asked(Sample(operation, place.affinity, priority, self.chosen(tags), features), own=True)
        return None if outlook is None else outlook.at(None, None)

    def _prediction(self, token: Token[Any], now: float | None, outlook: Outlook | None) -> Prediction | None:
        """Return what is expected of a token at a time; None: before it ran."""
        forecast = self._of(token)
        elapsed = None if now is None else _elapsed(token, now)
        left = None if now is None else _left(token, now, elapsed)
        found = None if outlook is None else outlook.at(elapsed, left)
        if forecast.run is None and forecast.memory is None:
            return found
        if found is None:
            found = Prediction(None, None, None, None, (), 0, None, False, "operator", {})
        return attrs.evolve(
            found,
            run=_capped(found.run, forecast.run),
            memory=_capped(found.memory, forecast.memory),
            basis=(*found.basis, "operator"),
        )

    def estimate(self, token: Token[Any], changes: Mapping[str, float | None]) -> Mapping[str, float | None]:
        forecast = self._of(token)
        before = {name: getattr(forecast, name) for name in changes}
        for name, value in changes.items():
            setattr(forecast, name, value)
        return {name: value for name, value in before.items() if value != changes[name]}

    # Fields of selectors; on the system loop

    def field(self, token: Token[Any], name: str, now: float) -> Any:
        return _FIELDS[name](self, token, now)

    def _quantiles(self, token: Token[Any], target: Target, now: float | None) -> Quantiles | Spread | None:
        """Return what is expected of a target of a token at a time; None: before it ran."""
        outlook = self.outlook(token, own=False)
        spread: Spread | None = None if outlook is None else getattr(outlook, target)
        elapsed = None if now is None or target != "run" else _elapsed(token, now)
        found = spread if spread is None or elapsed is None else spread.after(elapsed)
        return _capped(found, getattr(self._of(token), target))

    def _overrun(self, token: Token[Any], now: float) -> float | None:
        elapsed = _elapsed(token, now)
        expected = None if elapsed is None else _part(self._quantiles(token, "run", None), "p95")
        return None if expected is None or elapsed is None else elapsed / max(expected, _LEAST)

    def _share(self, token: Token[Any], now: float) -> float | None:
        drain = process_drain(token)
        limit = None if drain is None else drain.limits_of(token).memory
        if limit is None:  # then that of the machine, or its container, is the one that it meets
            limit = self._memory = self._memory or memory().amount
        found = self._quantiles(token, "memory", now)
        return None if found is None or not limit else found.p95 / limit

    def _loop(self, token: Token[Any], _now: float) -> str | None:
        loops = self._loops
        if not loops.any(token.operation, token.actor):
            return "no"
        key = getattr(token, "key", None)
        text = digest_of(token) if key is None else str(key)
        return "yes" if loops.holds(token.operation, text, token.actor) else "no"

    def _leak(self, token: Token[Any], _now: float) -> str | None:
        drain = process_drain(token)
        worker = None if drain is None else drain.worker_of(token)
        return None if worker is None else self._leaks.verdict(worker)


_FIELDS: Final[Mapping[str, Callable[[Forecasts, Token[Any], float], Any]]] = {
    "run.p50": lambda own, token, now: _part(own._quantiles(token, "run", now), "p50"),
    "run.p95": lambda own, token, now: _part(own._quantiles(token, "run", now), "p95"),
    "memory.p95": lambda own, token, now: _part(own._quantiles(token, "memory", now), "p95"),
    "memory.share": Forecasts._share,
    "failing": lambda own, token, now: _probability(own.shown(token, now), "failure_probability"),
    "late": lambda own, token, now: _probability(own.shown(token, now), "timeout_probability"),
    "gate.saturation": lambda own, _token, _now: own._saturation(),
    "retry_loop": Forecasts._loop,
    "overrun": Forecasts._overrun,
    "leak": Forecasts._leak,
}
"""{field of selectors: returns it of a token at a time; None: not known}."""

NO_TAGS: Final[Mapping[str, str]] = {}


def _part(found: Quantiles | Spread | None, quantile: str) -> float | None:
    return None if found is None else getattr(found, quantile)


def _probability(found: Prediction | None, name: str) -> float | None:
    return None if found is None else getattr(found, name)


def _elapsed(token: Token[Any], now: float) -> float | None:
    """Return the seconds for which a token has run, without pauses; None if it does not run."""
    started = token.started_at
    if started is None or token._end is not None:
        return None
    hold = token._extras.hold
    parked = 0.0 if hold is None else hold.in_attempt()[1]
    return max(0.0, now - started - parked)


def _left(token: Token[Any], now: float, elapsed: float | None) -> float | None:
    """Return the seconds that a token still may run, by its deadline and the time limit of its attempt."""
    policy = token._extras.policy
    if policy is None:
        return None
    ends = [] if policy.deadline is None else [policy.deadline - now]
    timeout = getattr(policy.policy, "timeout", None)
    if timeout is not None:
        ends.append(timeout - (elapsed or 0.0))
    return max(0.0, min(ends)) if ends else None


def _capped(found: T, most: float | None) -> T | Quantiles:
    if most is None:
        return found
    return Quantiles(most if found is None else min(found.p50, most), most)
