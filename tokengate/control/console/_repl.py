"""The console of control: Python with the verbs as functions, for a gate in another process."""

from __future__ import annotations

import ast
import builtins
import code
import inspect
import os
import pydoc
import sys
import traceback
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from actors import TokenGateError
from tokengate.control import messages
from tokengate.control._exceptions import Unreachable
from tokengate.control._ports import Source
from tokengate.control.api._answers import Shown
from tokengate.control.api._control import Control
from tokengate.control.api._following import Following
from tokengate.control.console._completer import DELIMITERS, completions, look, names_of
from tokengate.control.messages import PATIENT_WAIT, VERBS, Event, Message, Stream, answer_of
from tokengate.control.registry._kinds import Facade, kinds, verbs_of_plugins
from tokengate.control.transport._client import ControlClient

HELP = """\
This is Python; a verb is a function, and its result is shown as a table.
  gate()                            figures of the gate
  ps()  ps("operation=resize")      live tokens; a selector says which: "tenant=acme,state!=running,age>5m"
  describe(7)  stack(7)             details of token 7; where its code is
  pause(7)  resume(7)  step(7, 2)   pause it, resume it, run two steps of it
  terminate(7, "kill")              end it: "cancel" asks, "interrupt" raises in it, "kill" leaves it behind
  limit(7, memory="2GiB")           limit its child process; None lifts that. With Predict: estimate(7, run="5m")
  renice(7, 5)  retag(7, {"a": "b"})  reroute(7, affinity="io")  preempt(7)
  old = ps("age>1m"); old.pause()   a list can be kept; its verbs act on exactly these tokens
  pause("*", dry_run=True)          only list them, in a proposal: proposals()  approve(12, "9f3a1c42")  apply(12)
  throttle("operation=resize", rate=5)  throttles()  lift("*")  policies()  breakers()  retry(7)
  actors()  tree()  describe_actor("counter")  actors and operations; the supervision tree; why one was restarted
  a = actor("counter"); a.state()   suspend, unsuspend, drain, restart, recycle, stop, statistics, watch, children
  watch()  watch("tenant=acme")     follow what happens, or tokens, until Ctrl-C
  await aio.pause(7)                each verb can be awaited; help(pause) explains it
  reconnect()                       find the gate again after a restart; Ctrl-D leaves"""

_Code = types.CodeType
_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

# --- The gate ---------------------------------------------------------------------------------------------------------


class Session:
    """The gate of a console, over several connections.

    Args:
        connect: takes the name of a gate (None for the only one) and returns a connection.
        name: of the gate.
    """

    def __init__(self, connect: Callable[[str | None], ControlClient], name: str | None = None) -> None:
        self._connect = connect
        self._client = connect(name)

    @property
    def name(self) -> str:
        """The gate's name."""
        return self._client.hello.gate

    def __str__(self) -> str:
        hello = self._client.hello
        return f"gate '{hello.gate}', pid {hello.pid}, TokenGate {hello.version}"

    def ask(self, message: Message[Any]) -> Any:
        """Return the gate's answer."""
        try:
            return self._client.ask(message)
        except Unreachable as error:
            raise self._lost(error) from error

    def follow(self, stream: Stream) -> Source:
        """Return the items of a stream from now on."""
        try:
            return _Followed(self._client.follow(stream), self._lost)
        except Unreachable as error:
            raise self._lost(error) from error

    def reconnect(self) -> None:
        """Connect to the gate that has the same name now; if there is none, keep the old connection."""
        before = self._client
        self._client = self._connect(self.name)
        before.close()

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def _lost(self, error: Unreachable) -> Unreachable:
        return Unreachable(f"{error}; reconnect() looks for gate '{self.name}' again")


class _Followed:
    """A stream whose error for a lost gate is that of the session."""

    def __init__(self, source: Source, lost: Callable[[Unreachable], Unreachable]) -> None:
        self._source = source
        self._lost = lost

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        try:
            return next(self._source)
        except Unreachable as error:
            raise self._lost(error) from error

    def close(self) -> None:
        self._source.close()


# --- The console ------------------------------------------------------------------------------------------------------


class _Help:
    """The `help` of the console."""

    def __call__(self, *things: Any) -> None:
        if things:
            for thing in things:
                pydoc.help(thing)
        else:
            _say(HELP)

    def __repr__(self) -> str:
        return HELP


class _Unwritten(OSError):
    """The output of the console could not be written."""


