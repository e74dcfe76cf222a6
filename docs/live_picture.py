"""Makes the picture of `otel-canonical top` in docs/LIVE.md, of a real pool under load.

Run `python -m docs.live_picture`; it needs what the tests need.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from otel_canonical.reading.live import pages
from otel_canonical.reading.live.pools import read_pool
from otel_canonical.reading.screen import STYLES
from otel_canonical.reading.top import History, rows
from tests.support.live import held, ps
from tests.support.load import under_load
from tests.support.servers import Server, eventually, gunicorn

PICTURE = Path(__file__).parent / "pictures" / "top.svg"
COLUMNS, ROWS = 110, 26
LOOKS = 20


def main() -> None:
    """Write it."""
    PICTURE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        gate = directory / "gate"
        arguments = ("-k", "gthread", "--threads", "4", "--name", "shop")
        environment = {"SITE_DIRECTORY": name}
        with gunicorn("live", directory, *arguments, workers=3, **environment) as site:
            paths = [
                f"/sleeps/report/?for={gate}",
                f"/queries/?for={gate}",
                f"/renders/?for={gate}",
            ]
            with held(site, *paths), under_load(site, ("/ok/", "/spins/?s=0.05")):
                open_requests_of(site, len(paths))
                history = History()
                choice = argparse.Namespace(pid=site.pid, pid_file=None, bind=None)
                for _ in range(LOOKS):
                    pool = read_pool(pages.one(choice))
                    history.add(pool)
                    time.sleep(1)  # as `top` does
                pool = read_pool(pages.one(choice))
                history.add(pool)
                gate.touch()
            PICTURE.write_text(drawn([*rows(pool, history, COLUMNS, ROWS)]))


def open_requests_of(site: Server, least: int) -> None:
    """Wait until the requests that stay are open."""

    eventually(lambda: len(ps(site)["requests"]) >= least, lambda: "no requests")


def drawn(shown: list[list[tuple[str, str]]]) -> str:
    """Return a screen as SVG."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    for row in shown:
        text = Text.assemble(*[(text, STYLES[style]) for text, style in row])
        text.truncate(COLUMNS)
        console.print(text, no_wrap=True, crop=True, overflow="ellipsis", highlight=False)
    return console.export_svg(title="otel-canonical top")


if __name__ == "__main__":
    main()
