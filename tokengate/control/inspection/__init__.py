# Inspection: what is seen of a gate. Nothing here runs user code on the loop.
#
#   _verbs.py        the verbs that look
#   _queries.py      tokens, actors, the tree
#   _overview.py     what is longest, largest, held up, fullest, and was restarted last
#   _selector.py     which tokens are meant: `operation=resize,age>5m`
#   _health.py       the parts of a gate, and what is wrong with them
#   _policies.py     what tokens and places are held to, and what holds a token back
#   _views.py        rows, pages and arguments of tokens
#   _stacks.py       where a token's code is
#   _processes.py    figures of child processes
#   _actor_state.py  attributes of an actor's instance
#   _commands.py     commands of actors, for forms
#   _counters.py     statistics of single actors and operations
#   _past_tokens.py  tokens that have ended
#   _feeds.py        streams of events and tokens
#   _turns.py        long queries in pieces, one at a time on the loop
#   _off_loop.py     queries that may hang, in threads
"""Queries, stacks, feeds, selectors."""
