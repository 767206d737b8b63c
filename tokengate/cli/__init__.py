# The `tokengate` command.
#
#   commands/          the commands
#   top/               `tokengate top`
#   doctor/            `tokengate doctor`
#
#   _main.py           the commands, and the options of all
#   _group.py          help by kind
#   _connection.py     asks a gate and prints its answer
#   _gate_option.py    the option -g, and the way to that gate
#   _derive.py         a command from a message
#   _listing.py        groups whose name alone lists
#   _approval.py       waits until a proposal is approved, and applies it
#   _plugins.py        commands of plugins
#   _token_targets.py  which tokens a command is for
#   _run_target.py     what TARGET of `run` names
#   _parameters.py     numbers and times that are typed, and options for times
#   _completers.py     what Tab offers
#   _signals.py        signals that ask a gate to stop
#   _out_file.py       the option for a file that a command writes
#   _output.py         output that cannot be written, or encoded
#   _errors.py         errors in one line, with exit codes
"""The `tokengate` command."""

from tokengate.cli._main import main

__all__ = ["main"]
