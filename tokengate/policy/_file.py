"""The sections `[[policy]]`, `[[throttle]]` and `[[flag]]` of a file, as rows of checked values."""

from __future__ import annotations

import builtins
import functools
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias

import attrs

from tokengate._exceptions import BadPolicy
from tokengate.policy import _values
from tokengate.policy._policy import Batch, Breaker, Budget, Policy, Retry, Throttle

Path: TypeAlias = tuple[str | int, ...]
Tables: TypeAlias = Sequence[Mapping[str, Any]]
Mode: TypeAlias = Literal["off", "observe", "enforce"]

NONE: Final = "none"
"""The text that takes a part away, or an optional value."""

PLACE_FIELDS: Final = ("operation", "actor", "affinity")
"""The fields of a selector that a policy may use: it belongs to a place."""

MODES: Final[tuple[Mode, ...]] = ("off", "observe", "enforce")


class Report(Protocol):
    """The errors of a file; `tokengate.config` has it, and says what its methods do."""

    def line(self, path: Path) -> int: ...
    def wrong(self, path: Path, value: object, remedy: str) -> None: ...
    def selector(self, path: Path, value: object, fields: Collection[str] | None = None) -> str: ...


@attrs.frozen
class PolicyRow:
    """A `[[policy]]`: some fields of a policy, which win over those of the code.

    Attributes:
        line: where it begins.
        select: a selector of operations and actors.
        fields: {field: value}, such as `retry.attempts` or `throttle[1].rate`; None takes a part away. `shed` and
            `grace` (seconds), `retry.share`, and `keys` of throttles and of the budget ({value of the key as text:
            {field: value}}) are in no class of a policy.
    """

    line: int
    select: str
    fields: Mapping[str, Any]


@attrs.frozen
class ThrottleRow:
    """A `[[throttle]]`: one for all tokens of a selector.

    Attributes:
        line: where it begins.
        select: the selector.
        throttle: the limits.
        keys: {value of the key as text: its own limits}.
    """

    line: int
    select: str
    throttle: Throttle
    keys: Mapping[str, Throttle]


@attrs.frozen
class FlagRow:
    """A `[[flag]]`.

    Attributes:
        line: where it begins.
        select: a selector of tokens.
        mode: whether rules are left out, only counted, or hold.
        percent: of the tokens, or of the values of `by`, for which it is so.
        by: a tag or parameter, each value of which is on one side. None: each token by itself.

    Raises:
        BadPolicy: a value cannot work.
    """

    line: int
    select: str
    mode: Mode
    percent: float = 100.0
    by: str | None = None

    def __attrs_post_init__(self) -> None:
        _values.one_of("Flag", "mode", self.mode, MODES)
        _values.number("Flag", "percent", self.percent, least=0, most=100)
        if self.by is not None:
            _values.key("Flag", "by", self.by)


# Objects whose classes check the values: each is tried on a copy.
_SAMPLES: Final[Mapping[str, Any]] = {
    "policy": Policy(),
    "retry": Retry(Exception),
    "breaker": Breaker(),
    "throttle": Throttle(rate=1, concurrency="adaptive", slow=1),
    "budget": Budget("usd", math.inf),
    "flag": FlagRow(0, "", "off"),
}
PARTS: Final = ("retry", "breaker", "throttle", "budget")
"""The fields of a policy that have fields themselves."""

FROM_CODE: Final = ("fallback", "batch", "idempotent")
"""What only the code can set, and the file can take away."""

_AMOUNTS: Final = ("grace", "shed", "share")
TIMES: Final = re.compile("queue_timeout|timeout|deadline|grace|shed|wait|max_wait|slow|window|open_for|per")
"""Fields that are seconds, or in a file a text such as `5m`."""

# {part: keys that its class does not have}
_EXTRA: Final[Mapping[str, Sequence[str]]] = {
    "policy": ("grace", "shed", "idempotent"), "retry": ("share",), "breaker": (), "throttle": ("keys",),
    "budget": ("keys",), "flag": (),
}  # fmt: skip
_KEYS: Final[Mapping[str, Sequence[str]]] = {
    part: [*(one.name for one in attrs.fields(type(sample)) if one.name not in ("line", "select")), *_EXTRA[part]]
    for part, sample in _SAMPLES.items()
}
_PER_KEY: Final = {"throttle": ("rate", "burst", "concurrency"), "budget": ("limit", "estimate")}


