"""Programs that the tools run, without what would let the source tree in."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PATIENCE_S = 900


class Failed(Exception):
    """Something that was run did not end well; the message is what it said."""


def run(command: list[str | Path], directory: Path) -> str:
    """Return what a command writes to stdout."""
    done = subprocess.run(
        command,
        cwd=directory,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    if done.returncode:
        words = " ".join(map(str, command))
        raise Failed(f"`{words}` ended with {done.returncode}\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


def run_and_report(command: list[str | Path], directory: Path) -> bool:
    """Run a command whose output is for people; return whether it ended well."""
    done = subprocess.run(command, cwd=directory, env=clean_environment(), timeout=PATIENCE_S)
    return done.returncode == 0


def clean_environment() -> dict[str, str]:
    """Return our environment without what would let the source tree in."""
    unwanted = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in unwanted}
