"""`inventory` finds what is worth a policy, and nothing is imported for it."""

from __future__ import annotations

import textwrap

import pytest

from tokengate.policy import _policy
from tokengate.policy._inventory import Finding, analyse


def findings(text: str) -> dict[str, Finding]:
    return {found.function: found for found in analyse(textwrap.dedent(text))}


def kinds(text: str) -> list[tuple[str, int, str]]:
    """Return the reasons of the function in a text."""
    found = analyse(textwrap.dedent(text))
    return [(reason.kind, reason.line, reason.what) for one in found for reason in one.reasons]


# --- Each kind --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("global count; count += 1", "count"),
        ("TABLE[1] = 2", "TABLE"),
        ("del TABLE[1]", "TABLE"),
        ("TABLE.cells[0].x = 2", "TABLE.cells[0]"),
        ("TABLE.append(1)", "TABLE"),
        ("os.environ['A'] = 'b'", "os.environ"),
        ("os.environ.pop('A')", "os.environ"),
        ("Config.debug = True", "Config"),
        ("cls.instances += 1", "cls"),
    ],
)
def test_writes_of_globals_are_found(statement: str, what: str) -> None:
    """Case 62. A change of an object that the module has, or of a class."""
    text = f"import os\nTABLE = []\nclass Config: pass\ndef f(cls):\n  {statement}"

    assert kinds(text) == [("writes globals", 5, what)]


@pytest.mark.parametrize(
    "statement",
    [
        "count = 1",
        "TABLE = []; TABLE.append(1)",
        "x.y = 1",
        "x[0] = 1",
        "print(TABLE[0])",
        "x.append(TABLE)",
        "TABLE.copy()",
    ],
)
def test_changes_of_local_objects_are_no_reason(statement: str) -> None:
    """Nor is reading a global one."""
    assert kinds(f"TABLE = []\ncount = 0\ndef f(x):\n  {statement}") == []


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        ("writes files", "open(path, 'w')"),
        ("writes files", "open(path, mode='ab')"),
        ("writes files", "Path(path).open('x')"),
        ("writes files", "Path(path).write_text('a')"),
        ("writes files", "os.replace(path, path)"),
        ("writes files", "shutil.rmtree(path)"),
        ("writes databases", "db.execute('INSERT INTO a VALUES (1)')"),
        ("writes databases", "db.cursor().executemany(sql, rows)"),
        ("writes databases", "db.commit()"),
        ("writes databases", "sqlite3.connect('a').execute(sql)"),
        ("calls processes", "subprocess.run(['ls'])"),
        ("calls processes", "run(['ls'])"),
        ("calls processes", "os.system('ls')"),
        ("calls processes", "os.execv('a', [])"),
        ("calls processes", "subprocess.Popen('ls')"),
        ("calls networks", "requests.get('u')"),
        ("calls networks", "web.post('u')"),
        ("calls networks", "requests.Session().get('u')"),
        ("calls networks", "urllib.request.urlopen('u')"),
        ("calls networks", "socket.create_connection(('h', 1))"),
        ("calls networks", "self._session.get('u')"),
        ("calls networks", "boto3.client('s3')"),
    ],
)
def test_calls_that_leave_the_process_are_found(kind: str, call: str) -> None:
    """Case 62. By what the names stand for, whatever they are called here."""
    text = f"""
        import boto3, os, requests, shutil, socket, sqlite3, subprocess, urllib.request
        import httpx as web
        from pathlib import Path
        from subprocess import run
        def f(self, db, path):
            x = {call}
    """

    [(found, line, _)] = kinds(text)
    assert (found, line) == (kind, 7)


