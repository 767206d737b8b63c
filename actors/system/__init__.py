# System: the root object, and what looks after all of it.
#
#   _system.py        owns the threads, loops, ids and tables
#   _open_systems.py  open systems when the process forks or exits
#   _observer.py      observers and listeners
#   _events.py        events for listeners
#   _recovery.py      does what interrupted senders left undone
"""The actor system, its observers, and recovery."""
