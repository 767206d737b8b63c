# Processes: tokens that run in child processes.
#
#   _operation_drain.py   runs operations, in the workers of the pool
#   _actor_drain.py       runs an actor, in a child process of its own
#   _process_drain.py     what both drains share
#   _process_holds.py     pauses and steps the tokens of both drains
#   _process_host.py      the thread that reads from all child processes
#   _worker_lifecycle.py  starts, retires and replaces child processes
#   _results.py           reads what they send, and settles their calls
#   _ports.py             what the parts of the host need of it and of the drains
#   _limit_watch.py       kills a process when its token exceeds a limit
#   requests/             what a child asks of its gate
#   workers/              one child process, their pool, and the fork server
#   pickling/             what crosses between processes
#   _limits.py            what a token may use of its process
"""Child processes: their host, drains and limits."""
