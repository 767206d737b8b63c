# Pickling: what crosses between a gate and its child processes.
#
#   _carrier.py  calls and results, pickled once, with the runtime's own names exchanged
#   _exports.py  the ids and paths by which a child knows tokens and actors
#   _ports.py    what this asks of the system
"""What crosses between processes, and how."""
