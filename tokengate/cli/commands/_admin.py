"""`tokengate admin`: the admin daemon, and what is asked of it through `admin.sock`."""

from __future__ import annotations

import html
import logging
import os
import tempfile
import threading
import webbrowser
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from tokengate._exceptions import BadConfig
from tokengate.admin import _client as client
from tokengate.cli._connection import Connection
from tokengate.cli._errors import Failure, UsageProblem, one_line_errors
from tokengate.cli._parameters import Time
from tokengate.control._exceptions import ControlError

_CODE: Final = 60.0  # seconds for which a code can be used
_YEARS: Final = 10 * 365 * 86_400.0  # seconds, of an API token at most

_json = click.option("--json", "json_wanted", is_flag=True, help="Print JSON.")
_browser = click.option("--open", "open_wanted", is_flag=True, help="Open the page in the browser, logged in.")


@click.group(invoke_without_command=True)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    metavar="PORT",
    help="On which it listens; 0: any.  [default: 8787, or the next]",
)
@click.option("--host", metavar="NAME", help="Its name in URLs.  [default: a random one, below .localhost]")
@_browser
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="A tokengate.toml, with [admin].")
@_json
@click.pass_context
def admin(
    context: click.Context,
    port: int | None,
    host: str | None,
    open_wanted: bool,
    config: Path | None,
    json_wanted: bool,
) -> None:
    """Run the admin daemon: a page and an API for all gates here.

    There is one for each user, and it serves the gates of that user. It listens on the loopback interface only, and
    runs until Ctrl-C, SIGTERM or 'tokengate admin stop'. It needs an extra: pip install 'tokengate-runtime[admin]'.

    \b
    tokengate admin --open
    tokengate admin --port 9000 --config tokengate.toml
    tokengate admin login
    """  # noqa: D301  # click wants the backspace itself
    if context.invoked_subcommand is not None:
        if any(value is not None and value is not False for value in context.params.values()):
            raise UsageProblem(f"options follow the command: tokengate admin {context.invoked_subcommand} --json")
        return
    from tokengate.admin._extra import check_extra  # here and below: no other command needs them

    try:
        check_extra()
    except ModuleNotFoundError as error:
        raise UsageProblem(str(error)) from None
    from tokengate.admin._config import HOST
    from tokengate.admin._daemon import Options, serve
    from tokengate.admin._lock import AlreadyRuns

    if host is not None and not HOST.fullmatch(host):
        raise UsageProblem(f"--host is '{host}'; use 127.0.0.1, or a name that ends in .localhost")
    logging.getLogger("tokengate.audit").setLevel(logging.INFO)  # heads, whatever else is logged
    opening: list[threading.Thread] = []

    def told(status: Mapping[str, object]) -> None:
        if json_wanted:
            click.echo(msgspec.json.encode(status))
        else:
            click.echo(f"the admin daemon serves {status['url']}; log in with 'tokengate admin login'; Ctrl-C stops it")
        if open_wanted:
            opening.append(threading.Thread(target=_open_beside, name="tokengate-browser"))
            opening[0].start()

    with one_line_errors():
        try:
            serve(Options(port, host or "", config), told)
        except BadConfig as error:
            raise UsageProblem(str(error)) from None
        except AlreadyRuns as error:
            _name_the_other(error, open_wanted, json_wanted)
        finally:
            for one in opening:
                one.join()


def _name_the_other(error: ControlError, open_wanted: bool, json_wanted: bool) -> None:
    """Say where the daemon is that runs already, and open it if that is wanted; else it is a failure."""
    try:
        status = client.ask(client.Status())
    except ControlError:  # it has just begun, or ended
        raise error from None
    text = f"the admin daemon runs already: {status['url']}, pid {status['pid']}"
    if not open_wanted:
        raise Failure(text)
    _show(status, json_wanted, text)
    _open()


def _open_beside() -> None:
    """Open the page, in a thread beside the daemon."""
    try:
        _open(hint="")
    except click.ClickException as error:
        error.show()


def _ask(request: client.Request) -> Any:
    with one_line_errors():
        return client.ask(request)


def _show(answer: object, json_wanted: bool, text: str | None = None) -> None:
    """Print an answer, in JSON or as it is for people: a text, or a table."""
    Connection(None, "json" if json_wanted else "table").show(answer if json_wanted or text is None else text)


@admin.command()
@_browser
@_json
def login(open_wanted: bool, json_wanted: bool) -> None:
    """Print a URL that logs the browser in, once, within a minute.

    \b
    tokengate admin login
    tokengate admin login --open
    """  # noqa: D301  # click wants the backspace itself
    if open_wanted:
        _open()
    else:
        url = _ask(client.Login())["url"]
        _show({"url": url, "seconds": _CODE}, json_wanted, url)


