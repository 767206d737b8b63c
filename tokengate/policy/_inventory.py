"""Functions that are worth a policy, found in sources: why, where they could run, and a policy to begin with.

Nothing is imported or run. Names are followed through imports, and through variables that hold what a call returned; so
some calls are missed, and some are taken for others.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import attrs

GLOBALS, FILES, DATABASES = "writes globals", "writes files", "writes databases"
PROCESSES, NETWORKS = "calls processes", "calls networks"
LOOPS, BLOCKS, RETRIES = "long loops", "blocks its loop", "retries by hand"

# (kind, names of what is called; `*` is any text)
_CALLS: Final = tuple(
    (kind, re.compile("|".join(name.replace(".", r"\.").replace("*", ".*") for name in names.split())))
    for kind, names in (
        (PROCESSES, "subprocess.(run|call|check_call|check_output|getoutput|getstatusoutput|Popen)"),
        (PROCESSES, "os.system os.popen os.(exec|spawn|posix_spawn|fork)* pty.spawn multiprocessing.(Process|Pool)"),
        (PROCESSES, "asyncio.create_subprocess_* trio.run_process trio.lowlevel.open_process"),
        (
            NETWORKS,
            "(requests|httpx|aiohttp|urllib3)(.[A-Z][A-Za-z]+)?.(get|post|put|patch|delete|head|request|stream)",
        ),
        (NETWORKS, "*(session|client|http).(get|post|put|patch|delete|head|request|send|stream)"),
        (NETWORKS, "(socket|ssl).*(connect|accept|send|sendto|recv|recvfrom|recv_into|getaddrinfo|gethostby*)"),
        (NETWORKS, r"(smtplib|ftplib|imaplib|paramiko|boto3|botocore|redis|grpc|websockets|pika|openai)(.\w+){1,3}"),
        (NETWORKS, "*.(urlopen|urlretrieve|getresponse|create_connection|open_connection|open_tcp_stream|sendall)"),
        (DATABASES, "*(db|database|conn|connection|cursor|cur|session|engine|connect).(execute*|commit)"),
        (DATABASES, "*.(executemany|executescript|insert_one|insert_many|update_one|update_many|bulk_write)"),
        (FILES, "os.(remove|unlink|rename|replace|mkdir|makedirs|rmdir|truncate|link|symlink)"),
        (FILES, "shutil.(copy*|move|rmtree|make_archive|unpack_archive) *.(write_text|write_bytes|unlink|rmdir|mkdir)"),
    )
)
_BLOCKING: Final = re.compile(r"time\.sleep|input|open|io\.open|.*\.(read_text|read_bytes)|(sqlite3|psycopg2?)\..*")
_ASYNC: Final = re.compile(r"(asyncio|trio|anyio|aiohttp|aiosqlite|asyncpg|websockets)\..*|.*\.Async.*")
_CHANGES: Final = re.compile(
    r"(append|appendleft|add|update|pop|popitem|clear|setdefault|extend|insert|remove|discard)"
)
_TENANT: Final = re.compile(r"(tenant|account|customer|user)(_id)?|host")
_ENDS: Final = (ast.Break, ast.Return, ast.Raise, ast.Yield, ast.YieldFrom, ast.Await)
_MANY_TIMES: Final = 100_000

# {kind: (seconds for an attempt, attempts at once; None: any number)}
_FIRST: Final[Mapping[str, tuple[int, int | None]]] = {
    NETWORKS: (10, 10), DATABASES: (30, 10), PROCESSES: (60, 4), FILES: (30, 4), LOOPS: (60, None), BLOCKS: (30, None),
    GLOBALS: (30, 1), RETRIES: (30, None),
}  # fmt: skip


@attrs.frozen
class Reason:
    """Why a function is worth a policy.

    Attributes:
        kind: such as `calls networks`.
        line: where.
        what: the call, name or statement.
    """

    kind: str
    line: int
    what: str


@attrs.frozen
class Finding:
    """A function that is worth a policy.

    Attributes:
        function: its qualified name.
        line: where it begins.
        reasons: why, in the order of the lines.
        affinity: where it could run.
        policy: an expression that makes a policy to begin with.
    """

    function: str
    line: int
    reasons: tuple[Reason, ...]
    affinity: str
    policy: str


def analyse(source: str | bytes) -> list[Finding]:
    """Return the functions of a module that are worth a policy, in its order.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: it cannot be parsed.
    """
    tree = ast.parse(source)
    names: dict[str, str] = {}  # {name: the import that it stands for}
    for node in _statements(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            prefix = f"{node.module or ''}." if isinstance(node, ast.ImportFrom) else ""
            names |= {alias.asname: prefix + alias.name for alias in node.names if alias.asname}
            names |= {top: prefix + top for alias in node.names if not alias.asname for top in [_top(alias.name)]}
    shared = _bound(tree.body)
    found = []
    todo: list[tuple[str, ast.AST]] = [("", tree)]
    while todo:
        path, node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found += _Function(node, names, shared).findings(path + node.name)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            path = f"{path}{node.name}."
        todo += ((path, child) for child in _inner(node))
    return sorted(found, key=lambda finding: finding.line)


class _Function:
    """Reads one function, without those in it."""

    def __init__(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef, names: Mapping[str, str], shared: set[str]
    ) -> None:
        self._node = node
        self._imports = names
        self._names = dict(names)  # and {variable: what was called for it}
        self._parameters = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        self._declared = {name for one in _statements(node) if isinstance(one, ast.Global) for name in one.names}
        self._shared = shared - (_bound(node.body) | {*self._parameters}) | self._declared | {"cls"}
        self._is_async = isinstance(node, ast.AsyncFunctionDef)
        self._awaited: set[ast.AST] = set()
        self._reasons: list[Reason] = []
        self._retry = ""

    def findings(self, path: str) -> list[Finding]:
        """Return a finding; none if there is no reason, or if a decorator sets a policy."""
        decorators = [one for one in self._node.decorator_list if isinstance(one, ast.Call)]
        if any(keyword.arg == "policy" for one in decorators for keyword in one.keywords):
            return []
        for statement in self._node.body:
            self._read(statement, 0)
        if not self._reasons:
            return []
        kinds = {reason.kind for reason in self._reasons}
        reasons = tuple(sorted(self._reasons, key=lambda reason: reason.line))
        return [Finding(path, self._node.lineno, reasons, self._affinity(kinds), self._policy(kinds))]

    def _affinity(self, kinds: set[str]) -> str:
        if self._is_async and (BLOCKS not in kinds or self._awaited):
            return "io" if "trio" in map(_top, self._names.values()) else "asyncio"
        return "process" if kinds == {LOOPS} else "cpu"

    def _policy(self, kinds: set[str]) -> str:
        seconds, at_once = zip(*(_FIRST[kind] for kind in kinds), strict=True)
        limits = [limit for limit in at_once if limit]
        tenant = next(filter(_TENANT.fullmatch, self._parameters), "")
        key = f', key="{tenant}"' if tenant and GLOBALS not in kinds else ""
        parts = (
            f"timeout={max(seconds)}",
            self._retry,
            "breaker=Breaker()" if NETWORKS in kinds else "",
            f"throttle=Throttle(concurrency={min(limits)}{key})" if limits else "",
        )
        return f"Policy({', '.join(filter(None, parts))})"

    def _add(self, kind: str, node: Any, what: str) -> None:
        self._reasons.append(Reason(kind, node.lineno, what))

    def _read(self, node: ast.AST, loops: int) -> None:
        """Read a node; `loops`: how many are around it."""
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                return
            case ast.Await():  # what is made in it is awaited as well: `await gather(get(1), get(2))`
                self._awaited.update(one for one in ast.walk(node.value) if isinstance(one, ast.Call))
            case ast.AsyncWith():
                self._awaited.update(item.context_expr for item in node.items)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call):
                self._names[name] = self._dotted(call)
            case ast.withitem(context_expr=ast.Call() as call, optional_vars=ast.Name(id=name)):
                self._names[name] = self._dotted(call)
            case ast.Call():
                self._call(node)
            case ast.Name(ctx=ast.Store() | ast.Del()) if node.id in self._declared:
                self._add(GLOBALS, node, node.id)
            case ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del()):
                self._change(node.value, node)
            case ast.For() | ast.While():
                loops += 1
                self._loop(node, loops)
        for child in ast.iter_child_nodes(node):
            self._read(child, loops)

    def _call(self, node: ast.Call) -> None:
        name = self._dotted(node)
        kind = _kind_of(name, node)
        if kind:
            self._add(kind, node, name)
        if name.endswith(("create_task", "ensure_future")):
            self._awaited.update(node.args)
        blocks = (kind or _BLOCKING.fullmatch(name)) and not _ASYNC.fullmatch(name)
        if self._is_async and blocks and node not in self._awaited:
            self._add(BLOCKS, node, name)
        if isinstance(node.func, ast.Attribute) and _CHANGES.fullmatch(node.func.attr):
            self._change(node.func.value, node)

    def _change(self, changed: ast.AST, node: ast.AST) -> None:
        """Add a change of an object, if it is a global one or a part of one."""
        if isinstance(node, ast.Call) and isinstance(changed, ast.Name) and changed.id in self._imports:
            return  # a function of a module: `os.remove()`
        base = changed
        while isinstance(base, ast.Attribute | ast.Subscript):
            base = base.value
        if isinstance(base, ast.Name) and base.id in self._shared:
            self._add(GLOBALS, node, ast.unparse(changed))

    def _loop(self, node: ast.For | ast.While, loops: int) -> None:
        over = self._dotted(node.iter) if isinstance(node, ast.For) else "while"
        times = _times(node.iter) if isinstance(node, ast.For) and over == "range" else None
        if loops == 3:
            self._add(LOOPS, node, "three in each other")
        if times is not None and times >= _MANY_TIMES:
            self._add(LOOPS, node, f"for, {times:,} times")
        is_endless = isinstance(node, ast.While) and isinstance(node.test, ast.Constant)
        if is_endless and not any(isinstance(one, _ENDS) for one in ast.walk(node)):
            self._add(LOOPS, node, "while, without an end")
        if over in ("while", "range", "itertools.count"):
            for number, one in enumerate(node.body, 1):
                if isinstance(one, ast.Try) and (errors := _retried(one, node.body[number:])):
                    self._add(RETRIES, one, f"try in a loop ({over})")
                    self._retry = f"retry=Retry(on={errors}{f', attempts={times}' if times else ''})"

    def _dotted(self, node: ast.AST) -> str:
        """Return what is called or named, with dots: what a name stands for, `?` for what is not known."""
        match node:
            case ast.Call():
                return self._dotted(node.func)
            case ast.Attribute():
                return f"{self._dotted(node.value)}.{node.attr}"
            case ast.Name():
                return self._names.get(node.id, node.id)
        return "?"


def _top(name: str) -> str:
    return name.partition(".")[0]


def _inner(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what is directly in a node, without expressions."""
    return (child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr))


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        todo += _inner(node)


