# Operations: functions whose calls are tokens.
#
#   _operation.py  `@token`, and calls
#   _bound.py      operations that are methods
#   _functions.py  properties of a callable: its name, its kind
#   _options.py    checks of its options
#   _spec.py       what an operation is
#   _route.py      calls that are tried at one of several operations
#   _current.py    which gate a call belongs to
#   _executor.py   a gate as an executor of `concurrent.futures`
#   _command.py    `@command`: methods of actors that operators may call
#   _in_child.py   operations of modules that a child process imports
#   _ports.py      what they ask of a gate
"""`@token`, the current gate, and the executor."""
