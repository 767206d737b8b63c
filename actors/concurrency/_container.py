"""The cores and the memory that this process may use; in a container these are fewer than the machine has."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs
import psutil

_ROOT: Final = Path("/")


@attrs.frozen
class Share:
    """What a process may use of its machine.

    Attributes:
        amount: of cores, or of bytes.
        source: the file that says so, or the property of the process.
    """

    amount: int
    source: str


def cores(root: Path = _ROOT, of_process: int | None = None) -> Share:
    """Return how many cores this process may use, at least 1; a part of a core counts as one.

    It is the smallest of its affinity, and of the quotas and sets of cores of its cgroups, version 1 or 2.

    Args:
        root: folder with `proc` and `sys`.
        of_process: the number of cores in the affinity of the process; None asks the system.
    """
    if of_process is None:
        of_process = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    process = Share(of_process, "affinity of the process")
    return min((process, *_limits(root, _CORES)), key=lambda share: share.amount)


def memory(root: Path = _ROOT, of_machine: int | None = None) -> Share:
    """Return how many bytes of memory this process may use: the least that its cgroups, version 1 or 2, allow.

    Args:
        root: folder with `proc` and `sys`.
        of_machine: bytes that the machine has; None asks the system.
    """
    machine = psutil.virtual_memory().total if of_machine is None else of_machine
    return min((Share(machine, "memory of the machine"), *_limits(root, _MEMORY)), key=lambda share: share.amount)


def _limits(root: Path, readers: Mapping[str, Mapping[str, Callable[[Path], int]]]) -> Iterator[Share]:
    """Yield the limits of the cgroups of this process and of those above them.

    Args:
        root: folder with `proc` and `sys`.
        readers: {controller: {name of a file: how it is read}}; the controller of version 2 has no name.
    """
    for controller, folder in _cgroups(root):
        for name, read in readers.get(controller, {}).items():
            try:
                amount = read(folder / name)
            except (OSError, ValueError):  # there is no such file, or no limit in it
                continue
            if amount > 0:
                yield Share(amount, f"/{(folder / name).relative_to(root)}")


def _cgroups(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield controllers and the folders of their cgroups, the innermost first; a container may see its own as root."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for controller in controllers.split(","):
            mount = root / "sys/fs/cgroup" / controller
            yield from ((controller, mount.joinpath(*parts[:length])) for length in range(len(parts), -1, -1))


def _quota(path: Path) -> int:
    quota, period = path.read_text().split()
    return -(-int(quota) // int(period))


def _quota_of_version_1(path: Path) -> int:
    return -(-int(path.read_text()) // int(path.with_name("cpu.cfs_period_us").read_text()))


def _set_of_cores(path: Path) -> int:
    spans = [span.split("-") for span in path.read_text().strip().split(",")]
    return sum(int(span[-1]) - int(span[0]) + 1 for span in spans)


def _bytes(path: Path) -> int:
    return int(path.read_text())


_CORES: Final = {
    "": {"cpu.max": _quota, "cpuset.cpus.effective": _set_of_cores},
    "cpu": {"cpu.cfs_quota_us": _quota_of_version_1},
    "cpuset": {"cpuset.effective_cpus": _set_of_cores, "cpuset.cpus": _set_of_cores},
}

_MEMORY: Final = {"": {"memory.max": _bytes}, "memory": {"memory.limit_in_bytes": _bytes}}
