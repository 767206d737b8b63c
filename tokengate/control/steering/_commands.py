"""Commands of actors: found by their mark, and called with JSON values that their annotations check.

Annotations, signatures and results may run user code, so all that looks at them is done in threads beside the loop.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import Context
from functools import partial
from inspect import Parameter
from types import FunctionType
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import trio

from actors import Reply, Secret, Token, TokenState
from actors.lowlevel import ActorPlace, CommandCall, commands_of, consent_of
from tokengate.control import messages as m
from tokengate.control._admission import admission
from tokengate.control._exceptions import BadRequest, Busy, NotSteerable
from tokengate.control._safe_text import class_name, size_if_known, value_in_words
from tokengate.control.inspection._off_loop import OffLoop
from tokengate.policy._consent import named
from tokengate.policy._policies import policies_of

A = TypeVar("A")

_SECONDS: Final = 5.0  # for user code that annotations or a result have
_MOST: Final = 2**20  # bytes of a result as JSON

_threads: Final = OffLoop("arguments of commands", 4)


async def call_command(place: ActorPlace, message: m.Call) -> m.Called:
    """Have an actor run a command, and return how far it is.

    Raises:
        NotSteerable: there is no such command, or nobody can agree to its arguments.
        BadRequest: the arguments do not fit.
    """
    commands = commands_of(place.actor_class)
    function = commands.get(message.method)
    if function is None:
        known = f"its commands are: {', '.join(sorted(commands))}" if commands else "none of its methods has @command"
        raise NotSteerable(f"'{place.path}' has no command {value_in_words(message.method)}; {known}")
    args, kwargs = await _aside(partial(_arguments, function, message))
    operation = f"{class_name(place.actor_class)}.{message.method}"
    admission().reach(place)  # its rights may have changed meanwhile
    # In a context of its own: it belongs to no step, and has none of control's variables.
    token: Token[Any] = Context().run(place.token, operation, CommandCall(message.method), args, kwargs)
    if consent_of(function) != "none":
        if any(isinstance(value, Secret) for value in (*args, *kwargs.values())):
            raise NotSteerable(f"'{message.method}' of '{place.path}' takes a Secret, which nobody can agree to unseen")
        policies_of(place).ask_first(token, partial(named, None, message.args, message.kwargs))
    ended: Reply[None] = Reply()
    token.add_done_callback(lambda _: ended._set(None))
    with trio.move_on_after(message.wait):
        await place.send_async(token)
        policy = token._extras.policy
        if policy is not None and policy.call is not None:  # a person takes longer than anyone waits here
            return m.Called(place.path, token.id, token.state, proposal=policy.call.number)
        await ended.wait()
    return await _aside(partial(_called, place.path, token))


async def _aside(function: Callable[[], A]) -> A:
    found = await _threads.run(_SECONDS, lambda: (function(),))
    if found is None:
        raise Busy(f"code of annotations or of a result took more than {_SECONDS:g} s")
    return found[0]


# --- Arguments -------------------------------------------------------------------------------------------------------


def _arguments(function: FunctionType, message: m.Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call as its annotations have them."""
    what = f"'{message.method}' of '{message.name}'"
    try:
        args, kwargs = msgspec.json.decode(msgspec.json.encode((message.args, message.kwargs)))
    except Exception as error:
        raise BadRequest(f"the arguments of {what} are not of JSON's types: {error}") from None
    signature = inspect.signature(function)
    try:
        bound = signature.bind(None, *args, **kwargs)
    except TypeError as error:
        names = ", ".join([*signature.parameters][1:]) or "none"
        raise BadRequest(f"the arguments of {what} do not fit: {error}; its parameters are: {names}") from None
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception as error:  # of user code
        kind = class_name(type(error))
        raise NotSteerable(f"the annotations of {what} cannot be read: {kind}; mend them in its class") from None
    for name, value in [*bound.arguments.items()][1:]:
        hint, takes = hints.get(name, Any), signature.parameters[name].kind
        if takes is Parameter.VAR_POSITIONAL:
            hint = tuple[hint, ...]  # type: ignore[valid-type]
        elif takes is Parameter.VAR_KEYWORD:
            hint = dict[str, hint]  # type: ignore[valid-type]
        try:
            bound.arguments[name] = _converted(value, hint, text=message.text)
        except msgspec.ValidationError as error:
            raise BadRequest(f"'{name}' of {what}: {error}") from None
        except Exception as error:  # of a type that msgspec does not know, or of user code
            kind = class_name(type(error))
            raise NotSteerable(f"the annotation of '{name}' of {what} cannot check a value: {kind}") from None
    return bound.args[1:], bound.kwargs


def _converted(value: Any, hint: Any, *, text: bool) -> Any:
    """Return a value as its annotation has it; text may be a number, say, or else JSON."""
    try:
        return msgspec.convert(value, hint, strict=not text, dec_hook=_made)
    except msgspec.ValidationError:
        if not text or type(value) is not str:
            raise
        try:
            decoded = msgspec.json.decode(value)
        except (ValueError, RecursionError):
            decoded = value
        return msgspec.convert(decoded, hint, dec_hook=_made)


def _made(kind: Any, value: Any) -> Any:
    """Return a value of a class that msgspec does not know: a `Secret` of a checked value."""
    if (get_origin(kind) or kind) is Secret:
        return Secret(msgspec.convert(value, *(get_args(kind) or (Any,)), dec_hook=_made))
    return value  # msgspec compares its class with the annotation


# --- Results ---------------------------------------------------------------------------------------------------------


def _called(actor: str, token: Token[Any]) -> m.Called:
    error = token._error
    if error is not None:
        return m.Called(actor, token.id, token.state, error=_error_in_words(error))
    if token.state is not TokenState.COMPLETED:
        return m.Called(actor, token.id, token.state)
    value = token.result()
    return m.Called(actor, token.id, token.state, class_name(type(value)), size_if_known(value), _as_json(value))


def _as_json(value: object) -> Any:
    """Return a value made of JSON's types; None if it has no such form, or a very long one."""
    try:
        encoded = msgspec.json.encode(value)
    except Exception:  # of a class that JSON does not know
        return None
    return msgspec.json.decode(encoded) if len(encoded) <= _MOST else None


def _error_in_words(error: BaseException) -> str:
    kind = class_name(type(error))
    try:
        text = str(error)
    except Exception:  # of user code
        return kind
    return f"{kind}: {text[:1_000]}" if text else kind