def policies(tables: Tables, report: Report) -> tuple[PolicyRow, ...]:
    """Return the policies of a file; errors are added to the report."""
    blocks = _blocks("policy", tables, report, PLACE_FIELDS)
    return tuple(PolicyRow(report.line(path), select, fields) for path, select, fields in blocks)


def throttles(tables: Tables, report: Report) -> tuple[ThrottleRow, ...]:
    """Return the throttles of a file; errors are added to the report."""
    rows = []
    for path, select, fields in _blocks("throttle", tables, report):
        at, keys, own = path, fields.pop("keys", {}), {}
        try:
            throttle = Throttle(**fields)
            if keys and throttle.key is None:
                raise BadPolicy("", "key", None, "name the tag or parameter of which keys has values")
            for key, changes in keys.items():
                at = (*path, "keys", key)
                own[key] = attrs.evolve(throttle, **changes)
        except BadPolicy as error:  # the values do not fit together
            report.wrong((*at, error.field), error.value, error.remedy)
        else:
            rows.append(ThrottleRow(report.line(path), select, throttle, own))
    return tuple(rows)


def flags(tables: Tables, report: Report) -> tuple[FlagRow, ...]:
    """Return the flags of a file; errors are added to the report."""
    rows = []
    for path, select, fields in _blocks("flag", tables, report):
        try:
            rows.append(FlagRow(report.line(path), select, fields.pop("mode", None), **fields))
        except BadPolicy as error:
            report.wrong((*path, error.field), error.value, error.remedy)
    return tuple(rows)


def read_policy(table: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Return the fields of a policy, as in a `PolicyRow`; errors are added to the report."""
    return _read("policy", table, _KEYS["policy"], (), report)


def _blocks(
    section: str, tables: Tables, report: Report, allowed: Collection[str] | None = None
) -> list[tuple[Path, str, dict[str, Any]]]:
    """Return the path, the selector and the values of each table in which each value by itself can work."""
    blocks = []
    for number, table in enumerate(tables):
        path: Path = (section, number)
        select = report.selector((*path, "select"), table.get("select"), allowed)
        values = {key: value for key, value in table.items() if key != "select"}
        fields = _read(section, values, _KEYS[section], path, report)
        if section == "policy" or len(fields) == len(values):
            blocks.append((path, select, fields))
    return blocks


def _read(part: str, table: Mapping[str, Any], keys: Sequence[str], path: Path, report: Report) -> dict[str, Any]:
    """Return the values of a table; those of its parts have names with a dot."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        at = (*path, key)
        if key not in keys:
            report.wrong(at, value, f"there is no such key; use one of {', '.join(keys)}")
        elif key == "keys" and _are_tables(value, dict):
            found[key] = {name: _read(part, own, _PER_KEY[part], (*at, name), report) for name, own in value.items()}
        elif key in PARTS and isinstance(value, dict):
            found |= _below(key, _read(key, value, _KEYS[key], at, report))
        elif key == "throttle" and value and _are_tables(value, list):
            for number, one in enumerate(value):
                name = f"{key}[{number}]" if number else key
                found |= _below(name, _read(key, one, _KEYS[key], (*at, number), report))
        else:
            try:
                found[key] = _value(_SAMPLES[part], key, value)
            except BadPolicy as error:
                report.wrong(at, value, error.remedy)
    return found


def _are_tables(value: object, kind: type) -> bool:
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, kind) and all(isinstance(one, dict) for one in values)


