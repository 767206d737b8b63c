"""Names that OpenTelemetry's readers know: attributes of spans, and metrics.

They follow the semantic conventions for messaging, which are not stable: when these change, this file does.
"""

from __future__ import annotations

from typing import Final

SCOPE: Final = "tokengate"
"""The instrumentation scope of all spans and metrics."""

# Attributes of the conventions

SYSTEM: Final = "messaging.system"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.name"
ERROR_TYPE: Final = "error.type"
EXCEPTION: Final = "exception"  # an event
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"

# Our own

GATE: Final = "tokengate.gate"
UID: Final = "tokengate.uid"
AFFINITY: Final = "tokengate.affinity"
ATTEMPT: Final = "tokengate.attempt"
PRIORITY: Final = "tokengate.priority"
TAG: Final = "tokengate.tag."  # and the name of the tag
WAIT: Final = "tokengate.wait"  # seconds queued
STEPS: Final = "tokengate.steps"
STATE: Final = "tokengate.state"
REASON: Final = "tokengate.reason"
OPERATION: Final = "tokengate.operation"
SINK: Final = "tokengate.sink"

# Metrics

TOKENS: Final = "tokengate.tokens"
RETRIES: Final = "tokengate.retries"
LIVE: Final = "tokengate.tokens.live"
LOST: Final = "tokengate.telemetry.lost"
RUN_P50: Final = "tokengate.run.p50"
RUN_P95: Final = "tokengate.run.p95"
WAIT_P95: Final = "tokengate.wait.p95"
QUEUE: Final = "tokengate.queue"
BACKLOG: Final = "tokengate.backlog"
SATURATION: Final = "tokengate.saturation"
RESOURCE: Final = "tokengate.resource"  # an attribute
