"""`tokengate health`: whether a gate is live and ready, for people and for the probes of containers."""

from __future__ import annotations

import click

from tokengate.cli._connection import Connection, connected
from tokengate.control._exceptions import NoAnswer
from tokengate.control.messages import ANSWER_SECONDS, Health, HealthReport


@click.command()
@click.option("--live", is_flag=True, help="Exit with 0 if it is live, although a part may have failed.")
@connected
def health(connection: Connection, live: bool) -> None:
    """Show whether a gate is live and ready, and how its parts are.

    It is live if its system loop answers within a second, and ready if no part has failed. The exit code is 0 if it is
    ready (with --live: live), 1 if it is not, and 3 if there is no gate. As the probes of a container:

    \b
    livenessProbe:  {exec: {command: [tokengate, health, --live]}, timeoutSeconds: 5}
    readinessProbe: {exec: {command: [tokengate, health]}, timeoutSeconds: 5}

    \b
    tokengate health
    tokengate health --live
    tokengate health -g shop --json
    """  # noqa: D301  # click wants the backspace itself
    connection.timeout = ANSWER_SECONDS
    try:
        report: HealthReport = connection.ask(Health())
    except NoAnswer as error:
        report = HealthReport.of_hung(error.gate)
    connection.show(report)
    if not (report.live if live else report.ready):
        raise SystemExit(1)
