"""The tools, which follow from the registry: four that look, and one for each right that changes something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

import attrs
import msgspec

from tokengate.control import messages as m
from tokengate.control._exceptions import BadRequest
from tokengate.control._validation import message_of
from tokengate.control.messages import ENVELOPE, RIGHTS, Change, Message, OnTokens, verb_of
from tokengate.control.registry._kinds import kind_of
from tokengate.control.registry._paths import Route, routes
from tokengate.control.registry._verbs import help_of

CEILING: Final = frozenset(RIGHTS) - {"approve", "break_glass"}
"""The rights that a client of MCP may use at most; gates enforce it. People approve, and act in spite of guards."""

ROWS: Final = 50
"""Rows of a list, if nothing else is asked for."""

_NEVER: Final = (m.Approve, m.Deny, m.WaitApproval, m.Propose)
_RELEASES: Final = (m.Resume, m.Unsuspend, m.Lift)

_LOOKS: Final[Mapping[str, tuple[str, str, str]]] = {
    "list": ("list", "kind", "List rows of one kind."),
    "view": ("show", "what", "Show one thing. Begin with overview."),
    "stream": ("watch", "what", "Follow what happens for some seconds, and return it."),
}
"""{shape of a route: name of its tool, the argument that chooses a verb, text}."""

_GATE: Final = {"type": "string", "description": "Which gate, as `gates` names it; needed if several run."}
_PAGING: Final = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": ROWS},
    "offset": {"type": "integer", "minimum": 0, "description": "Rows to skip."},
}
_DIGEST: Final = {
    "type": "string",
    "minLength": 8,
    "description": "Its first 8 digits or more, as the proposal has it.",
}
_SECONDS: Final = {"type": "number", "minimum": 0, "maximum": 60, "default": 5}


@attrs.frozen
class Tool:
    """A tool.

    Attributes:
        name: of the tool.
        choice: the argument that chooses a verb, if there are several; empty for a tool that is a verb itself.
        text: what it does.
        verbs: {value of that argument: the route of the verb}.
        forces: whether the caller may use `force`.
    """

    name: str
    choice: str
    text: str
    verbs: Mapping[str, Route]
    forces: bool

    @property
    def looks(self) -> bool:
        """Whether it changes nothing."""
        return all(route.shape != "action" for route in self.verbs.values())

    @property
    def destroys(self) -> bool:
        """Whether it may do what cannot be undone."""
        return not self.looks and any(route.message.right != "operate" for route in self.verbs.values())

    def names(self, message: type[Message[Any]]) -> list[str]:
        """Return the fields of a message that may be given; approval in an emergency is for people."""
        takes = set(message.takes) if issubclass(message, Change) else set[str]()
        left_out = {*ENVELOPE} - takes | {"break_glass"} | ({"force"} if not self.forces else set())
        return [field.name for field in attrs.fields(message) if field.name not in left_out]

    def route(self, word: object) -> Route:
        """Return the route of the verb that a call has chosen; None chooses the only one.

        Raises:
            BadRequest: there is no such verb.
        """
        if word is None and len(self.verbs) == 1:
            return next(iter(self.verbs.values()))
        if word is None:
            raise BadRequest(
                f"{self.name} needs a value for its argument '{self.choice}': one of {', '.join(self.verbs)}"
            )
        if not isinstance(word, str) or word not in self.verbs:
            raise BadRequest(f"{self.choice} is {word!r:.60}; it must be one of {', '.join(self.verbs)}")
        return self.verbs[word]

    def message(self, route: Route, given: Mapping[str, Any]) -> Message[Any]:
        """Return the message of a call.

        Raises:
            BadRequest: an argument is none of its own, or has a value that cannot work.
        """
        names = self.names(route.message)
        for name in given:
            if name not in names:
                known = ", ".join(names) or "none"
                raise BadRequest(
                    f"'{verb_of(route.message)}' has no argument '{name[:60]}'; its arguments are: {known}"
                )
        return message_of(route.message, given)

    @property
    def description(self) -> str:
        """The text, and a line for each verb."""
        return "\n".join([self.text, *(self._line(word, route.message) for word, route in self.verbs.items())])

    def _line(self, word: str, message: type[Message[Any]]) -> str:
        fields = {field.name: field.default is attrs.NOTHING for field in attrs.fields(message)}
        shown = [name for name in self.names(message) if name not in (*ENVELOPE, *_PAGING, "wait", "buffer")]
        arguments = ", ".join(name if fields[name] else f"{name}?" for name in shown)
        text = help_of(message).partition("\n")[0]
        return f"{word}({arguments}): {text}" if self.choice else text

    def schema(self, gate: bool) -> dict[str, Any]:
        """Return the JSON schema of its arguments.

        Args:
            gate: whether a gate may be named.
        """
        messages = [route.message for route in self.verbs.values()]
        references, components = msgspec.json.schema_components(messages)
        found: dict[str, list[dict[str, Any]]] = {}
        for message, reference in zip(messages, references, strict=True):
            properties = components[reference["$ref"].rpartition("/")[2]]["properties"]
            for name in self.names(message):
                found.setdefault(name, []).append(properties[name])
        merged = {name: _merged(schemas) for name, schemas in found.items()}
        if self.name in ("list", "show"):
            merged |= _PAGING
        elif self.name == "watch":
            merged |= {"seconds": _SECONDS, "limit": _PAGING["limit"]}
            del merged["buffer"]
        elif self.name == "apply":
            merged["digest"] = _DIGEST
        chosen = {self.choice: {"type": "string", "enum": [*self.verbs]}} if self.choice else {}
        required = [*(chosen if len(self.verbs) > 1 else ()), *(["number", "digest"] if self.name == "apply" else [])]
        properties = chosen | ({"gate": _GATE} if gate else {}) | merged
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    def declared(self, gate: bool) -> dict[str, Any]:
        """Return the tool as the protocol has it; see `schema`."""
        return declared(self.name, self.description, self.schema(gate), looks=self.looks, destroys=self.destroys)


def declared(
    name: str, description: str, schema: Mapping[str, Any], *, looks: bool = True, destroys: bool = False
) -> dict[str, Any]:
    """Return a tool as the protocol has it."""
    hints = {"readOnlyHint": looks, **({} if looks else {"destructiveHint": destroys}), "openWorldHint": False}
    return {"name": name, "description": description, "inputSchema": schema, "annotations": hints}


def _merged(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of an argument that several verbs have."""
    texts = dict.fromkeys(one.get("description", "") for one in schemas)
    bare = [{key: value for key, value in one.items() if key not in ("description", "default")} for one in schemas]
    distinct = [one for number, one in enumerate(bare) if one not in bare[:number]]
    made = distinct[0] if len(distinct) == 1 else {"anyOf": distinct}
    return {**made, "description": next(iter(texts)) if len(texts) == 1 else " / ".join([*texts][:3])}


