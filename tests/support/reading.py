"""Lines as the reading commands meet them: real ones, hostile ones, and the commands run on them."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from otel_canonical.event import logfmt
from otel_canonical.event.fields import FieldValue

REPOSITORY = Path(__file__).parent.parent.parent
SAMPLE = REPOSITORY / "benchmarks" / "lines" / "sample.log"
#: As a shell finds it: beside the Python that runs the tests.
COMMAND = str(Path(sys.executable).parent / "otel-canonical")
PATIENCE_S = 120.0

#: What texts are made of here: everything that some reader trips over.
HOSTILE_PIECES = (
    *(
        "a",
        "é",
        "…",
        "\U0001f600",
        " ",
        "=",
        '"',
        "\\",
        "\\\\",
        '\\"',
        "\n",
        "\r",
        "\t",
        "\x00",
        "\x1b[31m",
    ),
    *(
        "\x85",
        "\u2028",
        "\u202e",
        "\ufeff",
        "\ud800",
        "\udc00",
        "ts=1 event_type=request ",
        "</script>",
    ),
    *(
        "<b>",
        "'",
        "{",
        "}",
        ",",
        ":",
        '":"',
        "$x$",
        "%",
        "\\u0041",
        "\\ud800",
        "null",
        "1e999",
        "'; DROP",
    ),
)


def hostile_text(rng: random.Random) -> str:
    """Return a text of a few such pieces."""
    return "".join(rng.choices(HOSTILE_PIECES, k=rng.randrange(6)))


def head(number: int) -> dict[str, FieldValue]:
    """Return what every line begins with."""
    return {"ts": f"2026-11-26T10:00:{number % 60:02d}.000Z", "event_type": "request"}


def as_loaded(text: str) -> str:
    """Return a text as UTF-8 can hold it: the halves of a character together, or U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def write_lines(path: Path, lines: Iterable[dict[str, FieldValue]]) -> Path:
    """Write events as logfmt and return the file."""
    text = "".join(logfmt.encode(line.items()) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")
    return path


def run(*arguments: str | Path, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[str]:
    """Run the console script as a person would, its output in a pipe."""
    done = subprocess.run(
        [COMMAND, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        timeout=PATIENCE_S,
        env={**os.environ, **env},
        check=False,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )
