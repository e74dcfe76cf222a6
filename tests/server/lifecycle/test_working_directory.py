"""Nothing is imported from the working directory by a process of ours: a worker of another user may write there."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.support.otlp_sink import otlp_sink
from tests.support.raw_requests import send
from tests.support.servers import PROGRAMS, eventually, gunicorn

#: Says which process has imported it, and is then the module that it hides.
PLANTED = """
import os, sys
with open({marks!r}, "a") as file:
    print(os.getpid(), __name__, file=file)
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
here = os.path.realpath(os.path.dirname(__file__))
elsewhere = [place for place in sys.path if os.path.realpath(place or os.curdir) != here]
found = PathFinder.find_spec(__name__, elsewhere)
if found is None:
    raise ModuleNotFoundError(__name__)
sys.modules[__name__] = module_from_spec(found)
found.loader.exec_module(sys.modules[__name__])
"""
#: What the server itself has imported before its working directory becomes a place to import from.
ALREADY = {"importlib", "os", "sys", "encodings", "site", "sitecustomize"}


def plant(directory: Path, marks: Path) -> None:
    """Let a module of each name in the standard library lie in a directory, and one of ours."""
    for name in {*sys.stdlib_module_names, "otel_canonical", "requests"} - ALREADY:
        (directory / f"{name}.py").write_text(PLANTED.format(marks=str(marks)))


def importers(marks: Path) -> dict[int, list[str]]:
    """Return what each process has imported from there."""
    found: dict[int, list[str]] = {}
    if marks.exists():
        for line in marks.read_text().splitlines():
            pid, name = line.split()
            found.setdefault(int(pid), []).append(name)
    return found


@pytest.mark.parametrize("path", [":/nowhere", "."], ids=["empty-entry", "dot"])
def test_arbiter_and_reporter_import_nothing_from_there(path: str, tmp_path: Path) -> None:
    """Whatever PYTHONPATH adds; the reporter that exports a lost request is started after the planting."""
    site_directory, marks = tmp_path / "site", tmp_path / "marks"
    site_directory.mkdir()
    shutil.copy(PROGRAMS / "stuck.py", site_directory)
    with (
        otlp_sink() as sink,
        gunicorn(
            "stuck",
            tmp_path,
            cwd=site_directory,
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            OTEL_METRIC_EXPORT_INTERVAL="200",
            PYTHONPATH=path,
        ) as server,
    ):
        [first] = eventually(server.reporters, server.report)
        assert send(server, "/ok/")
        plant(site_directory, marks)
        os.kill(first, signal.SIGKILL)
        eventually(lambda: first not in server.children(), server.report)
        send(server, "/kills-itself/")
        assert sink.root_of(server.line_of("kills-itself"))
        [second] = eventually(server.reporters, server.report)
        assert second != first
        imported = importers(marks)
        assert second not in imported, imported
        assert server.pid not in imported, imported
