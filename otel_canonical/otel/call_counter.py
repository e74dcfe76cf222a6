"""A span processor that counts outgoing calls in the tallies of their request.

Lives in the worker. It counts the spans of the app's libraries: HTTP clients, brokers, databases used
without Django. Django's own queries are counted by `django.queries`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import StatusCode
from opentelemetry.util.types import AnyValue

from otel_canonical.internal_errors import guarded_call
from otel_canonical.otel.root_span import SCOPE_KEY
from otel_canonical.otel.sampler import CLIENT_TRACERS, COUNTED_KINDS
from otel_canonical.otel.uncounted import UNCOUNTED_KEY, is_ours
from otel_canonical.request.root import NO_ROOT
from otel_canonical.request.scope import RequestScope

#: Databases without SQL; calls to them have keys of their own (`redis_calls`).
NOT_SQL = frozenset(
    """cassandra couchbase couchdb dynamodb aws.dynamodb elasticsearch geode hbase memcached mongodb
    neo4j opensearch redis valkey""".split()
)

#: Systems that are spoken to over HTTP: that request is no call of its own.
OVER_HTTP = frozenset(
    """aws_api aws_dynamodb couchbase couchdb dynamodb elasticsearch opensearch""".split()
)

#: Bounds the calls in progress: a span that is never ended must not stay here for ever.
MOST_OPEN_CALLS = 10_000


class CallCounter(SpanProcessor):
    """Counts ended CLIENT and PRODUCER spans in the scope of the request that started them."""

    def __init__(self) -> None:
        self._calls: dict[int, tuple[RequestScope, Span, int]] = {}

    @guarded_call("noting the request of a span")
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Remember which request a call belongs to; only now is its parent's context known."""
        ids = span.get_span_context()
        is_sampled = ids.trace_flags.sampled
        # In this order: hashing an enum's member, for `in`, calls Python.
        is_counted = (
            (span.kind in COUNTED_KINDS or _is_of_client(span))
            and not is_ours(span)
            and otel_context.get_value(UNCOUNTED_KEY, parent_context) is None
        )
        if not is_sampled and not is_counted:
            return
        scope = otel_context.get_value(SCOPE_KEY, parent_context)
        if not isinstance(scope, RequestScope):
            return
        if is_sampled and scope.root is not NO_ROOT:
            # The root itself starts before its scope has it, and ends by `finish`.
            if scope.open_spans is None:
                scope.open_spans = {}
            scope.open_spans[ids.span_id] = span
        if is_counted:
            if len(self._calls) >= MOST_OPEN_CALLS:
                self._calls.pop(next(iter(self._calls)), None)
            self._calls[ids.span_id] = scope, span, scope.accounted_ns
            slot, system = scope.slot, system_of(span.attributes or {})
            if slot is not None and system is not None:
                slot.begin_call(scope.started_ns, time.monotonic_ns(), slot.sql_texts[system])

    @guarded_call("counting an outgoing call")
    def on_end(self, span: ReadableSpan) -> None:
        """Count the call, unless its request has already ended."""
        span_id = span.get_span_context().span_id  # type: ignore[union-attr]
        owner = otel_context.get_value(SCOPE_KEY)
        if isinstance(owner, RequestScope) and owner.open_spans is not None:
            owner.open_spans.pop(span_id, None)
        scope, _, accounted_ns = self._calls.pop(span_id, (None, None, 0))
        if scope is None or not scope.is_open:
            return
        if scope.slot is not None:
            scope.slot.end_call(scope.started_ns)
        # Spans have times of the wall clock, which may be set back meanwhile.
        elapsed_ns = max((span.end_time or 0) - (span.start_time or 0), 0)
        failed = span.status.status_code is StatusCode.ERROR
        attributes = span.attributes or {}
        system = system_of(attributes) or system_of_scope(_scope_name(span))
        # An empty pipeline sends nothing.
        if attributes.get("db.redis.pipeline_length") == 0 or self._is_part_of_call(span, system):
            return
        if system == "db":
            text = attributes.get("db.query.text") or attributes.get("db.statement") or span.name
            scope.add_query(str(text), elapsed_ns, failed)
        elif system is not None:
            scope.add_call(system, elapsed_ns, failed)
            scope.leave_measured(accounted_ns, elapsed_ns)

    def _is_part_of_call(self, span: ReadableSpan, system: str | None) -> bool:
        """Return whether the parent span is the same call: an ORM's query around its driver's, say."""
        parent = self._calls.get(span.parent.span_id) if span.parent is not None else None
        if parent is None:
            return False
        span_of_parent = parent[1]
        outer = system_of(span_of_parent.attributes or {}) or system_of_scope(
            _scope_name(span_of_parent)
        )
        return system == outer or (system == "http" and outer in OVER_HTTP)


def system_of(attributes: Mapping[str, AnyValue]) -> str | None:
    """Return which system a client span called: `http`, `db` for any SQL database, or its name."""
    database = attributes.get("db.system.name") or attributes.get("db.system")
    if database is not None:
        return _key(database) if database in NOT_SQL else "db"
    # After the database: Elasticsearch's client also sets the HTTP method.
    if "http.request.method" in attributes or "http.method" in attributes:
        return "http"
    for name in ("messaging.system", "rpc.system.name", "rpc.system"):
        if name in attributes:
            return _key(attributes[name])
    return None


def system_of_scope(name: str) -> str | None:
    """Return which system the spans of an instrumentation are calls to, by its scope's name.

    Not every instrumentation says on the span what is called: Celery's names no system, redis's
    none for a cluster.
    """
    _, found, library = name.rpartition("opentelemetry.instrumentation.")
    if not found:
        return None
    return _SYSTEMS.get(library.partition(".")[0])


#: By the last part of an instrumentation's scope.
_SYSTEMS = {
    **dict.fromkeys(("requests", "urllib", "urllib3", "httpx", "aiohttp_client"), "http"),
    **dict.fromkeys(("kafka", "confluent_kafka", "aiokafka"), "kafka"),
    **dict.fromkeys(("pika", "aio_pika"), "rabbitmq"),
    **{name: name for name in ("celery", "redis", "grpc", "elasticsearch", "cassandra")},
    "pymongo": "mongodb",
    "pymemcache": "memcached",
    "botocore": "aws_api",
    "boto3sqs": "aws_sqs",
}


def _scope_name(span: ReadableSpan) -> str:
    scope = span.instrumentation_scope
    return scope.name if scope is not None else ""


def _is_of_client(span: Span) -> bool:
    """Return whether a span is a call although its kind says INTERNAL."""
    return _scope_name(span) in CLIENT_TRACERS


def _key(system: object) -> str:
    return re.sub(r"[^a-z0-9]+", "_", str(system).lower()).strip("_") or "other"
