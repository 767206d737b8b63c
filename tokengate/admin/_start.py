"""Run by its path in a process that the plugin starts and waits for: leaves a process behind that is the daemon."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Fork, so that the daemon is no child of the gate; import only in the daemon, so that the gate waits briefly."""
    if os.fork():
        os._exit(0)
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from tokengate.admin._daemon import run_detached

    run_detached(*sys.argv[1:])


if __name__ == "__main__":
    main()
