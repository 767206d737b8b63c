"""The program of a fork server, and of all processes that it makes: `python -P _main.py DESCRIPTOR`.

It is run by its path, so that nothing of the package that it lies in is imported. What is beside it becomes a package
of its own. All of it is found as modules are, and so may be in an archive, where it is run by `_fork_server.ARCHIVED`.

Args (on the command line):
    DESCRIPTOR: of the socket to the gate.
    folders: where cloudpickle is looked for, too, if it is not found otherwise.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

PACKAGE = "tokengate_worker"


def load_package() -> None:
    """Make a package out of the folder that this file is in."""
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
