"""The option for a file that a command writes, and what is told of that."""

from __future__ import annotations

from pathlib import Path

import click

out_option = click.option(
    "-o", "--out", metavar="FILE", required=True, help="Where to write it; - for stdout.",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
)  # fmt: skip


def tell(out: Path, text: object) -> None:
    """Print what was written; to stderr if the file itself went to stdout."""
    click.echo(text, err=str(out) == "-")
