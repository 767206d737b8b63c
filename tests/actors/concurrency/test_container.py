"""The cores and the memory of this process, read from a tree of files like those of a container."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from actors.concurrency._container import Share, cores, memory

GIB = 2**30
OF_PROCESS, OF_MACHINE = Share(64, "affinity of the process"), Share(256 * GIB, "memory of the machine")
UNLIMITED = str(9223372036854771712)  # what version 1 says

VERSION_1 = "4:memory:/docker/7\n3:cpuset:/docker/7\n2:cpu,cpuacct:/docker/7\n1:name=systemd:/docker/7\n0::/\n"


def tree(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, OF_PROCESS),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "100000 100000\n"}, Share(1, "/sys/fs/cgroup/cpu.max")),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, Share(2, "/sys/fs/cgroup/cpu.max")),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "1000 100000\n"}, Share(1, "/sys/fs/cgroup/cpu.max")),
        ("0::/a/b\n", {"sys/fs/cgroup/a/b/cpu.max": "max 100000", "sys/fs/cgroup/a/cpu.max": "300000 100000"},
         Share(3, "/sys/fs/cgroup/a/cpu.max")),
        ("0::/not/mounted\n", {"sys/fs/cgroup/cpu.max": "200000 100000"}, Share(2, "/sys/fs/cgroup/cpu.max")),
        ("0::/../..\n", {"sys/fs/cgroup/cpu.max": "200000 100000"}, Share(2, "/sys/fs/cgroup/cpu.max")),
        ("0::/\n", {"sys/fs/cgroup/cpuset.cpus.effective": "0-3,8\n", "sys/fs/cgroup/cpu.max": "900000 100000"},
         Share(5, "/sys/fs/cgroup/cpuset.cpus.effective")),
        (VERSION_1, {"sys/fs/cgroup/cpu/docker/7/cpu.cfs_quota_us": "250000\n",
                     "sys/fs/cgroup/cpu/docker/7/cpu.cfs_period_us": "100000\n"},
         Share(3, "/sys/fs/cgroup/cpu/docker/7/cpu.cfs_quota_us")),
        (VERSION_1, {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                     "sys/fs/cgroup/cpuset/cpuset.cpus": "2-3\n"},
         Share(2, "/sys/fs/cgroup/cpuset/cpuset.cpus")),
        (VERSION_1, {"sys/fs/cgroup/cpuset/docker/7/cpuset.cpus": "\n"}, OF_PROCESS),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "words\n"}, OF_PROCESS),
        ("", {}, OF_PROCESS),
    ],
)  # fmt: skip
def test_cores_are_the_smallest_of_affinity_quota_and_set(
    tmp_path: Path, cgroup: str, files: dict[str, str], expected: Share
) -> None:
    """Of the cgroups of the process and of those above; a part of a core counts as one."""
    assert cores(tree(tmp_path, cgroup, files), of_process=64) == expected


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/\n", {"sys/fs/cgroup/memory.max": "max\n"}, OF_MACHINE),
        ("0::/\n", {"sys/fs/cgroup/memory.max": f"{GIB}\n"}, Share(GIB, "/sys/fs/cgroup/memory.max")),
        ("0::/a/b\n", {"sys/fs/cgroup/a/b/memory.max": f"{2 * GIB}", "sys/fs/cgroup/a/memory.max": f"{GIB}"},
         Share(GIB, "/sys/fs/cgroup/a/memory.max")),
        (VERSION_1, {"sys/fs/cgroup/memory/memory.limit_in_bytes": f"{GIB}\n"},
         Share(GIB, "/sys/fs/cgroup/memory/memory.limit_in_bytes")),
        (VERSION_1, {"sys/fs/cgroup/memory/docker/7/memory.limit_in_bytes": f"{UNLIMITED}\n"}, OF_MACHINE),
        ("", {}, OF_MACHINE),
    ],
)  # fmt: skip
def test_memory_is_the_least_that_a_cgroup_allows(
    tmp_path: Path, cgroup: str, files: dict[str, str], expected: Share
) -> None:
    assert memory(tree(tmp_path, cgroup, files), of_machine=256 * GIB) == expected


def test_a_system_without_cgroups_has_what_the_process_and_the_machine_have(tmp_path: Path) -> None:
    """As macOS."""
    assert cores(tmp_path, 4) == Share(4, "affinity of the process")
    assert memory(tmp_path).amount == psutil.virtual_memory().total


def test_this_process_may_use_at_least_a_core_and_no_more_than_the_machine_has() -> None:
    assert 1 <= cores().amount <= (os.cpu_count() or 1)
    assert 0 < memory().amount <= psutil.virtual_memory().total
