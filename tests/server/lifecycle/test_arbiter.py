"""Processes stay clean: no SDK, Django or thread of ours in the arbiter, none of our objects in garbage collections."""

from __future__ import annotations

import itertools
import json
import os
import signal
from pathlib import Path

import pytest

from tests.support.addresses import unused_address
from tests.support.operating import renew_workers
from tests.support.servers import (
    GUNICORN,
    INSTRUMENTED,
    PROGRAMS,
    eventually,
    gunicorn,
)
from tests.support.soak import some_of
from tests.support.ways_to_start import STAR_IMPORT


@pytest.mark.soak
@pytest.mark.parametrize(
    ("door", "exports"),
    some_of(
        itertools.product(["instrument", "hooks"], [False, True]),
        *(("instrument", True), ("hooks", False)),
    ),
)
def test_arbiter_stays_as_it_was(door: str, exports: bool, tmp_path: Path) -> None:
    """No thread of ours, no Django, no settings, no SDK and no exporter in the arbiter."""
    (tmp_path / "value").write_text("x")
    conf = tmp_path / "conf.py"
    conf.write_text(
        (PROGRAMS / "tells_on_arbiter.py").read_text() + (STAR_IMPORT if door == "hooks" else "")
    )
    collector = f"http://{unused_address()}"
    exporting = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector, "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    imported_by, told = tmp_path / "imported_by", tmp_path / "told"
    with gunicorn(
        "reloads",
        tmp_path,
        *("-c", str(conf)),
        command=GUNICORN if door == "hooks" else INSTRUMENTED,
        DJANGO_SETTINGS_MODULE="reloads",
        VALUE_FILE=str(tmp_path / "value"),
        IMPORTED_BY=str(imported_by),
        TOLD=str(told),
        **(exporting if exports else {}),
    ) as server:
        server.ask("/value/")
        renew_workers(server)
        server.ask("/value/")
        assert len(os.listdir(f"/proc/{server.pid}/task")) == 1
        os.kill(server.pid, signal.SIGTERM)
        eventually(lambda: server.process.poll() is not None, server.report)
        importers = {int(pid) for pid in imported_by.read_text().split()}
        assert importers == {int(line["g_pid"]) for line in server.lines()}
        assert {line.get("sampled") for line in server.lines()} == {"true" if exports else None}
    arbiter = json.loads(told.read_text())
    assert arbiter["pid"] == server.pid
    assert server.pid not in importers
    assert arbiter["threads"] == ["MainThread"]
    assert not arbiter["provider"]
    unwanted = (
        "django",
        "reloads",
        "opentelemetry.exporter",
        "opentelemetry.sdk",
        "opentelemetry.instrumentation.django",
    )
    assert not [
        module
        for module in arbiter["modules"]
        if module in unwanted or module.startswith(tuple(f"{name}." for name in unwanted))
    ]


#: What the garbage collector would look at, by their modules' own dictionaries.
WHAT_IS_WALKED = """
import gc, json, os, sys
from pathlib import Path

def post_worker_init(worker):
    walked = {id(found) for found in gc.get_objects()}
    names = ("every_kind", "django.http.response", "otel_canonical.worker.watchdog", "gunicorn.config")
    found = {name: id(vars(sys.modules[name])) in walked for name in names}
    Path(os.environ["FOUND"]).write_text(json.dumps(found))
"""


def test_collector_walks_the_app_and_not_us(tmp_path: Path) -> None:
    """A full collection looks at no more with us than without: its pause is the app's own."""
    (tmp_path / "conf.py").write_text(WHAT_IS_WALKED)
    found = tmp_path / "found.json"
    with gunicorn(
        "every_kind",
        tmp_path,
        *("-c", str(tmp_path / "conf.py")),
        FOUND=str(found),
        SITE_DIRECTORY=str(tmp_path),
    ) as server:
        server.get("/ok/")
    walked = json.loads(found.read_text())
    assert (walked["every_kind"], walked["django.http.response"]) == (True, True)
    assert (walked["otel_canonical.worker.watchdog"], walked["gunicorn.config"]) == (False, False)
