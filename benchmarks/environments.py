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
WITH_OUR_SOURCES = ("ours", "ours-sqlite3")


def prepare_environments(names: set[str]) -> dict[str, Path]:
    """Return the directory of each named environment, ready to run, `bare` first of all.

    What pip chose for Django and Gunicorn in `bare` is pinned in all others, so that every row
    serves the same site with the same server.
    """
    bare = _prepare("bare", HOST)
    installed = list_packages(bare)
    host = (f"Django=={installed['django']}", f"gunicorn=={installed['gunicorn']}")
    return {"bare": bare} | {name: _prepare(name, host) for name in sorted(names - {"bare"})}


def list_packages(environment: Path) -> dict[str, str]:
    """Return name → version of what is installed."""
    listing = subprocess.run(
        [environment / "bin/python", "-m", "pip", "list", "--format", "json"],
        check=True,
        capture_output=True,
        timeout=PATIENCE_S,
    )
    return {package["name"].lower(): package["version"] for package in json.loads(listing.stdout)}


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
    command = [environment / "bin/python", "-m", "pip", "--quiet", *arguments]
    subprocess.run(command, check=True, timeout=PATIENCE_S)


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
