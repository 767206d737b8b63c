# Console: the shell.
#
#   _repl.py       Python with the verbs as functions
#   _completer.py  what Tab offers
"""The console of `tokengate shell`."""
