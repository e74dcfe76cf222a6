"""docs/BESIDE.md: agents of others run beside us, and get what they get alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.documents import marked, start_line, start_project
from tests.support.environments import INSTRUMENT
from tests.support.peers.packages import installed_aside
from tests.support.servers import GUNICORN, eventually, gunicorn

#: What the documents' project has beside Django's own: what raises, and what tells of modules.
URLS = """
import sys
from django.http import HttpResponse

def raises(request):
    raise ValueError("raised")

def modules(request):
    return HttpResponse(" ".join(sys.modules))

urlpatterns += [path("raises/", raises), path("modules/", modules)]
"""
SETTINGS = """
import os
if os.environ.get("SENTRY_DSN"):
    import sentry_sdk
    sentry_sdk.init(os.environ["SENTRY_DSN"])
"""


#: What Datadog's agent says of itself; the others read no answer.
ANSWER = b'{"version": "7.60.0", "endpoints": ["/v0.4/traces", "/v0.5/traces"]}'


@pytest.fixture(scope="module", name="site")
def site_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh project with these views."""
    directory = tmp_path_factory.mktemp("beside")
    start_project(directory)
    for name, text in (("urls.py", URLS), ("settings.py", SETTINGS)):
        file = directory / "mysite" / name
        file.write_text(file.read_text() + text)
    return directory


@pytest.fixture(name="intake")
def backend() -> Iterator[tuple[str, list[str]]]:
    """An address that takes whatever is sent, and the paths that were asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            paths.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(ANSWER)))
            self.end_headers()
            self.wfile.write(ANSWER)

        def do_PUT(self) -> None:
            self.do_POST()

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="intake")
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", paths
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def programs(command: list[str]) -> list[str]:
    """Return a start line's words with the paths of what is installed here and aside."""
    here = {"opentelemetry-instrument": INSTRUMENT[0], "gunicorn": GUNICORN[0]}
    return [
        here.get(word, str(installed_aside("agents") / "bin" / word))
        if word in here or (installed_aside("agents") / "bin" / word).exists()
        else word
        for word in command
    ]


@pytest.mark.parametrize(
    ("mark", "settings"),
    [
        ("sentry", {"SENTRY_DSN": "http://key@{intake}/1"}),
        (
            "newrelic",
            {
                "NEW_RELIC_DEVELOPER_MODE": "true",
                "NEW_RELIC_LICENSE_KEY": "0" * 40,
                "NEW_RELIC_APP_NAME": "shop",
            },
        ),
        (
            "ddtrace",
            {
                "DD_TRACE_AGENT_URL": "http://{intake}",
                "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
            },
        ),
    ],
)
def test_agent_and_lines_both_get_their_own(
    mark: str,
    settings: dict[str, str],
    site: Path,
    intake: tuple[str, list[str]],
    tmp_path: Path,
) -> None:
    """As documented: the line has the exception, and the agent its report."""
    address, paths = intake
    variables, command, arguments, application = start_line(marked("docs/BESIDE.md", mark))
    assert set(variables) <= set(settings)
    with gunicorn(
        application,
        tmp_path,
        *arguments,
        command=programs(command),
        cwd=site,
        PYTHONPATH=str(installed_aside("agents")),
        **{name: value.format(intake=address) for name, value in settings.items()},
    ) as server:
        answer, line = server.ask("/raises/")
        if mark == "newrelic":
            # Without an account it sends nothing, with or without us.
            modules = server.ask("/modules/")[0].body.split()
            assert {b"newrelic.core.agent", b"newrelic.hooks.framework_django"} <= set(modules)
        else:
            wanted = {"sentry": "/api/1/envelope/", "ddtrace": "/traces"}[mark]
            eventually(lambda: any(path.endswith(wanted) for path in paths), lambda: str(paths))
    assert answer.status == 500
    assert (line["exc_type"], line["exc_msg"]) == ("ValueError", "raised")
    assert line["exc_cause_loc"].startswith("mysite/urls.py:")
    assert line["resp_status"] == "500"
