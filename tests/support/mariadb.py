"""A MariaDB for tests: a server of its own, on a unix socket and a port, gone when left."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.peers.tools import give_up
from tests.support.servers import eventually

#: Debian keeps the server off an ordinary user's PATH.
BINARIES = "/usr/sbin"

DATABASE = "site"


@dataclass(frozen=True)
class MariaDb:
    """A running server; `root` needs no password."""

    socket: str
    port: int

    def settings(self, *, over_tcp: bool = False) -> dict[str, str]:
        """Return what tells `programs/databases.py` where it is."""
        if over_tcp:
            return {"SITE_MYSQL_HOST": "127.0.0.1", "SITE_MYSQL_PORT": str(self.port)}
        return {"SITE_MYSQL_HOST": self.socket}


def find_binary(name: str) -> str:
    """Return the path of one of MariaDB's programs."""
    found = shutil.which(name, path=f"{os.environ['PATH']}{os.pathsep}{BINARIES}")
    if found is None:
        give_up(f"MariaDB's `{name}` is not installed", "apt-get install mariadb-server")
    return found


@contextlib.contextmanager
def mariadb() -> Iterator[MariaDb]:
    """Start a server with an empty database `site` and yield where it is."""
    install, server = find_binary("mariadb-install-db"), find_binary("mariadbd")
    # Not pytest's directory: the path of a unix socket ends at 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="otc-my-"))
    user = pwd.getpwuid(os.geteuid()).pw_name
    data, log = directory / "data", directory / "log"
    # A server that starts removes temporary tables from its directory, also those of others.
    environment = {**os.environ, "TMPDIR": str(directory)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("ab") as output:
        subprocess.run(
            [
                *(install, "--no-defaults", f"--datadir={data}", f"--user={user}"),
                *("--auth-root-authentication-method=normal", "--skip-test-db"),
            ],
            check=True,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        address = MariaDb(str(directory / "socket"), port)
        process = subprocess.Popen(
            [
                *(server, "--no-defaults", f"--datadir={data}", f"--user={user}"),
                *(f"--socket={address.socket}", f"--port={port}", "--bind-address=127.0.0.1"),
                *(f"--pid-file={directory / 'pid'}", "--innodb-buffer-pool-size=16M"),
                *("--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0", "--skip-log-bin"),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    try:
        eventually(lambda: _has_database(address), lambda: log.read_text(errors="replace"))
        yield address
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _has_database(address: MariaDb) -> bool:
    sql = (
        f"CREATE DATABASE IF NOT EXISTS {DATABASE};"
        # Over TCP `root` may come from this host, too.
        "GRANT ALL ON *.* TO root@'127.0.0.1' IDENTIFIED BY ''"
    )
    client = [find_binary("mariadb"), "--no-defaults", f"--socket={address.socket}", "--user=root"]
    return subprocess.run([*client, "-e", sql], capture_output=True).returncode == 0
