"""Checks of the platform, of limits of this process, and of the terminal."""

from __future__ import annotations

import codecs
import os
import resource
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from actors.lowlevel import cores, memory
from tokengate.cli.doctor._result import Result
from tokengate.control.rendering._cells import size

_FILES: Final = 1024  # open files: a gate with 100 child processes needs some 500
_PROCESSES: Final = 256  # processes and threads of a user
_SWITCH_INTERVAL: Final = 0.005  # seconds; Python's own


def check_platform(proc: Path = Path("/proc")) -> Iterator[Result]:
    """Check for fork, unix sockets and /proc."""
    missing = []
    if not hasattr(os, "fork"):
        missing.append("fork, which affinity 'process' needs")
    if not hasattr(socket, "AF_UNIX"):
        missing.append("unix sockets, by which 'tokengate ps' and the other commands reach a gate")
    if missing:
        yield Result("platform", "failed", f"{sys.platform} has no {' and no '.join(missing)}", "use Linux or macOS")
    elif sys.platform == "linux" and not (proc / "self" / "stat").exists():
        text = f"{proc} is not mounted: figures and pauses of child processes do not work"
        yield Result("platform", "warning", text, f"mount it: mount -t proc proc {proc}")
    else:
        yield Result("platform", "ok", f"{sys.platform}, with fork and unix sockets")


def check_limits() -> Iterator[Result]:
    """Check how many files this process may open, and how many processes its user may have."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    processes, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    for name, number, least, option in (("open files", files, _FILES, "n"), ("processes", processes, _PROCESSES, "u")):
        limited = number != resource.RLIM_INFINITY
        text = f"at most {number:,}" if limited else "no limit"
        if limited and number < least:
            yield Result(name, "warning", f"{text}, few for many child processes", f"run: ulimit -{option} {least}")
        else:
            yield Result(name, "ok", text)


def check_resources() -> Iterator[Result]:
    """Tell how many cores and how much memory a gate finds here, and which limit says so; a container may set them."""
    found = cores()
    yield Result("cores", "ok", f"{found.amount} ({found.source})")
    found = memory()
    yield Result("memory", "ok", f"{size(found.amount)} ({found.source})")


def check_switch_interval() -> Iterator[Result]:
    """Check for how long a thread may keep the interpreter."""
    seconds = sys.getswitchinterval()
    text = f"{seconds * 1000:g} ms"
    if seconds > _SWITCH_INTERVAL:
        text = f"{text}: a thread may keep the interpreter so long, and trio loops wake up late"
        remedy = "find the call of sys.setswitchinterval, in sitecustomize perhaps, and remove it"
        yield Result("switch interval", "warning", text, remedy)
    else:
        yield Result("switch interval", "ok", text)


def check_encoding() -> Iterator[Result]:
    """Check that the terminal takes every character."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    try:
        known = codecs.lookup(encoding).name
    except LookupError:
        known = encoding
    if known.startswith("utf"):
        yield Result("encoding", "ok", known)
    else:
        text = f"{known}: characters that it does not have are printed as '?'"
        yield Result("encoding", "warning", text, "set PYTHONUTF8=1, or a locale such as LANG=C.UTF-8")
