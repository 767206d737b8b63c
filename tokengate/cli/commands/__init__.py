# Commands of `tokengate`.
#
#   _run.py         `run`
#   _demo.py        `demo`
#   _shell.py       `shell`
#   _completion.py  `completion`
#   _help.py        `help`
#   _check.py       `check`
#   _health.py      `health`
#   _history.py     `history`, `operations`
#   _inventory.py   `inventory`
#   _audit.py       `audit`
#   _admin.py       `admin`
#   _mcp.py         `mcp`
#   _inspect.py     commands that show gates, tokens, actors and the tree
#   _steer.py       commands that change tokens
#   _actors.py      commands that change actors, and children of supervisors
#   _authority.py   commands about proposals, the freeze of interventions, and the caller
#   _predict.py     commands about predictions, rules and interventions
#   _trace.py       `trace-export`
#   _postmortem.py  `postmortem`
#   _follow.py      commands that print a stream until Ctrl-C
"""The commands."""
