# Admin: the daemon with an HTTP API and a page for all gates of a user on a host.
#   _plugin.py       the optional part of a gate, which starts the daemon
#   _start.py        the process that the plugin starts
#   _daemon.py       the daemon: what it listens on, and what ends it
#   _lock.py         one daemon for a user
#   _client.py       admin.sock, as clients see it
#   _local.py        admin.sock, as the daemon serves it: logins, sessions, API tokens
#   _config.py       the section [admin]
#   _audit.py        the daemon's own audit log
#   _extra.py        the packages that it needs
#   _principal.py    the person or script behind a request
#   _problems.py     errors as HTTP has them
#   _site.py         what the routes work with
#   _gates.py        the gates of this user, and what is asked of each
#   _link.py         connections to a gate
#   _snapshots.py    answers that equal askers share
#   _feeds.py        streams of gates, which equal readers share
#   _api_tokens.py   what scripts show in the place of a session
#   _doors.py        codes, sessions and API tokens: who is let in
#   _connection.py   a connection of a client, with its limits
#   _answers.py      answers that are errors; the headers of all answers
#   _bodies.py       size, type and form of bodies
#   _guard.py        what stands before all routes
#   _login.py        the routes of login and logout
#   _api.py          a path for each verb
#   _streams.py      streams of server-sent events
#   _metrics.py      the metrics of all gates
#   _templates.py    templates; all text is escaped, and control characters are shown
#   _shell.py        the document, and its fragments: screens, rows, drawers
#   _tokens.py       the screen of tokens, and the drawer of one
#   _overview.py     the overview of a gate
#   _actors.py       the screen of actors
#   _kinds.py        the screens of all other kinds, generated
#   _nouns.py        these kinds, and how their rows are shown
#   _actions.py      forms of verbs, proposals, outcomes
#   _forms.py        a field for each argument of a verb
#   _ticks.py        the stream that says when to look again
#   _app.py          the routes together
"""The admin daemon: one page and one API for all gates of this user on this host; and the plugin that starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokengate.admin._plugin import Admin

__all__ = ["Admin"]


def __getattr__(name: str) -> Any:
    if name != "Admin":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tokengate.admin._plugin import Admin

    return Admin
