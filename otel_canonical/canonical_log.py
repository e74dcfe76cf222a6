"""One worker's canonical log: opens a scope for each request and writes the one event that ends it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence

from otel_canonical import request_ids
from otel_canonical.composition import Composer
from otel_canonical.error_facts import ErrorFacts
from otel_canonical.event import CanonicalEvent
from otel_canonical.fence import Fence
from otel_canonical.fields import FIELDS
from otel_canonical.redaction import REDACTED, RedactionPolicy
from otel_canonical.request_scope import RequestScope, current_scope
from otel_canonical.root_span import URL_ATTRIBUTES, RootSpans
from otel_canonical.settings import Settings

#: Headers that facts come from, beside those of the trace context. Names as Gunicorn spells them.
FACT_HEADERS = frozenset(
    ("HOST", "REFERER", "USER-AGENT", "CONTENT-LENGTH")
    + request_ids.ID_HEADERS
    + request_ids.QUEUE_HEADERS
)

#: Reads late facts into a scope just before it is closed: route, user, what the app's callbacks say.
Reader = Callable[[RequestScope], None]
Emit = Callable[[CanonicalEvent], None]


class CanonicalLog:
    """Where requests are opened and closed, whatever server or test asks for it.

    Args:
        settings: the operator's choice.
        root_spans: gives each request its root span.
        emit: writes an event.
        readers: called in order before an event is made; one that fails costs its facts only.
    """

    def __init__(
        self,
        settings: Settings,
        root_spans: RootSpans,
        emit: Emit,
        readers: Sequence[Reader] = (),
    ) -> None:
        self.settings = settings
        self.header_names = FACT_HEADERS | root_spans.header_names
        self._root_spans = root_spans
        self._emit = emit
        self._readers = readers
        self._redaction = RedactionPolicy(settings.redacted_names)
        self._composer = Composer(settings, self._redaction)
        self._pid = os.getpid()
        excluded = settings.excluded_fields
        self._hidden = {
            field.attribute: REDACTED
            for field in FIELDS
            if field.attribute and excluded is not None and excluded.match(field.key)
        }

    def open(self, method: str, path: str, headers: Mapping[str, str]) -> RequestScope | None:
        """Open the scope of a request that was just accepted and make it the current one.

        Args:
            method: as the client sent it.
            path: without the query string, percent-encoded as sent.
            headers: those of `header_names` that were sent; names in capitals.

        Returns:
            The scope, or None if the operator excludes this URL.
        """
        excluded = self.settings.excluded_urls
        if excluded is not None and excluded.search(path):
            current_scope.set(None)
            return None
        scope = RequestScope(
            method=method, path=path, headers=headers, request_id=request_ids.request_id(headers)
        )
        scope.pid = self._pid
        scope.on_partial_failure = self._partial_failure
        self._root_spans.open(scope)
        current_scope.set(scope)
        return scope

    def close(self, scope: RequestScope) -> bool:
        """Write the one event of a request that has ended; False if somebody else has done so."""
        if not scope.claim():
            return False
        scope.ended_ns = time.perf_counter_ns()
        if scope.ended_cpu_ns is None:
            scope.ended_cpu_ns = time.thread_time_ns()
        for reader in self._readers:
            with Fence("reading the facts of a request"):
                reader(scope)
        scope.is_open = False
        current_scope.set(None)
        event = self._composer.request_event(scope)
        with Fence("ending the root span of a request"):
            scope.root.end(event, scope, self._replaced(scope, event))
            scope.root.detach()
        self._emit(event)
        return True

    def _partial_failure(self, scope: RequestScope, error: ErrorFacts) -> None:
        self._emit(self._composer.partial_failure_event(scope, error))

    def _replaced(self, scope: RequestScope, event: CanonicalEvent) -> Mapping[str, str]:
        if not scope.root.is_exported:
            return {}
        path = next((str(value) for key, value in event.pairs if key == "req_path"), REDACTED)
        return {
            **dict.fromkeys(URL_ATTRIBUTES, path),
            "url.query": REDACTED,
            **self._hidden,
        }
