"""SIGHUP applies changed settings, and does not load a package that was upgraded on disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import otel_canonical
from tests.support.operating import renew_workers
from tests.support.servers import (
    GUNICORN,
    INSTRUMENTED,
    gunicorn,
)
from tests.support.ways_to_start import STAR_IMPORT

PACKAGE = Path(otel_canonical.__file__).parent


@pytest.mark.parametrize("door", ["instrument", "hooks"])
def test_changed_settings_are_seen_after_hup(door: str, tmp_path: Path) -> None:
    """SIGHUP reloads Django's settings and ours: nothing of either was kept in the arbiter."""
    value, conf = tmp_path / "value", tmp_path / "conf.py"
    imports = STAR_IMPORT if door == "hooks" else ""
    value.write_text("before")
    conf.write_text(f"{imports}raw_env = ['OTEL_PYTHON_CANONICAL_EXCLUDED_FIELDS=req_client']\n")
    with gunicorn(
        "reloads",
        tmp_path,
        *("-c", str(conf)),
        command=GUNICORN if door == "hooks" else INSTRUMENTED,
        VALUE_FILE=str(value),
        IMPORTED_BY=str(tmp_path / "imported_by"),
    ) as server:
        first, before = server.ask("/value/")
        value.write_text("after")
        conf.write_text(f"{imports}raw_env = ['OTEL_PYTHON_CANONICAL_EXCLUDED_FIELDS=req_host']\n")
        renew_workers(server)
        second, after = server.ask("/value/")
        server.wait_for_lines(2)
    assert (first.body, second.body) == (b"before", b"after")
    assert ("req_client" in before, "req_host" in before) == (False, True)
    assert ("req_client" in after, "req_host" in after) == (True, False)
    assert before["g_pid"] != after["g_pid"]


def test_workers_are_of_the_version_that_was_started(tmp_path: Path) -> None:
    """An upgrade of the package on disk and SIGHUP: nothing of the new version gets into a worker."""
    package = tmp_path / "otel_canonical"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    with gunicorn("plain_wsgi", tmp_path, PYTHONPATH=str(tmp_path)) as server:
        server.ask("/ok/")
        for module in package.glob("*.py"):
            module.write_text("raise ImportError('this is of another version')\n")
        renew_workers(server)
        server.ask("/ok/")
        server.wait_for_lines(2)
        assert "otel-canonical failed" not in server.stderr.read_text()
