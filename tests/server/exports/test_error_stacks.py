"""The whole stack of an exception: on the root span and on the log event, redacted, never on the line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.otlp_sink import OtlpSink, SunkLog, otlp_sink
from tests.support.servers import Line, Server, eventually, gunicorn
from tests.support.traced_site import traced_site

STACK = "exception.stacktrace"


@dataclass
class Site:
    """A server and what it exports to."""

    server: Server
    sink: OtlpSink

    def event(self, path: str, kind: str = "request") -> tuple[Line, SunkLog]:
        """Send a request; return the first line of this kind, and its log event."""
        trace_id = self.ask(path)["trace_id"]

        def probe() -> list[SunkLog]:
            return [
                log
                for log in list(self.sink.logs)
                if log.trace_id == trace_id and log.event_name == f"canonical.{kind}"
            ]

        event = eventually(probe, self.server.report)[0]
        line, *_ = [
            line
            for line in self.server.lines()
            if line["trace_id"] == trace_id and line["event_type"] == kind
        ]
        return line, event

    def ask(self, path: str) -> Line:
        """Send a request and return the line that it ended in."""
        before = len(self.server.lines())
        self.server.get(path)
        ended = eventually(
            lambda: [
                line for line in self.server.lines()[before:] if line["event_type"] == "request"
            ],
            self.server.report,
        )
        return ended[0]


@pytest.fixture(scope="module", params=["both", "logs"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A site that exports spans and logs, or logs only."""
    with traced_site(
        tmp_path_factory.mktemp("stacks"),
        OTEL_TRACES_EXPORTER="otlp" if request.param == "both" else "none",
        OTEL_METRICS_EXPORTER="none",
        OTEL_PYTHON_CANONICAL_APP_LOGS="false",
        OTEL_BLRP_SCHEDULE_DELAY="20",
    ) as (server, sink):
        yield Site(server, sink)


@pytest.mark.parametrize(
    ("path", "frames", "last"),
    [
        ("/raises/", ["in raises", "in raise_deep"], "Error: Oh noes!"),
        (
            "/raises-caused/",
            ["in raise_deep", "The above exception", "in inner"],
            "wrapped",
        ),
        ("/bad-template/", ["in bad_template", "in fails"], "in a template"),
        ("/wsgi-raises/", ["in with_middleware", "in raise_deep"], "around Django"),
    ],
)
def test_stack_is_on_span_and_event_when_request_raises(
    site: Site, path: str, frames: list[str], last: str
) -> None:
    """As Python prints it, with its causes; the line has its two ends."""
    line, event = site.event(path)
    stack = event.attributes[STACK]
    positions = [stack.find(frame) for frame in frames]
    assert -1 not in positions, stack
    assert positions == sorted(positions), stack
    assert last in stack.rstrip().splitlines()[-1]
    assert not [key for key in line if "stack" in key]
    if line["sampled"] == "true":
        assert site.sink.root_of(line).attributes[STACK] == stack


def test_stack_is_redacted_when_exception_names_secret(site: Site) -> None:
    """The last line of a stack is the message, and its frames show the source."""
    _, event = site.event("/raises-secret/")
    assert "in raises_secret" in event.attributes[STACK]
    assert "hunter2" not in site.sink.text()


def test_event_fits_a_store_when_message_and_stack_are_large(site: Site) -> None:
    """A message of 100 kB from 800 frames: at most 64 KiB leave, which Loki takes; the cuts can be seen."""
    line, event = site.event("/raises-large/")
    size = sum(len(name) + len(str(value).encode()) for name, value in event.attributes.items())
    assert size <= 65536
    assert "...[+" in event.attributes["exception.message"]
    assert "left out" in event.attributes[STACK]
    assert event.attributes["http.route"] == line["req_route"] == "raises-large/"
    assert event.attributes["http.response.status_code"] == 500


def test_stack_is_on_event_when_app_survives_failure(site: Site) -> None:
    """A partial failure says where it came from."""
    _, event = site.event("/partial/", "partial_failure")
    assert "in will_throw" in event.attributes[STACK]


@pytest.mark.parametrize("path", ["/ok/", "/missing/", "/no-such-page/"])
def test_no_stack_when_nothing_failed(site: Site, path: str) -> None:
    """An answer of the client's own making isn't a failure."""
    _, event = site.event(path)
    assert STACK not in event.attributes


def test_no_stack_when_message_is_excluded(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Excluding the message excludes the stack, because that ends in the message."""
    directory = tmp_path_factory.mktemp("excluded")
    with (
        otlp_sink() as sink,
        gunicorn(
            "every_kind",
            directory,
            SITE_DIRECTORY=str(directory),
            OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=f"{sink.endpoint}/v1/logs",
            OTEL_PYTHON_CANONICAL_EXCLUDED_FIELDS="exc_msg",
            OTEL_PYTHON_CANONICAL_APP_LOGS="false",
        ) as server,
    ):
        site = Site(server, sink)
        _, event = site.event("/raises/")
        assert event.attributes["exception.type"] == "Error"
        assert STACK not in event.attributes
        assert "exception.message" not in event.attributes
