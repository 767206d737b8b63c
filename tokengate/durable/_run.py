"""An opening of a journal: its files, and what the openings before have left."""

from __future__ import annotations

import contextlib
import os
import platform
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path

import attrs

from tokengate.control._version import own_version
from tokengate.durable._files import OwnedDirectory, boot_id
from tokengate.durable._page import LeftPage, Page, left_pages
from tokengate.durable._salvage import finish_salvage
from tokengate.durable._store import DATABASE, check, connect, damaged, is_damage, reader


@attrs.define(eq=False)
class Run:
    """The files of an opening of a journal, until it ends.

    Attributes:
        directory: where they are.
        number: of the opening.
        db: the connection that writes.
        page: its page.
        commits: how many commits the database has had.
        has_reserve: whether there is space for ends when the disk is full.
    """

    directory: OwnedDirectory
    number: int
    db: sqlite3.Connection
    page: Page
    commits: int
    has_reserve: bool

    def note_commit(self) -> None:
        """Note that one more commit is on disk."""
        self.commits += 1
        self.page.note_commit(self.commits)

    def note_end(self, db: sqlite3.Connection) -> None:
        """Write that it closes as it should, and what code was cut short."""
        begun = [(uid,) for uid in self.page.uids()]
        db.executemany("UPDATE tokens SET state = 2 WHERE uid = ? AND state = 1", begun)
        db.execute("UPDATE runs SET how = 'closed', closed = ? WHERE run = ?", (time.time(), self.number))

    def close(self, *, well: bool) -> None:
        """Close the files.

        Args:
            well: whether the end is on disk; if not, nothing more is written, since what was is in doubt.
        """
        with contextlib.ExitStack() as files:
            files.callback(self.directory.close)
            if well:
                files.callback(self.page.remove)
                files.callback(self.db.close)
            else:  # the last connection would copy the log into the database, so the last one is one that only reads
                other = reader(self.directory.path)
                files.callback(other.close)
                files.callback(self.db.close)
                files.callback(self.page.disown)
                other.execute("BEGIN").execute("SELECT 1 FROM meta")


def begin_run(owned: OwnedDirectory, gate: str, config: Path | None, audit: Path | None) -> Run:
    """Begin a run: say how those before have ended, and what they had begun, in one transaction.

    Raises:
        JournalDamaged: files are damaged, or commits are missing.
        NewerFormat: a later version has written them.
        OSError, sqlite3.Error: they cannot be read or written.
    """
    directory = owned.path
    finish_salvage(directory)
    pages = left_pages(directory)
    check(directory, pages)
    last_write = max((path.stat().st_mtime for path in directory.glob(f"{DATABASE}*")), default=0.0)
    db = connect(directory)
    page = None
    try:
        run: int = db.execute("SELECT COALESCE(MAX(run), 0) + 1 FROM runs").fetchone()[0]
        page = Page(directory, run)
        has_reserve = owned.make_reserve()
        db.execute("BEGIN IMMEDIATE")
        _note_begun(db, pages)
        boot = boot_id()
        db.execute(
            "UPDATE runs SET closed = ?, how = CASE boot WHEN ? THEN 'killed' ELSE 'power' END WHERE how IS NULL",
            (last_write, boot),
        )
        db.execute(
            "INSERT INTO runs(run, gate, pid, host, boot, version, config, audit, opened) VALUES(?,?,?,?,?,?,?,?,?)",
            (run, gate, os.getpid(), platform.node(), boot, own_version(), _text(config), _text(audit), time.time()),
        )
        db.execute("UPDATE meta SET commits = commits + 1")
        db.execute("COMMIT")
        (commits,) = db.execute("SELECT commits FROM meta").fetchone()
        page.note_commit(commits)
        for left in pages:
            if left.run != run:  # a page of this number was made by an opening that did not get to its row
                left.path.unlink()
    except BaseException as error:
        db.close()
        if page is not None:
            page.remove()
        if is_damage(error):
            raise damaged(directory, str(error)) from error
        raise
    return Run(owned, run, db, page, commits, has_reserve)


def _note_begun(db: sqlite3.Connection, pages: Iterable[LeftPage]) -> None:
    """Write what had begun when its process died; a page that an opening before has written down is left out."""
    for page in pages:
        if db.execute("SELECT 1 FROM runs WHERE run = ? AND how IS NULL", (page.run,)).fetchone():
            db.executemany(
                "UPDATE tokens SET state = 2, recoveries = recoveries + 1 WHERE uid = ? AND state IN (1, 2)",
                [(uid,) for uid in page.uids],
            )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())
