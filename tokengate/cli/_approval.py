"""Verbs that need the approval of another person: the command waits for it, and then applies them."""

from __future__ import annotations

from typing import Final

import click

from tokengate.cli._connection import Connection
from tokengate.cli._errors import AWAITING, Failure
from tokengate.cli._parameters import Time
from tokengate.control.messages import Applied, Apply, ProposalRow, Proposed, WaitApproval

WAIT_APPROVAL: Final = click.Option(
    ["--wait-approval"],
    type=Time(3600),
    metavar="TIME",
    help="Where another person must approve it, wait so long for that, such as 5m, and then do it.",
)


def waits(proposal: Proposed) -> Failure:
    """Return the failure of a command whose verb waits for an approval."""
    return Failure(
        f"proposal {proposal.number} waits for the approval of another person: '{_approve(proposal)}'; "
        f"then 'tokengate apply {proposal.number}'",
        AWAITING,
    )


def applied(connection: Connection, proposal: Proposed) -> Applied:
    """Wait until a proposal is approved, as long as the command waits for that, and apply it.

    Raises:
        Failure: it is not approved.
    """
    number, seconds = proposal.number, connection.wait_approval
    assert seconds is not None
    click.echo(f"waiting for the approval of another person: {_approve(proposal)}", err=True)
    row: ProposalRow = connection.ask(WaitApproval(number, seconds))
    if row.state == "open":
        raise Failure(
            f"proposal {number} is not approved yet; when it is, 'tokengate apply {number}' does it", AWAITING
        )
    if row.state != "approved":
        by = f" by {row.approver}" if row.approver else ""
        raise Failure(f"proposal {number} is {row.state}{by}, so nothing was done")
    done: Applied = connection.ask(Apply(number))
    return done


def _approve(proposal: Proposed) -> str:
    return f"tokengate approve {proposal.number} --digest {proposal.digest[:8]}"
