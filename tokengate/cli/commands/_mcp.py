"""`tokengate mcp`: tools for assistants, on stdio."""

from __future__ import annotations

import os
import signal
from importlib.util import find_spec
from pathlib import Path

import click

from tokengate.authority._decide import ROLES, rights_of
from tokengate.cli._errors import UsageProblem
from tokengate.cli._gate_option import gate_option
from tokengate.control._exceptions import ControlError
from tokengate.control.messages import RIGHTS
from tokengate.control.transport._discovery import find_gate


@click.command()
@gate_option
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice([*ROLES, *RIGHTS]),
    metavar="ROLE",
    help="Use no more than this role or right: viewer, operator, admin, or a right. May be given several times.",
)
@click.option(
    "--runtime-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Of the control sockets.  [default: as all commands, or that of the user's session]",
)
def mcp(gate: str | None, roles: tuple[str, ...], runtime_dir: Path | None) -> None:
    """Serve tools of the Model Context Protocol to an assistant.

    The assistant's program starts it, and talks to it through stdin and stdout. The tools show the gates of this user,
    and steer them as far as grants and --role allow; nothing is approved through them. It needs an extra: pip install
    'tokengate-runtime[mcp]'.

    \b
    tokengate mcp --role viewer
    tokengate mcp -g shop
    """  # noqa: D301  # click wants the backspace itself
    if find_spec("mcp") is None:
        raise UsageProblem("this command needs the package 'mcp'; pip install 'tokengate-runtime[mcp]'")
    if runtime_dir is not None:
        os.environ["TOKENGATE_RUNTIME_DIR"] = str(runtime_dir.absolute())
    from tokengate.mcp._server import serve  # no other command needs it

    _warn(gate, runtime_dir)
    rights = rights_of(roles or ("admin",))
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # there is nothing to end in order, and a thread that reads stdin
    try:
        serve(gate, rights)
    except ImportError as error:
        raise UsageProblem(str(error)) from None


def _warn(gate: str | None, runtime_dir: Path | None) -> None:
    """Say on stderr what is not there that the options name; it may come later, so the server starts all the same."""
    from tokengate.mcp._bridge import directory

    try:
        if runtime_dir is not None and not runtime_dir.is_dir():
            click.echo(f"warning: --runtime-dir '{runtime_dir}' is no directory; no gate is found there", err=True)
        elif gate is not None:
            find_gate(gate, directory())
    except ControlError as error:
        click.echo(f"warning: {error}", err=True)
