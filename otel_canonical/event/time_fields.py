"""The fields that say where a request's time went, and what surprised it. Pure."""

from __future__ import annotations

from otel_canonical.event.field_description import describe_field as _field

#: In the order of the line. Those by state and those by place each add up to `resp_time`.
TIME_FIELDS = (
    _field(
        "resp_cpu_wait",
        "canonical.cpu_wait",
        "float",
        "time in which the serving thread could run and had no CPU: a quota, or neighbours; only where a "
        "thread serves one request at a time, like the next field",
        unit="s",
    ),
    _field(
        "resp_blocked",
        "canonical.blocked",
        "float",
        "time in which it waited for something else: I/O, a lock, the GIL. `resp_cpu_time`, "
        "`resp_cpu_wait` and this add up to `resp_time`",
        unit="s",
    ),
    _field(
        "mw_time",
        "canonical.middleware.time",
        "float",
        "time in Django's middleware around the view, without what other fields count; by place, like "
        "the next four: with the times of databases, caches and other systems they add up to `resp_time`",
        unit="s",
    ),
    _field(
        "view_time",
        "canonical.view.time",
        "float",
        "time in the view, without what other fields count",
        unit="s",
    ),
    _field(
        "resp_other_time",
        "canonical.other.time",
        "float",
        "time in the server and in Django outside of middleware; the rest",
        unit="s",
    ),
    _field(
        "tpl_self_time",
        "canonical.template.self_time",
        "float",
        "time in templates, without what other fields count, such as the queries they cause",
        unit="s",
    ),
    _field(
        "body_time",
        "canonical.body.time",
        "float",
        "time in making the parts of a streamed body, without what other fields count",
        unit="s",
    ),
    _field(
        "resp_overlap",
        "canonical.overlap",
        "float",
        "time that the fields by place count more than once: side by side in threads or tasks, or one "
        "inside another (a cache in a database). The places add up to `resp_time` and this; only above "
        "0.1 ms",
        unit="s",
    ),
    _field(
        "gc_time",
        "canonical.gc.time",
        "float",
        "time in garbage collections of the process meanwhile, from 1 ms; inside the places",
        unit="s",
    ),
    _field("gc_runs", "canonical.gc.runs", "int", "how many collections that were"),
    _field(
        "imports",
        "canonical.imports",
        "int",
        "modules that the process imported meanwhile, if any: a cold first request",
    ),
    _field(
        "mem_growth",
        "canonical.memory.growth",
        "int",
        "growth of the worker's resident memory, above 1 MiB; of requests of 10 ms or more, where it is "
        "known how large it was at their beginning",
        unit="By",
    ),
    _field(
        "log_warnings",
        "canonical.log.warnings",
        "int",
        "warnings that the app logged, if any; those of Django that repeat the status are not counted",
    ),
    _field("log_errors", "canonical.log.errors", "int", "errors that the app logged, if any"),
    _field(
        "ws_messages_in",
        "canonical.websocket.messages_in",
        "int",
        "messages that a websocket received; only on the lines of websockets, like the next two",
    ),
    _field("ws_messages_out", "canonical.websocket.messages_out", "int", "messages that it sent"),
    _field(
        "ws_close_code", "canonical.websocket.close_code", "int", "the code that it was closed with"
    ),
)
