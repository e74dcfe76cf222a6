"""Lines as the reading commands meet them: real ones, hostile ones, and the commands run on them."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from otel_canonical.event import logfmt
from otel_canonical.event.fields import FieldValue
from tests.support.peers.tools import require_tool

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


@contextlib.contextmanager
def terminal(columns: int, rows: int, *command: str, **env: str) -> Iterator[Callable[[], str]]:
    """Run a command in a real terminal (tmux) and give what the screen shows at the moment."""
    name = f"otel-canonical-test-{os.getpid()}-{columns}"
    tmux = [require_tool("tmux", "apt-get install tmux"), "-L", name, "-f", os.devnull]
    # The command starts when the window has its size: tmux sets that a moment after the shell's start.
    # `cat` keeps the last screen.
    has_size = f'[ "$(stty size | cut -d" " -f2)" = {columns} ]'
    waits = f"until {has_size}; do sleep 0.05; done; {shlex.join(command)}; exec cat"
    size = ["-x", str(columns), "-y", str(rows)]
    variables = {**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color", **env}
    for variable in ("NO_COLOR", "COLUMNS", "LINES"):
        variables.pop(variable, None)
    subprocess.run(
        [*tmux, "new-session", "-d", *size, "sh", "-c", waits], env=variables, check=True
    )
    try:

        def shown() -> str:
            capture = [*tmux, "capture-pane", "-p", "-e"]
            return subprocess.run(capture, capture_output=True, text=True, check=True).stdout

        yield shown
    finally:
        subprocess.run([*tmux, "kill-server"], check=True)


def without_colours(screen: str) -> list[str]:
    """Return the rows of a screen as plain text."""
    return [row.rstrip() for row in re.sub("\x1b\\[[0-9;]*m", "", screen).splitlines()]
