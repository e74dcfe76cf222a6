"""Every field of the event: key on the line, attribute on the span, type, unit and meaning. Pure.

The README's table is generated from here. Keys continue those of gunicorn-django-canonical-logs, so
that queries written for it keep working; attributes are OpenTelemetry's stable semantic conventions
where one exists, else they live under `canonical.`, `gunicorn.` or `app.`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from otel_canonical.event.logfmt import as_text

FieldValue = str | int | float | bool

#: Keys that the app sets are kept apart from ours by this prefix.
APP_PREFIX = "app_"
APP_ATTRIBUTE_PREFIX = "app."


@dataclass(frozen=True, slots=True)
class FieldDescription:
    """One field. `attribute` is empty where the span itself carries the fact."""

    key: str
    attribute: str
    type: str
    meaning: str
    unit: str = ""
    #: Identity, outcome and times: never shortened away when a line is too long.
    protected: bool = False


def _field(
    key: str, attribute: str, type_: str, meaning: str, *, unit: str = "", protected: bool = False
) -> FieldDescription:
    return FieldDescription(key, attribute, type_, meaning, unit, protected)


#: In the order in which a line shows them.
FIELDS: tuple[FieldDescription, ...] = (
    _field(
        "event_type",
        "canonical.event_type",
        "str",
        "`request`: a response was produced; `timeout`: Gunicorn aborted the worker because of this "
        "request; `lost`: the worker died with it; beside those `partial_failure`: a failure the app "
        "chose to survive, and `slow`: still running. `pool`: how full the pool was, of no request",
        protected=True,
    ),
    _field("ts", "", "str", "when the line was written, RFC 3339, UTC", unit="ms", protected=True),
    _field(
        "req_id",
        "http.request.id",
        "str",
        "incoming `X-Request-ID` (then `X-Correlation-ID`, `Request-ID`, `X-Varnish`, "
        "`X-Amzn-Trace-Id`) if it is well formed, else 32 hex digits",
        protected=True,
    ),
    _field("trace_id", "", "str", "the trace, 32 hex digits", protected=True),
    _field("span_id", "", "str", "the root server span, 16 hex digits", protected=True),
    _field("sampled", "", "bool", "whether this trace was exported", protected=True),
    _field("req_method", "http.request.method", "str", "HTTP method", protected=True),
    _field("req_path", "url.path", "str", "path as it was sent, percent-encoded, secrets redacted"),
    _field("req_host", "server.address", "str", "the `Host` header, without the port"),
    _field("req_scheme", "url.scheme", "str", "`http` or `https`, as Gunicorn sees it"),
    _field("req_proto", "network.protocol.version", "str", "`1.0`, `1.1` or `2`"),
    _field("req_query", "url.query", "str", "query string, secrets redacted; opt-in"),
    _field("req_route", "http.route", "str", "the URL pattern that matched; low cardinality"),
    _field("req_referrer", "http.request.header.referer", "str", "the `Referer` header"),
    _field("req_user_agent", "user_agent.original", "str", "the `User-Agent` header"),
    _field("req_client", "client.address", "str", "the peer's address, as Gunicorn sees it"),
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
    _field("user_id", "user.id", "str", "primary key of the user, if the request looked it up"),
    _field("resp_view", "code.function.name", "str", "Django's view: module and name"),
    _field(
        "resp_status",
        "http.response.status_code",
        "int",
        "the status that the client really got; absent if it got none",
        protected=True,
    ),
    _field("resp_bytes", "http.response.body.size", "int", "body bytes written", unit="By"),
    _field(
        "resp_time",
        "canonical.duration",
        "float",
        "wall time from the accepted request to the last byte",
        unit="s",
        protected=True,
    ),
    _field(
        "resp_cpu_time",
        "canonical.cpu_time",
        "float",
        "CPU time of the serving thread",
        unit="s",
        protected=True,
    ),
    _field(
        "resp_ttfb",
        "canonical.time_to_first_byte",
        "float",
        "wall time to the first byte",
        unit="s",
        protected=True,
    ),
    _field("client_gone", "canonical.client_gone", "bool", "the client went away; only when true"),
    _field(
        "deadline_exceeded",
        "canonical.deadline_exceeded",
        "bool",
        "it ran past `timeout` less the margin, and still answered; only when true",
    ),
    _field(
        "timeout_loc",
        "canonical.timeout_loc",
        "str",
        "where it was at the deadline: the app's outermost frame (the view)",
    ),
    _field(
        "timeout_cause_loc",
        "canonical.timeout_cause_loc",
        "str",
        "the same: the innermost app frame or, if there is one, the call it was stuck in",
    ),
    _field(
        "timeout_seen",
        "canonical.timeout_seen",
        "float",
        "how long it had run when it was looked at",
        unit="s",
    ),
    _field("slow_loc", "canonical.slow_loc", "str", "where it was when it became slow: the view"),
    _field("slow_cause_loc", "canonical.slow_cause_loc", "str", "the same: the innermost frame"),
    _field("slow_stack", "canonical.slow_stack", "str", "the same: its stack, innermost first"),
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
    _field("lost_cause_loc", "canonical.lost_cause_loc", "str", "the same: the innermost frame"),
    _field("exc_type", "exception.type", "str", "class of the exception that ended the request"),
    _field("exc_msg", "exception.message", "str", "its message, secrets redacted"),
    _field(
        "exc_loc", "canonical.exc_loc", "str", "the app's outermost frame, `file:line:function`"
    ),
    _field(
        "exc_cause_loc",
        "canonical.exc_cause_loc",
        "str",
        "the innermost app frame of the root cause or, if there is one app frame, where it was raised",
    ),
    _field("exc_template", "canonical.exc_template", "str", "innermost template line, `name:line`"),
    _field("db_queries", "canonical.db.queries", "int", "queries, summed over all databases"),
    _field("db_time", "canonical.db.time", "float", "time in them", unit="s"),
    _field(
        "db_dup_queries",
        "canonical.db.dup_queries",
        "int",
        "every run of an SQL text that ran more than once: suspects of N+1",
    ),
    _field("db_dup_time", "canonical.db.dup_time", "float", "time in those", unit="s"),
    _field(
        "db_errors", "canonical.db.errors", "int", "queries that raised; only when there are any"
    ),
    _field("tpl_renders", "canonical.template.renders", "int", "top-level template renders"),
    _field("tpl_time", "canonical.template.time", "float", "time in them", unit="s"),
    _field("http_calls", "canonical.http_client.calls", "int", "outgoing HTTP calls"),
    _field("http_time", "canonical.http_client.time", "float", "time in them", unit="s"),
    _field("http_errors", "canonical.http_client.errors", "int", "those that failed"),
    _field("cache_hits", "canonical.cache.hits", "int", "keys found in Django's caches"),
    _field("cache_misses", "canonical.cache.misses", "int", "keys not found there"),
    _field("cache_time", "canonical.cache.time", "float", "time in cache look-ups", unit="s"),
    _field("g_w_count", "gunicorn.workers.count", "int", "workers, as this request saw the pool"),
    _field("g_w_active", "gunicorn.workers.active", "int", "busy workers, this one included"),
    _field(
        "g_backlog",
        "gunicorn.backlog",
        "int",
        "connections not accepted yet, over all binds, seen within the last seconds; absent where "
        "nobody can tell",
    ),
    _field(
        "g_t_count",
        "gunicorn.slots.count",
        "int",
        "request slots, workers x threads; absent for worker classes without a bound",
    ),
    _field("g_t_active", "gunicorn.slots.active", "int", "busy slots, this one included"),
    _field(
        "g_t_waiting",
        "gunicorn.slots.waiting",
        "int",
        "accepted requests that wait for a thread; only where workers have threads",
    ),
    _field(
        "g_utilization",
        "gunicorn.utilization",
        "float",
        "which share of the slots was busy since the last `pool` line; on these lines only, as is what "
        "follows",
        unit="1",
    ),
    _field(
        "g_w_started",
        "gunicorn.workers.started",
        "int",
        "workers started since the last `pool` line",
    ),
    _field("g_pid", "process.pid", "int", "the worker's process id"),
    _field("g_w_requests", "gunicorn.worker.requests", "int", "requests this worker has taken"),
    _field("truncated", "canonical.truncated", "bool", "the line was too long; only when true"),
)

#: Families of keys that are made as they are needed.
PATTERNS: tuple[FieldDescription, ...] = (
    _field(
        "<system>_calls",
        "canonical.<system>.calls",
        "int",
        "other outgoing calls by system: redis, kafka, elasticsearch…",
    ),
    _field("<system>_time", "canonical.<system>.time", "float", "time in them", unit="s"),
    _field("<system>_errors", "canonical.<system>.errors", "int", "those that failed"),
    _field(
        "g_w_died_<cause>",
        "gunicorn.workers.died.<cause>",
        "int",
        "workers dead since the last `pool` line: `SIGKILL`, `oom`, `timeout`, `shutdown`, `exit_0` "
        "(recycled)…",
    ),
    _field(
        "g_lines_<kind>",
        "canonical.lines.<kind>",
        "int",
        "lines since the last `pool` line, by `event_type`; of all kinds together `dropped` and "
        "`shortened`; `unshown`: requests that no `lost` line would tell of",
    ),
    _field("app_<key>", "app.<key>", "any", "what the app set or added"),
    _field("app_<key>_time", "app.<key>_time", "float", "what the app timed", unit="s"),
    _field("app_<key>_count", "app.<key>_count", "int", "times it ran, when more than once"),
)

PROTECTED = frozenset(description.key for description in FIELDS if description.protected)

_ATTRIBUTES = {description.key: description.attribute for description in FIELDS}
#: Span attribute of a whole stack, for any event that has one (semantic conventions, "Code").
STACK_ATTRIBUTE = "code.stacktrace"
#: The same of an exception (semantic conventions, "Exceptions").
ERROR_STACK_ATTRIBUTE = "exception.stacktrace"

#: An attribute of a span is an integer of 64 bits, or no integer.
_WIDE = 1 << 63

_CALL_FACTS = ("_calls", "_time", "_errors")


def attribute_of(key: str) -> str:
    """Return the span attribute of a line's key; empty if the span carries the fact itself."""
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
    """Return an app's value as a line and a span can hold it: what is no scalar becomes its text."""
    # Not isinstance: lazy objects pretend to be a str, and would be looked up when the line is made.
    kind = type(value)
    if kind is str or kind is bool or kind is float:
        return cast("FieldValue", value)
    if issubclass(kind, int) and -_WIDE <= int.__int__(cast("int", value)) < _WIDE:
        return int.__int__(cast("int", value))
    if issubclass(kind, float):
        return float.__float__(cast("float", value))
    # Of a wider integer all digits are shown; a number on a span ends at 64 bits.
    return as_text(value)
