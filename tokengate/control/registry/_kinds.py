"""Kinds: nouns, each declared once. The wire, its checks, commands, tables and paths follow from it."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias, TypeGuard, TypeVar, get_args

import attrs

from tokengate.control._exceptions import UnknownVerb
from tokengate.control.messages import VERBS, WAIT, Listing, Message, answer_of, verb_of
from tokengate.control.messages._bases import by_verb
from tokengate.control.registry._plugin import Plugin
from tokengate.control.registry._verbs import Asker, Blocking, asks, metas_of, unchecked_in

A = TypeVar("A")
R = TypeVar("R")

Answer: TypeAlias = Callable[[Any], Awaitable[Any]]


@attrs.frozen
class Kind:
    """A noun: what one is, the verb that lists them, and those that do something to one.

    Attributes:
        noun: in the singular: `dead-letter`.
        row: class of the row of one; its first field is the name of that one.
        rows: the message that lists them; its class has the name of the plural, `DeadLetters`.
        verbs: messages to one; the names of their classes end with the noun, `RetryDeadLetter`.
        plugin: how to make the plugin that answers, such as `Journal(directory)`, for the error of a gate without it;
            empty for a noun of every gate, whose messages are among `VERBS`.
        derived: whether its commands are derived; those of some rooms of ours are written by hand.
        offline: module whose `ask(directory, message)` answers while no gate has a directory open; empty: none does.
    """

    noun: str
    row: type[Any]
    rows: type[Message[Any]]
    verbs: tuple[type[Message[Any]], ...] = ()
    plugin: str = attrs.field(default="", kw_only=True)
    derived: bool = attrs.field(default=True, kw_only=True)
    offline: str = attrs.field(default="", kw_only=True)

    @property
    def messages(self) -> tuple[type[Message[Any]], ...]:
        """All its messages, the list first."""
        return (self.rows, *self.verbs)

    @property
    def plural(self) -> str:
        """The list as a word of a command line: `dead-letters`."""
        return verb_of(self.rows).replace("_", "-")

    def action(self, verb: type[Message[Any]]) -> str:
        """Return a verb as the word after the noun: `retry` for `RetryDeadLetter`."""
        return verb_of(verb).replace("_", "-").removesuffix(f"-{self.noun}")

    def names(self, rows: Iterable[Any]) -> list[str]:
        """Return the names of some rows."""
        field = attrs.fields(self.row)[0].name
        return [str(getattr(row, field)) for row in rows]


_kinds: dict[str, Kind] = {}  # {noun: its kind}
_verbs: dict[str, type[Message[Any]]] = {**VERBS}
_declared: dict[int, type[Message[Any]]] = {id(message): message for message in VERBS.values()}

ALL_VERBS: Final[Mapping[str, type[Message[Any]]]] = MappingProxyType(_verbs)
"""{verb: its message}: those of every gate, and those of the plugins that this process has imported."""


def register(kind: Kind) -> Kind:
    """Make a noun known in this process, and return it. Its verbs are answered by the gates that have its plugin.

    Raises:
        ValueError: the declaration cannot work, or a name is taken.
    """
    check_kind(kind)
    return declare(kind)


def declare(kind: Kind) -> Kind:
    """Do so for a noun of ours, which tests check: that takes a while, and each command line would wait for it."""
    _kinds[kind.noun] = kind
    _verbs.update((verb_of(message), message) for message in kind.messages)
    _declared.update((id(message), message) for message in kind.messages)
    return kind


def kinds() -> tuple[Kind, ...]:
    """Return the nouns of every gate, and those of the plugins that this process has imported."""
    return tuple(_kinds.values())


def kind_of(message: type[Message[Any]]) -> Kind | None:
    """Return the noun that a verb is for, if that is declared as a kind."""
    return next((kind for kind in kinds() if message in kind.messages), None)


def is_declared(message: type[Any]) -> TypeGuard[type[Message[Any]]]:
    """Tell whether a class is that of a verb; by id, since a metaclass may have a hash of its own."""
    return id(message) in _declared


def answers_of(rooms: Iterable[object], plugins: Iterable[Plugin]) -> dict[type[Any], Answer]:
    """Return {message: what answers it}: the method of the verb's name, of the first room that has one.

    Args:
        rooms: objects with a method for each verb that they answer.
        plugins: those of the gate.

    Raises:
        TypeError: a verb of every gate, or one of these plugins, has no answer, or one that is not async.
    """
    found: dict[type[Any], Answer] = {}
    for room in rooms:
        for verb, message in _verbs.items():
            if message not in found and hasattr(room, verb):
                found[message] = getattr(room, verb)
    homes = dict.fromkeys(VERBS.values(), "a class in steering/, or inspection/_verbs.py")
    given = {one.__name__ for plugin in plugins for one in type(plugin).__mro__}
    for kind in kinds():
        name = kind.plugin.partition("(")[0]
        if name in given:
            homes |= dict.fromkeys(kind.messages, f"the object of answers() of plugin {name}")
    for message, home in homes.items():
        if not inspect.iscoroutinefunction(found.get(message)):
            verb, why = verb_of(message), "its method is not async" if message in found else "there is no method"
            declared = f"async def {verb}(self, message: {message.__name__})"
            raise TypeError(f"no answer for '{verb}', since {why}: write `{declared}` in {home}")
    return found


def unanswered(message: type[Message[Any]]) -> UnknownVerb:
    """Return the error of a gate that does not have the plugin which answers a verb."""
    kind = kind_of(message)
    if kind is None or not kind.plugin:
        return UnknownVerb(f"this gate has no '{verb_of(message)}'")
    plugin, what = kind.plugin.partition("(")[0], kind.rows.command or kind.plural
    return UnknownVerb(f"this gate runs without {plugin}, which '{what}' needs; open it with plugins=[{kind.plugin}]")


class Asking(Protocol):
    """What sends messages: `gate.control`, or a connection to the gate."""

    def ask(self, message: Message[A], /) -> A:
        """Send a message, and return the answer."""
        ...


class Facade(Asker, Blocking):
    """Base of the typed methods of a noun: `pause = asks(PauseSchedule)` is one.

    Args:
        control: sends their messages: `gate.control`, say.
    """

    _wait = WAIT

    def __init__(self, control: Asking) -> None:
        self._control = control

    def _put(self, message: Message[R], read: Callable[[Any, R], A]) -> A:
        return read(self, self._control.ask(message))


def verbs_of_plugins(control: Asking) -> dict[str, Callable[..., Any]]:
    """Return {verb: a function that sends it}, for all nouns that this process knows."""
    messages = (message for kind in kinds() if kind.plugin for message in kind.messages)
    verbs: dict[str, Any] = {verb_of(message): asks(message) for message in messages}
    facade = type("Plugins", (Facade,), verbs)(control)
    return {verb: getattr(facade, verb) for verb in verbs}


def check_verb(message: type[Message[Any]]) -> None:
    """Raise `ValueError` for a message from which something cannot follow; of plugins, and of every gate."""
    by_verb((message,))
    if not message.__doc__ and sys.flags.optimize < 2:  # with -OO, no class has one
        raise ValueError(f"{message.__name__} has no docstring, which is the help of its verb")
    metas_of(message)
    for field in () if message.local else attrs.fields(message):
        if unchecked := unchecked_in(field.type):
            raise ValueError(f"field '{field.name}' of {message.__name__} has {unchecked}")


def check_kind(kind: Kind) -> None:
    """Raise `ValueError` for a declaration from which something cannot follow."""
    where = f"noun '{kind.noun}'"
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", kind.noun):
        raise ValueError(f"{where}: it must be of small letters, digits and single dashes")
    if not attrs.has(kind.row) or not attrs.fields(kind.row):
        raise ValueError(f"{where}: row is {kind.row!r}; it must be an attrs class with the name as its first field")
    if not issubclass(kind.rows, Listing) or get_args(answer_of(kind.rows))[:1] != (kind.row,):
        raise ValueError(f"{where}: {kind.rows.__name__} must derive from Listing[{kind.row.__name__}]")
    if kind.plural == kind.noun:
        raise ValueError(f"{where}: {kind.rows.__name__} lists several; name it by the plural")
    before = _kinds.get(kind.noun)
    if before is not None and _path(before.rows) != _path(kind.rows):
        raise ValueError(f"{where}: {_path(before.rows)} lists another noun of this name; choose a different one")
    for message in kind.messages:
        _check_message(kind, message, where)


def _check_message(kind: Kind, message: type[Message[Any]], where: str) -> None:
    name, verb = message.__name__, verb_of(message)
    known = _verbs.get(verb)
    if known is not None and _path(known) != _path(message):
        raise ValueError(f"{where}: '{verb}' is the verb of {_path(known)}; give {name} another name")
    if message is not kind.rows and kind.action(message) == verb.replace("_", "-"):
        raise ValueError(f"{where}: the name of {name} must be a verb and the noun, such as Pause{_camel(kind.noun)}")
    try:
        check_verb(message)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _camel(noun: str) -> str:
    return noun.title().replace("-", "")


def _path(message: type[Any]) -> str:
    return f"{message.__module__}.{message.__qualname__}"
