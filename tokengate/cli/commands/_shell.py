"""`tokengate shell`: Python with the verbs of control."""

from __future__ import annotations

import sys

import click

from tokengate.cli._errors import UsageProblem, one_line_errors
from tokengate.cli._gate_option import complete_gate, connect, gate_option


@click.command()
@click.argument("name", required=False, shell_complete=complete_gate)
@gate_option
@click.option("-c", "code", metavar="CODE", help="Run CODE and exit.")
def shell(name: str | None, gate: str | None, code: str | None) -> None:
    """Use the verbs of a gate in Python.

    NAME is the gate's name, pid or name@pid, if several run; -g is the same. Statements come from the prompt, from CODE
    or from a pipe, where the first error ends them with exit code 1.

    \b
    tokengate shell
    tokengate shell shop -c 'ps("operation=charge").pause()'
    echo 'tree()' | tokengate shell
    """  # noqa: D301  # click wants the backspace itself
    # Here, so that other commands do not load what only the console needs.
    from tokengate.cli._plugins import import_plugins
    from tokengate.control.console._repl import Session, Shell

    if name is not None and gate is not None and name != gate and _typed_gate():
        raise UsageProblem(f"'{name}' and -g '{gate}' name two gates; give one")
    import_plugins()
    with one_line_errors():
        session = Session(connect, name or gate)
        try:
            console = Shell(session)
            if code is None and sys.stdin.isatty():
                console.run_interactively()
                return
            done = console.run_script(sys.stdin.read() if code is None else code)
        finally:
            session.close()
    if not done:
        raise SystemExit(1)


def _typed_gate() -> bool:
    source = click.get_current_context().get_parameter_source("gate")
    return source is click.core.ParameterSource.COMMANDLINE
