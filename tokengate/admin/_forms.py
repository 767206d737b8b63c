"""Forms of verbs: a field for each argument of a message, and the arguments that were typed into it."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias, Union, get_args, get_origin

import attrs

from tokengate.control.messages import ENVELOPE, KEEP, PATIENT_WAIT, Change, Message, Waiting
from tokengate.control.registry._verbs import help_of, metas_of

Given: TypeAlias = Mapping[str, Sequence[str]]
"""What a form or a query has: {name: its values}."""


@attrs.frozen
class Field:
    """A field of a form.

    Attributes:
        name: of the argument.
        kind: `text`, `number`, `password`, `check`, `choice`; `lines`: a value on each; `pairs`: `NAME=VALUE` on each.
        text: what it is.
        value: what it has, as text; of a check, `on` or empty.
        needed: whether it must be given.
        choices: of a choice.
        least, most, step: of a number, as HTML has them; empty: any.
        hint: what stands in it while it is empty.
        error: what is wrong with its value.
    """

    name: str
    kind: Literal["text", "number", "password", "check", "choice", "lines", "pairs"]
    text: str
    value: str = ""
    needed: bool = False
    choices: tuple[str, ...] = ()
    least: str = ""
    most: str = ""
    step: str = ""
    hint: str = ""
    error: str = ""

    @property
    def label(self) -> str:
        """What stands beside it."""
        return self.name.rpartition(".")[2].replace("_", " ")

    @property
    def is_rare(self) -> bool:
        """Whether it is shown when asked for: how long to wait, and what only some may give."""
        return (self.hint == "seconds" and not self.needed) or self.name in ("force", "break_glass")


def lines_of(message: type[Message[Any]]) -> list[str]:
    """Return the help of a verb, a text for each paragraph."""
    return [" ".join(part.split()) for part in help_of(message).split("\n\n")]


def fields_of(message: type[Message[Any]], given: Given, error: str = "") -> tuple[list[Field], str]:
    """Return the fields of the arguments of a verb, but for `dry_run`, and what of an error is about none of them.

    Args:
        message: class of the verb's message.
        given: values that they have.
        error: what is wrong with these; the text begins with the name of the argument that it is about, if with any.
    """
    metas = metas_of(message)  # which resolves the types of the fields
    takes = message.takes if issubclass(message, Change) else ()
    left_out = {"dry_run", *ENVELOPE} - ({*takes} - {"dry_run"})
    known = [one for one in attrs.fields(message) if one.name not in left_out]
    known.sort(key=lambda one: (one.name in ENVELOPE, one.inherited and one.default is not attrs.NOTHING))
    about = re.search(r"'?(\w+)'?(?= (?:of|is|has)\b)|(?<=its field ')\w+", error)
    at = about[0].strip("'") if about else ""
    fields = [_field(message, one, metas[one.name], given, error if one.name == at else "") for one in known]
    return fields, "" if any(one.error for one in fields) else error


def _field(
    message: type[Message[Any]], field: attrs.Attribute[Any], meta: Mapping[str, Any], given: Given, error: str
) -> Field:
    plain = PATIENT_WAIT if field.name == "wait" and issubclass(message, Waiting) else field.default
    choices, kinds = tuple(meta.get("choices", ())), leaves_of(field.type)
    kind: Any = _INPUTS.get(next(iter(kinds)), "text") if len(kinds) == 1 else "text"
    if choices and kind == "text" and kinds <= {str, Literal}:
        kind = "choice"
    shown = plain if isinstance(plain, str | int | float) and plain not in ("", KEEP) else ""
    value = given[field.name] if field.name in given else [str(shown) if shown is not True else "on"] * bool(shown)
    needed = plain is attrs.NOTHING and kind != "check"
    text = ("\n" if kind == "lines" else ",").join(value)
    return Field(
        field.name, kind, meta["description"], "on" * (value[-1:] == ["on"]) if kind == "check" else text,
        needed, ("",) * bool(choices and plain not in choices) + choices,
        str(meta.get("ge", meta.get("gt", ""))), str(meta.get("le", "")),
        {"number": "1" if int in kinds else "any"}.get(kind, ""), str(meta.get("metavar", "")).lower(), error,
    )  # fmt: skip


def fields_of_command(schema: Mapping[str, Any], given: Given) -> list[Field]:
    """Return the fields of the arguments of a command; their names say how they are given: `kw.count`, `one.key`.

    Args:
        schema: of its arguments, as `CommandRow` has it.
        given: values that they have.
    """
    found = []
    for name, one in schema.get("properties", {}).items():
        kind, choices = one.get("type", ""), tuple(map(str, one.get("enum", ())))
        way = {"one": "one", "rest": "rest"}.get(one.get("x-tokengate-args", ""), "kw")
        default, needed = one.get("default", ""), name in schema.get("required", ())
        if kind == "boolean":
            choices, default = ("true", "false"), str(default).lower()
        shown: Any = "choice" if choices else "lines" if way == "rest" else _SCHEMA_INPUTS.get(kind, "text")
        found.append(
            Field(
                f"{way}.{name}", "password" if one.get("writeOnly") else shown, one.get("description", ""),
                "\n".join(given.get(f"{way}.{name}", (str(default),))), needed,
                ("",) * bool(choices and str(default) not in choices) + choices,
                str(one.get("minimum", "")), str(one.get("maximum", "")),
                {"integer": "1", "number": "any"}.get(kind, ""), "json" * (kind in ("object", "array") and way == "kw"),
            )
        )  # fmt: skip
    return found


def arguments_of_command(given: Given) -> dict[str, Any]:
    """Return the arguments of `call` that were typed into the fields of a command."""
    args = [values[-1] for name, values in given.items() if name.startswith("one.")]
    args += [line for name, values in given.items() if name.startswith("rest.") for line in values[-1].splitlines()]
    kwargs = {name[3:]: values[-1] for name, values in given.items() if name.startswith("kw.") and values[-1]}
    return {"args": tuple(args), "kwargs": kwargs, "text": True}


_SCHEMA_INPUTS: Final = {"integer": "number", "number": "number"}
_INPUTS: Final[Mapping[Any, str]] = {bool: "check", int: "number", float: "number", tuple: "lines", dict: "pairs"}


def leaves_of(hint: Any) -> set[Any]:
    """Return what values of a type may be, but for None: `{tuple}` for `tuple[int, ...] | None`."""
    if get_origin(hint) is Annotated:
        return leaves_of(get_args(hint)[0])
    if get_origin(hint) in (types.UnionType, Union):
        return set().union(*map(leaves_of, get_args(hint))) - {type(None)}
    return {get_origin(hint) or hint}


def arguments_of(message: type[Message[Any]], given: Given) -> dict[str, Any]:
    """Return the arguments that were typed; one that is empty is left out. A wrong number stays text."""
    metas_of(message)
    found: dict[str, Any] = {}
    for field in attrs.fields(message):
        values = given.get(field.name, ())
        if field.name == "select" and get_origin(_bare(field.type)):  # ids, or a selector
            found["select"] = _targets(",".join(values))
        elif values and leaves_of(field.type) == {bool}:
            found[field.name] = values[-1] == "on"
        elif any(values):
            found[field.name] = _value(field.type, "\n".join(values))
    return found


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _targets(text: str) -> str | tuple[int, ...]:
    words = re.findall(r"[^\s,]+", text)
    return tuple(map(int, words)) if words and all(re.fullmatch(r"\d{1,18}", one) for one in words) else text


def _value(hint: Any, text: str) -> Any:
    hint, origin, args = _bare(hint), get_origin(_bare(hint)), get_args(_bare(hint))
    if origin in (types.UnionType, Union):  # a number, if it can be one and looks like one
        numbers = (_number(kind, text) for kind in (int, float) if kind in leaves_of(hint))
        return next((one for one in numbers if not isinstance(one, str)), text)
    if hint in (int, float):
        return _number(hint, text)
    if origin is tuple:
        return tuple(_value(args[0], line.strip()) for line in text.splitlines() if line.strip())
    if origin is dict:
        pairs = (line.partition("=") for line in text.splitlines() if line.strip())
        return {name.strip(): _value(args[1], value.strip()) for name, _, value in pairs}
    if hint is Any:
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _number(kind: type[int] | type[float], text: str) -> int | float | str:
    try:
        return kind(text)
    except ValueError:
        return text
