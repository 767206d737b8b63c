"""The packages that the daemon needs, which an extra installs."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

_PACKAGES: Final = ("httptools", "jinja2", "starlette", "uvicorn")


def check_extra() -> None:
    """Check that they are there, without importing them.

    Raises:
        ModuleNotFoundError: one is missing; the text says how to install it.
    """
    for name in _PACKAGES:
        try:
            found = find_spec(name) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            text = f"the admin daemon needs the package '{name}'; pip install 'tokengate-runtime[admin]'"
            raise ModuleNotFoundError(text, name=name)
