# Workers: child processes as the gate sees them.
#
#   _worker_pool.py    how many workers there are, and their holders
#   _errors.py         errors of calls without a living worker
#   _worker.py         one child process: its calls; how it is stopped, inspected and killed
#   _stream.py         the connection to it
#   _stack.py          its Python stack
#   _fork_server.py    the process that forks the workers
#   _process_state.py  whether a process runs, and its processor time
#   _poller.py         waits for many file descriptors at once
#   _deadlines.py      calls that a thread makes later
"""One child process, the pool of them, and the fork server."""
