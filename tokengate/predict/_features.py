"""Features: a few numbers computed from the arguments of a call, by which it is predicted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from inspect import Parameter, signature
from types import MappingProxyType
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import attrs

from actors.lowlevel import OperationPlace
from tokengate.control._safe_text import class_name, is_shown, size_if_known
from tokengate.operations._options import FeatureSource

MOST: Final = 8
"""Features of a call."""

NO_FEATURES: Final[Mapping[str, float]] = MappingProxyType({})

_PATIENCE: Final = 3  # failures in a row after which a function is switched off
_CPU: Final = 1e-3  # seconds of processor time that all features of a call may take
_WALL: Final = (
    20e-3  # seconds in all: a busy machine makes a thread wait for milliseconds, which is no fault of its code
)


@attrs.frozen
class Feature:
    """A parameter that tells what a call needs: `path: Annotated[str, Feature(os.path.getsize, name="bytes")]`.

    Attributes:
        size: returns a number of the argument; None takes a number as it is, and of a container its length.
        name: of the feature; empty: that of the parameter.
    """

    size: Callable[[Any], float] | None = None
    name: str = attrs.field(default="", kw_only=True)


class Extractor:
    """Computes the features of the calls of one operation, in the threads that submit them.

    They are switched off after three failures in a row: an error, too long a time, or no finite numbers.

    Args:
        name: of the operation.
        source: `features=` of the operation.
        function: of the operation.
        show: the parameters whose values operators may see.
        off: called with the operation and the reason when it is switched off.
    """

    def __init__(
        self,
        name: str,
        source: FeatureSource,
        function: Callable[..., Any],
        show: Collection[str],
        off: Callable[[str, str], object],
    ) -> None:
        self._name = name
        self._off = off
        self._failures = 0
        self._call: Callable[[tuple[Any, ...], Mapping[str, Any]], Mapping[str, float]] | None = None
        if callable(source):
            self._call = lambda args, kwargs: _checked(source(*args, **kwargs))
        elif source is not None and (parts := _parameters(name, function, show, off)):
            self._call = lambda args, kwargs: _checked(_read(parts, args, kwargs))

    @property
    def is_on(self) -> bool:
        """Whether it computes anything."""
        return self._call is not None

    def of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, float]:
        """Return the features of a call, {name: a finite number}; none if they cannot be computed."""
        call = self._call
        if call is None:
            return NO_FEATURES
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            found = call(args, kwargs)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise  # of a person, and not of the function
            self._fail(str(error) if type(error) is _Unfit else f"it raised {class_name(type(error))}")
            return NO_FEATURES
        if time.thread_time() - cpu > _CPU or time.perf_counter() - wall > _WALL:
            self._fail("it takes over a millisecond")
        else:
            self._failures = 0
        return found

    def _fail(self, why: str) -> None:
        self._failures += 1
        if self._failures >= _PATIENCE and self._call is not None:
            self._call = None
            self._off(self._name, why)


def extractor_of(place: OperationPlace, name: str, off: Callable[[str, str], object]) -> Extractor:
    """Return what computes the features of the tokens of a place."""
    features: Any = place.features or (None, None)
    source, function = features  # as `OperationSpec.make_place` sets them
    return Extractor(name, source, function, place.properties.show, off)


class _Unfit(Exception):
    """What a function has returned is not {name: finite number}."""


def _checked(found: object) -> Mapping[str, float]:
    if not isinstance(found, Mapping):
        raise _Unfit(f"it gave a {class_name(type(found))} in the place of a dict of numbers")
    if len(found) > MOST:
        raise _Unfit(f"it gave {len(found)} features, and {MOST} are the most")
    for key, value in found.items():
        if type(key) is not str:
            raise _Unfit(f"the name of a feature is a {class_name(type(key))}, not a text")
        if not isinstance(value, int | float):
            raise _Unfit(f"'{key}' is a {class_name(type(value))}, not a number")
        if not math.isfinite(value):
            raise _Unfit(f"'{key}' is not finite")
    return {key: float(value) for key, value in found.items()}


@attrs.frozen
class _Part:
    """A parameter that a feature is read from."""

    parameter: str
    position: int | None
    default: Any
    name: str
    size: Callable[[Any], float] | None


def _read(parts: Collection[_Part], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for part in parts:
        if part.position is not None and part.position < len(args):
            value = args[part.position]
        else:
            value = kwargs.get(part.parameter, part.default)
        if value is Parameter.empty or value is None:
            continue
        number = _number(value) if part.size is None else part.size(value)
        if number is not None:
            found[part.name] = number
    return found


def _number(value: object) -> float | None:
    """Return a number as it is, and of a container of a built-in type its length; None of others."""
    kind = type(value)
    if kind is int or kind is float or kind is bool:
        return value  # type: ignore[return-value]
    return size_if_known(value)


def _parameters(
    name: str, function: Callable[..., Any], show: Collection[str], off: Callable[[str, str], object]
) -> tuple[_Part, ...]:
    """Return the annotated parameters, or else those that are shown, at most eight."""
    try:
        parameters = list(signature(function).parameters.values())
    except (TypeError, ValueError):
        return ()
    kept = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    parts = []
    shown = []
    features = _annotated(name, function, off)
    for position, parameter in enumerate(parameters):
        if parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
            continue
        at = position if parameter.kind in kept else None
        feature = features.get(parameter.name)
        if feature is not None:
            own = feature.name or parameter.name
            parts.append(_Part(parameter.name, at, parameter.default, own, feature.size))
        elif is_shown(parameter.name, show):
            shown.append(_Part(parameter.name, at, parameter.default, parameter.name, None))
    if len(parts) > MOST:
        off(name, f"{len(parts)} parameters have a Feature, and {MOST} are the most")
        return ()
    return tuple(parts or shown[:MOST])


def _annotated(name: str, function: Any, off: Callable[[str, str], object]) -> dict[str, Feature]:
    """Return {parameter: its feature} of the annotations of a function."""
    written = getattr(function, "__annotations__", {})
    if not any("Feature" in str(hint) for hint in written.values()):
        return {}
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception as error:
        off(name, f"its annotations cannot be read ({class_name(type(error))}: {error})")
        return {}
    return {
        parameter: found
        for parameter, hint in hints.items()
        if get_origin(hint) is Annotated and (found := _feature_in(get_args(hint)[1:])) is not None
    }


def _feature_in(extras: tuple[Any, ...]) -> Feature | None:
    for one in extras:
        if isinstance(one, Feature):
            return one
        if one is Feature:
            return Feature()
    return None
