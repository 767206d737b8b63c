"""The verbs about proposals, the freeze of interventions, and the caller."""

from __future__ import annotations

from tokengate.control import messages as m
from tokengate.control.registry._verbs import Asker, asks


class AuthorityVerbs(Asker):
    """The verbs about proposals, the freeze of interventions, and the caller."""

    whoami = asks(m.Whoami)
    proposals = asks(m.Proposals)
    show_proposal = asks(m.ShowProposal)
    wait_approval = asks(m.WaitApproval)
    approve = asks(m.Approve)
    apply = asks(m.Apply)
    deny = asks(m.Deny)
    freeze = asks(m.Freeze)
    unfreeze = asks(m.Unfreeze)
