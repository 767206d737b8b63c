"""The TARGET of `run`: a gate that is not open yet, or a function that takes an open gate."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from tokengate import Gate
from tokengate.cli._errors import UsageProblem


@contextmanager
def command_line(target: str, arguments: Sequence[str]) -> Generator[None]:
    """Set `sys.argv` during a block, so that a target finds its arguments as a script does."""
    before = sys.argv
    sys.argv = [target.rpartition(":")[0], *arguments]
    try:
        yield
    finally:
        sys.argv = before


def load_target(target: str) -> Gate | Callable[[Gate], Any]:
    """Import `module:attribute` or `file.py:attribute`.

    Raises:
        UsageProblem: it does not exist, or is neither a gate nor a function.
    """
    where, colon, attribute = target.rpartition(":")
    if not colon or not where or not attribute:
        raise UsageProblem(f"'{target}' names no attribute; write module:attribute or file.py:attribute")
    found: object = load_module(where)
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise UsageProblem(f"'{where}' has no attribute '{attribute}'") from None
    if isinstance(found, Gate):
        return found
    if callable(found) and not isinstance(found, type):
        _check_function(target, found)
        return found
    raise UsageProblem(f"'{target}' is {type(found).__name__}; it must be a Gate, or a function that takes one")


def load_module(where: str) -> ModuleType:
    """Import a module by its name, or a file.

    Raises:
        UsageProblem: it cannot be imported.
    """
    return _import_file(Path(where)) if where.endswith(".py") else _import_module(where)


def _check_function(target: str, function: Callable[..., Any]) -> None:
    if inspect.iscoroutinefunction(function):
        raise UsageProblem(f"'{target}' is a coroutine function; it must be a plain function that takes a Gate")
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        raise UsageProblem(f"'{target}' must take one argument, the open Gate") from None


def _import_module(name: str) -> ModuleType:
    sys.path.insert(0, "")

    def load() -> ModuleType:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            sys.argv[0] = spec.origin  # as with `python -m`
        return importlib.import_module(name)

    return _guarded(name, load)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageProblem(f"there is no file '{path}'")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    loader = spec.loader
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent))

    def load() -> ModuleType:
        loader.exec_module(module)
        return module

    return _guarded(str(path), load)


def _guarded(name: str, load: Callable[[], ModuleType]) -> ModuleType:
    try:
        return load()
    except ModuleNotFoundError as error:
        raise UsageProblem(f"cannot import '{name}': {error}") from None
    except Exception as error:
        raise UsageProblem(f"cannot import '{name}':\n{''.join(traceback.format_exception(error))}") from None
