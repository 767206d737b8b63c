"""The plugins of a gate: their order, and what they bring."""

from __future__ import annotations

from collections.abc import Iterable

from actors import ActorSystem
from supervisors import ChildSpec, Supervisor
from tokengate.control.registry._plugin import Plugin


def attached(gate: object, name: str, given: Iterable[Plugin]) -> tuple[Plugin, ...]:
    """Attach plugins to a gate; return them and those that they need, each after the ones that it needs.

    Args:
        gate: the gate.
        name: of the gate.
        given: plugins as the user wrote them.

    Raises:
        ValueError: one is no plugin, is given twice, or serves another gate; or they need each other in a circle.
    """
    where = f"plugins of gate '{name}'"
    if not isinstance(given, Iterable):
        raise ValueError(f"{where} is {given!r}; it must be a list of plugins")
    plugins: list[Plugin] = []
    ordered: list[Plugin] = []

    def add(plugin: Plugin, path: tuple[type[Plugin], ...]) -> None:
        path = (*path, type(plugin))
        if type(plugin) in path[:-1]:
            circle = " -> ".join(one.__name__ for one in path[path.index(type(plugin)) :])
            raise ValueError(f"{where}: they need each other in a circle: {circle}; take one out of `needs`")
        for needed in plugin.needs:
            found = next((one for one in plugins if isinstance(one, needed)), None)
            if found is None:
                found = _with_defaults(needed, plugin, where)
                plugins.append(_checked(found, plugins, where, gate))
            add(found, path)
        if all(one is not plugin for one in ordered):
            ordered.append(plugin)

    for plugin in given:
        plugins.append(_checked(plugin, plugins, where, gate))
    for plugin in list(plugins):
        add(plugin, ())
    for plugin in ordered:
        object.__setattr__(plugin, "_gate", gate)  # it may be a frozen class
    return tuple(ordered)


def add_observers(gate: object, system: ActorSystem, plugins: Iterable[Plugin]) -> None:
    """Add the observers of plugins to the system of their gate."""
    for plugin in plugins:
        observer = plugin.observer(gate)
        if observer is not None:
            system.add_observer(observer)


def set_journal(gate: object, system: ActorSystem, plugins: Iterable[Plugin]) -> None:
    """Give the system of a gate what keeps its durable tokens, if a plugin does that; it is closed with the system."""
    for plugin in plugins:
        if (journal := plugin.journal(gate)) is not None:
            system.journal = journal


def supervisor_of(gate: object, plugins: Iterable[Plugin]) -> list[ChildSpec]:
    """Return the supervisor of the actors of plugins; nothing if there are none.

    When they crash too often they are given up, and control goes on: hence a supervisor of their own.
    """
    actors = [spec for plugin in plugins if (spec := plugin.child(gate)) is not None]
    return [Supervisor.child_spec("plugins", actors, restart="temporary")] if actors else []


def _checked(plugin: object, others: Iterable[Plugin], where: str, gate: object) -> Plugin:
    if isinstance(plugin, type) and issubclass(plugin, Plugin):
        raise ValueError(f"{where}: {plugin.__name__} is a class; give an object: {plugin.__name__}()")
    if not isinstance(plugin, Plugin):
        raise ValueError(f"{where}: {plugin!r} is no plugin; give an object of a class derived from `Plugin`")
    name = type(plugin).__name__
    for other in others:
        if isinstance(plugin, type(other)) or isinstance(other, type(plugin)):
            raise ValueError(f"{where}: {type(other).__name__} and {name} are of one class; give only one of them")
    if plugin._gate is not None and plugin._gate is not gate:
        raise ValueError(f"{where}: this {name} serves gate '{plugin._gate.name}' already; make a new one")
    return plugin


def _with_defaults(needed: type[Plugin], by: Plugin, where: str) -> Plugin:
    try:
        return needed()
    except TypeError as error:
        raise ValueError(
            f"{where}: {type(by).__name__} needs {needed.__name__}, which has no defaults ({error}); give one"
        ) from error
