"""Where the fields of a policy come from: the code, the file, operators; the later ones win, field by field."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, TypeAlias

import attrs

from tokengate._exceptions import BadPolicy
from tokengate.policy._file import PARTS, Path, read_policy, with_fields
from tokengate.policy._policy import Budget, Policy, Throttle

Settings: TypeAlias = Mapping[str, tuple[Any, str]]
"""{field: (its value, its source)}, of the file and of operators; fields are those of a `PolicyRow` of the file."""

LIVE: Final = "live"
"""The source of what operators have set."""

CODE: Final = "code"

_BESIDE: Final = ("shed", "grace", "share", "keys")  # fields that are in no class of a policy

_NUMBERED: Final = re.compile(r"throttle\[([1-9][0-9]?)\]")


def over(below: Settings, fields: Mapping[str, Any], source: str) -> Settings:
    """Return settings with fields that win over them; a part that is taken away goes with all its fields.

    Limits of single keys stay, unless they are among the fields.
    """
    found = dict(below)
    for name, value in fields.items():
        if name in PARTS and value is None:
            found = {one: setting for one, setting in found.items() if part_of(one) != name}
        if name.endswith(".keys") and name in found:
            found[name] = {**dict(found[name][0] or {}), **(value or {})}, source
        else:
            found[name] = value, source
    return found


def part_of(field: str) -> str:
    """Return the part of a policy that has a field: `throttle` for `throttle[1].rate`."""
    return field.partition(".")[0].partition("[")[0]


def applied(policy: Policy, settings: Settings) -> tuple[Policy, list[BadPolicy]]:
    """Return a policy with settings, and the errors of the parts to which they do not fit, which stay as they were."""
    groups: dict[str, dict[str, Any]] = {}
    for name, (value, _) in settings.items():
        part = part_of(name)
        groups.setdefault(part if part in PARTS else name, {})[name] = value
    errors = []
    for part, fields in groups.items():
        try:
            policy = _checked(with_fields(policy, fields), settings, part)
        except BadPolicy as error:
            errors.append(error)
    return policy, errors


def _checked(policy: Policy, settings: Settings, part: str) -> Policy:
    """Return the policy, or raise `BadPolicy` if limits of single keys do not fit."""
    parts: list[tuple[str, Throttle | Budget]] = []
    if part == "throttle":
        parts = [(throttle_name(number), throttle) for number, throttle in enumerate(policy.throttle)]
    elif part == "budget" and policy.budget is not None:
        parts = [("budget", policy.budget)]
    for name, one in parts:
        keys = settings.get(f"{name}.keys", ({}, ""))[0] or {}
        if keys and one.key is None:
            raise BadPolicy(type(one).__name__, "key", None, "name the tag or parameter of which keys has values")
        for own in keys.values():
            attrs.evolve(one, **own)
    return policy


def throttle_name(number: int) -> str:
    """Return how fields call a throttle of a policy."""
    return f"throttle[{number}]" if number else "throttle"


def own_limits(one: Any, name: str, settings: Settings, key: str | int | None) -> Any:
    """Return a throttle or a budget with the limits of one key."""
    keys = settings.get(f"{name}.keys", ({}, ""))[0] if key is not None else None
    own = (keys or {}).get(str(key))
    return attrs.evolve(one, **own) if own else one


def live_fields(place: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that an operator sets.

    Args:
        place: what has them, for errors.
        values: {field: value}; texts as they stand in the file.

    Raises:
        BadPolicy: there is no such field, or it has a value that cannot work.
    """
    table: dict[str, Any] = {}
    for name, value in values.items():
        *path, last = name.split(".")
        inner = table
        for key in path:
            inner = inner.setdefault(key, {})
            if not isinstance(inner, dict):
                raise BadPolicy(place, name, value, f"'{key}' has a value already; set that, or its fields")
        inner[last] = value
    numbered = {int(found[1]): table.pop(key) for key in list(table) if (found := _NUMBERED.fullmatch(key))}
    if numbered:
        table["throttle"] = [table.get("throttle", {}), *(numbered.get(n, {}) for n in range(1, max(numbered) + 1))]
    return read_policy(table, _Report(place))


class _Report:
    """The errors of a live edit: the first is raised."""

    def __init__(self, place: str) -> None:
        self._place = place

    def line(self, path: Path) -> int:  # noqa: ARG002
        return 0

    def wrong(self, path: Path, value: object, remedy: str) -> None:
        field = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
        raise BadPolicy(self._place, field.removeprefix(".").replace("[0]", ""), value, remedy)

    def selector(self, path: Path, value: object, fields: Collection[str] | None = None) -> str:  # noqa: ARG002
        return str(value)


def values_of(policy: Policy, settings: Settings) -> Iterator[tuple[str, Any, str]]:
    """Yield each field that has a value or a setting, with its value and its source."""
    seen: dict[str, Any] = {}
    for name, value in attrs.asdict(policy, recurse=False).items():
        parts = value if isinstance(value, tuple) else (value,)
        if attrs.has(type(parts[0] if parts else None)):
            for number, part in enumerate(parts):
                prefix = throttle_name(number) if name == "throttle" else name
                fields = attrs.asdict(part, recurse=False).items()
                seen |= {f"{prefix}.{field}": inner for field, inner in fields if inner is not None}
        elif value is not None and value != ():
            seen[name] = value
    for name, (value, _) in settings.items():
        part, _, field = name.rpartition(".")
        beside = field in _BESIDE and (not part or any(part_of(other) == part_of(name) for other in seen))
        if beside or (value is None and not any(part_of(other) == name for other in seen)):
            seen[name] = value
    for name, value in seen.items():
        yield name, value, settings[name][1] if name in settings else CODE
