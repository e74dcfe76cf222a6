"""The rows of the benchmark: which server is started, from which environment, and what it owes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Evidence(Enum):
    """What a row must leave on stdout for every request; none is a row that writes nothing."""

    NONE = "nothing"
    ACCESS_LINE = "one access log line"
    CANONICAL_LINE = "one canonical line"
    ANCESTOR_LINE = "one canonical line of the ancestor"
    STRUCTLOG_LINE = "one request_finished line"


SETTINGS_NAMED_OUTSIDE = {"DJANGO_SETTINGS_MODULE": "mysite.settings"}
LOG_EVENTS = "OTEL_PYTHON_CANONICAL_LOG_EVENTS"
ONE_PERCENT = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}


@dataclass(frozen=True, slots=True)
class Row:
    """One configuration of the same site."""

    name: str
    environment: str
    meaning: str
    evidence: Evidence = Evidence.NONE
    instrumented: bool = False  # started through opentelemetry-instrument
    exports: bool = False  # sends OTLP to the sink; then charged for what it does after the load
    sends_every_trace: bool = False
    gunicorn_args: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def command(self) -> list[str]:
        """Return the words a user would type, with one worker on a port of the kernel's choice."""
        prefix = ["opentelemetry-instrument"] if self.instrumented else []
        bind = ["--bind", "127.0.0.1:0", "--workers", "1", "--worker-class", "sync"]
        return [*prefix, "gunicorn", *bind, *self.gunicorn_args, "mysite.wsgi"]


ROWS = (
    Row("bare", "bare", "Gunicorn and Django alone"),
    Row("bare-again", "bare", "the same once more: what it seems to add is noise"),
    Row(
        "access-log",
        "bare",
        "Gunicorn's own access log",
        Evidence.ACCESS_LINE,
        gunicorn_args=("--access-logfile", "-"),
    ),
    Row(
        "ours",
        "ours",
        "everything default, nothing exported",
        Evidence.CANONICAL_LINE,
        instrumented=True,
    ),
    Row(
        "ours-sqlite3",
        "ours-sqlite3",
        "the same, with the sqlite3 instrumentation installed",
        Evidence.CANONICAL_LINE,
        instrumented=True,
    ),
    Row(
        "ours-otlp-1",
        "ours-sqlite3",
        "the same, 1 % of the traces over OTLP",
        Evidence.CANONICAL_LINE,
        instrumented=True,
        exports=True,
        variables=ONE_PERCENT,
    ),
    Row(
        "ours-otlp-1-logs-1",
        "ours-sqlite3",
        "the same, and log events of these requests only",
        Evidence.CANONICAL_LINE,
        instrumented=True,
        exports=True,
        variables=ONE_PERCENT | {LOG_EVENTS: "sampled"},
    ),
    Row(
        "ours-otlp-100",
        "ours-sqlite3",
        "the same, every trace over OTLP",
        Evidence.CANONICAL_LINE,
        instrumented=True,
        exports=True,
        sends_every_trace=True,
    ),
    Row(
        "ours-otlp-100-logs-0",
        "ours-sqlite3",
        "the same, without log events, which plain OpenTelemetry doesn't have",
        Evidence.CANONICAL_LINE,
        instrumented=True,
        exports=True,
        sends_every_trace=True,
        variables={LOG_EVENTS: "false"},
    ),
    Row(
        "ancestor",
        "ancestor",
        "gunicorn-django-canonical-logs",
        Evidence.ANCESTOR_LINE,
        gunicorn_args=("-c", "gunicorn_conf_ancestor.py"),
        variables=SETTINGS_NAMED_OUTSIDE,
    ),
    Row(
        "django-structlog",
        "django-structlog",
        "request_started and request_finished as JSON",
        Evidence.STRUCTLOG_LINE,
        variables={"DJANGO_SETTINGS_MODULE": "mysite.settings_structlog"},
    ),
    Row(
        "plain-otel-off",
        "plain-otel",
        "OpenTelemetry's own distro, sampler always_off",
        instrumented=True,
        exports=True,
        variables={**SETTINGS_NAMED_OUTSIDE, "OTEL_TRACES_SAMPLER": "always_off"},
    ),
    Row(
        "plain-otel-100",
        "plain-otel",
        "OpenTelemetry's own distro, every trace over OTLP",
        instrumented=True,
        exports=True,
        sends_every_trace=True,
        variables=SETTINGS_NAMED_OUTSIDE,
    ),
    Row(
        "logfire",
        "logfire",
        "logfire, Django and sqlite3 traced, nothing sent or printed",
        variables={"DJANGO_SETTINGS_MODULE": "mysite.settings_logfire"},
    ),
)
QUICK = ("bare", "access-log", "ours", "ancestor")


def choose_rows(names: tuple[str, ...]) -> tuple[Row, ...]:
    """Return the named rows in the order of the table; `bare` always comes along."""
    if unknown := set(names) - {row.name for row in ROWS}:
        known = ", ".join(row.name for row in ROWS)
        raise SystemExit(f"no such row: {', '.join(sorted(unknown))}; there are: {known}")
    return tuple(row for row in ROWS if row.name in names or row.name == "bare")
