"""The program of a fork server, and of all processes that it forks: `python -P _main.py DESCRIPTOR [FOLDER ...]`.

It is run by its path, so that the package `actors` is not imported. The modules beside it become a package of their
own. They are found by the import system, and so may be in an archive, where `_fork_server.ARCHIVED` runs this file.

Args (on the command line):
    DESCRIPTOR: of the socket to the gate.
    FOLDER: where cloudpickle is found, if not on the usual path.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

PACKAGE = "tokengate_worker"


def load_package() -> None:
    """Make a package of the folder of this file."""
    above, name = os.path.split(os.path.dirname(os.path.abspath(__file__)))
    found = PathFinder.find_spec(name, [above])
    assert found is not None
    package = ModuleType(PACKAGE)
    package.__package__, package.__file__ = PACKAGE, found.origin
    package.__path__ = [os.path.join(above, name)]
    package.__spec__ = spec = ModuleSpec(PACKAGE, None, origin=found.origin, is_package=True)
    spec.submodule_search_locations = package.__path__
    sys.modules[PACKAGE] = package
    exec(found.loader.get_code(name), vars(package))  # type: ignore[union-attr]


if __name__ == "__main__":
    sys.path.extend(sys.argv[2:])
    load_package()
    importlib.import_module(f"{PACKAGE}._fork_server").serve(int(sys.argv[1]))
