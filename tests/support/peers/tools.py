"""Finds the outside tools that tests need, and keeps what they build in a cache."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

REPOSITORY = Path(__file__).parents[3]
BUILD_PATIENCE_S = 300.0

# No lock file, because it names a registry; nothing is run; what npm has in its cache will do.
NPM_OPTIONS = ["--no-package-lock", "--ignore-scripts", "--prefer-offline", "--no-audit"]


def give_up(reason: str, hint: str) -> NoReturn:
    """Skip the test with the command that would let it run; under `CI=true` fail instead."""
    message = f"{reason}; to run this test: {hint}"
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def require_tool(name: str, hint: str) -> str:
    """Return the path of a program, or give up with the command that would install it."""
    found = shutil.which(name)
    if found is None:
        give_up(f"`{name}` is not installed", hint)
    return found


def cache_directory() -> Path:
    """Return where built peers are kept between runs."""
    return Path(os.environ.get("OTEL_CANONICAL_TEST_CACHE") or REPOSITORY / ".cache" / "peers")


def run_or_give_up(
    command: Sequence[str], directory: Path, hint: str, patience_s: float = BUILD_PATIENCE_S
) -> None:
    """Run a build step, or give up with what it said."""
    try:
        subprocess.run(
            command,
            cwd=directory,
            check=True,
            capture_output=True,
            text=True,
            timeout=patience_s,
        )
    except subprocess.CalledProcessError as error:
        give_up(f"`{' '.join(command)}` failed: {(error.stderr or error.stdout).strip()}", hint)
    except subprocess.TimeoutExpired:
        give_up(f"`{' '.join(command)}` took longer than {patience_s:.0f} s", hint)


def built_once(name: str, sources: Sequence[Path], build: Callable[[Path], None]) -> Path:
    """Return a directory with the sources on which `build` ran, once for each state of them.

    It is built aside and moved into place whole, so that a run that was interrupted never leaves half
    of it. Of processes that want it at the same time one builds; the others wait for that.
    """
    contents = b"\0".join(
        [source.name.encode() + b"\0" + source.read_bytes() for source in sources]
    )
    directory = cache_directory() / f"{name}-{hashlib.sha256(contents).hexdigest()[:12]}"
    if directory.is_dir():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _alone(directory.with_name(f".{directory.name}.lock")):
        if directory.is_dir():  # built while this process waited
            return directory
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{name}-") as unfinished:
            workplace = Path(unfinished) / "built"
            workplace.mkdir()
            for source in sources:
                shutil.copy(source, workplace)
            build(workplace)
            workplace.rename(directory)
    return directory


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until no other process holds the lock, and hold it; the kernel lets go of a dead one's."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(
                file, fcntl.LOCK_UN
            )  # closing would not do: a forked child may have it open


def go_program(name: str, here: str, program: str) -> str:
    """Return the path of the Go program whose sources are `here`, below the repository."""
    go = require_tool("go", "install Go 1.21 or newer, for example `apt-get install golang-go`")
    sources = [REPOSITORY / here / source for source in ("go.mod", "go.sum", "main.go")]

    def build(directory: Path) -> None:
        command = [go, "build", "-buildvcs=false", "-o", program, "."]
        run_or_give_up(command, directory, hint=f"`cd {here} && go mod download`")

    return str(built_once(name, sources, build) / program)


def node_program(name: str, here: str) -> list[str]:
    """Return the command that runs the `reader.js` that is `here`, with the packages it needs."""
    node = require_tool("node", "install Node.js, for example `apt-get install nodejs`")
    npm = require_tool("npm", "install npm, for example `apt-get install npm`")
    sources = [REPOSITORY / here / source for source in ("package.json", "reader.js")]

    def build(directory: Path) -> None:
        command = [npm, "install", *NPM_OPTIONS]
        run_or_give_up(command, directory, hint=f"`cd {here} && npm install --no-package-lock`")

    return [node, str(built_once(name, sources, build) / "reader.js")]
