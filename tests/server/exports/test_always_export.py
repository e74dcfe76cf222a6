"""`ALWAYS_EXPORT`: requests exported although the sampler dropped them, and the sampling rate on each root."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest

from otel_canonical.otel.tail_sampling import MOST_SPANS
from tests.support.otlp_sink import SunkSpan, otlp_sink
from tests.support.servers import Line, eventually, gunicorn
from tests.support.soak import some_of
from tests.support.traced_site import Traced

CALLER_DROPPED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
CALLER_SAMPLED = "00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203331-01"
_numbers = itertools.count()


class Site(Traced):
    """A server and what it exports to."""

    def lines_of(self, request_id: str) -> list[Line]:
        """Return the lines of a request so far."""
        return [line for line in self.server.lines() if line["req_id"] == request_id]

    def lose(self, path: str) -> Line:
        """Send a request that is never answered properly; return the line that it ends in."""
        request_id = f"{path.strip('/')}-{next(_numbers)}"
        with contextlib.suppress(OSError, HTTPException):
            self.server.get(path, X_Request_ID=request_id)
        [line] = eventually(
            lambda: [line for line in self.lines_of(request_id) if line["event_type"] != "slow"],
            self.server.report,
        )
        return line

    def below(self, span: SunkSpan) -> list[str]:
        """Return the names of the spans below one, depth first, each after a dot per level."""
        names: list[str] = []
        for child in sorted(self.sink.children_of(span), key=lambda child: child.started_ns):
            names += [child.name, *(f".{name}" for name in self.below(child))]
        return names


@contextlib.contextmanager
def ruled(directory: Path, *arguments: str, **environment: str) -> Iterator[Site]:
    """Start a site whose sampler drops every request."""
    with otlp_sink() as sink:
        settings = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{sink.endpoint}/v1/traces",
            "OTEL_BSP_SCHEDULE_DELAY": "20",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0",
            **environment,
        }
        with gunicorn("rule", directory, *arguments, **settings) as server:
            yield Site(server, sink)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with the rule but for slow requests: on a busy machine all may be."""
    with ruled(
        tmp_path_factory.mktemp("ruled"),
        *("--timeout", "4", "--workers", "2"),
        OTEL_PYTHON_CANONICAL_ALWAYS_EXPORT="errors,timeouts,lost",
    ) as site:
        yield site


def test_request_is_exported_complete_when_it_fails(site: Site) -> None:
    """Root and all spans below it, under the ids of the line, which says so."""
    _, line = site.server.ask("/fails/")
    assert line["sampled"] == "true"
    root = site.sink.root_of(line)
    assert (root.span_id, root.parent_id, root.status) == (line["span_id"], "", "ERROR")
    assert site.below(root) == ["work", ".SELECT"]
    assert root.attributes["canonical.export_rule"] == "error"
    assert root.attributes["canonical.sample_rate"] == 1.0
    assert root.attributes["http.route"] == "fails/"


def test_request_is_exported_complete_when_it_is_slow(tmp_path: Path) -> None:
    """It is known while it runs, so the `slow` line says so, too."""
    with ruled(
        tmp_path,
        OTEL_PYTHON_CANONICAL_ALWAYS_EXPORT="all",
        OTEL_PYTHON_CANONICAL_SLOW_SECONDS="0.3",
    ) as site:
        site.server.get("/slow/", X_Request_ID="slow")
        slow, line = eventually(
            lambda: len(lines := site.lines_of("slow")) == 2 and lines, site.server.report
        )
        assert (slow["event_type"], line["event_type"]) == ("slow", "request")
        assert (slow["sampled"], line["sampled"]) == ("true", "true")
        root = site.sink.root_of(line)
        assert (root.status, root.attributes["canonical.export_rule"]) == ("UNSET", "slow")
        assert site.below(root) == ["work", ".SELECT"]


def test_others_stay_at_home(site: Site) -> None:
    """What went well, or was the client's own fault, is as unsampled as the sampler has said."""
    lines = [site.server.ask(path)[1] for path in ("/ok/", "/missing/", "/no-such-page/")]
    assert [line["sampled"] for line in lines] == ["false"] * 3
    assert lines[0]["db_queries"] == "1"
    _, failed = site.server.ask("/fails/")
    site.sink.root_of(failed)  # exported after they would have been
    traces = {line["trace_id"] for line in lines}
    assert not [span for span in site.sink.spans if span.trace_id in traces]


def test_exported_when_stream_breaks(site: Site) -> None:
    """A cut body is a failure, whatever status went before it."""
    line = site.lose("/breaks/")
    assert (line["resp_status"], line["sampled"]) == ("200", "true")
    assert site.below(site.sink.root_of(line)) == ["work", ".SELECT"]


