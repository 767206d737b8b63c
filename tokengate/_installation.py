"""Finds a file that hides a package of TokenGate: `actors` and `supervisors` are names that programs use, too.

This runs before anything else of TokenGate is imported, so it needs the standard library only.
"""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder

PACKAGES = ("actors", "supervisors")

_ROOT = os.path.dirname(os.path.dirname(__file__))  # where TokenGate is installed


def foreign_file(package: str, path: Sequence[str] | None = None) -> str | None:
    """Return the file or folder that `import` finds in the place of a package of TokenGate; None if there is none.

    Args:
        package: its name, one of `PACKAGES`.
        path: the folders to search, in this order; None takes what is imported already, then `sys.path`.
    """
    spec = getattr(sys.modules.get(package), "__spec__", None) if path is None else None
    spec = spec or PathFinder.find_spec(package, path)
    if spec is None:
        return None
    found = spec.origin or next(iter(spec.submodule_search_locations or ()), package)  # a folder may have no origin
    own = os.path.join(_ROOT, package)
    return None if os.path.realpath(os.path.dirname(found)) == os.path.realpath(own) else found


def explain(package: str, file: str) -> str:
    """Return what is wrong with a file that hides a package of TokenGate, and what to do."""
    return (
        f"'import {package}' finds {file}, not the package '{package}' that is part of TokenGate: Python takes "
        f"the first one on sys.path. Rename that file, or move it into a package of your own, and TokenGate works"
    )


def check_packages() -> None:
    """Raise `ImportError` if a foreign file hides a package of TokenGate."""
    for package in PACKAGES:
        file = foreign_file(package)
        if file is not None:
            raise ImportError(explain(package, file), name=package, path=file)
