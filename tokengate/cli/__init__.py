# The `tokengate` command.
#
#   commands/          the commands
#   top/               `tokengate top`
#
#   _main.py           the group, and what all commands share
#   _connection.py     the way to a gate, and from an answer to the screen
#   _token_targets.py  which tokens a command is for
#   _run_target.py     what TARGET of `run` names
#   _parameters.py     numbers, sizes and times that are typed
#   _completers.py     what Tab offers
#   _signals.py        signals that ask a gate to stop
#   _output.py         output that cannot be written, or encoded
#   _errors.py         what is wrong with what was typed, in one line
#   _failures.py       what a gate would not or could not do, in one line and with an exit code
"""The `tokengate` command."""

from tokengate.cli._main import main

__all__ = ["main"]
