"""The settings, read once from the environment into one frozen object.

A bad value never stops the server: it becomes one warning that names the variable, the value and the
default used instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from otel_canonical import setting_values

PREFIX = "OTEL_PYTHON_CANONICAL_"


def _setting(default: Any, parse: Callable[[str], Any], shown: str, meaning: str) -> Any:
    return field(default=default, metadata={"parse": parse, "shown": shown, "meaning": meaning})


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator chose. Field `max_line` is the variable `OTEL_PYTHON_CANONICAL_MAX_LINE`."""

    enabled: bool = _setting(
        True,
        setting_values.boolean,
        "true",
        "`false` switches everything off: no line, no span, no hook.",
    )
    output: str = _setting(
        "stdout",
        setting_values.output,
        "stdout",
        "Where lines go: `stdout` (or `-`), `stderr`, or a path; a file is reopened on SIGUSR1.",
    )
    format: str = _setting("logfmt", setting_values.line_format, "logfmt", "`logfmt` or `json`.")
    max_line: int = _setting(
        4096,
        setting_values.line_bytes,
        "4096",
        "Longest line, in bytes, newline included. The default is Linux's PIPE_BUF: up to it, "
        "lines of many workers on one pipe never interleave.",
    )
    max_event: int = _setting(
        65_536,
        setting_values.event_bytes,
        "65536",
        "Largest event on span and log event, in bytes. The default is what Loki takes as structured "
        "metadata. Stacks are shortened first, then the app's values.",
    )
    query_string: bool = _setting(
        False,
        setting_values.boolean,
        "false",
        "`true` adds `req_query`, with secret parameters redacted.",
    )
    response_request_id: bool = _setting(
        False,
        setting_values.boolean,
        "false",
        "`true` sends `req_id` back as the response header `X-Request-ID`.",
    )
    server_timing: bool = _setting(
        False,
        setting_values.boolean,
        "false",
        "`true` adds the response header `Server-Timing`: how long databases, caches, templates, the view "
        "and all together have taken, and the trace. Browsers show it; so does anybody who asks.",
    )
    excluded_urls: re.Pattern[str] | None = _setting(
        None,
        setting_values.url_patterns,
        "(none)",
        "Regular expressions separated by commas; a request whose path matches one gets no line "
        "and no span. For health checks.",
    )
    excluded_fields: re.Pattern[str] | None = _setting(
        None,
        setting_values.field_globs,
        "(none)",
        "Field globs separated by commas (`req_user_agent,user_*`) that leave neither on the line "
        "nor on the span.",
    )
    fields: tuple[str, ...] = _setting(
        (),
        setting_values.names_in,
        "(all)",
        "Field globs separated by commas: only these are on the line, in this order (`req_*,resp_*,*`). "
        "`ts` and `event_type` always come first; spans and log events keep all fields.",
    )
    redacted_names: tuple[str, ...] = _setting(
        (),
        setting_values.names_in,
        "(none)",
        "More names, separated by commas, whose values are redacted.",
    )
    log_events: str = _setting(
        "true",
        setting_values.log_events,
        "true",
        "Whether each event leaves as an OpenTelemetry log event, too, when logs are exported: `true`, "
        "`false`, or `sampled`: those of requests whose trace is exported, and of all that failed.",
    )
    pool_metrics: bool = _setting(
        True,
        setting_values.boolean,
        "true",
        "`false` keeps the pool's metrics from being exported, and saves the process that does it.",
    )
    pool_interval_seconds: float | None = _setting(
        None,
        setting_values.seconds,
        "(off)",
        "Write a `pool` line every so often: how full the pool was, who started and died.",
    )
    app_logs: bool = _setting(
        True,
        setting_values.boolean,
        "true",
        "`false` keeps the app's own log records from leaving with the logs signal when logs are "
        "exported.",
    )
    template_spans: bool = _setting(
        True,
        setting_values.boolean,
        "true",
        "`false` makes no spans of template renders in exported requests.",
    )
    cache_spans: bool = _setting(
        True,
        setting_values.boolean,
        "true",
        "`false` makes no spans of cache look-ups and writes in exported requests.",
    )
    db_spans: bool = _setting(
        True,
        setting_values.boolean,
        "true",
        "`false` makes no spans of Django's queries, and leaves them to the instrumentation of the "
        "database's driver, if that is installed.",
    )
    n_plus_one: int = _setting(
        5,
        setting_values.runs,
        "5",
        "How often a query must run in a request to be named as `db_n1`, with its line of code.",
    )
    db_slow_seconds: float = _setting(
        0.1, setting_values.seconds, "0.1", "A query that takes longer is named as `db_slowest`."
    )
    db_explain_seconds: float | None = _setting(
        None,
        setting_values.seconds,
        "(off)",
        "A SELECT that takes longer gets a `slow_query` line with the database's plan, fetched after "
        "the response on a connection of its own. PostgreSQL, MariaDB, MySQL, SQLite.",
    )
    sql_commenter: bool = _setting(
        False,
        setting_values.boolean,
        "false",
        "`true` adds a comment to Django's SQL that names view, route and trace (sqlcommenter), for the "
        "database's own log. No two texts are the same then: prepared statements are not used again.",
    )
    always_export: frozenset[str] = _setting(
        frozenset(),
        setting_values.always_exported,
        "(none)",
        "`errors`, `timeouts`, `lost`, `slow`, separated by commas, or `all`: requests whose trace is "
        "exported whatever the sampler says. Spans of all requests are recorded for it, see below.",
    )
    flush_seconds: float = _setting(
        2.0,
        setting_values.seconds,
        "2",
        "How long a worker that leaves, or is aborted, may take to export what it still holds.",
    )
    timeout_margin_seconds: float = _setting(
        0.5,
        setting_values.seconds,
        "0.5",
        "How long before Gunicorn's `timeout` a request is looked at, to say where it is stuck.",
    )
    slow_seconds: float | None = _setting(
        None,
        setting_values.seconds,
        "(off)",
        "A request that runs longer gets a `slow` line at once, with its stack, and goes on.",
    )
    slow_interval_seconds: float | None = _setting(
        None,
        setting_values.seconds,
        "(once)",
        "Report a request that is still slow again after this time.",
    )
    slow_exempt: re.Pattern[str] | None = _setting(
        None,
        setting_values.field_globs,
        "(none)",
        "Globs separated by commas; views (`shop.views.report`) and URL names (`shop:export`) that "
        "may be slow.",
    )
    slow_locals: bool = _setting(
        False,
        setting_values.boolean,
        "false",
        "`true` adds the local variables of the app's frames to stacks, secrets redacted, shortened.",
    )


