"""Every field of the event: key on the line, attribute on the span, type, unit and meaning. Pure.

docs/FIELDS.md is generated from here. Keys are those of gunicorn-django-canonical-logs where it has
one, so that its users' queries keep working. Attributes are OpenTelemetry's stable semantic conventions
where one exists, else they begin with `canonical.`, `gunicorn.` or `app.`.
"""

from __future__ import annotations

from typing import cast

from otel_canonical.event.bounds import cut, shown
from otel_canonical.event.database_fields import DATABASE_FIELDS, DATABASE_LISTS
from otel_canonical.event.field_description import AttributeValue as AttributeValue
from otel_canonical.event.field_description import FieldDescription
from otel_canonical.event.field_description import FieldValue as FieldValue
from otel_canonical.event.field_description import describe_field as _field
from otel_canonical.event.time_fields import TIME_FIELDS

#: The prefix of keys that the app sets; it keeps them apart from ours.
APP_PREFIX = "app_"
APP_ATTRIBUTE_PREFIX = "app."


#: In the order of the line.
FIELDS: tuple[FieldDescription, ...] = (
    _field("ts", "", "str", "when the line was written, RFC 3339, UTC", unit="ms", protected=True),
    _field(
        "event_type",
        "canonical.event_type",
        "str",
        "`request`: a response was produced; `timeout`: Gunicorn aborted the worker because of this "
        "request; `lost`: the worker died while it was open. Additional lines: `partial_failure`: a "
        "failure that the app survived; `slow`: still running; `slow_query`: a query with its plan; "
        "`pool`: how full the pool was",
        protected=True,
    ),
    _field("req_method", "http.request.method", "str", "HTTP method", protected=True),
    _field("req_path", "url.path", "str", "path as it was sent, percent-encoded, secrets redacted"),
    _field(
        "resp_status",
        "http.response.status_code",
        "int",
        "the status that was sent; absent when the client got no response",
        protected=True,
    ),
    _field(
        "resp_time",
        "canonical.duration",
        "float",
        "wall time from accepting the request to the last byte of the response",
        unit="s",
        protected=True,
    ),
    _field("req_route", "http.route", "str", "the URL pattern that matched (low cardinality)"),
    _field("resp_view", "code.function.name", "str", "Django's view: module and name"),
    _field("user_id", "user.id", "str", "primary key of the user, if the request looked it up"),
    _field("req_client", "client.address", "str", "the peer's address, as Gunicorn sees it"),
    _field("req_host", "server.address", "str", "the `Host` header, without the port"),
    _field("req_scheme", "url.scheme", "str", "`http` or `https`, as Gunicorn sees it"),
    _field("req_proto", "network.protocol.version", "str", "`1.0`, `1.1` or `2`"),
    _field("req_query", "url.query", "str", "query string, secrets redacted; opt-in"),
    _field("req_referrer", "http.request.header.referer", "str", "the `Referer` header"),
    _field("req_user_agent", "user_agent.original", "str", "the `User-Agent` header"),
    _field(
        "req_bytes", "http.request.body.size", "int", "`Content-Length` of the request", unit="By"
    ),
    _field(
        "req_queue_time",
        "canonical.queue_time",
        "float",
        "time spent before Gunicorn, from `X-Request-Start` or `X-Queue-Start`",
        unit="s",
    ),
    _field("client_gone", "canonical.client_gone", "bool", "the client went away; only when true"),
    _field(
        "deadline_exceeded",
        "canonical.deadline_exceeded",
        "bool",
        "it ran longer than `timeout` minus the margin and still answered; only when true",
    ),
    _field(
        "timeout_loc",
        "canonical.timeout_loc",
        "str",
        "where the request was at its deadline: the app's outermost frame (the view)",
    ),
    _field(
        "timeout_cause_loc",
        "canonical.timeout_cause_loc",
        "str",
        "where it was at its deadline: the app's innermost frame or, if it has only one, the call it waited in",
    ),
    _field(
        "timeout_seen",
        "canonical.timeout_seen",
        "float",
        "how long it had run when that stack was sampled",
        unit="s",
    ),
    _field("slow_loc", "canonical.slow_loc", "str", "where it was when it became slow: the view"),
    _field("slow_cause_loc", "canonical.slow_cause_loc", "str", "the innermost frame at that time"),
    _field("slow_stack", "canonical.slow_stack", "str", "its stack at that time, innermost first"),
    _field(
        "lost_cause",
        "canonical.lost_cause",
        "str",
        "why the worker died: `SIGKILL`, `oom`, `SIGSEGV`, `exit:7`, `shutdown`…",
        protected=True,
    ),
    _field(
        "lost_loc", "canonical.lost_loc", "str", "where it was when its worker crashed: the view"
    ),
    _field("lost_cause_loc", "canonical.lost_cause_loc", "str", "the innermost frame at that time"),
    _field("exc_type", "exception.type", "str", "class of the exception that ended the request"),
    _field("exc_msg", "exception.message", "str", "message of the exception, secrets redacted"),
    _field(
        "exc_loc", "canonical.exc_loc", "str", "the app's outermost frame, `file:line:function`"
    ),
    _field(
        "exc_cause_loc",
        "canonical.exc_cause_loc",
        "str",
        "the app's innermost frame of the root cause or, if it has only one, the frame that raised",
    ),
    _field("exc_template", "canonical.exc_template", "str", "innermost template line, `name:line`"),
    _field("resp_bytes", "http.response.body.size", "int", "body bytes written", unit="By"),
    _field(
        "resp_ttfb",
        "canonical.time_to_first_byte",
        "float",
        "wall time to the first byte of the response",
        unit="s",
        protected=True,
    ),
    _field(
        "resp_cpu_time",
        "canonical.cpu_time",
        "float",
        "CPU time of the thread that served the request",
        unit="s",
        protected=True,
    ),
    *TIME_FIELDS,
    *DATABASE_FIELDS,
    _field("tpl_renders", "canonical.template.renders", "int", "top-level template renders"),
    _field("tpl_time", "canonical.template.time", "float", "total time in these renders", unit="s"),
    _field("http_calls", "canonical.http_client.calls", "int", "outgoing HTTP calls"),
    _field(
        "http_time", "canonical.http_client.time", "float", "time in outgoing HTTP calls", unit="s"
    ),
    _field("http_errors", "canonical.http_client.errors", "int", "outgoing HTTP calls that failed"),
    _field("cache_hits", "canonical.cache.hits", "int", "keys found in Django's caches"),
    _field("cache_misses", "canonical.cache.misses", "int", "keys not found in Django's caches"),
    _field("cache_time", "canonical.cache.time", "float", "total time in cache look-ups", unit="s"),
    _field(
        "g_open",
        "gunicorn.open",
        "str",
        "which routes were open in the pool, this one included, when a request came late to its worker, "
        "became slow, timed out or was lost: `3*reports/ 1*checkout/`",
    ),
    _field("g_w_count", "gunicorn.workers.count", "int", "workers in the pool"),
    _field("g_w_active", "gunicorn.workers.active", "int", "busy workers, this one included"),
    _field(
        "g_backlog",
        "gunicorn.backlog",
        "int",
        "connections that wait to be accepted, over all binds, as of the last seconds; absent if the "
        "kernel doesn't tell",
    ),
    _field(
        "g_t_count",
        "gunicorn.slots.count",
        "int",
        "request slots, workers x threads; absent for worker classes without a limit",
    ),
    _field("g_t_active", "gunicorn.slots.active", "int", "busy slots, this one included"),
    _field(
        "g_t_waiting",
        "gunicorn.slots.waiting",
        "int",
        "accepted requests that wait for a thread; only if workers have threads",
    ),
    _field(
        "g_utilization",
        "gunicorn.utilization",
        "float",
        "share of the slots that was busy since the last `pool` line; only on `pool` lines, like the "
        "next field",
        unit="1",
    ),
    _field(
        "g_w_started",
        "gunicorn.workers.started",
        "int",
        "workers started since the last `pool` line",
    ),
    _field("g_pid", "process.pid", "int", "process id of the worker"),
    _field("g_w_requests", "gunicorn.worker.requests", "int", "requests this worker has accepted"),
    _field(
        "req_id",
        "http.request.id",
        "str",
        "incoming `X-Request-ID` (then `X-Correlation-ID`, `Request-ID`, `X-Varnish`, "
        "`X-Amzn-Trace-Id`) if it is valid, else 32 random hex digits",
        protected=True,
    ),
    _field(
        "trace_id",
        "",
        "str",
        "id of the trace, 32 hex digits; this and the next two only if spans or log events are exported, "
        "or the caller has sent a trace context",
        protected=True,
    ),
    _field("span_id", "", "str", "id of the root server span, 16 hex digits", protected=True),
    _field("sampled", "", "bool", "whether this trace was exported", protected=True),
    _field("truncated", "canonical.truncated", "bool", "the line was shortened; only when true"),
)

