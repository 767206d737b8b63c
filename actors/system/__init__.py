# System: the root object, its tables, observers and recovery.
#
#   _system.py        owns the threads, loops and child processes; starts and closes all
#   _place_table.py   places by their paths
#   _token_counts.py  live tokens, and counts of those that have ended
#   _outside.py       actors of `Cls.start()`, and instances made by hand
#   _open_systems.py  closes or disowns open systems at fork and exit
#   _observer.py      observers and listeners
#   _events.py        events for listeners
#   _reconciler.py    pauses and ends tokens, again and again until they have stopped
#   _recovery.py      completes what interrupted senders left undone
"""The actor system, its observers, and recovery."""