@pytest.mark.parametrize(
    "call",
    ["open(path)", "open(path, 'rb')", "db.execute('select 1')", "requests.ConnectionError()", "requests.Session()",
     "socket.inet_aton('::')", "os.getpid()", "path.get('x')", "os.add(1)",
     "r = path.get(); r.json().get(1)", "Path(path).read_text()", "subprocess"],
)  # fmt: skip
def test_calls_that_only_read_or_make_objects_are_no_reason(call: str) -> None:
    """In a plain function; in a coroutine those that block are one."""
    assert kinds(f"import requests, socket, os, subprocess\ndef f(path, db):\n  {call}") == []


@pytest.mark.parametrize(
    "lines",
    [
        "r = requests.get('u')\n  r.headers.get(r.json().get(1))",
        "session = requests.Session()\n  x = 1\n  session.get('u')",
        "with requests.Session() as s: s.get('u')",
        "s = requests\n  s.get",
    ],
)
def test_a_variable_is_what_a_call_returned(lines: str) -> None:
    """Also in a `with`; what is assigned otherwise is not followed."""
    assert len(kinds(f"import requests\ndef f():\n  {lines}")) == ("s = requests\n" not in lines)


@pytest.mark.parametrize(
    ("loop", "what"),
    [
        ("for i in range(n):\n  for j in range(n):\n   while i: i -= 1", "three in each other"),
        ("for i in range(1_000_000): n += i", "for, 1,000,000 times"),
        ("for i in range(0, 10**6): n += i", None),
        ("while True: n += 1", "while, without an end"),
        ("while True:\n  if n: break", None),
        ("for i in range(10): n += i", None),
        ("for i in range(1, 2, 0): n += i", None),
        ("for i in range(): n += i", None),
    ],
)
def test_long_loops_are_found(loop: str, what: str | None) -> None:
    """Case 62. By what stands there: how often others run is not known."""
    assert [found for *_, found in kinds(f"def f(n):\n {loop}")] == [what] * (what is not None)


@pytest.mark.parametrize(
    "call", ["time.sleep(1)", "requests.get('u')", "subprocess.run('a')", "open('a')", "Path('a').read_text()"]
)
def test_blocking_calls_in_coroutines_are_found(call: str) -> None:
    """Case 62. In plain functions they hold up nothing else."""
    text = f"import requests, subprocess, time\nfrom pathlib import Path\n{{}} f():\n  {call}"

    assert [line for kind, line, _ in kinds(text.format("async def")) if kind == "blocks its loop"] == [4]
    assert "blocks its loop" not in [kind for kind, *_ in kinds(text.format("def"))]


@pytest.mark.parametrize(
    "statement",
    ["await client.get('u')", "await asyncio.sleep(1)", "r = asyncio.create_subprocess_exec('ls')",
     "async with session.get('u') as answer: pass", "await asyncio.gather(client.get('u'), client.get('v'))",
     "tasks = asyncio.create_task(client.get('u'))"],
)  # fmt: skip
def test_calls_that_are_awaited_do_not_block(statement: str) -> None:
    """Nor do those of libraries that have only such calls."""
    text = f"import asyncio\nasync def f(client, session):\n  {statement}"

    assert "blocks its loop" not in [kind for kind, *_ in kinds(text)]


RETRY = """
    import requests
    def f(url):
        for attempt in range(5):
            try:
                return fetch(url)
            except (requests.ConnectionError, OSError):
                wait(attempt)
            except ValueError:
                raise
"""


def test_retries_by_hand_become_a_retry() -> None:
    """Case 62. With the errors after which the loop goes on, and its number of attempts."""
    found = findings(RETRY)["f"]

    assert [(reason.kind, reason.line) for reason in found.reasons] == [("retries by hand", 5)]
    assert found.policy == "Policy(timeout=30, retry=Retry(on=(requests.ConnectionError, OSError), attempts=5))"


