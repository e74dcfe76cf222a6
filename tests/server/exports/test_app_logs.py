"""The app's own log records: request ids in every format, and none lost in export."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.environments import clean_environment
from tests.support.otlp_sink import OtlpSink, SunkLog, otlp_sink
from tests.support.servers import PATIENCE_S, PROGRAMS, Server, eventually, gunicorn
from tests.support.soak import some_of

NOBODY = ("-", "-", "-")
REQUEST_ID = "http.request.id"


@dataclass
class Site:
    """A server whose app logs, the file it logs into, and the receiver of what it exports."""

    server: Server
    log: Path
    sink: OtlpSink

    def said(self, text: str) -> list[tuple[str, str, str]]:
        """Return the ids (request, trace, span) with which `text` stands in the app's log file."""

        def probe() -> list[tuple[str, str, str]]:
            found = []
            for line in self.log.read_text().splitlines():
                _, *ids, message = line.split(" ", 4)
                if message == text:
                    found.append((ids[0], ids[1], ids[2]))
            return found

        return eventually(probe, lambda: f"{text!r} was not logged:\n{self.log.read_text()}")

    def exported(self, text: str) -> SunkLog:
        """Return the one log record with this text."""
        found = eventually(
            lambda: [log for log in list(self.sink.logs) if log.body == text],
            lambda: f"{text!r} was not exported: {[log.body for log in list(self.sink.logs)]}",
        )
        assert len(found) == 1
        return found[0]


@contextlib.contextmanager
def logging_site(directory: Path, *arguments: str, **environment: str) -> Iterator[Site]:
    """Start a site that exports every signal to a sink."""
    log = directory / "site.log"
    with otlp_sink() as sink:
        settings = {
            "SITE_LOG": str(log),
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_BLRP_SCHEDULE_DELAY": "50",
            "OTEL_METRICS_EXPORTER": "none",
            **environment,
        }
        with gunicorn("logs", directory, *arguments, **settings) as server:
            yield Site(server, log, sink)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with one worker, its root logger at DEBUG."""
    with logging_site(tmp_path_factory.mktemp("logs"), SITE_LEVEL="DEBUG") as site:
        yield site


@pytest.mark.parametrize("where", ["plain", "shop", "root"])
def test_ids_are_in_any_format_when_request_runs(site: Site, where: str) -> None:
    """Whatever logger, style and handler: the ids of the request's line."""
    _, line = site.server.ask(f"/says/?name=any-{where}")
    assert site.said(f"any-{where} {where}") == [
        (line["req_id"], line["trace_id"], line["span_id"])
    ]


def test_no_ids_when_no_request_runs(site: Site) -> None:
    """At import, in a thread of its own, after the request: the same format shows that there is none."""
    site.server.ask("/background/")
    assert site.said("loaded") == [NOBODY]
    assert site.said("of nobody") == [NOBODY]
    assert site.said("left behind") == [NOBODY]
    for text in ("loaded", "of nobody", "left behind"):
        assert REQUEST_ID not in site.exported(text).attributes


def test_records_are_exported_when_one_is_given_up_on(site: Site) -> None:
    """Of a view that was handed the context of a thread that is still at it, and of the next request."""
    site.server.ask("/gives-up/?name=given-up")
    site.server.ask("/says/?name=next")
    for text in ("given-up first", "given-up second", "given-up third", "next plain"):
        assert site.exported(text).body == text


def test_no_ids_but_a_line_when_app_is_preloaded(tmp_path: Path) -> None:
    """With `--preload` the app logs in the arbiter, in the same format."""
    with logging_site(tmp_path, "--preload") as site:
        _, line = site.server.ask("/says/?name=preloaded")
        assert site.said("loaded") == [NOBODY]
        assert site.said("preloaded plain")[0][0] == line["req_id"]
        assert site.exported("preloaded plain").trace_id == line["trace_id"]


def test_format_works_without_us_when_handler_has_filter(tmp_path: Path) -> None:
    """A management command has no request and no Gunicorn; `RequestIds` is all it needs."""
    program = """
import logging.config
logging.config.dictConfig({
    "version": 1,
    "filters": {"ids": {"()": "otel_canonical.RequestIds"}},
    "formatters": {"ids": {"format": "%(req_id)s %(trace_id)s %(span_id)s %(message)s"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "ids", "filters": ["ids"]}},
    "root": {"handlers": ["out"]},
})
logging.getLogger("any").warning("a command")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment(tmp_path, {}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "- - - a command\n"


def test_what_app_says_itself_stays(site: Site) -> None:
    """`extra` may use our names, and leaves as attributes; objects of Django's don't."""
    _, line = site.server.ask("/says-itself/")
    assert site.said("own") == [("mine", line["trace_id"], line["span_id"])]
    record = site.exported("own")
    assert (record.attributes["plan"], record.attributes["items"]) == ("pro", 3)
    assert record.attributes[REQUEST_ID] == "mine"
    assert "request" not in record.attributes


def test_ids_are_there_when_app_has_record_factory_of_its_own(tmp_path: Path) -> None:
    """A factory that calls no other takes nothing away."""
    with logging_site(tmp_path) as site:
        _, line = site.server.ask("/own-factory/")
        assert site.said("of its own kind")[0][0] == line["req_id"]


def test_record_is_in_its_trace_when_exported(site: Site) -> None:
    """Scope, severity, place and ids of a record, also of a logger that doesn't propagate."""
    _, line = site.server.ask("/says/?name=whole")
    record = site.exported("whole shop")
    assert (record.scope, record.severity) == ("shop.orders", "DEBUG")
    assert (record.trace_id, record.span_id) == (line["trace_id"], line["span_id"])
    assert record.attributes[REQUEST_ID] == line["req_id"]
    assert record.attributes["code.function.name"] == "says"
    assert record.attributes["code.file.path"] == str(PROGRAMS / "logs.py")
    assert record.attributes["code.line.number"] > 0
    assert site.exported("whole root").severity == "WARN"


