# Durable tokens and schedules: what survives the process.
#
#   _plugin.py    the plugin: `Journal`
#   _journal.py   accepts, begins and ends tokens while the gate is open
#   _backlog.py   rows on disk, and their tokens in memory; with _queued.py (the order of queued rows)
#   _due.py       rows that are queued until a time
#   _snooze.py    `Snooze`
#   _resumed.py   tokens of rows, held to their policy and deadline again
#   _fork.py      new tokens from a step of an old one on
#   _step.py      `step`
#   _steps.py     the steps of one run of a token
#   _ports.py     the journal, as its parts use it
#   _record.py    what is kept of one token, and what it asks of the journal
#   _row.py       a row of tokens, as a token is made of it again
#   _calls.py     names on disk, and what is called by them
#   _codec.py     arguments and results as JSON
#   _keys.py      tokens by the uid or the key of their row: attached to, ended as others do
#   _new_rows.py  rows that the journal makes itself
#   _writer.py    the thread that writes: what has come is one transaction
#   _store.py     the database: its tables and connections
#   _checksums.py checksums of rows, and the triggers that set them
#   _salvage.py   what is whole in a damaged journal, copied into a new one
#   _states.py    states of rows
#   _submit.py    `submit_to`, for other processes of the user
#   _inbox.py     the files that these leave
#   _retention.py  removes rows some time after their end
#   _ticker.py    the thread that looks at what is due
#   _schedule.py  what a schedule submits, and when
#   _schedule_times.py    when it is due, and what one look decides
#   _schedules.py looks at the clock, and answers the verbs about schedules
#   _config.py    the sections of `tokengate.toml`
#   _events.py    what is published
#   _kinds.py     the nouns
#   _verbs.py     the answers about rows
#   _offline.py   the same verbs, while no gate has the journal open
#   _listed.py    rows as selectors, grants and lists see them
#   _saved.py     what actors have saved
#   _files.py     the directory: its lock, its reserve
#   _page.py      the page of a run: its last commit, the tokens whose code runs
#   _run.py       an opening: its files, and what is written of the openings before
#   _transactions.py  what is kept of transactions
"""Durable tokens and schedules: `Gate("shop", plugins=[Journal("/var/lib/shop")])`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tokengate.durable._events import JournalChanged
    from tokengate.durable._inbox import InboxRefused
    from tokengate.durable._plugin import Journal
    from tokengate.durable._schedule import Schedule
    from tokengate.durable._snooze import Snooze
    from tokengate.durable._step import step
    from tokengate.durable._submit import Submitted, Submitter, submit_to

__all__ = [
    "InboxRefused",
    "Journal",
    "JournalChanged",
    "Schedule",
    "Snooze",
    "Submitted",
    "Submitter",
    "step",
    "submit_to",
]

_HOMES: Final = {
    "InboxRefused": "_inbox",
    "Journal": "_plugin",
    "JournalChanged": "_events",
    "Schedule": "_schedule",
    "Snooze": "_snooze",
    "Submitted": "_submit",
    "Submitter": "_submit",
    "step": "_step",
    "submit_to": "_submit",
}
"""{public name: the file that it is loaded from when it is asked for}: commands import the nouns only."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