#: Patterns of keys that depend on the app.
PATTERNS: tuple[FieldDescription, ...] = (
    _field(
        "<system>_calls",
        "canonical.<system>.calls",
        "int",
        "other outgoing calls by system: redis, kafka, elasticsearch…",
    ),
    _field("<system>_time", "canonical.<system>.time", "float", "time in these calls", unit="s"),
    _field("<system>_errors", "canonical.<system>.errors", "int", "these calls that failed"),
    _field(
        "g_w_died_<cause>",
        "gunicorn.workers.died.<cause>",
        "int",
        "workers that died since the last `pool` line, by cause: `SIGKILL`, `oom`, `timeout`, `shutdown`, "
        "`exit_0` (recycled)…",
    ),
    _field(
        "g_lines_<kind>",
        "canonical.lines.<kind>",
        "int",
        "lines since the last `pool` line, by `event_type`; `dropped` and `shortened` count all types; "
        "`unshown` counts requests without a slot, which get no `lost` line if the worker dies",
    ),
    _field("app_<key>", "app.<key>", "any", "value that the app set or added up"),
    _field("app_<key>_time", "app.<key>_time", "float", "total time of an app's timer", unit="s"),
    _field("app_<key>_count", "app.<key>_count", "int", "runs of that timer, when more than one"),
)

