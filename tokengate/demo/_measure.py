"""What the demo computes: how big a Python source is, and which of its functions is the most complex.

`measure_steps` is a generator with one step per bounded piece of work, so that a token that runs it can be seen,
stopped and interleaved with others between any two. The serial loop of `--verify` runs the very same generator.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Generator

import attrs

# A step ends after this many lexical tokens, or syntax nodes.
_TOKENS_PER_STEP = 4_000
_NODES_PER_STEP = 4_000

# Attempts to parse a source before an error of the parser itself is believed.
_PARSES = 3

# What is wrong with a file, as opposed to what is wrong with this program. LookupError: an unknown encoding.
_BROKEN_SOURCE = (SyntaxError, ValueError, LookupError, tokenize.TokenError, RecursionError, MemoryError)

# Each is one more path through the function it stands in (McCabe, "A Complexity Measure", 1976).
_DECISIONS = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.IfExp,
    ast.comprehension,
    ast.match_case,
)


class Unmeasurable(Exception):
    """The file is not Python source that this interpreter can read; the message is the reason."""


@attrs.frozen
class Complexity:
    """A function and its cyclomatic complexity, without that of functions inside it."""

    function: str
    line: int
    value: int


@attrs.frozen
class Measure:
    """The figures of one source file.

    Attributes:
        lines: physical lines.
        tokens: lexical tokens.
        functions: `def` and `async def`, at any depth.
        classes: at any depth.
        imports: names imported.
        most_complex: the function with the highest complexity, the first of several; None without functions.
    """

    lines: int
    tokens: int
    functions: int
    classes: int
    imports: int
    most_complex: Complexity | None


def measure_steps(source: bytes) -> Generator[None, None, Measure]:
    """Measure a source file, step by step.

    Raises:
        Unmeasurable: it cannot be decoded, tokenised or parsed.
    """
    try:
        text = _decode(source)
        yield
        tokens = 0
        for _ in tokenize.generate_tokens(io.StringIO(text).readline):
            tokens += 1
            if tokens % _TOKENS_PER_STEP == 0:
                yield
        yield
        tree = _parse(source)  # one call into C: this step is as long as the file makes it
    except _BROKEN_SOURCE as error:
        raise Unmeasurable(f"{type(error).__name__}: {error}") from None
    yield
    census = _Census()
    while census.count(tree, _NODES_PER_STEP):
        yield
    return Measure(
        lines=len(text.splitlines()),
        tokens=tokens,
        functions=census.functions,
        classes=census.classes,
        imports=census.imports,
        most_complex=census.most_complex(),
    )


def measure(source: bytes) -> Measure:
    """Measure a source file in one go."""
    steps = measure_steps(source)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: Measure = stop.value
            return result


def _parse(source: bytes) -> ast.Module:
    """Parse a source, again if CPython has taken the parser's depth in another thread for its depth in this one.

    Its parsers share a count, and a thread that formats a traceback parses, too.
    """
    for _ in range(_PARSES):
        try:
            return ast.parse(source)
        except SystemError:
            continue
    return ast.parse(source)


def _decode(source: bytes) -> str:
    encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
    return io.TextIOWrapper(io.BytesIO(source), encoding, newline=None).read()


class _Census:
    """Counts the nodes of a syntax tree, some at a time."""

    def __init__(self) -> None:
        self.functions = 0
        self.classes = 0
        self.imports = 0
        self._decisions: dict[ast.AST, int] = {}  # {function: decisions in it}
        self._names: dict[ast.AST, str] = {}  # {function: its dotted name}
        # What is still to be visited: a node, the function around it, the dotted name of what is around it.
        self._stack: list[tuple[ast.AST, ast.AST | None, str]] = []
        self._begun = False

    def count(self, tree: ast.AST, limit: int) -> bool:
        """Visit at most `limit` more nodes; return whether there are any left."""
        if not self._begun:
            self._stack.append((tree, None, ""))
            self._begun = True
        stack = self._stack
        for _ in range(limit):
            if not stack:
                return False
            node, function, name = stack.pop()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self.functions += 1
                function, name = node, f"{name}.{node.name}" if name else node.name
                self._decisions[node], self._names[node] = 0, name
            elif isinstance(node, ast.ClassDef):
                self.classes += 1
                name = f"{name}.{node.name}" if name else node.name
            elif isinstance(node, ast.Import | ast.ImportFrom):
                self.imports += len(node.names)
            elif function is not None:
                if isinstance(node, _DECISIONS):
                    self._decisions[function] += 1 + len(getattr(node, "ifs", ()))
                elif isinstance(node, ast.BoolOp):
                    self._decisions[function] += len(node.values) - 1
            stack.extend((child, function, name) for child in ast.iter_child_nodes(node))
        return bool(stack)

    def most_complex(self) -> Complexity | None:
        """Return the most complex function; of several, the first in the file."""
        if not self._decisions:
            return None
        node = min(self._decisions, key=lambda node: (-self._decisions[node], getattr(node, "lineno", 0)))
        return Complexity(self._names[node], getattr(node, "lineno", 0), self._decisions[node] + 1)
