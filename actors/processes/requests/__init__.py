# Requests: what a child process asks of its gate.
#
#   _requests.py       answers the requests of all children
#   _request.py        one request, until it is answered
#   _remote_log.py     passes on log records of children
#   _remote_timers.py  timers and watches of actors in children
"""Requests of child processes to their gate."""
