# Admin: the daemon with an HTTP API and a page for all gates of a user on a host.
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
#   _ticks.py        the stream that says when to look again
#   _app.py          the routes together
"""The admin daemon: one page and one API for all gates of this user on this host; and the plugin that starts it."""

from __future__ import annotations

__all__: list[str] = []
