"""lnav knows the lines as logfmt by itself: their timestamp stands in front."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.support.peers.tools import require_tool
from tests.support.servers import gunicorn

PATHS = ("/ok/", "/everywhere/", "/sleeps/?s=0.3", "/complains/", "/nowhere/")


def test_lines_are_recognised_without_a_format_of_ours(tmp_path: Path) -> None:
    """All of them, of each kind, in a fresh home."""
    lnav = require_tool("lnav", "apt-get install lnav")
    with gunicorn("eats_time", tmp_path, OTEL_PYTHON_CANONICAL_SLOW_SECONDS="0.2") as server:
        server.ask("/ok/")  # the first request imports, and may be slow
        before = len(server.lines())
        for path in PATHS:
            server.get(path)
        # Two of them are slow.
        lines = server.wait_for_lines(before + len(PATHS) + 2)
    file = tmp_path / "lines.log"
    text = server.stdout.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in text if line.startswith("ts=")))
    count = ";SELECT log_format, count(*) AS lines FROM all_logs GROUP BY log_format"
    done = subprocess.run(
        [lnav, "-n", "-c", count, "-c", ":write-json-to -", str(file)],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout) == [{"log_format": "logfmt_log", "lines": len(lines)}]
