# API: the verbs as methods.
#
#   _control.py      `Control` and `AsyncControl`
#   _verbs.py        joins the verbs of the next six files
#   _gate.py         the verbs for the gate itself
#   _lists.py        the verbs that return handles
#   _tokens.py       the verbs for tokens
#   _throttles.py    the verbs for throttles
#   _actors.py       the verbs for actors, operations and their attributes
#   _supervisors.py  the verbs for the tree and for children
#   _handles.py      tokens and actors as objects with their verbs
#   _answers.py      answers that look like their table
#   _following.py    streams of what happens
#   _question.py     how a verb becomes a method
#   _in_thread.py    a blocking call, awaited
"""`Control`, `AsyncControl`, their verbs, and handles."""