PROTECTED = frozenset(description.key for description in FIELDS if description.protected)

_ATTRIBUTES = {description.key: description.attribute for description in FIELDS} | DATABASE_LISTS
#: The span attribute of a sampled stack (semantic conventions, "Code").
STACK_ATTRIBUTE = "code.stacktrace"
#: The span attribute of an exception's stack (semantic conventions, "Exceptions").
ERROR_STACK_ATTRIBUTE = "exception.stacktrace"

#: Integer attributes of a span have 64 bits.
_WIDE = 1 << 63

_CALL_FACTS = ("_calls", "_time", "_errors")


def attribute_of(key: str) -> str:
    """Return the span attribute of a line's key, empty if the span itself has it."""
    known = _ATTRIBUTES.get(key)
    if known is not None:
        return known
    if key.startswith(APP_PREFIX):
        return APP_ATTRIBUTE_PREFIX + key[len(APP_PREFIX) :]
    for suffix in _CALL_FACTS:
        if key.endswith(suffix):
            return f"canonical.{key[: -len(suffix)]}.{suffix[1:]}"
    return "canonical." + key


def field_value(value: object) -> FieldValue:
    """Return an app's value as a line and a span can hold it: anything but a scalar as its text, cut."""
    # Not isinstance: lazy objects pretend to be a str, and would be evaluated when the line is made.
    kind = type(value)
    if kind is str:
        return cut(cast("str", value))
    if kind is bool or kind is float:
        return cast("FieldValue", value)
    if issubclass(kind, int) and -_WIDE <= int.__int__(cast("int", value)) < _WIDE:
        return int.__int__(cast("int", value))
    if issubclass(kind, float):
        return float.__float__(cast("float", value))
    # A wider integer becomes text with all its digits.
    return shown(value)
