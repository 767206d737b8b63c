# Tokens: the message that carries a call, and what belongs to one call.
#
#   _token.py        the token
#   _lifecycle.py    its states, and which may follow which
#   _extras.py       the attributes that few tokens have: a hold, waits, a request to end
#   _hold.py         whether its code may take another step: pause, step, end
#   _waits_for.py    which token waits for which; finds deadlocks
#   _as_completed.py waits for several tokens and futures at once
#   _ports.py        what a token asks of its place and of its system
#   _prediction.py   what is expected of one, as data
#   _properties.py   what a place declares for its tokens: guard, show, idempotent
#   _log_context.py  token and actor in each log record
"""Tokens: their states, results, and holds."""
