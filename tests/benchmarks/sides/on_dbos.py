"""DBOS on SQLite: workflows that are started together and waited for."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dbos import DBOS
from sides._workload import Run, bursts

IN_FLIGHT = 1_000


@DBOS.workflow()
def work(number: int) -> int:
    return number


@contextmanager
def in_flight() -> Iterator[Run]:
    logging.disable()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        url = f"sqlite:///{Path(folder).absolute() / 'dbos.db'}"
        DBOS(config={"name": "benchmark", "system_database_url": url, "run_admin_server": False})
        DBOS.launch()

        def run(number: int) -> None:
            for size in bursts(number, IN_FLIGHT):
                handles = [DBOS.start_workflow(work, one) for one in range(size)]
                assert [handle.get_result() for handle in handles] == list(range(size))

        yield run
        DBOS.destroy()