def variable_of(setting: str) -> str:
    """Return the environment variable of a field of `Settings`."""
    return PREFIX + setting.upper()


def described() -> tuple[Field[Any], ...]:
    """Return the dataclass fields; their metadata holds the default as shown and the meaning."""
    return fields(Settings)


def read_settings(environ: Mapping[str, str], warn: Callable[[str], None]) -> Settings:
    """Return the settings of `environ`; every bad value is told to `warn` and replaced.

    An empty variable counts as unset, as everywhere in OpenTelemetry.
    """
    chosen: dict[str, Any] = {}
    for setting in described():
        variable = variable_of(setting.name)
        text = environ.get(variable, "")
        if not text.strip():
            continue
        try:
            chosen[setting.name] = setting.metadata["parse"](text)
        except ValueError as error:
            warn(
                f"{variable}={text!r} is not {error}; "
                f"using the default, {setting.metadata['shown']}"
            )
    known = {variable_of(setting.name) for setting in described()}
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and variable not in known:
            warn(f"{variable} is not a setting of otel-canonical; it is ignored")
    settings = Settings(**chosen)
    if "slow" in settings.always_export and settings.slow_seconds is None:
        warn(
            f"{variable_of('always_export')} names slow requests, but "
            f"{variable_of('slow_seconds')} doesn't say which are; none is exported for it"
        )
    return settings
