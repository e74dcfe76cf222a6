"""`otel-canonical set`: switches for all workers of a running pool, through its scoreboard.

The only command that writes. A restart forgets what was switched.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import struct
import sys
import time
from pathlib import Path

from otel_canonical.pool import layout
from otel_canonical.pool.switches import LOG_PREFIX, SETTINGS, value_of
from otel_canonical.reading.live import pages
from otel_canonical.reading.live.pages import FoundPool, Page
from otel_canonical.reading.problems import NOT_ALLOWED, CommandFailed

SUMMARY = (
    "switch settings and log levels of a running pool: slow_seconds=2 log:shop=DEBUG --for 10m"
)

_UNITS = {"s": 1, "m": 60, "h": 3600, "": 1}
LOCK_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="[PID] NAME=VALUE",
        help="slow_seconds=2, explain_seconds=1, query_string=true, log:LOGGER=LEVEL; NAME= takes one back; none: "
        "show what is switched",
    )
    parser.add_argument("--pid-file", type=Path, metavar="FILE", help="Gunicorn's --pid file")
    parser.add_argument("--bind", metavar="ADDRESS", help="an address that the pool listens on")
    parser.add_argument(
        "--for", dest="how_long", metavar="TIME", help="take it back after 30s, 10m, 2h"
    )
    parser.add_argument("--json", action="store_true", help="write JSON, see docs/LIVE.md")


def run(options: argparse.Namespace) -> int:
    """Change what is switched, and show it."""
    words = list(options.words)
    options.pid = int(words.pop(0)) if words and words[0].isdecimal() else None
    changes = _changes(words)
    until_ns = None
    if options.how_long:
        until_ns = time.monotonic_ns() + round(_seconds(options.how_long) * 1e9)
    pool = pages.one(options)
    if changes:
        for page, path in zip(pool.pages, pool.paths, strict=True):
            _write(pool, page, path, changes, until_ns)
    switches = pool.pages[-1].switches()
    now_ns = time.monotonic_ns()
    shown = {
        name: {"value": text, "seconds_left": None if until is None else (until - now_ns) / 1e9}
        for name, (text, until) in switches.items()
    }
    if options.json:
        sys.stdout.write(json.dumps({"pid": pool.pid, "switches": shown}) + "\n")
        return 0
    for name, switch in shown.items():
        left = switch["seconds_left"]
        end = f" for {left:.0f} s more" if isinstance(left, float) else ""
        sys.stdout.write(f"{name}={switch['value']}{end}" + "\n")
    if not shown:
        sys.stdout.write("nothing is switched" + "\n")
    return 0


def _changes(words: list[str]) -> dict[str, str]:
    changes: dict[str, str] = {}
    for word in words:
        name, found, text = word.partition("=")
        if not found:
            raise CommandFailed(f"{word!r} is not NAME=VALUE")
        try:
            if text or (name not in SETTINGS and not name.startswith(LOG_PREFIX)):
                value_of(name, text)
        except KeyError:
            known = ", ".join([*SETTINGS, f"{LOG_PREFIX}LOGGER"])
            raise CommandFailed(f"{name!r} can't be switched; what can: {known}") from None
        except ValueError as error:
            raise CommandFailed(f"{word!r}: {text!r} is not {error}") from None
        changes[name] = text
    return changes


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if found is None:
        raise CommandFailed(f"--for {text!r} is not a time such as 30s, 10m or 2h")
    return float(found[1]) * _UNITS[found[2]]


def _write(
    pool: FoundPool, page: Page, path: Path, changes: dict[str, str], until_ns: int | None
) -> None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise CommandFailed(f"pool {pool.pid} may not be changed: {error}", NOT_ALLOWED) from error
    try:
        _lock(fd)
        switches = page.switches()
        for name, text in changes.items():
            if text:
                switches[name] = (text, until_ns)
            else:
                switches.pop(name, None)
        content = json.dumps(switches, separators=(",", ":")).encode()
        try:
            framed = layout.framed(content, layout.SWITCHES_SIZE)
        except ValueError as error:
            raise CommandFailed(f"too much is switched: {error}") from error
        following = page.head_word(layout.SWITCHES_GENERATION) + 1
        at = page.layout.switches_at + (following & 1) * layout.SWITCHES_SIZE
        os.pwrite(fd, framed, at)
        generation_at = layout.SWITCHES_GENERATION * layout.WORD
        os.pwrite(fd, struct.pack("=q", following), generation_at)
    finally:
        os.close(fd)


def _lock(fd: int) -> None:
    """Keep other `set`s out until the descriptor is closed."""
    deadline = time.monotonic() + LOCK_S
    while not _is_locked(fd):
        if time.monotonic() > deadline:
            raise CommandFailed("another `set` holds the pool's switches")
        time.sleep(0.01)


def _is_locked(fd: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
