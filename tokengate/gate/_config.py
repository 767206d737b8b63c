"""The file of a gate, read when that opens."""

from __future__ import annotations

import os
from collections.abc import Iterable

import tokengate.authority._file  # noqa: F401  # which has sections
from actors import ActorSystem
from tokengate.authority._authority import Authority
from tokengate.config._file import Config, find_file
from tokengate.control.registry._plugin import Plugin
from tokengate.control.steering._policies import file_of, take_file
from tokengate.policy._policies import policies_in


def take_config(
    system: ActorSystem, authority: Authority, given: str | os.PathLike[str] | None, plugins: Iterable[Plugin]
) -> Config | None:
    """Have the file of a gate decide about its places, and who may do what; return it; None without one.

    Args:
        system: of the gate, which has no places yet.
        authority: of the gate.
        given: path of the file; None for the one that the environment variable names.
        plugins: of the gate.

    Raises:
        BadConfig: it has errors, or cannot be read.
    """
    file = find_file(given)
    if file is None:
        return None
    config = file_of(file, plugins)
    takes = [authority.prepare(config), *filter(None, (plugin.prepare(config) for plugin in plugins))]
    take_file(policies_in(system), config)
    for take in takes:
        take()
    return config