class Shell(code.InteractiveConsole):
    """Runs Python from a prompt, a script or the command line, with the verbs as functions.

    Top-level `await` works, on trio. An error of the runtime is shown in one line, others with their traceback.

    Args:
        session: the gate.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._control = Control(session.ask, session.follow, wait=PATIENT_WAIT)
        self._failed = False
        self._found: list[str] = []  # completions of the word at the cursor
        super().__init__(self._names())
        self.compile.compiler.flags |= _AWAIT

    def _names(self) -> dict[str, Any]:
        verbs = {verb: getattr(self._control, verb) for verb, message in VERBS.items() if not message.local}
        return (
            verbs
            | verbs_of_plugins(self._session)
            | {
                "__name__": "__console__",
                "__builtins__": builtins,
                "ps": self._control.tokens,
                "token": self._control.token,
                "actor": self._control.actor,
                "gate": self._control.info,
                "control": self._control,
                "aio": self._control.aio,
                "help": _Help(),
                "reconnect": self.reconnect,
            }
        )

    def reconnect(self) -> None:
        """Connect to the gate that has the same name now, after the old one has gone."""
        self._session.reconnect()
        _say(str(self._session))

    def run_interactively(self) -> None:
        """Read statements at a prompt, with line editing and history, until Ctrl-D or `exit()`."""
        prompt = f"{self._session.name}> "
        sys.ps1, sys.ps2 = prompt, "." * (len(prompt) - 1) + " "
        try:
            with _line_editing(self._complete):
                self.interact(banner=f"{self._session}\nhelp() lists the verbs, Ctrl-D leaves", exitmsg="")
        finally:
            del sys.ps1, sys.ps2  # a process with these is taken for an interactive one

    def run_script(self, source: str, filename: str = "<script>") -> bool:
        """Run statements and show their values, as at a prompt; stop at the first error.

        Returns:
            Whether there was no error, in the syntax or at run time.
        """
        self.filename = filename
        try:
            statements = compile(source, filename, "exec", ast.PyCF_ONLY_AST | _AWAIT).body
            for statement in statements:
                self.runcode(compile(ast.Interactive([statement]), filename, "single", _AWAIT))
                if self._failed:
                    return False
        except (SyntaxError, ValueError):
            self.showsyntaxerror(filename)
            return False
        return True

    def runcode(self, code: _Code) -> None:
        """Run a statement; Ctrl-C and `exit()` are raised."""
        self._failed = False
        displayhook, sys.displayhook = sys.displayhook, self._display
        try:
            result = types.FunctionType(code, self.locals)()
            if inspect.iscoroutine(result):
                trio.run(_awaited, result)
        except (
            SystemExit,
            KeyboardInterrupt,
            BrokenPipeError,
            _Unwritten,
        ):  # the last two: output is no longer possible
            raise
        except BaseException:
            self._failed = True
            self.showtraceback()
        finally:
            sys.displayhook = displayhook

    def showtraceback(self) -> None:
        """Show the current error: in one line if it is the runtime's, else with the traceback from the statement on."""
        error = sys.exception()
        assert error is not None
        if isinstance(error, TokenGateError):
            self.write(f"{type(error).__name__}: {error}\n")
            return
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != self.filename:
            trace = trace.tb_next
        self.write("".join(traceback.format_exception(error.with_traceback(trace))))

    def _display(self, value: object) -> None:
        if value is None:
            return
        self.locals["_"] = value
        if isinstance(value, Following):
            self._follow(value)
        elif isinstance(value, Shown):
            _show(value.answer)
        elif _is_answer(value):
            _show(value)
        elif inspect.ismethod(value) and isinstance(value.__self__, Control | Facade | Shell):
            first_line = (value.__doc__ or "").partition("\n")[0]
            _say(f"{value.__name__}{_arguments(value)}: {first_line}")
        else:
            _say(repr(value))

    def _follow(self, following: Following) -> None:
        with following:
            for item in following:
                _show(item)

    def _complete(self, text: str, n: int) -> str | None:
        import readline

        if n == 0:
            line = readline.get_line_buffer()[: readline.get_endidx()]
            ask = self._session.ask
            self._found = completions(line, text, self.locals, lambda: look(ask), lambda kind: names_of(kind, ask))
        return self._found[n] if n < len(self._found) else None


async def _awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return await coroutine


def _arguments(verb: Callable[..., Any]) -> inspect.Signature:
    found = inspect.signature(verb)
    bare = [each.replace(annotation=inspect.Parameter.empty) for each in found.parameters.values()]
    return found.replace(parameters=bare, return_annotation=inspect.Signature.empty)


def _is_answer(value: object) -> bool:
    if isinstance(value, tuple) and value:
        return all(_is_answer(each) for each in value)
    kind = type(value)
    known = (answer for one in kinds() for answer in (one.row, *map(answer_of, one.messages)))
    return kind.__module__.startswith(f"{messages.__name__}.") or any(kind is answer for answer in known)


def _show(answer: object) -> None:
    """Print an answer: on a terminal in colours and cut to its width, elsewhere plain and whole."""
    # Here, so that a script without tables does not load rich.
    from rich.console import Console

    from tokengate.control.rendering._tables import as_text, renderable

    if sys.stdout.isatty():
        Console(highlight=False).print(renderable(answer))
    else:
        _say(as_text(answer, encoding=sys.stdout.encoding))


def _say(text: str) -> None:
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError as error:
        raise _Unwritten(*error.args) from error


# --- Line editing -----------------------------------------------------------------------------------------------------


def history_path() -> Path:
    """Return the file with the console's history: `tokengate/history` in the user's state directory."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "tokengate" / "history"


@contextmanager
def _line_editing(complete: Callable[[str, int], str | None]) -> Generator[None]:
    """Complete words and keep the history during a block; do nothing if there is no readline."""
    try:
        import readline
    except ImportError:
        yield
        return
    before, delimiters = readline.get_completer(), readline.get_completer_delims()
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
    readline.set_completer(complete)
    readline.set_completer_delims(DELIMITERS)
    path = history_path()
    try:
        readline.read_history_file(path)
    except OSError:
        pass  # it does not exist yet, or cannot be read
    try:
        yield
    finally:
        readline.set_completer(before)
        readline.set_completer_delims(delimiters)
        readline.set_history_length(1000)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            readline.write_history_file(path)
        except OSError:
            pass  # the history is not worth an error
