"""The commands, and the options of all."""

from __future__ import annotations

import logging
import traceback

import click

from tokengate.cli._derive import commands_of
from tokengate.cli._group import Commands
from tokengate.cli._output import replace_what_cannot_be_encoded
from tokengate.cli.commands import _actors, _authority, _follow, _inspect, _steer
from tokengate.cli.commands._admin import admin
from tokengate.cli.commands._audit import audit
from tokengate.cli.commands._check import check
from tokengate.cli.commands._completion import completion
from tokengate.cli.commands._demo import demo
from tokengate.cli.commands._health import health
from tokengate.cli.commands._help import help_
from tokengate.cli.commands._history import history, operations
from tokengate.cli.commands._inventory import inventory
from tokengate.cli.commands._mcp import mcp
from tokengate.cli.commands._postmortem import postmortem
from tokengate.cli.commands._predict import calibration, interventions, predict, rules
from tokengate.cli.commands._run import run
from tokengate.cli.commands._shell import shell
from tokengate.cli.commands._trace import trace_export
from tokengate.cli.doctor._doctor import doctor
from tokengate.cli.top._top import top
from tokengate.control._version import own_version
from tokengate.control.registry._landed import BREAKER, BUDGET, FLAG, POLICY, PROPOSAL, TRANSACTION


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(own_version(), prog_name="tokengate")
@click.option("-v", "--verbose", count=True, help="Log restarts, and tracebacks of crashes; twice: everything.")
@click.pass_context
def main(context: click.Context, verbose: int) -> None:
    """Run services whose every call is a token that can be seen and steered.

    Begin with 'tokengate demo'. 'tokengate ps' lists the tokens that run now; 'tokengate stack ID' shows where one
    hangs, and 'tokengate kill ID' ends it.
    """
    if context.invoked_subcommand != run.name:  # there the output is the program's
        replace_what_cannot_be_encoded()
    level = {0: logging.ERROR, 1: logging.WARNING}.get(verbose, logging.DEBUG)
    handler = logging.StreamHandler()
    if not verbose:
        handler.addFilter(_in_one_line)
    # Without effect where logging has been configured before, by a program that calls this function.
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", handlers=[handler])


def _in_one_line(record: logging.LogRecord) -> bool:
    """Reduce tracebacks in the runtime's own records to the exception; `-v` shows them whole."""
    if record.name.startswith("tokengate") and record.exc_info:
        error = " ".join("".join(traceback.format_exception_only(record.exc_info[1])).split())
        record.msg, record.args = f"{record.getMessage()} {error}", ()
        record.exc_info = record.exc_text = None
    return True


main.add(
    {
        "Gates": (demo, run, _inspect.ls, _inspect.info, _inspect.overview, health),
        "Tokens": (
            _inspect.ps,
            top,
            _inspect.describe,
            _inspect.stack,
            _steer.pause,
            _steer.resume,
            _steer.step,
            _steer.kill,
            _steer.renice,
            _steer.retag,
            _steer.reroute,
            _steer.preempt,
            _steer.limit,
            _steer.estimate,
            _steer.throttle,
            _steer.throttles,
        ),
        "Actors and operations": (
            _inspect.actors,
            _inspect.stats,
            _actors.suspend,
            _actors.unsuspend,
            _actors.drain,
            _actors.restart,
            _actors.recycle,
            _actors.stop,
            _actors.state,
            _actors.set_state,
            _actors.call,
        ),
        "Supervisors": (_inspect.tree, _inspect.children, _actors.child),
        "History": (history, operations, trace_export, postmortem),
        "Streams": (_follow.watch,),
        "Predictions": (calibration, rules, interventions, predict),
        "Policies": (
            *(command for kind in (POLICY, BREAKER, BUDGET, FLAG, TRANSACTION) for command in commands_of(kind)),
            _steer.retry,
            _steer.extend,
            _steer.compensate,
            _steer.reload_,
            check,
            inventory,
        ),
        "Authority": (
            _authority.whoami,
            *commands_of(PROPOSAL),
            _authority.approve,
            _authority.deny,
            _authority.apply,
            _authority.freeze,
            _authority.unfreeze,
            audit,
        ),
        "Tools": (admin, mcp, shell, completion, doctor, help_),
    },
    most_used=(
        demo,
        run,
        _inspect.ls,
        _inspect.ps,
        top,
        _inspect.tree,
        _inspect.describe,
        _inspect.stack,
        _steer.pause,
        _steer.resume,
        _steer.kill,
        shell,
    ),
)
