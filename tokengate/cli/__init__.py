# The `tokengate` command.
#
#   _main.py     the group, and what all commands share
#   _demo.py     `tokengate demo`
#   _run.py      `tokengate run`
#   _target.py   what TARGET names
#   _stopping.py signals that ask a gate to stop
#   _errors.py   what is wrong with what the user typed, in one line
"""The `tokengate` command."""

from tokengate.cli._main import main

__all__ = ["main"]
