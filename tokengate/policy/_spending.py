"""What code spends of the budget of its token."""

from __future__ import annotations

from actors import current_token


def spend(cost: float) -> None:
    """Book a cost on the budget of the current token, first on what its attempt has reserved.

    Without a budget, as in a plain call with no gate open, nothing is booked.

    Args:
        cost: at least 0, in the unit of the budget.

    Raises:
        BudgetExceeded: the cost is booked, and more than the limit is spent now.
        BadPolicy: it is no such number; nothing is booked.
    """
    token = current_token()
    if token is not None:
        token._spend(cost)
