"""The modules that declare nouns, and programs: loaded by name, or by the path of a file."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final

VARIABLE: Final = "TOKENGATE_PLUGINS"
"""Names modules with nouns of plugins, with commas between them."""

ROOMS: Final = tuple(f"tokengate.{room}._kinds" for room in ("telemetry", "history", "durable", "predict"))
"""The modules of our own rooms that declare nouns."""


def import_nouns() -> None:
    """Import the modules that declare nouns: those of our own rooms, and those that `VARIABLE` names.

    Raises:
        ImportError: one that the variable names cannot be imported.
    """
    for room in ROOMS:
        importlib.import_module(room)
    for module in filter(None, map(str.strip, os.environ.get(VARIABLE, "").split(","))):
        _import_once(module)


@functools.cache  # a file would be run again, and declare other classes
def _import_once(module: str) -> None:
    try:
        with command_line(module, sys.argv[1:]):
            load_module(module)
    except ImportError as error:
        raise ImportError(f"{error}; {VARIABLE} names it") from None
    except SystemExit as error:  # of a program, whose exit code would be that of this one
        raise ImportError(f"cannot import '{module}': it ends with {error!r}; {VARIABLE} names it") from None


@contextmanager
def command_line(target: str, arguments: Sequence[str]) -> Generator[None]:
    """Set `sys.argv` during a block, so that a target finds its arguments as a script does."""
    before = sys.argv
    sys.argv = [target.rpartition(":")[0], *arguments]
    try:
        yield
    finally:
        sys.argv = before


def load_module(where: str) -> ModuleType:
    """Import a module by its name, or a file.

    Raises:
        ImportError: it cannot be imported; the text says why.
    """
    return _import_file(Path(where)) if where.endswith(".py") else _import_module(where)


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
        raise ImportError(f"there is no file '{path}'")
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
        raise ImportError(f"cannot import '{name}': {error}") from None
    except Exception as error:
        raise ImportError(f"cannot import '{name}':\n{''.join(traceback.format_exception(error))}") from None
