# The `tokengate` command.
#
#   _main.py        the group, and what all commands share
#   _demo.py        `tokengate demo`
#   _run.py         `tokengate run`
#   _target.py      what TARGET of `run` names
#   _stopping.py    signals that ask a gate to stop
#   _output.py      output that cannot be written, or encoded
#   _errors.py      what is wrong with what the user typed, in one line
#   _numbers.py     numbers that the user typed
#
# Commands that talk to a gate, through its socket:
#
#   _look.py        those that only look
#   _steer.py       those that do something to tokens
#   _actors.py      those that do something to actors, or to children of supervisors
#   _follow.py      those that go on until Ctrl-C
#   _top.py         `tokengate top`, with _top_state.py (what keys do), _top_screen.py (how it looks), _keys.py (keys),
#                   and _top_asker.py (questions, and the time that answers take)
#   _shell.py       `tokengate shell`
#   _completion.py  `tokengate completion`, with _complete.py (what Tab offers)
#   _connection.py  the way to the gate, and from an answer to the screen
#   _targets.py     which tokens a command is for
#   _failures.py    what a gate would not or could not do, in one line and with an exit code
"""The `tokengate` command."""

from tokengate.cli._main import main

__all__ = ["main"]
