"""Python packages of others, installed aside: they are seen by PYTHONPATH, and by no other test."""

from __future__ import annotations

import hashlib
import sys
from functools import cache
from pathlib import Path

from tests.support.peers.tools import REPOSITORY, built_once, run_or_give_up


@cache
def installed_aside(name: str) -> Path:
    """Return a directory with the packages of `tests/support/peers/NAME/requirements.txt`.

    What they need and the tests have themselves is not in it.
    """
    requirements = REPOSITORY / "tests" / "support" / "peers" / name / "requirements.txt"

    def build(directory: Path) -> None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        wanted = ["--target", "packages", "-r", requirements.name]
        run_or_give_up([*command, *wanted], directory, f"`pip download -r {requirements}`")

    # Their scripts name the interpreter, and compiled ones are of its version.
    interpreter = hashlib.sha256(f"{sys.prefix} {sys.version}".encode()).hexdigest()[:6]
    return built_once(f"{name}-{interpreter}", [requirements], build) / "packages"
