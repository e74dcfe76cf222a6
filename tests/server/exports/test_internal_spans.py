"""Spans below the root: template renders, cache calls, outgoing HTTP, each under its parent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.neighbour import Neighbour
from tests.support.otlp_sink import SunkSpan, otlp_sink
from tests.support.servers import gunicorn
from tests.support.traced_site import Traced

Tree = list[tuple[str, "Tree"]]


class Site(Traced):
    """A server and what it exports to."""

    def tree(self, span: SunkSpan) -> Tree:
        """Return what is below a span: names, and what is below those, in the order of their start."""
        children = sorted(self.sink.children_of(span), key=lambda child: child.started_ns)
        return [(child.name, self.tree(child)) for child in children]


@contextlib.contextmanager
def exporting(directory: Path, *arguments: str, **environment: str) -> Iterator[Site]:
    """Start a site that exports its spans."""
    with otlp_sink() as sink:
        settings = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{sink.endpoint}/v1/traces",
            "OTEL_BSP_SCHEDULE_DELAY": "20",
            **environment,
        }
        with gunicorn("inner", directory, *arguments, **settings) as server:
            yield Site(server, sink)


@pytest.fixture(scope="module", params=["sync", "preload"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A site that exports every span, its app loaded in the worker or before the fork."""
    arguments = ["--preload"] if request.param == "preload" else []
    with exporting(tmp_path_factory.mktemp("inner"), *arguments) as site:
        yield site


def test_render_is_span_when_exported(site: Site) -> None:
    """One span for each top-level render, with what happens in it below, counted as before."""
    line, root = site.ask("/renders/")
    assert site.tree(root) == [
        ("template.render", []),
        ("template.render page.html", [("SELECT", [])]),
    ]
    page = site.sink.children_of(root)[-1]
    assert (page.kind, page.scope) == ("INTERNAL", "otel_canonical")
    assert page.attributes["canonical.template.name"] == "page.html"
    assert (line["tpl_renders"], line["db_queries"]) == ("2", "1")
    assert not [key for key in line if key.endswith("_calls")]


def test_render_fails_without_its_message_when_template_raises(site: Site) -> None:
    """The span of a render that raised is an error, and tells no secret."""
    _, root = site.ask("/renders-badly/")
    [render] = site.sink.children_of(root)
    assert (render.status, render.attributes["error.type"]) == ("ERROR", "ValueError")
    assert (render.events, render.status_message) == ((), "")
    assert "hunter2" not in site.sink.text()


def test_cache_calls_are_spans_when_exported(site: Site) -> None:
    """Look-ups and writes, one for each call of the app's, without their keys."""
    line, root = site.ask("/caches/")
    assert site.tree(root) == [
        ("cache.set", []),
        ("cache.get", []),
        ("cache.get_many", []),
        ("cache.incr", []),
        ("cache.get", []),
        ("SELECT", []),
        ("cache.add", []),
        ("cache.set_many", []),
        ("cache.delete_many", []),
    ]
    spans = sorted(site.sink.children_of(root), key=lambda span: span.started_ns)
    assert {span.kind for span in spans if span.name != "SELECT"} == {"INTERNAL"}
    assert dict(spans[2].attributes) == {
        "canonical.cache.alias": "default",
        "canonical.cache.hits": 1,
        "canonical.cache.misses": 1,
    }
    assert spans[7].attributes["canonical.cache.alias"] == "other"
    # What the line counts are look-ups, as without spans.
    assert (line["cache_hits"], line["cache_misses"], line["db_queries"]) == ("2", "2", "1")
    assert not [key for key in line if key.endswith("_calls")]


def test_cache_span_is_below_span_of_app(site: Site) -> None:
    """The parent is whatever span is current."""
    _, root = site.ask("/own-span/")
    assert site.tree(root) == [("pricing", [("cache.get", [])])]


def test_cache_spans_are_below_root_when_view_is_async(site: Site) -> None:
    """Django's caches do async calls in a thread; the trace goes with them."""
    _, root = site.ask("/async-caches/")
    assert site.tree(root) == [("cache.set", []), ("cache.get", [])]


def test_spans_are_below_root_when_body_is_streamed(site: Site, neighbour: Neighbour) -> None:
    """Renders, caches, queries and calls of two HTTP clients while the body is sent: no orphans."""
    line, root = site.ask(f"/streams/?url={neighbour.url}/")
    assert site.tree(root) == [
        ("template.render page.html", [("SELECT", [])]),
        ("cache.get", []),
        ("GET", []),
        ("GET", []),
    ]
    calls = [span for span in site.sink.children_of(root) if span.kind == "CLIENT"]
    assert [span.scope.rpartition(".")[2] for span in calls] == ["requests", "urllib3"]
    assert line["http_calls"] == "2"
    assert all(span.ended_ns <= root.ended_ns for span in calls)


def test_calls_are_counted_once_when_clients_are_stacked(site: Site, neighbour: Neighbour) -> None:
    """requests calls by way of urllib3; with both instrumented it is one call all the same."""
    line, _ = site.ask(f"/calls/?url={neighbour.url}/")
    assert line["http_calls"] == "2"


def test_no_spans_when_switched_off(tmp_path: Path) -> None:
    """The spans can be switched off; the counts stay."""
    with exporting(
        tmp_path,
        OTEL_PYTHON_CANONICAL_TEMPLATE_SPANS="false",
        OTEL_PYTHON_CANONICAL_CACHE_SPANS="false",
    ) as site:
        line, root = site.ask("/renders/")
        assert (site.tree(root), line["tpl_renders"]) == ([("SELECT", [])], "2")
        line, root = site.ask("/caches/")
        assert (site.tree(root), line["cache_hits"]) == ([("SELECT", [])], "2")


def test_no_spans_when_request_is_not_exported(tmp_path: Path) -> None:
    """The others are counted only."""
    with exporting(tmp_path, OTEL_TRACES_SAMPLER="always_off") as site:
        _, line = site.server.ask("/caches/")
        assert (line["cache_hits"], line["sampled"]) == ("2", "false")
        _, line = site.server.ask("/renders/")
        assert line["tpl_renders"] == "2"
    assert site.sink.spans == []
