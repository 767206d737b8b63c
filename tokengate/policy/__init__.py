# Policies: what a token is held to, and the pure functions that decide it.
#
#   _policy.py      the parts that users write: Policy, Retry, Breaker, Throttle, Budget, Batch
#   _values.py      checks of their values, with errors that name the field and the remedy
#   _attempt.py     how an attempt ended, and the record of it
#   _window.py      a count of the events of the last seconds
#   _retry.py       whether another attempt follows, after which delay; the share of retries
#   _breaker.py     whether attempts may begin, by how those before them ended
#   _shedding.py    which tokens are rejected at their turn, since all have waited too long
#   _times.py       which limit of a token is over first: queue timeout, timeout, deadline, inherited deadline
#   _file.py        the sections of a file: policies, throttles, flags
#   _inventory.py   functions that are worth a policy, found in sources
#   _keys.py        keys of calls, read from tags, arguments, or by a function
#   _states.py      a table of the states of a rule, by key, of bounded size
#   _throttle.py    what is used of a throttle: a rate, a number that runs, or one that adapts
#   _rate.py        the rate: attempts that begin in a time, with a burst
#   _deadlines.py   when the times of tokens are over: one heap for a gate, a lane for those of a place
#   _rules.py       delays, throttles and budgets, as what gives grants to tokens asks them
#   _over.py        what becomes of tokens that exceed a throttle that does not keep them back
#   _selected.py    throttles with a selector, and how they are found
#   _throttled.py   what a token is held to that is held to these only
#   _shared.py      those of a gate: which hold, and which places ask for them
#   _place_rules.py the rules of one place, with their states
#   _timed.py       the limits of time that one token is held to, and what follows when one is over
#   _preemption.py  the end of an attempt for another one
#   _governed.py    what one token is held to, and what it uses of that
#   _joint.py       the tokens that another token runs for
#   _batch.py       when a batch is sent, what its function takes and returns
#   _batch_rule.py  throttles of batches, whose tokens count for the rate
#   _together.py    the tokens of one batch
#   _identity.py    whether two calls have equal arguments
#   _joined.py      what such tokens, and those that run for others, are held to; keys of calls, open batches
#   _consent.py     calls that wait at the door until a person agrees, and the form of their arguments
#   _failover.py    which of several operations a call is tried at
#   _sources.py     the fields of a policy by code, file and operators, and which of them win
#   _flags.py       for which tokens the rules are left out, only counted, or hold
#   _observed.py    what the rules would do to one token, counted
#   _events.py      what policies publish
#   _governor.py    the governor of a place, which asks these at its door
#   _asking.py      that of an operation with consent; commands with consent
#   _policies.py    the policies of a gate
#   _resumed.py     preempts a token; what one is held to after that which was held to no policy
#   _spending.py    what code spends of the budget of its token
#   _remaining.py   the time that is left to the code that asks
#   _ports.py       the protocol of it, for the files above
#   _undo.py        what a rollback undoes, in which order, and what compensations are given
#   _transaction.py the transactions of a gate: members, rollbacks
#   _budget.py      what is spent of a budget: reservations, costs, periods
"""What tokens are held to: `Policy` and its parts, and what code asks or tells about that while it runs."""

from tokengate.policy._policy import Batch, Breaker, Budget, Policy, Retry, Throttle
from tokengate.policy._remaining import remaining
from tokengate.policy._spending import spend

__all__ = ["Batch", "Breaker", "Budget", "Policy", "Retry", "Throttle", "remaining", "spend"]
