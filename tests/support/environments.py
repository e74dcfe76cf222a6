"""The environments in which tests start servers and other programs."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

INSTRUMENT = [str(Path(sys.executable).parent / "opentelemetry-instrument")]

#: Installed for the tests of outgoing calls only: each imports a large library into every worker.
LARGE_INSTRUMENTATIONS = (
    "aiobotocore,aiohttp-client,botocore,celery,confluent_kafka,grpc_aio_client,grpc_aio_server,"
    "grpc_client,grpc_server,httpx,httpx2,redis"
)
#: Together they take a fifth of the CPU time in which a server starts.
CLIENT_INSTRUMENTATIONS = "mysqlclient,psycopg,psycopg2,pymysql,requests,urllib3"
#: The programs that ask another server or a database server.
PROGRAMS_WITH_CLIENTS = {
    *("calls", "cancels", "databases", "every_kind", "every_kind_asgi", "inner", "live", "probed"),
}


def disabled_instrumentations(app: str) -> str:
    """Return the instrumentations that a server of `app` starts without, unless its test says more."""
    if app.partition(":")[0] in PROGRAMS_WITH_CLIENTS:
        return LARGE_INSTRUMENTATIONS
    return f"{LARGE_INSTRUMENTATIONS},{CLIENT_INSTRUMENTATIONS}"


def clean_environment(home: Path, more: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with nothing in it but what a shell needs, strictness, and `more`."""
    base = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(home),
        "OTEL_CANONICAL_STRICT": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": LARGE_INSTRUMENTATIONS,
    }
    kept = {name: os.environ[name] for name in ("COVERAGE_PROCESS_START",) if name in os.environ}
    return {**base, **kept, **more}


#: Who sets one of them sees `opentelemetry-instrument` itself at work: a choice that isn't installed is said.
CHOICES_OF_DISTRO = {"OTEL_PYTHON_DISTRO", "OTEL_PYTHON_CONFIGURATOR"}


def instrumented(environment: Mapping[str, str], cwd: Path) -> dict[str, str]:
    """Return the environment in which `opentelemetry-instrument` becomes the program it is given.

    It adds the directory of its `sitecustomize` to the path, and we choose the distro.

    Args:
        environment: the one that `opentelemetry-instrument` would be started in; it chooses no distro.
        cwd: where.
    """
    return {**environment, **_changes(environment.get("PYTHONPATH"), cwd)}


@functools.cache
def _changes(python_path: str | None, cwd: Path) -> dict[str, str]:
    """Ask `opentelemetry-instrument`, once for each path and directory, what it sets."""
    given = {} if python_path is None else {"PYTHONPATH": python_path}
    printed = subprocess.check_output(
        [*INSTRUMENT, "/usr/bin/env", "--null"],
        env={"PATH": os.environ["PATH"], **given},
        cwd=cwd,
        text=True,
    )
    after = dict(variable.split("=", 1) for variable in printed.split("\0") if variable)
    return {name: after[name] for name in ("PYTHONPATH", *CHOICES_OF_DISTRO)}
