"""The attributes of an actor's instance: functions that are called with it where it is, and what is made of theirs.

Those that are called where the instance is may go to a child process, by value: they use nothing but built-in names,
the standard library, cloudpickle (which is there), and functions of this package of which the same is true.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import attrs

from tokengate.control._exceptions import BadRequest
from tokengate.control._safe_text import Looked, class_name, look_at, size_if_known

Sent: TypeAlias = tuple[str, Any, tuple[str, int | None] | None]
"""An attribute that comes from a child process: its name, its value, and None; or, without it, its type and size."""

Replaced: TypeAlias = tuple[str, Any]
"""What is wrong with the attributes that were to be set, if anything; and those that the instance has now."""


@attrs.frozen
class NotSent:
    """Stands for an attribute that stays in its actor's process, since it cannot be pickled.

    Attributes:
        type: name of its class.
        size: its length, for built-in types that have one; else None.
    """

    type: str
    size: int | None = None


# --- Where the instance is -------------------------------------------------------------------------------------------


def public_attributes(instance: object) -> dict[str, Any]:
    """Return an instance's own attributes, but for those whose name starts with `_`."""
    return {name: value for name, value in vars(instance).items() if not name.startswith("_")}


def sent_attributes(instance: object) -> list[Sent]:
    """Return them in such a form that they can be pickled."""
    return as_sent(public_attributes(instance))


def looked_at(instance: object, redacted: frozenset[str]) -> list[Looked]:
    """Return them as they may be shown."""
    return look_at(public_attributes(instance), redacted)


def as_sent(attributes: Mapping[str, Any]) -> list[Sent]:
    """Return attributes in such a form that they can be pickled."""
    import cloudpickle  # the gate's own process never needs it here

    sent: list[Sent] = []
    for name, value in attributes.items():
        try:
            cloudpickle.dumps(value)
        except Exception:  # whatever it is, the others are to be seen
            sent.append((name, None, (class_name(type(value)), size_if_known(value))))
        else:
            sent.append((name, value, None))
    return sent


def replace_attributes(instance: object, function: Callable[[dict[str, Any]], Mapping[str, Any]]) -> Replaced:
    """Make the public attributes of an instance those that a function computes from them."""
    before = public_attributes(instance)
    after = function(dict(before))
    if not isinstance(after, Mapping):
        kind = type(after).__name__
        return f"the function returned {kind}; it must return a mapping of all attributes that there shall be", {}
    for name in after:
        if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
            return f"the function returned an attribute {name!r}; private ones stay, give only public names", {}
    # Past `__setattr__`, just as it was read: no code of the class runs that could fail halfway.
    attributes = vars(instance)
    for name in before.keys() - after.keys():
        del attributes[name]
    attributes.update(after)
    return "", dict(after)


def replace_attributes_and_send(instance: object, function: Callable[[dict[str, Any]], Mapping[str, Any]]) -> Replaced:
    """Do the same, and return what can be pickled."""
    problem, attributes = replace_attributes(instance, function)
    return problem, as_sent(attributes)


# --- In the gate's process -------------------------------------------------------------------------------------------


def received(attributes: Any) -> dict[str, Any] | Any:
    """Return attributes as `get_state` has them, wherever they come from; what a socket has told stays as it is."""
    if not isinstance(attributes, list):
        return attributes
    sent: list[Sent] = attributes
    return {name: value if kept is None else NotSent(*kept) for name, value, kept in sent}


def received_after(replaced: Replaced) -> dict[str, Any]:
    """Return the attributes that an instance has now.

    Raises:
        BadRequest: those that it was to have cannot be; nothing was changed.
    """
    problem, attributes = replaced
    if problem:
        raise BadRequest(problem)
    return received(attributes)
