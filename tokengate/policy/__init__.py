# Policies: what a token is held to, and the pure functions that decide it.
#
#   _policy.py      the parts that users write: Policy, Retry, Breaker, Throttle, Budget, Batch
#   _values.py      checks of their values, with errors that name the field and the remedy
#   _times.py       which limit of a token is over first: queue timeout, timeout, deadline, inherited deadline
"""`Policy` and its parts: times, retries, breakers, throttles, budgets, batches."""
