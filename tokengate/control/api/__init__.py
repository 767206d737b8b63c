# API: the verbs as methods.
#
#   _control.py  `Control` and `AsyncControl`
#   _verbs.py    each verb: its message, and what it makes of the answer
#   _handles.py  tokens and actors as objects with their verbs
"""`Control`, `AsyncControl`, their verbs, and handles."""
