"""`tokengate admin`, as it is typed."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import programs
import pytest
from click.testing import CliRunner, Result
from daemons import COMMAND, Daemon, arguments_of_all, own_place, running
from tiers import in_ci

from tokengate.cli import main

pytestmark = pytest.mark.usefixtures("programs")

Until = Callable[[Callable[[], bool]], None]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    with own_place(monkeypatch, tmp_path / "state") as found:
        yield found


@pytest.fixture
def daemon(place: Path) -> Iterator[Daemon]:
    with Daemon() as started:
        yield started
        started.stop()


def admin(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["admin", *arguments], terminal_width=200)


COMMANDS = [
    ("login",), ("login", "--open"), ("sessions",), ("logout",), ("token", "create", "ci"), ("token", "list"),
    ("token", "revoke", "ci"), ("status",), ("stop",),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_a_daemon_each_command_says_how_to_start_one(command: tuple[str, ...], place: Path) -> None:
    """None starts it; the exit code is that of a gate that does not answer."""
    done = admin(*command)

    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr == "Error: no admin daemon runs here; start it with 'tokengate admin'\n"
    assert list(place.iterdir()) == []


def test_other_commands_load_nothing_of_the_daemon() -> None:
    """They would begin later: of its room there is the client of its socket, and the name of its lock."""
    code = (
        "import sys, tokengate.cli; print(sorted(name for name in sys.modules if name.startswith('tokengate.admin.')))"
    )

    assert programs.run("-c", code).stdout == "['tokengate.admin._client', 'tokengate.admin._start']\n"


@pytest.mark.parametrize("json_wanted", [False, True])
def test_a_directory_that_is_not_there_is_a_daemon_that_is_not_there(
    json_wanted: bool, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENGATE_RUNTIME_DIR", str(place / "none"))

    assert admin("status", *["--json"] * json_wanted).exit_code == 3
    assert list(place.iterdir()) == []


@in_ci
def test_a_login_prints_a_url_whose_code_is_used_once(daemon: Daemon) -> None:
    """It lasts a minute; the session is listed, and can be ended by its id."""
    url = admin("login").stdout.strip()
    assert re.fullmatch(rf"{re.escape(daemon.status['url'])}/#[\w-]{{43}}", url)
    assert daemon.login(url)
    assert not daemon.login(url)

    (session,) = json.loads(admin("sessions", "--json").stdout)
    table = admin("sessions").stdout.splitlines()
    assert (table[0].split(), table[1].split()[0]) == (["NAME", "OWNER", "AGE", "IDLE"], session["name"])
    assert admin("logout", "s-none").exit_code == 1
    assert admin("logout", session["name"]).stdout == f"ended {session['name']}\n"
    assert admin("sessions").stdout == "none\n"

    assert daemon.login(json.loads(admin("login", "--json").stdout)["url"])
    assert len(json.loads(admin("logout", "--json").stdout)["ended"]) == 1
    assert admin("logout").stdout == "there were no sessions\n"


@in_ci
def test_an_api_token_is_printed_once_and_works_until_it_is_revoked(daemon: Daemon) -> None:
    """A viewer for 90 days, unless the options say something else."""
    token = admin("token", "create", "ci").stdout.strip()
    both = admin("token", "create", "deploy", "--role", "operate", "--role", "view", "--expires", "30m", "--json")
    (ci, deploy) = json.loads(admin("token", "list", "--json").stdout)

    def status_of(bearer: str) -> int:
        with daemon.client() as client:
            return client.get("/api/v1/none", headers={"authorization": f"Bearer {bearer}"}).status_code

    assert re.fullmatch(r"tgk_[\w-]{43}", token)
    assert (ci["name"], ci["role"], round(ci["expires"] / 86_400)) == ("ci", "viewer", 90)
    assert (deploy["role"], round(deploy["expires"] / 60)) == ("operate view", 30)
    assert token not in admin("token", "list", "--json").stdout
    assert [status_of(one) for one in (token, json.loads(both.stdout)["token"], "tgk_x")] == [404, 404, 401]
    assert admin("token", "create", "ci").stderr.startswith("Error: there is an API token 'ci'; ")
    assert admin("token", "revoke", "ci").stdout == "API token 'ci' is revoked\n"
    assert status_of(token) == 401
    assert admin("token", "revoke", "ci").exit_code == 1


@in_ci
def test_it_opens_the_browser_with_a_file_that_is_gone_afterwards(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The file is its user's alone, and leads to the page; the code is in no argument, and not printed."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen: list[str] = []

    def open_(url: str) -> bool:
        path = Path(unquote(urlsplit(url).path))
        found = re.search(r'content="0; url=(http:[^"]*)"', path.read_text())
        assert found is not None
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        seen.extend((url, found[1], *arguments_of_all()))
        return bool(daemon.login(found[1]))

    monkeypatch.setattr(webbrowser, "open", open_)
    done = admin("login", "--open")
    code = seen[1].partition("#")[2]

    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "waiting for the browser to log in, for a minute at most; Ctrl-C ends it\n"
    assert seen[0].startswith("file:///")
    assert [text for text in (seen[0], *seen[2:]) if code in text] == []
    assert [path for path in tmp_path.iterdir() if path.suffix == ".html"] == []


@in_ci
def test_without_a_browser_the_url_is_printed(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without a screen; the command ends at once, and the URL is good for a minute."""
    monkeypatch.setattr(webbrowser, "open", lambda _url: False)
    done = admin("login", "--open")
    found = re.search(rf"no browser could be opened; open ({re.escape(daemon.status['url'])}/#[\w-]+)\n", done.stderr)

    assert done.exit_code == 1
    assert found
    assert daemon.login(found[1])


