"""Agents of Sentry, New Relic and Datadog, installed aside: a server sees them by PYTHONPATH."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from tests.support.peers.tools import REPOSITORY, built_once, run_or_give_up

_REQUIREMENTS = REPOSITORY / "tests" / "support" / "peers" / "beside" / "requirements.txt"


@cache
def agents() -> Path:
    """Return the directory with the packages; what they need and the tests have is not in it."""

    def build(directory: Path) -> None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        wanted = ["--target", "packages", "-r", _REQUIREMENTS.name]
        run_or_give_up([*command, *wanted], directory, f"`pip download -r {_REQUIREMENTS}`")

    return built_once("agents", [_REQUIREMENTS], build) / "packages"
