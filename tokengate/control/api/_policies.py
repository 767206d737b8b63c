"""The verbs for policies, breakers, budgets, flags and transactions."""

from __future__ import annotations

from tokengate.control import messages as m
from tokengate.control.registry._verbs import Asker, asks


class PolicyVerbs(Asker):
    """The verbs for policies, breakers, budgets, flags and transactions."""

    policies = asks(m.Policies)
    set_policy = asks(m.SetPolicy)
    reset_policy = asks(m.ResetPolicy)
    breakers = asks(m.Breakers)
    open_breaker = asks(m.OpenBreaker)
    close_breaker = asks(m.CloseBreaker)
    auto_breaker = asks(m.AutoBreaker)
    reset_breaker = asks(m.ResetBreaker)
    budgets = asks(m.Budgets)
    reset_budget = asks(m.ResetBudget)
    flags = asks(m.Flags)
    set_flag = asks(m.SetFlag)
    reset_flag = asks(m.ResetFlag)
    reload = asks(m.Reload)
    transactions = asks(m.Transactions)
    compensate_transaction = asks(m.CompensateTransaction)
    skip_transaction = asks(m.SkipTransaction)
