# Processes: tokens that run in child processes.
#
#   _process_host.py     the thread that reads from all child processes, and settles their tokens
#   _process_drain.py    what both drains share: pause, step, end
#   _operation_drain.py  operations, in the workers of the pool
#   _actor_drain.py      an actor, in a child process of its own
#   _limits.py           what a token may use of its process
#   _limit_watch.py      ends tokens that use more
#   pickling/            what crosses between processes
#   workers/             child processes, their pool, and the fork server
#   requests/            what a child asks of its gate
"""Child processes: their host, drains and limits."""
