"""Each recipe in docs/RECIPES.md is started, with only its host replaced by a local one."""

from __future__ import annotations

import contextlib
import re
import shlex
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.peers.rotel import rotel
from tests.support.peers.tools import REPOSITORY
from tests.support.servers import eventually, gunicorn

RECIPE = re.compile(r"<!-- recipe: (.+?) -->\n```sh\n(.*?)```", re.DOTALL)
RECIPES = dict(RECIPE.findall((REPOSITORY / "docs" / "RECIPES.md").read_text()))
SIGNALS = ("traces", "metrics", "logs")
HOST = re.compile(r"https?://[^/\s]+")

#: Where each must send, and with which headers, as the makers of these systems want it.
SENT = {
    "collector": {f"/v1/{signal}": {} for signal in SIGNALS},
    "Seq": {
        f"/ingest/otlp/v1/{signal}": {"X-Seq-ApiKey": "abcd1234"} for signal in ("traces", "logs")
    },
    "Loki": {"/otlp/v1/logs": {"X-Scope-OrgID": "tenant1"}},
    "Honeycomb": {
        "/v1/traces": {"X-Honeycomb-Team": "hcaik_0123456789"},
        "/v1/metrics": {
            "X-Honeycomb-Team": "hcaik_0123456789",
            "X-Honeycomb-Dataset": "shop_metrics",
        },
    },
    "Grafana Cloud": {
        f"/otlp/v1/{signal}": {"Authorization": "Basic MTIzNDU2OmdsY190b2tlbg=="}
        for signal in SIGNALS
    },
}


@dataclass
class Post:
    """A host that takes whatever is posted, and remembers where and with which headers."""

    url: str = ""
    received: dict[str, dict[str, str]] = field(default_factory=dict)
    types: set[str] = field(default_factory=set)


@contextlib.contextmanager
def post() -> Iterator[Post]:
    """Take posts on a free port of 127.0.0.1 until left."""
    kept = Post()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            kept.received[self.path] = dict(self.headers)
            kept.types.add(self.headers["Content-Type"])
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    kept.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="post")
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def variables(recipe: str, host: str) -> dict[str, str]:
    """Return what a recipe sets, as a shell would, with another host."""
    found = {}
    for line in RECIPES[recipe].splitlines():
        command, assignment = shlex.split(line)
        name, _, value = assignment.partition("=")
        assert command == "export"
        assert name.startswith("OTEL_")
        found[name] = HOST.sub(host, value) if name.endswith("ENDPOINT") else value
    return found


def test_every_recipe_is_tried() -> None:
    """None is in the document that isn't here."""
    assert set(RECIPES) == {*SENT, "collector by gRPC"}


@pytest.mark.parametrize("recipe", SENT)
def test_recipe_sends_to_right_paths_with_right_headers(recipe: str, tmp_path: Path) -> None:
    """The signals that it speaks of arrive where that system takes them, authenticated, no others."""
    with post() as host:
        with gunicorn(
            "every_kind",
            tmp_path,
            SITE_DIRECTORY=str(tmp_path),
            **variables(recipe, host.url),
            OTEL_METRIC_EXPORT_INTERVAL="50",
        ) as site:
            site.ask("/ok/")
            eventually(lambda: set(host.received) >= set(SENT[recipe]), lambda: str(host.received))
        assert set(host.received) == set(SENT[recipe])
    for path, headers in SENT[recipe].items():
        sent = {name.lower(): value for name, value in host.received[path].items()}
        assert {name: sent.get(name.lower()) for name in headers} == headers
    assert host.types == {"application/x-protobuf"}


def test_recipe_of_grpc_reaches_a_collector(tmp_path: Path) -> None:
    """Spans arrive over gRPC, under the service's name."""
    with rotel(tmp_path) as peer:
        settings = variables("collector by gRPC", peer.grpc_endpoint)
        with gunicorn("every_kind", tmp_path, SITE_DIRECTORY=str(tmp_path), **settings) as site:
            _, line = site.ask("/ok/")
        root = peer.received.root_of(line)
    assert root.resource["service.name"] == "shop"
