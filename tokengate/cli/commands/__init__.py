# Commands of `tokengate`.
#
#   _run.py         `run`
#   _demo.py        `demo`
#   _shell.py       `shell`
#   _completion.py  `completion`
#   _inspect.py     commands that look
#   _steer.py       commands that do something to tokens
#   _actors.py      commands that do something to actors and children
#   _follow.py      commands that go on until Ctrl-C
"""The commands."""