def _below(part: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{part}.{field}": value for field, value in values.items()}


def _value(sample: Any, key: str, value: Any) -> Any:
    """Return the value of a key that is no table.

    Raises:
        BadPolicy: it cannot work.
    """
    if key == "keys" or (key in PARTS and value != NONE):
        raise BadPolicy("", key, value, "use a table" if key == "keys" else f"use a table, or '{NONE}'")
    if key in FROM_CODE and value != NONE:
        raise BadPolicy("", key, value, f"write it in the code; a file can only take it away, with '{NONE}'")
    if key in PARTS or key in FROM_CODE:
        return None
    if TIMES.fullmatch(key) and isinstance(value, str) and value != NONE:
        value = _values.period("", key, value)
    if key in _AMOUNTS:
        return _values.number("", key, value, least=0)
    if key == "on" and value != NONE:
        value = tuple(error_named(key, name) for name in (value if isinstance(value, list) else [value]))
    try:
        return getattr(attrs.evolve(sample, **{key: None if value == NONE else value}), key)
    except BadPolicy as error:
        if error.field == key:
            raise
        return value  # it does not fit another value of the sample


# --- Errors by name ---------------------------------------------------------------------------------------------------


class _Named(type):
    """The class of error classes of which only the name is known."""

    def __instancecheck__(cls, instance: object) -> bool:
        name = f"{cls.__module__}.{cls.__qualname__}"
        return any(
            f"{one.__module__}.{one.__qualname__}" == name
            or (one.__qualname__ == cls.__qualname__ and one.__module__.startswith(f"{cls.__module__}."))
            for one in type(instance).__mro__
        )


@functools.cache
def _class_named(module: str, name: str) -> type[Exception]:
    return _Named(name, (Exception,), {"__module__": module})  # type: ignore[return-value]


def error_named(field: str, name: object) -> type[Exception]:
    """Return an error class for `isinstance`, by name: nothing is imported, and errors of classes below it match, too.

    Args:
        field: where it is named, for the error.
        name: of a built-in error; or of another one, with its module or a package above that: `httpx.TransportError`.

    Raises:
        BadPolicy: it is no such name.
    """
    if isinstance(name, str):
        found = getattr(builtins, name, None)
        if isinstance(found, type) and issubclass(found, Exception):
            return found
        if "." in name and all(part.isidentifier() for part in name.split(".")):
            module, _, last = name.rpartition(".")
            return _class_named(module, last)
    raise BadPolicy("", field, name, "name a built-in error, or one with its module, such as 'httpx.TransportError'")


# --- Effect -----------------------------------------------------------------------------------------------------------


def with_fields(policy: Policy, fields: Mapping[str, Any]) -> Policy:
    """Return a policy with some fields replaced, as those of the file replace those of the code.

    Args:
        policy: the policy.
        fields: as in a `PolicyRow`; those that are in no class of a policy are left out.

    Raises:
        BadPolicy: the values do not fit together, or one is missing.
    """
    parts: dict[str, dict[str, Any]] = {}  # {part: its fields}; "" is the policy itself
    for name, value in fields.items():
        part, _, field = name.rpartition(".")
        if field not in (*_EXTRA["policy"], "share", "keys"):
            parts.setdefault(part, {})[field] = value
    own = parts.pop("", {})
    if "batch" in own and policy.batch is not None:  # it is taken away, and the function takes a list all the same
        own["batch"] = Batch(size=1)
    policy = attrs.evolve(policy, **own)
    for part, values in sorted(parts.items(), key=lambda one: _number_of(one[0])):
        if part.startswith("throttle"):
            number, throttles = _number_of(part), list(policy.throttle)
            if number > len(throttles):
                raise BadPolicy("Policy", part, values, f"there are {len(throttles)} throttles: use the next number")
            throttles[number : number + 1] = [_changed("throttle", dict(enumerate(throttles)).get(number), values)]
            policy = attrs.evolve(policy, throttle=throttles)
        else:
            policy = attrs.evolve(policy, **{part: _changed(part, getattr(policy, part), values)})
    return policy


def _number_of(part: str) -> int:
    return int(part[len("throttle[") : -1] or 0) if part.startswith("throttle") else 0


def _changed(part: str, found: Any, values: Mapping[str, Any]) -> Any:
    """Return a part with other values, or a new one."""
    if found is not None:
        return attrs.evolve(found, **values)
    kind = type(_SAMPLES[part])
    for field in attrs.fields(kind):
        if field.default is attrs.NOTHING and field.name not in values:
            raise BadPolicy(kind.__name__, field.name, None, "set it: the code has no such part")
    return kind(**values)
