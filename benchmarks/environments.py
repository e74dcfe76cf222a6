"""The virtual environments of the peers: built once with pip, kept, rebuilt when they must be."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CACHE_VARIABLE = "OTEL_CANONICAL_BENCHMARK_CACHE"
PATIENCE_S = 900

HOST = ("Django==5.2.*", "gunicorn>=23")
PEERS = {
    "bare": (),
    "ours": (),
    "ours-sqlite3": ("opentelemetry-instrumentation-sqlite3",),
    "encoders": ("logfmter", "structlog"),
    "ancestor": ("gunicorn-django-canonical-logs",),
    "django-structlog": ("django-structlog",),
    "plain-otel": (
        "opentelemetry-distro",
        "opentelemetry-exporter-otlp-proto-http",
        "opentelemetry-instrumentation-django",
        "opentelemetry-instrumentation-sqlite3",
    ),
    "logfire": ("logfire[django,sqlite3]",),
}
WITH_OUR_SOURCES = {"ours", "ours-sqlite3", "encoders"}
PLAIN_OTEL = "plain-otel"


def prepare_environments(names: set[str]) -> dict[str, Path]:
    """Return the directory of each named environment, ready to run.

    What pip chose for Django and Gunicorn in `bare` is pinned in all others, so that every row
    serves the same site with the same server; the OpenTelemetry it chose in `plain-otel` is pinned
    in ours. (logfire asks for an older one and gets it.)
    """
    ready = {"bare": _prepare("bare", HOST)}
    host = _pin(ready["bare"], "Django", "gunicorn")
    if names & {PLAIN_OTEL, *WITH_OUR_SOURCES}:
        ready[PLAIN_OTEL] = _prepare(PLAIN_OTEL, host)
        sdk = _pin(ready[PLAIN_OTEL], "opentelemetry-sdk")
        ready |= {name: _prepare(name, host + sdk) for name in names & WITH_OUR_SOURCES}
    ready |= {name: _prepare(name, host) for name in sorted(names - ready.keys())}
    return {name: ready[name] for name in names}


def list_packages(environment: Path) -> dict[str, str]:
    """Return name → version of what is installed."""
    listing = subprocess.run(
        [environment / "bin/python", "-m", "pip", "list", "--format", "json"],
        check=True,
        capture_output=True,
        timeout=PATIENCE_S,
    )
    return {package["name"].lower(): package["version"] for package in json.loads(listing.stdout)}


def _pin(environment: Path, *names: str) -> tuple[str, ...]:
    installed = list_packages(environment)
    return tuple(f"{name}=={installed[name.lower()]}" for name in names)


def _prepare(name: str, host: tuple[str, ...]) -> Path:
    default = REPOSITORY / ".cache" / "benchmarks"
    environment = Path(os.environ.get(CACHE_VARIABLE) or default).resolve() / name
    ours = name in WITH_OUR_SOURCES
    recipe = {
        "python": sys.version,
        "requirements": [*host, *PEERS[name]],
        "project": _digest(REPOSITORY / "pyproject.toml") if ours else "",
    }
    sources = _digest(*sorted((REPOSITORY / "otel_canonical").rglob("*.py"))) if ours else ""
    stamp = environment / "built-from.json"
    built = json.loads(stamp.read_text()) if stamp.exists() else {}
    if built.get("recipe") != recipe:
        _build(name, environment, [*host, *PEERS[name], *([str(REPOSITORY)] if ours else [])])
    elif built.get("sources") != sources:
        _say(f"installing our changed sources into {name}")
        _pip(environment, "install", "--force-reinstall", "--no-deps", str(REPOSITORY))
    stamp.write_text(json.dumps({"recipe": recipe, "sources": sources}, indent=1))
    return environment


def _build(name: str, environment: Path, requirements: list[str]) -> None:
    _say(f"building the environment {name}")
    shutil.rmtree(environment, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", environment], check=True, timeout=PATIENCE_S)
    _pip(environment, "install", *requirements)


def _pip(environment: Path, *arguments: str) -> None:
    command = [str(environment / "bin/python"), "-m", "pip", "--quiet", *arguments]
    subprocess.run(command, check=True, timeout=PATIENCE_S)


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
