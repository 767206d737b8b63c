# Requests: what a child process asks of its gate.
#
#   _requests.py       what may be asked
#   _request.py        one request, until it is answered
#   _remote_log.py     log records of children
#   _remote_timers.py  timers and watches of their actors
"""Requests of child processes to their gate."""
