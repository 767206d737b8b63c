# Gate: it opens and closes everything.
#
#   _gate.py                `Gate`: open, close, find
#   _spawning.py            `Gate.spawn`, `aspawn`, `spawn_many`, `aspawn_many`
#   _spawn_many.py          the arguments and the outcomes of many starts
#   _config.py              its file
#   _plugins.py             its optional parts: their order, and what they bring
#   _operation_table.py     the places of its operations
#   _statistics.py          its figures
#   _transaction.py         the block of a transaction
#   _shutdown.py            the stages of closing
#   _shutdown_report.py     the report of that
#   _uninterrupted_call.py  a call that no signal handler interrupts: opening and closing
#   _mark.py                an event that signal handlers may set: the request to stop
#   _switch_interval.py     how long a thread keeps the interpreter
#   _collector.py           the garbage collector, tuned for tokens
#   _first_use.py           the first use of a gate that opens lazily
#   _fork_and_exit.py       open gates when the process forks or exits
"""The gate, and how it opens and closes."""