def _open(hint: str = "; Ctrl-C ends it") -> None:
    """Open the page in the browser by a file that leads to it, since arguments of programs can be seen by others."""
    with one_line_errors(), client.Conversation(client.Login()) as asked, _file(asked.answer["url"]) as path:
        if not webbrowser.open(path.as_uri()):
            raise Failure(f"no browser could be opened; open {asked.answer['url']}")
        click.echo(f"waiting for the browser to log in, for a minute at most{hint}", err=True)
        if not asked.wait(_CODE - 1.0):  # before the daemon says that the code is too old, as if it was used
            raise Failure("the browser has not logged in; try 'tokengate admin login'")


@contextmanager
def _file(url: str) -> Generator[Path]:
    """Write a page, for this user's eyes only, that leads to a URL; it is there for the length of a block."""
    file, name = tempfile.mkstemp(".html", "tokengate-")
    try:
        with os.fdopen(file, "w") as opened:
            opened.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={html.escape(url)}">')
        yield Path(name)
    finally:
        os.unlink(name)


@admin.command()
@_json
def sessions(json_wanted: bool) -> None:
    """List the sessions of browsers: yours, or all with the right 'administer'.

    \b
    tokengate admin sessions
    """  # noqa: D301  # click wants the backspace itself
    from tokengate.admin._doors import SessionRow

    _show(msgspec.convert(_ask(client.Sessions()), tuple[SessionRow, ...]), json_wanted)


@admin.command()
@click.argument("id", required=False, default="")
@_json
def logout(id: str, json_wanted: bool) -> None:
    """End a session by its ID; without it, all of yours.

    \b
    tokengate admin logout
    tokengate admin logout 3f9a1c42
    """  # noqa: D301  # click wants the backspace itself
    ended = _ask(client.Logout(id))
    _show({"ended": ended}, json_wanted, f"ended {', '.join(ended)}" if ended else "there were no sessions")


@admin.group()
def token() -> None:
    """Make API tokens for scripts, list and revoke them.

    \b
    tokengate admin token create ci --role viewer
    """  # noqa: D301  # click wants the backspace itself


@token.command()
@click.argument("name")
@click.option(
    "--role",
    multiple=True,
    default=["viewer"],
    show_default=True,
    metavar="ROLE",
    help="Role or right that it may have at most; more than once for several.",
)
@click.option(
    "--expires", type=Time(_YEARS), default="90d", show_default=True, metavar="TIME", help="After which it ends."
)
@_json
def create(name: str, role: tuple[str, ...], expires: float, json_wanted: bool) -> None:
    """Make an API token, and print it; it is shown only once.

    A script sends it in a header: 'Authorization: Bearer tgk_...'. It may do what you may, within its role.

    \b
    tokengate admin token create ci
    tokengate admin token create deploy --role operator --expires 30d
    """  # noqa: D301  # click wants the backspace itself
    answer = _ask(client.CreateToken(name, " ".join(role), expires))
    _show(answer, json_wanted, answer["token"])


@token.command("list")
@_json
def list_(json_wanted: bool) -> None:
    """List API tokens: yours, or all with the right 'administer'.

    \b
    tokengate admin token list
    """  # noqa: D301  # click wants the backspace itself
    from tokengate.admin._api_tokens import TokenRow

    _show(msgspec.convert(_ask(client.Tokens()), tuple[TokenRow, ...]), json_wanted)


@token.command()
@click.argument("name")
@_json
def revoke(name: str, json_wanted: bool) -> None:
    """End an API token.

    \b
    tokengate admin token revoke ci
    """  # noqa: D301  # click wants the backspace itself
    _ask(client.RevokeToken(name))
    _show({"revoked": name}, json_wanted, f"API token '{name}' is revoked")


@admin.command()
@_json
def status(json_wanted: bool) -> None:
    """Show where the admin daemon is; the exit code is 3 if none runs.

    \b
    tokengate admin status
    """  # noqa: D301  # click wants the backspace itself
    found = _ask(client.Status())
    _show(found, json_wanted, f"{found['url']}, pid {found['pid']}, version {found['version']}")


@admin.command()
@_json
def stop(json_wanted: bool) -> None:
    """End the admin daemon, and all sessions with it; API tokens stay.

    \b
    tokengate admin stop
    """  # noqa: D301  # click wants the backspace itself
    with one_line_errors(), client.Conversation(client.Stop()) as asked:
        if not asked.wait(30.0):
            raise ControlError("the admin daemon was asked to end, and has not yet; see 'tokengate admin status'")
    _show({"stopped": True}, json_wanted, "the admin daemon has ended")
