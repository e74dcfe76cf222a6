"""A real PostgreSQL for tests: a throw-away cluster that listens on a unix socket only."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.peers.tools import give_up
from tests.support.servers import eventually

#: Where distributions keep what isn't on the PATH.
BINARIES = "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"
START_PATIENCE_S = "60"


def find_binary(name: str) -> str:
    """Return the path of one of PostgreSQL's programs, or give up with what installs it."""
    found = shutil.which(name)
    if found is None:
        roots = [directory for pattern in BINARIES for directory in Path("/").glob(pattern[1:])]
        candidates = [str(root / name) for root in sorted(roots) if (root / name).exists()]
        found = candidates[-1] if candidates else None
    if found is None:
        give_up(f"PostgreSQL's `{name}` is not installed", "apt-get install postgresql")
    return found


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Start a cluster that trusts everybody and return the directory of its socket.

    PostgreSQL refuses to run as root: root runs it as `postgres`, or as `nobody`.
    """
    initdb, pg_ctl = find_binary("initdb"), find_binary("pg_ctl")
    # Not pytest's directory: the path of a unix socket ends at 107 bytes, and root's is private.
    directory = Path(tempfile.mkdtemp(prefix="otc-pg-"))
    data = directory / "data"
    options = (
        f"-c listen_addresses='' -c unix_socket_directories={directory} -c fsync=off "
        "-c shared_buffers=16MB -c max_connections=20"
    )
    try:
        as_user = _as_other_user(directory)
        _run(
            [*as_user, initdb, "-D", str(data), "-U", "postgres", "--auth=trust", "--no-sync"],
            directory,
        )
        start = [pg_ctl, "-D", str(data), "-l", str(directory / "log"), "-o", options]
        _run([*as_user, *start, "-w", "-t", START_PATIENCE_S, "start"], directory)
        try:
            yield str(directory)
        finally:
            _run([*as_user, pg_ctl, "-D", str(data), "-m", "immediate", "stop"], directory)
    finally:
        eventually(lambda: _is_removed(directory), lambda: f"{directory} can't be removed")


def _is_removed(directory: Path) -> bool:
    # pg_ctl returns while the server is still removing files of its own beside us.
    shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


def _as_other_user(directory: Path) -> list[str]:
    if os.geteuid() != 0:
        return []
    import pwd

    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(directory, user.pw_uid, user.pw_gid)
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        give_up(
            "`setpriv` is not installed, and PostgreSQL won't run as root",
            "apt-get install util-linux",
        )
    return [setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]


def _run(command: list[str], directory: Path) -> None:
    # Output goes to a file: a server that pg_ctl leaves behind would hold a pipe open.
    said = directory / "said"
    with said.open("ab") as output:
        status = subprocess.run(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        ).returncode
    log = directory / "log"
    assert status == 0, (
        f"{command} failed:\n{said.read_text()}\n{log.read_text() if log.exists() else ''}"
    )
