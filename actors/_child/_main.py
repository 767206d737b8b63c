"""The program of a fork server, and of all processes that it makes: `python -P _main.py DESCRIPTOR`.

It is run by its path, so that nothing of the package that it lies in is imported. What is beside it becomes a package
of its own.

Args (on the command line):
    DESCRIPTOR: of the socket to the gate.
    folders: where cloudpickle is looked for, too, if it is not found otherwise.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys

PACKAGE = "tokengate_worker"


def load_package() -> None:
    """Make a package out of the folder that this file is in."""
    folder = os.path.dirname(__file__)
    spec = importlib.util.spec_from_file_location(
        PACKAGE, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    sys.path.extend(sys.argv[2:])
    load_package()
    importlib.import_module(f"{PACKAGE}._server").serve(int(sys.argv[1]))
