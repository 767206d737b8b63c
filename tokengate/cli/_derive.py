"""Commands derived from messages: each field of a message is an argument or an option of its command."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin

import attrs
import click

from tokengate.cli._approval import WAIT_APPROVAL, applied, waits
from tokengate.cli._completers import complete_name, complete_token
from tokengate.cli._connection import Connection, connected
from tokengate.cli._errors import Failure, UsageProblem
from tokengate.cli._parameters import Number, Whole
from tokengate.cli._token_targets import TARGET_HELP, target_of
from tokengate.control import BadSelector, parse
from tokengate.control.messages import (
    ENVELOPE,
    KEEP,
    PATIENT_WAIT,
    ActorOutcome,
    Change,
    Message,
    OnActor,
    OnChild,
    OnTokens,
    Waiting,
    verb_of,
)
from tokengate.control.registry._kinds import Kind
from tokengate.control.registry._verbs import help_of, metas_of

M = TypeVar("M", bound=Message[Any])


_STATE_DIR: Final = click.Option(
    ["--state-dir"],
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Use the files in this directory, which no gate has open.",
)


def command_of(
    message: type[M],
    act: Callable[[Connection, M], None],
    *,
    name: str = "",
    one_of: Sequence[str] = (),
    offline: str = "",
) -> click.Command:
    """Return the command of a verb; its help is the text of the message, with the examples.

    Args:
        message: class of the verb's message.
        act: sends a message, and prints the answer.
        name: of the command; empty for the name that the message has.
        one_of: fields of which at least one must be given.
        offline: module that answers for a directory; see `Kind`.
    """
    name = name or message.command or verb_of(message)
    parameters, metas = parameters_of(message), metas_of(message)
    arguments = [
        f"{one.human_readable_name.strip('[]')}: {metas[one.name or '']['description']}"
        for one in parameters
        if isinstance(one, click.Argument) and one.metavar != "TARGET..."
    ]
    if issubclass(message, OnTokens | OnActor | OnChild):
        parameters.append(WAIT_APPROVAL)
    if offline:
        parameters.append(_STATE_DIR)

    @connected
    def call(connection: Connection, /, **given: Any) -> None:
        connection.files = (offline, directory) if (directory := given.pop("state_dir", None)) else None
        connection.wait_approval = given.pop("wait_approval", None)
        fields = {field: value for field, value in given.items() if value not in (None, (), {})}
        if one_of and not fields.keys() & set(one_of):
            *first, last = (f"{one.opts[-1]} {one.metavar}" for one in parameters if one.name in one_of)
            raise UsageProblem(f"{name} changes nothing; give {', '.join(first)} or {last}")
        act(connection, message(**fields))

    return click.command(
        name,
        params=parameters,
        help=help_text(help_of(message), *arguments, examples=message.examples),
        epilog=TARGET_HELP if issubclass(message, OnTokens) else None,
        # So that a number below zero is not an option; `target_of` refuses other arguments with a dash.
        context_settings={"ignore_unknown_options": any(isinstance(one.type, Whole) for one in parameters)},
    )(call)


def commands_of(kind: Kind) -> list[click.Command]:
    """Return the commands of a noun: one lists them, and a group has those for one of them."""
    listing = command_of(kind.rows, show_answer, name=kind.plural, offline=kind.offline)
    if not kind.verbs:
        return [listing]
    examples = [example for verb in kind.verbs for example in verb.examples]
    text = f"Steer one of the {kind.plural}.", f"'tokengate {kind.plural}' lists them."
    group = click.Group(kind.noun, help=help_text(*text, examples=examples))
    for verb in kind.verbs:
        group.add_command(command_of(verb, show_answer, name=kind.action(verb), offline=kind.offline))
    return [listing, group]


def help_text(*paragraphs: str, examples: Sequence[str]) -> str:
    """Return the help of a command, with lines of examples, if there are any, that are not wrapped."""
    shown = "\n".join(["\b", *(f"tokengate {line}" for line in examples)])
    return "\n\n".join([_plain("\n\n".join(paragraphs)), *([shown] if examples else [])])


def show_answer(connection: Connection, message: Message[Any]) -> None:
    """Send a message, and print the answer; what needs an approval is done after it, if the command waits for that."""
    answer = connection.ask(message)
    if isinstance(answer, ActorOutcome) and answer.proposal is not None and answer.outcome == "awaiting":
        if connection.wait_approval is None:
            connection.show(answer)
            raise waits(answer.proposal)
        [answer] = applied(connection, answer.proposal).actors
    connection.show(answer)
    if isinstance(answer, ActorOutcome) and answer.outcome == "changed":
        raise Failure(f"not done: {answer.note}")


def parameters_of(message: type[Message[Any]]) -> list[click.Parameter]:
    """Return the arguments and options of a verb; its own options come before those of its base.

    A field without a default is an argument, and so is `select`; the others are options. The `Meta` of a field may have
    a `metavar`; a `flag`, which is a short name of the option; `argument`, for an argument that may be left out;
    `last`, for one that follows TARGET.
    """
    metas = metas_of(message)  # which resolves the types of the fields
    left_out = {*ENVELOPE} - {*message.takes} if issubclass(message, Change) else set[str]()
    found = [
        _select(message) if field.name == "select" else _parameter(message, field, metas[field.name])
        for field in sorted(attrs.fields(message), key=lambda field: field.inherited)
        if field.name not in left_out
    ]
    # Arguments come first; of these, the name is the first, and TARGET is the last but for what says so itself.
    last = {name for name, meta in metas.items() if "last" in meta}
    return sorted(
        found, key=lambda one: (isinstance(one, click.Option), one.name in last, one.nargs < 0, one.name != "name")
    )


def _select(message: type[Message[Any]]) -> click.Argument:
    if not issubclass(message, OnTokens):
        required = attrs.fields_dict(message)["select"].default is attrs.NOTHING
        return click.Argument(["select"], required=required, metavar="SELECTOR" if required else "[SELECTOR]")
    order = _order(message)

    def convert(_context: click.Context, _parameter: click.Parameter, targets: Sequence[str]) -> str | tuple[int, ...]:
        target = target_of(targets)
        if order and isinstance(target, str):
            try:
                parse(target)
            except BadSelector as error:
                short = f"'{target}' is neither an id nor a selector" if target.isidentifier() else str(error)
                raise UsageProblem(f"{short}; {order}") from None
        return target

    return click.Argument(
        ["select"], nargs=-1, required=True, metavar="TARGET...", shell_complete=complete_token, callback=convert
    )


def _order(message: type[Message[Any]]) -> str:
    """Return what errors say of the argument before TARGET, since the order is easily mistaken; empty without one."""
    required = [field.name for field in attrs.fields(message) if field.default is attrs.NOTHING]
    metas = metas_of(message)
    last = [name for name in required if name == "select" or "last" in metas[name]]
    before = [name for name in required if name not in last] if "select" in required else []
    example = "".join(f": tokengate {line}" for line in message.examples[:1])
    return f"the {before[0]} comes first{example}" if before else ""


def _parameter(message: type[Message[Any]], field: attrs.Attribute[Any], meta: Mapping[str, Any]) -> click.Parameter:
    hint: Any = field.type
    while (origin := get_origin(hint)) in (Annotated, types.UnionType, Union):
        args = get_args(hint)  # of a union, the other one is None, or a number
        hint = str if origin is not Annotated and str in args else args[0]
    pairs = get_origin(hint) is dict
    several = pairs or get_origin(hint) is tuple
    kind = _type(message, get_args(hint)[0] if several else hint, meta)
    if field.default is attrs.NOTHING or "argument" in meta:
        return click.Argument(
            [field.name],
            type=kind,
            nargs=-1 if several else 1,
            required=field.default is attrs.NOTHING,
            callback=_to_dict if pairs else None,
            metavar=meta.get("metavar"),
            shell_complete=complete_name(message) if field.name == "name" else None,
        )
    name = f"-{field.name}" if len(field.name) == 1 else f"--{field.name.rstrip('_').replace('_', '-')}"
    if field.default is True:
        name += f"/--no-{name[2:]}"
    default = PATIENT_WAIT if field.name == "wait" and issubclass(message, Waiting) else field.default
    return click.Option(
        [*([meta["flag"]] if "flag" in meta else []), name, field.name],
        type=kind,
        is_flag=hint is bool,
        multiple=several,
        callback=_to_dict if pairs else None,
        default=None if several or default == KEEP else default,
        show_default=field.default != "",
        metavar=meta.get("metavar", {int: "N", float: "NUMBER"}.get(hint)),
        help=_plain(meta["description"]) + (" May be given several times." if several else ""),
    )


def _type(message: type[Message[Any]], hint: Any, meta: Mapping[str, Any]) -> click.ParamType[Any]:
    if "choices" in meta:
        return click.Choice(meta["choices"])
    if hint in (int, float) and meta.keys() & {"ge", "gt", "le"}:
        number = click.IntRange if hint is int else Number
        return number(meta.get("ge", meta.get("gt")), meta.get("le"), min_open="gt" in meta)
    return {int: Whole(_order(message)), float: click.FLOAT, bool: click.BOOL}.get(hint, click.STRING)


def _to_dict(_context: click.Context, option: click.Parameter, pairs: Sequence[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            name = "" if isinstance(option, click.Argument) else f"--{option.name} "
            raise UsageProblem(f"{name}'{pair}' is not {option.metavar}; write {name}{option.metavar}")
        found[key] = value
    return found


def _plain(text: str) -> str:
    """Return a text for a terminal: code has quotes."""
    return text.replace("`", "'")
