# Console: the shell.
#
#   _repl.py       Python with the verbs of a gate at hand
#   _completer.py  what Tab offers
"""The console of `tokengate shell`."""
