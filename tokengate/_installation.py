"""Finds what TokenGate cannot work with: hidden packages, and patched programs. Has Ctrl-C end a command that loads.

Programs use the names `actors` and `supervisors`, too.

This runs before anything else of TokenGate is imported, so it needs the standard library only.
"""

import os
import signal
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder

PACKAGES = ("actors", "supervisors")

# {library: its module that patches programs, the attribute with what it has patched}
_PATCHING = {"gevent": ("gevent.monkey", "saved"), "eventlet": ("eventlet.patcher", "already_patched")}

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


def patches() -> str | None:
    """Return what is wrong with a program in which gevent or eventlet has replaced the standard library; else None."""
    for library, (module, attribute) in _PATCHING.items():
        if getattr(sys.modules.get(module), attribute, None):
            return (
                f"{library} has patched this program: its threads, locks and sockets are not those that TokenGate "
                f"needs. Start the program without {library}, under gunicorn with the worker class 'gthread', and use "
                "asyncio or trio where many calls wait at once"
            )
    return None


def check_patches() -> None:
    """Raise `ImportError` in a program that eventlet has patched, where trio cannot be imported."""
    if "trio" not in sys.modules and getattr(sys.modules.get("eventlet.patcher"), "already_patched", None):
        raise ImportError(f"TokenGate cannot be imported: {patches()}")


def end_at_ctrl_c() -> None:
    """Have Ctrl-C end the `tokengate` command at once, and without a traceback, while its modules are imported."""
    if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupt_at_ctrl_c() -> None:
    """Have Ctrl-C raise `KeyboardInterrupt` again, which the command handles from now on."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_command() -> bool:
    """Tell whether this process is the `tokengate` command, by what it was started with."""
    first = sys.argv[0] if getattr(sys, "argv", None) else ""
    if first == "-m":  # until its package is imported
        return sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1] == ["tokengate"]
    return os.path.basename(first) == "tokengate"