def tools_of(rights: frozenset[str]) -> dict[str, Tool]:
    """Return the tools that rights allow, by name; those that look are there in any case."""
    found: dict[str, dict[str, Route]] = {}
    for route in routes():
        message = route.message
        if message.right not in {*rights, "view"} or message in _NEVER:
            continue
        if route.shape == "action":
            found.setdefault("apply" if message is m.Apply else message.right, {})[verb_of(message)] = route
        else:
            kind = kind_of(message) if route.shape == "list" else None
            found.setdefault(_LOOKS[route.shape][0], {})[kind.plural if kind else verb_of(message)] = route
    if not found.keys() - {"apply", *(name for name, *_ in _LOOKS.values())}:
        found.pop("apply", None)
    texts = {name: (choice, text) for name, choice, text in _LOOKS.values()}
    texts["apply"] = ("", "")
    return {
        name: Tool(name, *texts.get(name, ("verb", f"Do what the right `{name}` is for.")), verbs, "override" in rights)
        for name, verbs in found.items()
    }


def is_proposed(message: Message[Any]) -> TypeGuard[Change[Any]]:
    """Tell whether a verb is proposed before it is done: it ends something, or is about more than one token.

    What releases tokens, commands of actors, and verbs of `operate` on one token are done at once.
    """
    if not isinstance(message, Change) or not message.changes or "dry_run" not in message.takes:
        return False
    one = isinstance(message, OnTokens) and not isinstance(message.select, str) and len(message.select) == 1
    return message.dry_run or not (isinstance(message, (*_RELEASES, m.Call)) or (one and message.right == "operate"))