def _bound(body: Iterable[ast.AST]) -> set[str]:
    """Return the names that statements bind, without those within functions and classes."""
    found: set[str] = set()
    todo = list(body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {_top(alias.asname or alias.name) for alias in node.names}
        else:
            found |= {node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else set()
            todo += ast.iter_child_nodes(node)
    return found


def _kind_of(name: str, node: ast.Call) -> str:
    """Return the kind of a call, or an empty text."""
    values = (*node.args[:2], *(keyword.value for keyword in node.keywords if keyword.arg == "mode"))
    texts = [one.value for one in values if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    last = name.rpartition(".")[2]
    if last == "open":
        return FILES if any(re.fullmatch(r"(?=.*[wax+])[rwaxbt+]{1,4}", text) for text in texts) else ""
    if last[:1].isupper() and last not in ("Popen", "Process", "Pool"):
        return ""  # an object is made
    kind = next((kind for kind, pattern in _CALLS if pattern.fullmatch(name)), "")
    return "" if kind == DATABASES and any(re.match(r"\s*(?i:select|pragma)\b", text) for text in texts) else kind


def _retried(node: ast.Try, after: list[ast.stmt]) -> str:
    """Return the errors after which a loop tries again, as an expression; an empty text if success does not end it.

    Args:
        node: the `try` in the loop.
        after: the statements of the loop after it.
    """
    if not any(isinstance(one, ast.Return | ast.Break) for one in (*node.body, *node.orelse, *after)):
        return ""
    types = [each.type for each in node.handlers if not isinstance(each.body[-1], ast.Raise | ast.Return | ast.Break)]
    classes = [one for each in types for one in (each.elts if isinstance(each, ast.Tuple) else [each])]
    names = ["Exception" if one is None else ast.unparse(one) for one in classes]
    errors = [name for name in names if not name.endswith(("BaseException", "CancelledError", "KeyboardInterrupt"))]
    return f"({', '.join(errors)}{',' if len(errors) == 1 else ''})" if errors else ""


def _times(node: ast.AST) -> int | None:
    """Return how often a loop over `range(...)` runs, if its numbers are written there."""
    arguments = node.args if isinstance(node, ast.Call) else []
    numbers = [one.value for one in arguments if isinstance(one, ast.Constant) and isinstance(one.value, int)]
    try:
        return len(range(*numbers)) if len(numbers) == len(arguments) else None
    except (TypeError, ValueError, OverflowError):  # as it will there
        return None
