"""The response header `Server-Timing`: sums for browsers, when an operator asks for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.browser import Browser, browser
from tests.support.servers import Server, eventually, gunicorn
from tests.support.time_sums import sums_of

CALLER = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
ASKED = {"OTEL_PYTHON_CANONICAL_SERVER_TIMING": "true"}
CLASSES = {
    "sync": (),
    "gevent": ("-k", "gevent"),
    "pywsgi": ("-k", "gevent_pywsgi"),
}


def metrics_of(header: str) -> dict[str, str]:
    """Return the metrics of the header: their duration or description by name."""
    return dict(part.split(";", 1) for part in header.split(", "))


@pytest.mark.parametrize("worker_class", list(CLASSES))
def test_header_has_sums_when_asked_for(worker_class: str, tmp_path: Path) -> None:
    """Milliseconds so far, and the trace where there is one; no name, no SQL."""
    with gunicorn("eats_time", tmp_path, *CLASSES[worker_class], **ASKED) as server:
        answer, line = server.ask("/everywhere/", **CALLER)
    metrics = metrics_of(dict(answer.headers)["Server-Timing"])
    assert set(metrics) == {"total", "db", "cache", "tpl", "view", "traceparent"}
    assert metrics["traceparent"].startswith(f'desc="00-{line["trace_id"]}-{line["span_id"]}-')
    spent = {
        name: float(text.removeprefix("dur=")) for name, text in metrics.items() if "dur=" in text
    }
    # What the view's sleeps were; the body comes behind the head.
    least = {"total": 320, "db": 60, "cache": 40, "tpl": 70, "view": 60}
    assert all(spent[name] >= milliseconds for name, milliseconds in least.items()), spent
    assert spent["total"] <= 1000 * float(line["resp_time"])
    # Where requests share a thread, its states are those of none.
    assert ("resp_blocked" in line) == (worker_class == "sync")
    assert sums_of(line).are_right(), line


def test_header_is_absent_unless_asked_for(tmp_path: Path) -> None:
    """Times tell strangers about a site."""
    with gunicorn("eats_time", tmp_path) as server:
        assert "Server-Timing" not in dict(server.get("/ok/", **CALLER).headers)


def test_header_comes_from_asgi_too(tmp_path: Path) -> None:
    """With the total so far, and the application's own headers."""
    arguments = ("-k", "uvicorn_worker.UvicornWorker")
    site = {"SITE_DIRECTORY": str(tmp_path)}
    with gunicorn("any_class:asgi", tmp_path, *arguments, **site, **ASKED) as server:
        answer = server.get("/plain/?t=x&n=1")
    found = metrics_of(answer.headers["server-timing"])
    assert {"total", "view", "db"} <= set(found)


def test_browser_reads_it(tmp_path: Path) -> None:
    """As its network panel and scripts of a page do."""
    with browser(tmp_path) as chromium, gunicorn("eats_time", tmp_path, **ASKED) as server:
        spent = read_by(chromium, server)
    assert set(spent) >= {"total", "db", "cache", "tpl", "view"}
    assert spent["tpl"] >= 70
    assert spent["total"] >= 320


def read_by(chromium: Browser, server: Server) -> dict[str, float]:
    """Open a page and return what the browser knows of its times."""
    for domain in ("Page", "Network", "Runtime", "Log"):
        chromium.ask(f"{domain}.enable")
    host, port = server.address
    chromium.ask("Page.navigate", url=f"http://{host}:{port}/everywhere/")
    timing = 'performance.getEntriesByType("navigation")[0].serverTiming'
    read = f"Object.fromEntries({timing}.map(entry => [entry.name, entry.duration]))"
    eventually(
        lambda: chromium.evaluate('document.body?.textContent || ""').count("slept") == 2,
        lambda: str(chromium.events),
    )
    found = chromium.evaluate(f"JSON.stringify({read})")
    print(found)
    spent: dict[str, float] = json.loads(found)
    return spent
