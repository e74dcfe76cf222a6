"""Makes the pictures of the documents: the report in a browser, lines in a terminal.

Run `python -m docs.pictures`; it needs what the tests need, and Chromium.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.text import Text

from benchmarks.make_lines import lines
from tests.support.browser import Browser, browser
from tests.support.reading import COMMAND, SAMPLE

PICTURES = Path(__file__).parent / "pictures"
LINES = 20_000
TAIL_COLUMNS = 100
#: File, width, height, theme.
SHOTS = (
    ("report.png", 1280, 1750, "light"),
    ("report-dark.png", 1280, 1750, "dark"),
    ("report-phone.png", 400, 1750, "light"),
    ("report-phone-dark.png", 400, 1750, "dark"),
)
COLOURS = 255


def main() -> None:
    """Write all of them."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        source, page = directory / "lines.log", directory / "report.html"
        source.write_text("".join(lines(LINES)))
        subprocess.run([COMMAND, "report", "--html", page, source], check=True)
        with browser(directory) as chromium:
            for file, width, height, theme in SHOTS:
                chromium.open(page, width, theme)
                shoot(chromium, file, height)
            tail = directory / "tail.svg"
            tail.write_text(tail_picture())
            chromium.open(tail, 1240, "light")
            shoot(chromium, "tail.png", 720)


def tail_picture() -> str:
    """Return the sample's lines in a terminal, as SVG."""
    command = [COMMAND, "tail", "--color", "always", "--status", "2xx,5xx", str(SAMPLE)]
    shown = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"COLUMNS": str(TAIL_COLUMNS)}
    ).stdout
    console = Console(record=True, width=TAIL_COLUMNS, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(Text.from_ansi(shown))
    return console.export_svg(title="otel-canonical tail -f lines.log")


def shoot(chromium: Browser, file: str, height: int) -> None:
    """Write what is shown, in few colours: these are drawings."""
    path = PICTURES / file
    chromium.screenshot(path, height)
    Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