@in_ci
def test_a_login_that_does_not_come_is_told(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ends before the code does, and says what to do."""
    monkeypatch.setattr("tokengate.cli.commands._admin._CODE", 1.2)
    monkeypatch.setattr(webbrowser, "open", lambda _url: True)

    done = admin("login", "--open")

    assert done.exit_code == 1
    assert done.stderr.endswith("Error: the browser has not logged in; try 'tokengate admin login'\n")
    assert daemon.program.poll() is None


@in_ci
def test_to_open_a_daemon_is_to_start_it_or_to_find_it(place: Path, tmp_path: Path, until: Until) -> None:
    """`--open` logs in by the browser of `BROWSER`, also if another daemon runs; Ctrl-C leaves no file behind."""
    script = tmp_path / "browser"
    script.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >> {tmp_path}/opened\ncat "${{1#file://}}" >> {tmp_path}/pages\n'
    )
    script.chmod(0o755)
    env = {**os.environ, "BROWSER": f"{script} %s", "TMPDIR": str(tmp_path)}

    def opened(number: int) -> bool:
        pages = tmp_path / "pages"
        return pages.exists() and pages.read_text().count("#") == number

    with programs.Program(*COMMAND, "--port", "0", "--open", "--json", env=env) as first:
        status = json.loads(first.stdout.readline())
        until(lambda: opened(1))
        with programs.Program(*COMMAND, "--open", env=env) as second:
            assert second.stdout.readline().startswith(f"the admin daemon runs already: {status['url']}")
            until(lambda: opened(2))
            first.send_signal(signal.SIGINT)
            first.communicate()
            second.communicate()
            codes = (first.wait(), second.wait())

    assert codes == (0, 0)
    assert (tmp_path / "opened").read_text().count("file://") == 2
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".html"] == []


@in_ci
def test_its_status_is_where_it_is(daemon: Daemon) -> None:
    """As a line, or as JSON."""
    status = daemon.status

    assert admin("status").stdout == f"{status['url']}, pid {status['pid']}, version {status['version']}\n"
    assert json.loads(admin("status", "--json").stdout) == status


@in_ci
def test_a_daemon_that_is_stopped_is_said_not_to_answer(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """By SIGSTOP; the command does not hang."""
    monkeypatch.setattr("tokengate.admin._client._SECONDS", 0.05)
    daemon.program.send_signal(signal.SIGSTOP)
    done = admin("status")
    daemon.program.send_signal(signal.SIGCONT)

    assert (done.exit_code, done.stderr) == (
        3,
        "Error: the admin daemon does not answer; its process may be stopped (SIGSTOP)\n",
    )


@pytest.mark.parametrize("package", ["uvicorn", "starlette", "httptools", "jinja2"])
def test_without_the_extra_one_line_says_how_to_install_it(package: str, place: Path) -> None:
    """With exit code 2, and before anything is made."""
    code = f"""
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "{package}":
            raise ModuleNotFoundError(f"No module named '{{name}}'", name=name)

for name in [name for name in sys.modules if name.partition(".")[0] == "{package}"]:
    del sys.modules[name]
sys.meta_path.insert(0, Without())
from tokengate.cli import main
main(["admin"])
"""
    ended = programs.run("-c", code)
    remedy = "pip install 'tokengate-runtime[admin]'"

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"Error: the admin daemon needs the package '{package}'; {remedy}\n"
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--host", "a b"), "--host is 'a b'; use 127.0.0.1, or a name that ends in .localhost"),
        (("--port", "70000"), "Invalid value for '--port': 70000 is not in the range 0<=x<=65535."),
        (("--port", "9000", "status"), "options follow the command: tokengate admin status --json"),
        (("--json", "token", "list"), "options follow the command: tokengate admin token --json"),
    ],
)
def test_options_that_cannot_work_are_errors(arguments: tuple[str, ...], error: str, place: Path) -> None:
    done = admin(*arguments)

    assert done.exit_code == 2
    assert f"Error: {error}\n" in done.stderr
    assert list(place.iterdir()) == []


def test_a_file_with_mistakes_is_an_error_with_its_lines(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "tokengate.toml"
    file.write_text("[admin]\nceiling = 'boss'\n")
    done = programs.run(*COMMAND, "--config", str(file))

    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: {file}:2: admin.ceiling is 'boss'; use roles")


@in_ci
def test_run_with_admin_adds_the_plugin(place: Path, tmp_path: Path, until: Until) -> None:
    """To a gate, one that has it already, and one that is made for a function; the daemon outlives the gate."""
    (tmp_path / "service.py").write_text(
        """
from tokengate import Gate
from tokengate.admin import Admin

plain = Gate("plain")
own = Gate("own", plugins=[Admin()])

def setup(gate): print(gate.plugin(Admin) is not None, flush=True)
"""
    )
    found = []
    for target in ("plain", "own", "setup"):
        with programs.Program("-m", "tokengate", "run", "--admin", f"{tmp_path}/service.py:{target}") as service:
            if target == "setup":
                assert service.stdout.readline() == "True\n"
            while "is open" not in service.stderr.readline():
                pass
            until(lambda: bool(running()))
            found.append(running()["pid"])
            service.send_signal(signal.SIGINT)
            _, errors = service.communicate()
            assert service.wait() == 0, errors

    assert found == [running()["pid"]] * 3


def test_run_with_admin_needs_the_extra(place: Path, tmp_path: Path) -> None:
    """The gate does not open, and one line says what to do."""
    (tmp_path / "service.py").write_text("from tokengate import Gate\ngate = Gate('plain')\n")
    code = f"""
import sys
from importlib import util

find_spec = util.find_spec
from tokengate.admin import _extra
_extra.find_spec = lambda name: None if name == "jinja2" else find_spec(name)
from tokengate.cli import main
main(["run", "--admin", "{tmp_path}/service.py:gate"])
"""
    ended = programs.run("-c", code)
    text = "cannot open gate 'plain': plugin Admin: the admin daemon needs the package 'jinja2'; pip install"

    assert ended.returncode == 2
    assert ended.stderr.startswith(f"Error: {text} 'tokengate-runtime[admin]'\n")
