# `tokengate doctor`: checks of an installation.
#
#   _doctor.py        the command
#   _installation.py  Python, dependencies, packages that another one hides
#   _system.py        the platform, limits, the switch interval, the terminal
#   _gates.py         the directory of control sockets, and the gates that run here
#   _child.py         a token in a child process
#   _result.py        the result of a check
"""`tokengate doctor`."""
