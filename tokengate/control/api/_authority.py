"""The verbs about proposals, the freeze of interventions, the caller, and the audit log."""

from __future__ import annotations

from tokengate.control import messages as m
from tokengate.control.api._following import follows
from tokengate.control.registry._verbs import Asker, asks


class AuthorityVerbs(Asker):
    """The verbs about proposals, the freeze of interventions, the caller, and the audit log."""

    whoami = asks(m.Whoami)
    proposals = asks(m.Proposals)
    propose = asks(m.Propose)
    show_proposal = asks(m.ShowProposal)
    wait_approval = asks(m.WaitApproval)
    approve = asks(m.Approve)
    apply = asks(m.Apply)
    deny = asks(m.Deny)
    freeze = asks(m.Freeze)
    unfreeze = asks(m.Unfreeze)

    audit_records = asks(m.AuditRecords)
    show_audit_record = asks(m.ShowAuditRecord)
    follow_audit = follows(m.FollowAudit)
