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
#: Each takes up to an eighth of the CPU time in which a server starts.
DRIVER_INSTRUMENTATIONS = "mysqlclient,psycopg,psycopg2,pymysql"
HTTP_INSTRUMENTATIONS = "requests,urllib3"
#: The programs that ask a database server without Django, and those that ask another HTTP server.
PROGRAMS_WITH_DRIVERS = {"databases", "probed"}
PROGRAMS_WITH_HTTP = {
    *("calls", "cancels", "databases", "every_kind", "every_kind_asgi", "inner", "live")
}


def without(instrumentations: str) -> dict[str, str]:
    """Return the variable that starts a server without some, and with all others but the large ones."""
    disabled = f"{LARGE_INSTRUMENTATIONS},{instrumentations}"
    return {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": disabled}


#: Starts a server with those of the drivers as well, whatever its program is.
WITH_DRIVERS = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": LARGE_INSTRUMENTATIONS}


def disabled_instrumentations(app: str) -> str:
    """Return the instrumentations that a server of `app` starts without, unless its test says more."""
    program = app.partition(":")[0]
    disabled = [LARGE_INSTRUMENTATIONS]
    if program not in PROGRAMS_WITH_DRIVERS:
        disabled.append(DRIVER_INSTRUMENTATIONS)
    if program not in PROGRAMS_WITH_HTTP:
        disabled.append(HTTP_INSTRUMENTATIONS)
    return ",".join(disabled)


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
