# API: the verbs as methods.
#
#   _control.py    `Control` and `AsyncControl`
#   _verbs.py      all verbs
#   _tokens.py     the verbs for tokens and throttles
#   _policies.py   the verbs for policies, breakers, budgets, flags and transactions
#   _authority.py  the verbs for proposals, the freeze and the caller
#   _actors.py     the verbs for actors, supervisors, and the attributes of instances
#   _handles.py    tokens and actors as objects with their verbs
#   _answers.py    answers that look like their table
#   _following.py  streams of what happens
#   _in_thread.py  a blocking call, awaited
"""`Control`, `AsyncControl`, their verbs, and handles."""
