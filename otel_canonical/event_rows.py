"""The rows of an event, each the keys that a line shows together, in their order. Pure."""

from __future__ import annotations

from otel_canonical.rows import PlainRow, TextRow

IDENTITY = PlainRow("event_type", "ts", "req_id", "trace_id", "span_id", "sampled")
REQUEST = TextRow(
    *("req_method", "req_path", "req_host", "req_scheme", "req_proto", "req_query", "req_route"),
    *("req_referrer", "req_user_agent", "req_client", "req_bytes", "req_queue_time"),
    *("user_id", "resp_view"),
)
RESPONSE = PlainRow("resp_status", "resp_bytes", "resp_time", "resp_cpu_time", "resp_ttfb")
QUERIES = PlainRow("db_queries", "db_time", "db_dup_queries", "db_dup_time")
TEMPLATES = PlainRow("tpl_renders", "tpl_time")
CACHE = PlainRow("cache_hits", "cache_misses", "cache_time")
POOL = PlainRow("g_w_count", "g_w_active", "g_backlog", "g_t_count", "g_t_active")
POOL_WITH_QUEUES = PlainRow(
    *("g_w_count", "g_w_active", "g_backlog", "g_t_count", "g_t_active", "g_t_waiting")
)
WORKER = PlainRow("g_pid", "g_w_requests")