def test_records_are_in_their_trace_when_body_is_streamed(site: Site) -> None:
    """The body is part of its request."""
    _, line = site.server.ask("/streams/")
    for n in range(3):
        assert site.exported(f"streamed {n}").trace_id == line["trace_id"]


def test_secrets_are_nowhere_when_app_logs_them(site: Site) -> None:
    """Message, exception, stack and extra are under the one policy on secrets."""
    site.server.ask("/secret/")
    assert site.exported("login failed with password=[redacted]").attributes["token"] == (
        "[redacted]"
    )
    record = site.exported("refused")
    assert record.attributes["exception.type"] == "ValueError"
    assert record.attributes["exception.message"] == "api_key=[redacted] is wrong"
    assert "in secret" in record.attributes["exception.stacktrace"]
    assert "password=hunter2" not in site.sink.text()
    assert "api_key=hunter2" not in record.attributes["exception.stacktrace"]


def test_django_logs_failure_in_its_trace(site: Site) -> None:
    """What Django itself says of a failed request is found with it."""
    _, line = site.server.ask("/fails/")
    record = site.exported("Internal Server Error: /fails/")
    assert (record.scope, record.severity) == ("django.request", "ERROR")
    assert record.trace_id == line["trace_id"]
    assert record.attributes["status_code"] == 500
    assert record.attributes["exception.type"] == "RuntimeError"


def test_record_is_exported_when_arguments_do_not_fit(site: Site) -> None:
    """The mistake is the app's, and `logging` says so; the record leaves with its unformatted text."""
    _, line = site.server.ask("/misfit/")
    record = site.exported("paid %s of %s")
    assert record.attributes[REQUEST_ID] == line["req_id"]
    assert "otel-canonical failed" not in site.server.stderr.read_text()


def test_exporter_is_not_exported(site: Site) -> None:
    """With the root logger at DEBUG the exporter's own connections are logged, and go no further."""
    site.server.ask("/says/?name=last")
    site.exported("last root")
    scopes = {log.scope for log in list(site.sink.logs)}
    assert not [
        name for name in scopes if name.startswith(("urllib3", "requests", "opentelemetry"))
    ]


def test_nothing_but_events_when_switched_off(tmp_path: Path) -> None:
    """The setting stops the export of records; the formats keep their ids."""
    with logging_site(tmp_path, OTEL_PYTHON_CANONICAL_APP_LOGS="false") as site:
        _, line = site.server.ask("/says/?name=kept")
        assert site.said("kept plain")[0][0] == line["req_id"]
    assert {log.event_name for log in site.sink.logs} == {"canonical.request"}


def test_each_record_is_exported_once_when_sdk_has_handler_too(tmp_path: Path) -> None:
    """If the SDK's own handler is asked for, it exports, with our ids on its records."""
    with logging_site(tmp_path, OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED="true") as site:
        _, line = site.server.ask("/says/?name=once")
        record = site.exported("once root")
        assert (record.attributes["req_id"], record.trace_id) == (line["req_id"], line["trace_id"])


GREENLETS = ("-k", "gevent")


@pytest.mark.soak
@pytest.mark.parametrize(
    "worker_class",
    some_of([("-k", "sync"), ("-k", "gthread", "--threads", "4"), GREENLETS], GREENLETS),
    ids=lambda arguments: arguments[1],
)
def test_no_record_is_lost_when_workers_come_and_go(
    worker_class: tuple[str, ...], tmp_path: Path
) -> None:
    """Over constant recycling, a reload and a stop every record arrives, with its request's ids."""
    if "gevent" in worker_class:
        pytest.importorskip("gevent", reason="pip install gevent")
    count = 60

    def ask(n: int) -> tuple[str, str]:
        _, line = site.server.ask(f"/says/?name=n{n}")
        return line["req_id"], line["trace_id"]

    with logging_site(
        tmp_path,
        *worker_class,
        *("--workers", "2", "--max-requests", "7", "--max-requests-jitter", "3"),
    ) as site:
        with ThreadPoolExecutor(4) as clients:
            first = list(clients.map(ask, range(count // 2)))
            os.kill(site.server.pid, signal.SIGHUP)
            second = list(clients.map(ask, range(count // 2, count)))
        # The last ones are still in the workers' queues when they are told to stop.
        os.kill(site.server.pid, signal.SIGTERM)
        site.server.process.wait(PATIENCE_S)
    expected = {
        f"n{n} {where}": ids
        for n, ids in enumerate(first + second)
        for where in ("plain", "shop", "root")
    }
    arrived = [log for log in site.sink.logs if log.body in expected]
    assert len(arrived) == len(expected) == 3 * count, site.server.report()
    assert {log.body: (log.attributes[REQUEST_ID], log.trace_id) for log in arrived} == expected
