"""Views that give up on work in a thread: asgiref hands the view that thread's context, in the middle of it.

Nothing that was true of the thread alone may be true of the view, or of who comes after it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.neighbour import Neighbour
from tests.support.otlp_sink import otlp_sink
from tests.support.servers import gunicorn
from tests.support.soak import some_of
from tests.support.traced_site import Traced

WORKERS = {"wsgi": ("cancels:application",), "asgi": ("cancels:asgi", "-k", "asgi")}
SAMPLERS = {"exported": "always_on", "unexported": "parentbased_always_off"}
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module", params=[f"{w} {s}" for w in WORKERS for s in SAMPLERS])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Traced]:
    """One thread that serves, or one loop, with each request's spans exported or none's."""
    worker, sampled = request.param.split()
    app, *arguments = WORKERS[worker]
    directory = tmp_path_factory.mktemp("cancels")
    with otlp_sink() as sink:
        settings = {
            "SITE_DIRECTORY": str(directory),
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "20",
            "OTEL_TRACES_SAMPLER": SAMPLERS[sampled],
        }
        with gunicorn(app, directory, *arguments, **settings) as server:
            server.name = request.param
            yield Traced(server, sink)


def test_calls_are_counted_when_query_is_given_up_on(site: Traced, neighbour: Neighbour) -> None:
    """While it still runs and after it, and by the next request of the thread; each is told its trace."""
    caller = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-0{site.server.name.count(' exp')}"}
    _, line = site.server.ask(f"/gives-up-on-query/?url={neighbour.url}/", **caller)
    _, after = site.server.ask(f"/calls/?url={neighbour.url}/", **caller)
    assert (line["http_calls"], line["db_queries"]) == ("2", "1")
    assert (after["http_calls"], "db_queries" in after) == ("1", False)
    traces = [called and called.split("-")[1] for called in neighbour.callers]
    assert traces == [TRACE_ID] * 3


@pytest.mark.soak
@pytest.mark.parametrize(
    ("worker_class", "sampled"),
    some_of(
        itertools.product(["gthread", "gevent"], SAMPLERS),
        *zip(["gthread", "gevent"], SAMPLERS, strict=True),
    ),
)
def test_call_is_counted_beside_query_of_its_request(
    worker_class: str, sampled: str, tmp_path: Path, neighbour: Neighbour
) -> None:
    """In another thread, or in a greenlet: where the app is loaded before threads become greenlets, too."""
    if worker_class == "gevent":
        pytest.importorskip("gevent", reason="pip install gevent")
    arguments = ("-k", worker_class, "--preload")
    with otlp_sink() as sink:
        settings = {
            "SITE_DIRECTORY": str(tmp_path),
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_TRACES_SAMPLER": SAMPLERS[sampled],
        }
        with gunicorn("cancels:application", tmp_path, *arguments, **settings) as server:
            _, line = server.ask(f"/calls-beside-query/?url={neighbour.url}/")
    assert (line["http_calls"], line["db_queries"]) == ("1", "1")


def test_look_ups_are_counted_when_one_is_given_up_on(site: Traced) -> None:
    """While it is still made and after it, and by the next request of the thread."""
    _, line = site.server.ask("/gives-up-on-look-up/")
    _, after = site.server.ask("/looks-up/")
    assert (line["cache_hits"], line["cache_misses"]) == ("1", "3")
    assert (after["cache_hits"], after["cache_misses"]) == ("1", "1")


def test_look_ups_are_counted_when_value_to_set_is_given_up_on(site: Traced) -> None:
    """What looks the same key up later isn't `get_or_set` that reads back what it has set."""
    _, line = site.server.ask("/gives-up-on-get-or-set/")
    _, after = site.server.ask("/looks-up/")
    assert (line.get("cache_hits"), line["cache_misses"]) == ("1", "1")
    assert (after.get("cache_hits"), after["cache_misses"]) == ("1", "1")


def test_renders_are_counted_when_one_is_given_up_on(site: Traced) -> None:
    """While it still runs and after it, and by the next request of the thread."""
    _, line = site.server.ask("/gives-up-on-render/")
    _, after = site.server.ask("/renders/")
    assert (line["tpl_renders"], after["tpl_renders"]) == ("3", "1")


def test_renders_are_counted_each_when_threads_render_side_by_side(site: Traced) -> None:
    """Neither is part of the other; in an exported request each has its span."""
    _, line = site.server.ask("/renders-side-by-side/")
    assert line["tpl_renders"] == "2"
    if line.get("sampled") == "true":
        spans = site.sink.children_of(site.sink.root_of(line))
        assert [span.name for span in spans] == ["template.render page.html"] * 2
