"""The version of TokenGate."""

import functools
from importlib.metadata import PackageNotFoundError, version


@functools.cache
def own_version() -> str:
    """Return the version of TokenGate; `unknown` where its files were copied without their metadata."""
    try:
        return version("tokengate-runtime")
    except PackageNotFoundError:
        return "unknown"
