# Workers: child processes as the gate sees them.
#
#   _worker.py         one child process: what it was sent, how it is stopped, looked into, killed
#   _worker_pool.py    how many there are, and which runs what
#   _fork_server.py    the process that makes them
#   _poller.py         waits for many descriptors at once
#   _process_state.py  whether a process runs, and its processor time
#   _stack.py          its Python stack
#   _deadlines.py      calls that a thread makes later
#   _errors.py         errors of calls whose worker has died, or could not be started
"""One child process, the pool of them, and the fork server."""
