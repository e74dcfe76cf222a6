"""`otel-canonical top` in a real terminal."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live import COMMAND, held, open_requests
from tests.support.servers import eventually, gunicorn

TMUX = shutil.which("tmux")


def tmux(socket: Path, *arguments: str) -> str:
    """Run a command of tmux's on a server of our own."""
    assert TMUX is not None
    command = [TMUX, "-S", str(socket), "-f", "/dev/null", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[Path]:
    """Where a tmux listens that is gone afterwards."""
    if TMUX is None:
        pytest.skip("tmux is missing: apt-get install tmux")
    path = tmp_path / "tmux"
    yield path
    subprocess.run([TMUX, "-S", str(path), "kill-server"], capture_output=True, check=False)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
def test_screen_fits_the_terminal_and_q_quits(
    width: int, height: int, socket: Path, tmp_path: Path
) -> None:
    """Head, history, requests by age, workers; no row is longer than the terminal."""
    gate = tmp_path / "gate"
    arguments = ("-k", "gthread", "--threads", "4")
    with (
        gunicorn("live", tmp_path, *arguments, SITE_DIRECTORY=str(tmp_path)) as site,
        held(site, f"/sleeps/one/?for={gate}", f"/queries/?for={gate}"),
    ):
        open_requests(site, 2)
        size = ("-x", str(width), "-y", str(height))
        command = f"{COMMAND[0]} top {site.pid}; echo left with $?; exec cat"
        tmux(socket, "new-session", "-d", *size, f"LC_ALL=C.UTF-8 {command}")

        def screen() -> str:
            return tmux(socket, "capture-pane", "-p")

        eventually(
            lambda: all(
                text in screen() for text in ("GET /sleeps/one/", "GET /queries/", "q quits")
            ),
            screen,
        )
        rows = screen().splitlines()
        assert len(rows) <= height
        assert all(len(row) <= width for row in rows)
        assert any(row.startswith("live  pid") for row in rows)
        assert any(row.startswith("busy ") for row in rows)
        assert any(row.startswith("backlog ") for row in rows)
        requests = [row for row in rows if " GET /" in row]
        assert len(requests) == 2
        assert any(row.startswith("WORKER") for row in rows)
        tmux(socket, "send-keys", "q")
        eventually(lambda: "left with 0" in screen(), screen)
        gate.touch()
