# `tokengate top`: the live tokens on a whole terminal.
#
#   _top.py     the command
#   _state.py   what is shown, and what keys change
#   _screen.py  how it looks
#   _keys.py    keys from the terminal
#   _asker.py   questions to the gate, in a thread
"""`tokengate top`."""
