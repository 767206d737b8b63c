"""`python -m tokengate` is the `tokengate` command."""

from tokengate.cli import main

main(prog_name="tokengate")