def test_exported_below_caller_when_caller_did_not_sample(site: Site) -> None:
    """The rule says always: also in a trace whose caller has dropped it. Below the caller's span."""
    _, line = site.server.ask("/fails/", traceparent=CALLER_DROPPED)
    root = site.sink.root_of(line)
    assert (line["sampled"], line["trace_id"]) == ("true", CALLER_DROPPED.split("-")[1])
    assert root.parent_id == CALLER_DROPPED.split("-")[2]


def test_timeout_is_exported_with_what_it_had_done(site: Site) -> None:
    """What the request had ended before the abort, and what was open then."""
    line = site.lose("/hangs/")
    assert (line["event_type"], line["sampled"]) == ("timeout", "true")
    root = site.sink.root_of(line)
    eventually(
        lambda: site.below(root) == ["work", ".SELECT", "hanging"], lambda: str(site.below(root))
    )
    assert root.attributes["canonical.export_rule"] == "timeout"


def test_root_is_exported_when_request_is_lost(site: Site) -> None:
    """Of a worker that was killed only the root is left; its line says that it was exported."""
    line = site.lose("/dies/")
    assert (line["event_type"], line["sampled"]) == ("lost", "true")
    root = site.sink.root_of(line)
    assert (root.span_id, root.attributes["error.type"]) == (line["span_id"], "SIGKILL")
    assert root.attributes["canonical.export_rule"] == "lost"
    assert root.attributes["canonical.sample_rate"] == 1.0


def test_memory_is_bounded_when_request_makes_many_spans(site: Site) -> None:
    """The first thousand are kept, the root says how many are missing."""
    _, line = site.server.ask("/many/")
    root = site.sink.root_of(line)
    assert len(site.sink.children_of(root)) == MOST_SPANS
    assert root.attributes["canonical.dropped_spans"] == 500


def test_only_what_is_named_is_exported(tmp_path: Path) -> None:
    """A rule for lost requests exports no failures."""
    with ruled(tmp_path, OTEL_PYTHON_CANONICAL_ALWAYS_EXPORT="lost") as site:
        _, failed = site.server.ask("/fails/")
        lost = site.lose("/dies/")
        assert (failed["sampled"], lost["sampled"]) == ("false", "true")
        site.sink.root_of(lost)
    assert {span.trace_id for span in site.sink.spans} == {lost["trace_id"]}


def test_nothing_is_exported_without_rule(tmp_path: Path) -> None:
    """The sampler is obeyed to the letter, also for dead requests."""
    with ruled(tmp_path) as site:
        _, failed = site.server.ask("/fails/")
        lost = site.lose("/dies/")
        assert (failed["sampled"], lost["sampled"]) == ("false", "false")
    assert site.sink.spans == []


def test_nothing_is_recorded_without_exporter(tmp_path: Path) -> None:
    """A rule without an exporter is no error."""
    with ruled(
        tmp_path, OTEL_TRACES_EXPORTER="none", OTEL_PYTHON_CANONICAL_ALWAYS_EXPORT="all"
    ) as site:
        _, failed = site.server.ask("/fails/")
        assert failed["resp_status"] == "500"
        assert "ALWAYS_EXPORT names slow requests, but" in site.server.stderr.read_text()


#: By sampler, its ratio, the rate of requests without a caller's decision, and of those with one.
RATES: dict[str, tuple[str, float, float | None]] = {
    "always_on": ("", 1.0, 1.0),
    "parentbased_always_on": ("", 1.0, None),
    "traceidratio": ("0.99", 0.99, 0.99),
    "parentbased_traceidratio": ("0.99", 0.99, None),
}


@pytest.mark.soak
@pytest.mark.parametrize("sampler", some_of(RATES, "parentbased_always_on", "traceidratio"))
def test_root_says_at_which_rate_it_was_sampled(sampler: str, tmp_path: Path) -> None:
    """1 / rate is how many requests it stands for; a caller's own rate is not known, so not told."""
    ratio, rate, rate_when_called = RATES[sampler]
    with ruled(tmp_path, OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=ratio) as site:
        own = sampled_root(site)
        called = sampled_root(site, traceparent=CALLER_SAMPLED)
        lost = eventually(lambda: site.lose("/dies/"), site.server.report)
        if lost["sampled"] == "true":
            assert site.sink.root_of(lost).attributes["canonical.sample_rate"] == rate
    assert own.attributes["canonical.sample_rate"] == rate
    assert called.attributes.get("canonical.sample_rate") == rate_when_called
    assert "canonical.export_rule" not in own.attributes


def sampled_root(site: Site, **headers: str) -> SunkSpan:
    """Return the root of a request that was sampled; at a ratio of 0.99 some few aren't."""

    def probe() -> Line | None:
        _, line = site.server.ask("/ok/", **headers)
        return line if line["sampled"] == "true" else None

    return site.sink.root_of(eventually(probe, site.server.report))
