"""The attributes of an actor's instance, as Python reads and replaces them within the gate's process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tokengate.control._exceptions import BadRequest


def public_attributes(instance: object) -> dict[str, Any]:
    """Return an instance's own attributes, but for those whose name starts with `_`."""
    return {name: value for name, value in vars(instance).items() if not name.startswith("_")}


def replace_attributes(instance: object, function: Callable[[dict[str, Any]], Mapping[str, Any]]) -> dict[str, Any]:
    """Make the public attributes of an instance those that a function computes from them; return a copy of them.

    Raises:
        BadRequest: it returned no mapping, or names that no public attribute has; nothing is changed.
    """
    before = public_attributes(instance)
    after = function(dict(before))
    if not isinstance(after, Mapping):
        kind = type(after).__name__
        raise BadRequest(
            f"the function returned {kind}; it must return a mapping of all attributes that there shall be"
        )
    for name in after:
        if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
            raise BadRequest(f"the function returned an attribute {name!r}; private ones stay, give only public names")
    # Past `__setattr__`, just as it was read: no code of the class runs that could fail halfway.
    attributes = vars(instance)
    for name in before.keys() - after.keys():
        del attributes[name]
    attributes.update(after)
    return dict(after)
