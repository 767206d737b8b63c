# Pickling: what crosses between a gate and its child processes.
#
#   _carrier.py      pickles calls, and unpickles results; names of the runtime become their counterparts
#   _definitions.py  what a function of a notebook refers to, and whether that has changed
#   _exports.py      the ids and paths by which children refer to tokens and actors
#   _ports.py        what pickling needs of the actor system
"""Pickling between a gate and its child processes."""
