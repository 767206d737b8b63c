"""A formatter of log records: one JSON object a line, with the token and the trace that the record comes from."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

from actors import current_token

_OWN: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
"""What each log record has."""


class JsonFormatter(logging.Formatter):
    """Writes each log record as one JSON object in a line; what is unknown is absent.

    Fields are `time` (UTC), `level`, `logger`, `message`, `exception`; in the code of a token `token` (its id),
    `operation`, `actor`, `attempt`; and `trace_id` and `span_id`, if the program uses OpenTelemetry. Records of
    process tokens have them, too. What a call gives as `extra` comes last, under its own names. The formatter must be
    called where the record was made, as handlers do: one behind a `QueueHandler` knows no more than `token` and
    `actor`.
    """

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        fields["exception"] = record.exc_text
        fields["token"], fields["actor"] = getattr(record, "token", None), getattr(record, "actor", None)
        token = current_token()
        if fields["token"] == (None if token is None else token.id):  # else it is formatted elsewhere
            if token is not None:
                fields["operation"], fields["attempt"] = token.operation, token.attempt
            fields |= _trace()
        given = {name: value for name, value in vars(record).items() if name not in _OWN and name not in fields}
        known = {name: value for name, value in fields.items() if value is not None}
        return json.dumps(known | given, default=repr)


def _trace() -> dict[str, str]:
    """Return the ids of the current span, if the program uses OpenTelemetry and there is one."""
    api = sys.modules.get("opentelemetry.trace")
    context = None if api is None else api.get_current_span().get_span_context()
    if api is None or context is None or not context.is_valid:
        return {}
    return {"trace_id": api.format_trace_id(context.trace_id), "span_id": api.format_span_id(context.span_id)}
