"""The attributes of an actor's instance: functions that are called with the instance, and functions for their results.

The former may be pickled by value and run in a child process: they use only built-in names, the standard library,
cloudpickle (which the child has), and functions of this package with the same restriction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

import attrs

from tokengate.control._exceptions import BadRequest
from tokengate.control._safe_text import Looked, class_name, look_at, size_if_known

Sent: TypeAlias = tuple[str, Any, tuple[str, int | None] | None]
"""An attribute from a child process: (name, value, None); or (name, None, (type, size)) if it cannot be pickled."""

Replaced: TypeAlias = tuple[str, Any]
"""(an error text, or nothing; the attributes that the instance has now)."""


@attrs.frozen
class NotSent:
    """The value of an attribute that cannot be pickled, and so stays in its actor's process.

    Attributes:
        type: name of its class.
        size: its length, for built-in types that have one; else None.
    """

    type: str
    size: int | None = None


# --- Called with the instance, perhaps in a child process ------------------------------------------------------------


def public_attributes(instance: object) -> dict[str, Any]:
    """Return an instance's own attributes, without names that start with `_`."""
    return {name: value for name, value in vars(instance).items() if not name.startswith("_")}


def sent_attributes(instance: object) -> list[Sent]:
    """Return the public attributes in a form that can be pickled."""
    return as_sent(public_attributes(instance))


def looked_at(instance: object, show: Collection[str]) -> list[Looked]:
    """Return the public attributes as they may be shown."""
    return look_at(public_attributes(instance), show)


def as_sent(attributes: Mapping[str, Any]) -> list[Sent]:
    """Return attributes in a form that can be pickled."""
    import cloudpickle  # here: only child processes need it

    sent: list[Sent] = []
    for name, value in attributes.items():
        try:
            cloudpickle.dumps(value)
        except Exception:  # any error of its pickling; the other attributes are still returned
            sent.append((name, None, (class_name(type(value)), size_if_known(value))))
        else:
            sent.append((name, value, None))
    return sent


def replace_attributes(instance: object, function: Callable[[dict[str, Any]], Mapping[str, Any]]) -> Replaced:
    """Replace the public attributes of an instance by those that a function computes from them."""
    before = public_attributes(instance)
    after = function(dict(before))
    if not isinstance(after, Mapping):
        kind = type(after).__name__
        return f"the function returned {kind}; it must return a mapping of all public attributes", {}
    for name in after:
        if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
            return f"the function returned an attribute {name!r}; return only public names", {}
    # Not by `__setattr__`: code of the class could fail halfway.
    attributes = vars(instance)
    for name in before.keys() - after.keys():
        del attributes[name]
    attributes.update(after)
    return "", dict(after)


def replace_attributes_and_send(instance: object, function: Callable[[dict[str, Any]], Mapping[str, Any]]) -> Replaced:
    """Replace the public attributes, and return them in a form that can be pickled."""
    problem, attributes = replace_attributes(instance, function)
    return problem, as_sent(attributes)


# --- Called in the gate's process ------------------------------------------------------------------------------------


def received(_owner: object, attributes: Any) -> dict[str, Any] | Any:
    """Return attributes as `get_state` returns them; an answer from a socket stays as it is."""
    if not isinstance(attributes, list):
        return attributes
    sent: list[Sent] = attributes
    return {name: value if kept is None else NotSent(*kept) for name, value, kept in sent}


def received_after(_owner: object, replaced: Replaced) -> dict[str, Any]:
    """Return the attributes that an instance has now.

    Raises:
        BadRequest: the function returned something else; nothing was changed.
    """
    problem, attributes = replaced
    if problem:
        raise BadRequest(problem)
    return received(None, attributes)
