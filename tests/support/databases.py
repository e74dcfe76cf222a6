"""The databases that `programs/databases.py` may be served on, started when a test first asks for one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.support.environments import DRIVER_INSTRUMENTATIONS, HTTP_INSTRUMENTATIONS, without
from tests.support.mariadb import mariadb
from tests.support.otlp_sink import otlp_sink
from tests.support.postgres import postgres
from tests.support.servers import PROGRAMS, Server, gunicorn
from tests.support.soak import IS_SOAK
from tests.support.traced_site import Traced

#: Each of Django's ways to a database that is tested.
DRIVERS = ("sqlite3", "psycopg", "psycopg-pool", "psycopg2", "mysqlclient", "pymysql")

#: One for each database where what is tested hardly depends on the driver; all of them in `make soak`.
SOME_DRIVERS = DRIVERS if IS_SOAK else ("sqlite3", "psycopg", "mysqlclient")

#: The site's modules with marked lines.
SOURCES = (PROGRAMS / "databases.py", PROGRAMS / "databases_n1.py")


class Databases:
    """A PostgreSQL and a MariaDB, each started once and stopped in the end."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._settings: dict[str, dict[str, str]] = {}

    def settings(self, driver: str) -> dict[str, str]:
        """Return the variables that put the site on a driver's database."""
        return {"SITE_DRIVER": driver, **self._server(driver)}

    def mysql_over_tcp(self) -> dict[str, str]:
        """Return the variables that put the site on MariaDB's port."""
        self._server("mysqlclient")
        return self._mysql.settings(over_tcp=True)

    def _server(self, driver: str) -> dict[str, str]:
        kind = "mysql" if "mysql" in driver else "psycopg" if "psycopg" in driver else ""
        if kind and kind not in self._settings:
            if kind == "mysql":
                self._mysql = self._stack.enter_context(mariadb())
                self._settings[kind] = self._mysql.settings()
            else:
                self._settings[kind] = {"SITE_POSTGRES": self._stack.enter_context(postgres())}
        return self._settings.get(kind, {})


@contextlib.contextmanager
def databases() -> Iterator[Databases]:
    """Yield the databases, none of them started yet."""
    with contextlib.ExitStack() as stack:
        yield Databases(stack)


@contextlib.contextmanager
def database_site(
    directory: Path, settings: dict[str, str], *arguments: str, **environment: str
) -> Iterator[Server]:
    """Serve `programs/databases.py`, its tables made, with no instrumentation but its own driver's."""
    own = settings["SITE_DRIVER"].removesuffix("-pool")
    others = [name for name in DRIVER_INSTRUMENTATIONS.split(",") if name != own]
    defaults = {
        "SITE_DIRECTORY": str(directory),
        **without(",".join([HTTP_INSTRUMENTATIONS, *others])),
    }
    # A disk on which other servers write their tables may hold a commit up for half a minute.
    patient = ("--timeout", "55")
    with gunicorn(
        *("databases", directory, *patient, *arguments), **{**defaults, **settings, **environment}
    ) as server:
        assert server.get("/migrates/").status == 200, server.report()
        yield server


@contextlib.contextmanager
def traced_databases(
    directory: Path, settings: dict[str, str], *arguments: str, **environment: str
) -> Iterator[Traced]:
    """Serve `programs/databases.py`, spans and log events exported at once; when left, all are."""
    with otlp_sink() as sink:
        exporting = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            # The pool's are exported by a process of its own, which costs as much as a worker to start.
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_BSP_SCHEDULE_DELAY": "20",
            "OTEL_BLRP_SCHEDULE_DELAY": "20",
        }
        with database_site(
            directory, {**settings, **exporting}, *arguments, **environment
        ) as server:
            yield Traced(server, sink)


def at(mark: str, function: str) -> str:
    """Return the location of the site's line that ends in `# MARK mark`, in a function."""
    found = [
        f"{path.name}:{number}:{function}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if line.endswith(f"# MARK {mark}")
    ]
    assert len(found) == 1, f"{len(found)} lines are marked {mark}"
    return found[0]
