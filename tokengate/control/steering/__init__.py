# Steering: what is done to tokens, actors, supervisors, throttles and limits.
#
#   _tokens.py       the verbs for tokens
#   _steering.py     pause, step, end and move a token
#   _outcomes.py     what came of a verb, token by token
#   _actors.py       the verbs for actors and operations
#   _commands.py     methods of actors that are marked for operators
#   _recycle.py      processes that are replaced as soon as they are idle
#   _supervisors.py  the verbs for supervisors
#   _attempts.py     further attempts of a token, and more time for it
#   _preempt.py      another attempt in the place of the one that runs
#   _policies.py     policies, the states of their rules, flags, the file
#   _transactions.py transactions: rolled back, repeated, skipped
#   _throttles.py    the verbs for throttles
#   _limits.py       limits of live process tokens
#   _estimates.py    what operators say that a token will need
"""The verbs that change something, by the same nouns as the messages."""
