# Control: see and steer every token and actor while they run.
#
#   what is said       messages.py (the vocabulary), _exceptions.py
"""The control actor, and the ways to it: Python, a socket, a command line, a REPL."""
