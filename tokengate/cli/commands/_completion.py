"""`tokengate completion`: a script by which a shell completes commands, options, gates, ids and actors."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script for completion in a shell.

    \b
    eval "$(tokengate completion bash)"                                   # in ~/.bashrc
    eval "$(tokengate completion zsh)"                                    # in ~/.zshrc
    tokengate completion fish > ~/.config/fish/completions/tokengate.fish
    """  # noqa: D301  # click wants the backspace itself
    found = get_completion_class(shell)
    assert found is not None
    root = context.find_root()
    click.echo(found(root.command, {}, "tokengate", "_TOKENGATE_COMPLETE").source())
