"""Commands of plugins, which follow from the declaration of a noun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import programs
import pytest
import tallies
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from tokengate import Gate, token
from tokengate.cli import main

pytestmark = pytest.mark.usefixtures("programs")

SUPPORT = Path(tallies.__file__).parent
MISSING = "Error: this gate runs without Tally, which 'tallies' needs; open it with plugins=[Tally()]\n"


@token
def resize(size: int) -> float:
    return 1 / size


@pytest.fixture
def gate(until: Callable[[Callable[[], bool]], None]) -> Iterator[Gate]:
    """A gate whose plugin has counted one call that completed, and one that failed."""
    with Gate("tallied", plugins=[tallies.Tally()]) as opened:
        resize.submit(1).result(60)
        resize.submit(0).exception(60)
        until(lambda: len(opened.plugin(tallies.Tally)._ended) == 2)
        yield opened


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="tokengate")


def offered(arguments: list[str], incomplete: str) -> list[str]:
    found = ShellComplete(main, {}, "tokengate", "_TOKENGATE_COMPLETE").get_completions(arguments, incomplete)
    return [item.value for item in found]


def test_a_noun_has_a_command_that_lists(gate: Gate) -> None:
    """As a table with a column for each field of a row, or as JSON."""
    table = run("tallies", "-g", "tallied").stdout.splitlines()
    rows = json.loads(run("tallies", "resi*", "-g", "tallied", "--json").stdout)

    assert table == ["OPERATION  COMPLETED  FAILED  FROZEN", "resize             1       1  no"]
    assert rows == [{"operation": "resize", "completed": 1, "failed": 1, "frozen": False}]
    assert run("tallies", "other", "-g", "tallied").stdout == "none\n"


def test_a_noun_has_a_group_of_what_can_be_done_to_one(gate: Gate) -> None:
    """The answer is its row."""
    reset = run("tally", "reset", "resize", "--at", "5", "-g", "tallied")

    assert reset.stdout.splitlines()[1].split() == ["resize", "5", "0", "no"]
    assert json.loads(run("tally", "freeze", "resize", "-g", "tallied", "--json").stdout)["frozen"] is True


def test_errors_of_these_commands_name_the_value_and_the_remedy(gate: Gate) -> None:
    unknown, negative = run("tally", "reset", "nope", "-g", "tallied"), run("tally", "reset", "resize", "--at", "-5")

    assert unknown.exit_code == negative.exit_code == 2
    assert unknown.stderr == "Error: no operation is called 'nope'; 'tokengate tallies' lists them\n"
    assert "'--at': -5 is not in the range x>=0" in negative.stderr


def test_tab_offers_commands_and_names(gate: Gate) -> None:
    """Names are those of the rows of the list."""
    assert offered([], "tal") == ["tallies", "tally"]
    assert offered(["tally"], "") == ["freeze", "reset"]
    assert offered(["help", "tally"], "re") == ["reset"]
    assert offered(["tally", "reset", "-g", "tallied"], "re") == ["resize"]
    assert offered(["tally", "reset", "-g", "nowhere"], "re") == []


def test_help_has_the_text_the_examples_and_the_descriptions_of_the_declaration() -> None:
    text = run("help", "tally", "reset").stdout
    listing = run("tallies", "--help").stdout
    without_examples = run("help", "tally", "freeze").stdout

    assert "Count an operation from zero again." in text
    assert "tokengate tally reset resize --at 100" in text
    assert "Where to begin." in text
    assert "\n\n  NAME: Its name, as the list has it.\n\nOptions:" in without_examples
    assert "tokengate tallies [OPTIONS] [SELECTOR]" in listing
    assert "SELECTOR: Which rows" in listing
    plugins = run("help").stdout.partition("Plugins:\n")[2]  # other rooms that this process has imported are there, too
    assert "  tallies         Show how the tokens of each operation have ended.\n" in plugins


def test_a_gate_without_the_plugin_says_which_one_it_needs() -> None:
    with Gate("bare"):
        result = run("tallies", "-g", "bare")

    assert result.exit_code == 1
    assert result.stderr == MISSING


@pytest.mark.parametrize("where", ["tallies", str(SUPPORT / "tallies.py")])
def test_the_environment_names_the_modules_of_plugins(where: str) -> None:
    """By name or by file. The gate's process may not have imported it either; the error is the same."""
    with Gate("bare"):
        done = programs.run("-m", "tokengate", "tallies", "-g", "bare", env=_environment(where))

    assert done.stderr == MISSING


def test_a_gate_whose_process_does_not_know_the_verb_gives_the_same_error() -> None:
    """The client, which knows it, says which plugin is missing."""
    serve = "from tokengate import Gate\nwith Gate('stranger'):\n    print('open', flush=True)\n    input()"
    with programs.Program("-c", serve, piped=True) as gate:
        assert gate.stdout.readline() == "open\n"
        result = run("tallies", "-g", "stranger")
        gate.communicate("\n")

    assert result.stderr == MISSING


def test_a_module_that_cannot_be_imported_is_an_error_of_these_commands_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other commands do not import it, and completion offers what there is."""
    monkeypatch.setenv("TOKENGATE_PLUGINS", "no_such_module")

    assert run("tallies").exit_code == 2
    assert run("tallies").stderr == (
        "Error: cannot import 'no_such_module': No module named 'no_such_module'; TOKENGATE_PLUGINS names it\n"
    )
    assert run("ls", "--json").exit_code in (0, 3)
    assert run("pause", "--help").exit_code == 0
    assert offered([], "pau") == ["pause"]


def test_a_module_that_ends_the_process_is_an_error_of_these_commands_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its exit code would be that of the command, and mean something else; completion would end."""
    module = tmp_path / "program.py"
    module.write_text("raise SystemExit(3)")
    monkeypatch.setenv("TOKENGATE_PLUGINS", str(module))

    assert run("tallies").exit_code == 2
    assert f"cannot import '{module}': it ends with SystemExit(3); TOKENGATE_PLUGINS names it" in run("tallies").stderr
    assert offered([], "pau") == ["pause"]


def test_a_noun_cannot_have_the_name_of_another_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(main.commands, "tally", main.commands["ps"])  # type: ignore[attr-defined]
    result = run("tallies")

    assert result.exit_code == 2
    assert "'tally' is a command of TokenGate and a noun of a plugin; rename the noun" in result.stderr


def test_other_commands_load_nothing_for_plugins() -> None:
    script = "import sys\nfrom tokengate.cli import main\ntry: main(['pause', '--help'])\nfinally: print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=_environment("tallies"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert "tokengate.cli._derive" in done.stdout
    assert "tokengate.cli._plugins" not in done.stdout
    assert "tallies" not in done.stdout.splitlines()[-1].split()


def _environment(plugins: str) -> dict[str, str]:
    return {**os.environ, "TOKENGATE_PLUGINS": plugins, "PYTHONPATH": os.pathsep.join([str(SUPPORT), *sys.path])}
