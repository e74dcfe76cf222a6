"""Loads what exports logs: the event as a log event, and the app's own log records.

Lives in every process that has an SDK. OpenTelemetry's Logs API may still change its name; if it does,
this reports that nothing is exported as logs, and the rest works on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_canonical._version import __version__
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.internal_errors import guarded

if TYPE_CHECKING:
    from otel_canonical.otel.log_events import LogEvents


def log_events() -> LogEvents | None:
    """Return what emits events through the Logs API."""
    with guarded("preparing log events"):
        from otel_canonical.otel.log_events import LogEvents
        from otel_canonical.otel.sdk_internals import get_logger

        return LogEvents(get_logger("otel_canonical", __version__))
    return None


def export_app_logs(redaction: RedactionPolicy, *, with_request_id: bool) -> None:
    """Export the app's log records from now on; see `app_logs.AppLogs`."""
    with guarded("preparing the export of log records"):
        from otel_canonical.otel.app_logs import AppLogs

        AppLogs(redaction, with_request_id=with_request_id).install()