@pytest.mark.parametrize(
    ("text", "retry"),
    [
        ("while True:\n  try: return g()\n  except OSError: continue", "on=(OSError,)"),
        ("while n:\n  try: return g()\n  except: n -= 1", "on=(Exception,)"),
        ("for x in count():\n  try: return g()\n  except OSError: pass", "on=(OSError,)"),
        ("for x in n:\n  try: return g(x)\n  except OSError: continue", None),
        ("while n:\n  try: return g()\n  except OSError: raise", None),
        ("while n:\n  try: return g()\n  finally: n -= 1", None),
        ("while n:\n  try: g()\n  except OSError: log()\n  else: break", "on=(OSError,)"),
        ("while n:\n  try: x = g()\n  except OSError: continue\n  return x", "on=(OSError,)"),
        ("while n:\n  try: g()\n  except OSError: log()", None),
        ("while n:\n  try: return g()\n  except BaseException: pass", None),
    ],
)
def test_a_loop_over_values_is_no_retry(text: str, retry: str | None) -> None:
    """It tries something else each time. In a retry success ends the loop, and the handler does not."""
    found = analyse(f"from itertools import count\ndef f(n):\n {text}")

    assert [f"Retry({retry})" in one.policy for one in found] == [True] * (retry is not None)


# --- Where, and which policy ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "affinity"),
    [
        ("def f():\n  while True: pass", "process"),
        ("def f():\n  while True: open('a', 'w')", "cpu"),
        ("import requests\ndef f(): requests.get('u')", "cpu"),
        ("async def f(session): await session.get('u')", "asyncio"),
        ("import trio\nasync def f(session): await session.get('u')", "io"),
        ("import time\nasync def f(session): time.sleep(await session.get('u'))", "asyncio"),
        ("import time\nasync def f(): time.sleep(1)", "cpu"),
    ],
)
def test_a_function_gets_an_affinity(text: str, affinity: str) -> None:
    """Case 62. Computing alone is for processes; a coroutine that only blocks should be a plain function."""
    [found] = analyse(text)

    assert found.affinity == affinity


def test_a_policy_to_begin_with_has_what_the_reasons_call_for() -> None:
    """Case 62. It is an expression with the public names."""
    [found] = analyse("import requests\ndef f(tenant): requests.get('u')")

    assert found.policy == 'Policy(timeout=10, breaker=Breaker(), throttle=Throttle(concurrency=10, key="tenant"))'
    assert isinstance(eval(found.policy, vars(_policy)), _policy.Policy)


def test_what_changes_globals_runs_alone() -> None:
    """Not once for each tenant."""
    [found] = analyse("import requests\nN = []\ndef f(tenant): N.append(requests.get('u'))")

    assert "Throttle(concurrency=1)" in found.policy


def test_functions_have_qualified_names_and_are_read_by_themselves() -> None:
    """In the order of the module."""
    text = """
        if True:
            class A:
                def f(self):
                    def g():
                        open("a", "w")
                    return g
        async def h():
            class B:
                def i(self): open("a", "w")
        x = lambda: open("a", "w")
    """

    assert [(found.function, found.line) for found in analyse(textwrap.dedent(text))] == [("A.f.g", 5), ("h.B.i", 10)]


def test_a_function_with_a_policy_is_left_out() -> None:
    """One that is an operation without a policy is not."""
    text = "import requests\n@token({})\ndef f(): requests.get('u')"

    assert analyse(text.format("policy=Policy(timeout=5)")) == []
    assert len(analyse(text.format(""))) == 1


def test_nothing_is_imported_or_run() -> None:
    """Case 62. A module that cannot be imported is read all the same."""
    assert kinds("import no_such_module\n1 / 0\ndef f(): no_such_module.client.get('u')") == [
        ("calls networks", 3, "no_such_module.client.get")
    ]


@pytest.mark.parametrize("source", ["def f(:\n", b"# coding: nonsense\n", "x\0", b"'\xff'"])
def test_what_is_no_python_raises(source: str | bytes) -> None:
    """So that the file can be named."""
    with pytest.raises((SyntaxError, ValueError)):
        analyse(source)
