"""The command group, and what all commands share."""

from __future__ import annotations

import logging
import traceback
from importlib.metadata import version

import click

from tokengate.cli._demo import demo
from tokengate.cli._run import run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("tokengate-runtime"), prog_name="tokengate")
@click.option("-v", "--verbose", count=True, help="Log restarts, and tracebacks of crashes; twice: everything.")
def main(verbose: int) -> None:
    """Run services whose every call is a token that can be seen and steered.

    Begin with 'tokengate demo'.
    """
    level = {0: logging.ERROR, 1: logging.WARNING}.get(verbose, logging.DEBUG)
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    if not verbose:
        for handler in logging.getLogger().handlers:
            handler.addFilter(_in_one_line)


def _in_one_line(record: logging.LogRecord) -> bool:
    """Leave the exception of the tracebacks in the runtime's own records; `-v` shows all of them."""
    if record.name.startswith("tokengate") and record.exc_info:
        error = " ".join("".join(traceback.format_exception_only(record.exc_info[1])).split())
        record.msg, record.args = f"{record.getMessage()} {error}", ()
        record.exc_info = record.exc_text = None
    return True


main.add_command(demo)
main.add_command(run)
