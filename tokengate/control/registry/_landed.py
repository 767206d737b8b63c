"""The nouns of every gate that are declared as kinds."""

from __future__ import annotations

from typing import Final

from tokengate.control import messages as m
from tokengate.control.registry._kinds import Kind, declare

PROPOSAL: Final = declare(Kind("proposal", m.ProposalRow, m.Proposals, (m.ShowProposal,)))
AUDIT_RECORD: Final = declare(Kind("audit-record", m.AuditRecordRow, m.AuditRecords, (m.ShowAuditRecord,)))
POLICY: Final = declare(Kind("policy", m.PolicyRow, m.Policies, (m.SetPolicy, m.ResetPolicy)))

BREAKER: Final = declare(
    Kind("breaker", m.BreakerRow, m.Breakers, (m.OpenBreaker, m.CloseBreaker, m.AutoBreaker, m.ResetBreaker))
)
BUDGET: Final = declare(Kind("budget", m.BudgetRow, m.Budgets, (m.ResetBudget,)))
FLAG: Final = declare(Kind("flag", m.FlagRow, m.Flags, (m.SetFlag, m.ResetFlag)))
TRANSACTION: Final = declare(
    Kind("transaction", m.TransactionRow, m.Transactions, (m.CompensateTransaction, m.SkipTransaction))
)
