"""Builds the wheel and tests it without the source tree: in one clean environment, or in many.

Run `python tools/try_wheel.py` for this Python and the newest of everything, with `--matrix` for each
Python on this machine with each supported Django, and for each supported Gunicorn; `--corners` leaves
all of these out but the oldest and the newest. The environments of the matrix are kept in
`.cache/matrix`, for as long as pyproject.toml stays as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CACHE = REPOSITORY / ".cache" / "matrix"
COPIED = ("pyproject.toml", "tests", "demo")
SMOKE = ("tests/server/test_smoke.py",)
MORE_THAN_SMOKE = ("tests/server/test_smoke.py", "tests/server/facts/test_every_request.py")
#: What the tests need beside the wheel: each worker class is tried.
PEERS = ("pytest", "gevent>=24.10", "uvicorn-worker")
OLDEST_GUNICORN = "gunicorn==23.*"
#: Between the oldest and the newest, which pip finds.
OTHER_GUNICORNS = ("gunicorn==24.*", "gunicorn==25.*", "gunicorn==26.*")
#: The oldest that pyproject.toml allows; tried together, on the oldest Python and Django.
OLDEST = (
    OLDEST_GUNICORN,
    "opentelemetry-sdk==1.45.0",
    "opentelemetry-instrumentation-django==0.66b0",
)
PATIENCE_S = 900
SHOWN = ("Django", "gunicorn", "opentelemetry-sdk")


class Failed(Exception):
    """Something that was run did not end well; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Combination:
    """One environment to try the wheel in."""

    python: Path
    version: str
    requirements: tuple[str, ...]

    @property
    def name(self) -> str:
        """How the environment is called, and its directory."""
        return "-".join([self.version, *self.requirements]).replace("==", "").replace(".*", "")


def main() -> int:
    """Return 0 when the wheel passed wherever it was tried."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--matrix", action="store_true", help="Pythons, Djangos and Gunicorns")
    parser.add_argument("--corners", action="store_true", help="of the matrix: oldest and newest")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="try-wheel-") as name:
        directory = Path(name)
        wheel = build_wheel(directory)
        away = copy_tests(directory / "away")
        if options.matrix:
            combinations = list(find_combinations(corners=options.corners))
            return 0 if try_matrix(combinations, wheel, away, directory) else 1
        return 0 if try_once(wheel, away, directory) else 1


def try_once(wheel: Path, away: Path, directory: Path) -> bool:
    """Try the wheel in a clean environment, with everything that `make test` installs; and the demo."""
    environment = directory / "environment"
    run([sys.executable, "-m", "venv", environment], directory)
    python = environment / "bin" / "python"
    run([python, "-m", "pip", "install", "--quiet", "pip>=25.1"], directory)
    group = f"{REPOSITORY / 'pyproject.toml'}:test"
    run([python, "-m", "pip", "install", "--quiet", wheel, "--group", group], directory)
    check_origin(python, environment, away)
    print(f"{wheel.name} installed: {versions_in(python)}", flush=True)
    commands = (
        [python, "-m", "pytest", *MORE_THAN_SMOKE, "-p", "no:cacheprovider"],
        [python, "demo/show.py"],
    )
    return all(run_and_report(command, away) for command in commands)


def try_matrix(combinations: list[Combination], wheel: Path, away: Path, directory: Path) -> bool:
    """Try the wheel in every combination; say how each went."""

    def try_one(combination: Combination) -> bool:
        started, passed = time.monotonic(), True
        try:
            python = prepare(combination, wheel, directory)
            check_origin(python, python.parents[1], away)
            run([python, "-m", "pytest", *SMOKE, "-q", "-p", "no:cacheprovider"], away)
            said = versions_in(python)
        except Failed as error:
            said, passed = str(error), False
        outcome = f"{'passed' if passed else 'FAILED'} {time.monotonic() - started:4.0f} s"
        print(f"{outcome}  Python {combination.version:6} {said}", flush=True)
        return passed

    # pip waits for the network, servers for their workers: as many at once as there are processors.
    with ThreadPoolExecutor(os.cpu_count()) as side_by_side:
        passed = list(side_by_side.map(try_one, combinations))
    print(f"{sum(passed)} of {len(combinations)} combinations passed")
    failed = [one.name for one, is_good in zip(combinations, passed, strict=True) if not is_good]
    if failed:
        print("failed:", *failed, sep="\n  ")
    return not failed


def find_combinations(*, corners: bool) -> Iterator[Combination]:
    """Yield what the wheel is to be tried with, of what is here and supported.

    With `corners`: the oldest and the newest Gunicorn, each with every Django that our classifiers name,
    the one on the oldest Python, the other on the newest, and there with the newest Django, too. Else
    also every Python with every Django, and the other Gunicorns.
    """
    classifiers = importlib.metadata.metadata("otel-canonical").get_all("Classifier") or []
    supported = versions_of(classifiers, "Programming Language :: Python :: ")
    series = [
        f"Django=={django}.*" for django in versions_of(classifiers, "Framework :: Django :: ")
    ]
    here = find_pythons()
    for missing in sorted(set(supported) - here.keys(), key=version_key):
        print(f"Python {missing} is supported, but not on this machine", flush=True)
    pythons = [version for version in supported if version in here]
    first, last = pythons[0], pythons[-1]
    for number, django in enumerate(series):
        # The oldest of everything, once; then only Gunicorn is old.
        old = (OLDEST_GUNICORN,) if number else OLDEST
        yield Combination(here[first], first, (django, *old))
    yield from _with_each_django(here[last], last, series)
    if corners:
        return
    for gunicorn in OTHER_GUNICORNS:
        yield Combination(here[last], last, (series[-1], gunicorn))
    for version in pythons[:-1]:
        yield from _with_each_django(here[version], version, series)


def _with_each_django(python: Path, version: str, series: list[str]) -> Iterator[Combination]:
    for django in series:
        yield Combination(python, version, (django,))
    newest = newest_django(python)
    if f"Django=={newest.rpartition('.')[0]}.*" not in series:
        yield Combination(python, version, (f"Django=={newest}",))


def find_pythons() -> dict[str, Path]:
    """Return the interpreters of this machine by version, `3.12`."""
    found: dict[str, Path] = {}
    for line in run([REPOSITORY / "tools" / "pythons"], REPOSITORY).splitlines():
        version = run([line, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], REPOSITORY)
        found.setdefault(version.strip(), Path(line))
    return found


def newest_django(python: Path) -> str:
    """Return the version of Django that pip would choose for an interpreter."""
    choose = ["install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps", "--report", "-"]
    pip = [sys.executable, "-m", "pip", "--python", python]
    report = json.loads(run([*pip, *choose, "Django"], REPOSITORY))
    return str(report["install"][0]["metadata"]["version"])


def prepare(combination: Combination, wheel: Path, directory: Path) -> Path:
    """Return the interpreter of the combination's environment, with the wheel in it."""
    digest = hashlib.sha256((REPOSITORY / "pyproject.toml").read_bytes()).hexdigest()[:12]
    environment = CACHE / f"{combination.name}-{digest}"
    python = environment / "bin" / "python"
    complete = environment / "complete"  # half of one must not be taken for one
    if not complete.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        for stale in CACHE.glob(f"{combination.name}-{'?' * len(digest)}"):
            shutil.rmtree(stale)
        run([combination.python, "-m", "venv", environment], directory)
        install = [python, "-m", "pip", "install", "--quiet"]
        run([*install, wheel, *PEERS, *combination.requirements], directory)
        complete.touch()
    else:
        renew = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall"]
        run([*renew, wheel], directory)
    return python


def build_wheel(directory: Path) -> Path:
    """Return a wheel made of the source tree, holding the package and nothing else."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", directory]
    run([*build, REPOSITORY], directory)
    [wheel] = directory.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    strangers = [name for name in names if not name.startswith("otel_canonical")]
    missing = {"otel_canonical/py.typed", f"{_metadata_in(names)}/licenses/LICENSE"} - set(names)
    if strangers or missing:
        raise Failed(f"the wheel holds {strangers}, and lacks {sorted(missing)}")
    return wheel


def _metadata_in(names: list[str]) -> str:
    return next(name.partition("/")[0] for name in names if ".dist-info/" in name)


def copy_tests(directory: Path) -> Path:
    """Return a directory with the tests and the demo, but without the package."""
    directory.mkdir()
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.sqlite3", "node_modules")
            shutil.copytree(source, directory / name, ignore=ignored)
        else:
            shutil.copy(source, directory)
    return directory


def check_origin(python: Path, environment: Path, away: Path) -> None:
    """Fail unless the package that is imported is the installed one."""
    origin = run(
        [python, "-c", "import otel_canonical; print(otel_canonical.__file__)"], away
    ).strip()
    if not Path(origin).is_relative_to(environment):
        raise Failed(f"imported {origin}, which is not the wheel's")


def versions_in(python: Path) -> str:
    """Return what is installed, in words."""
    ask = f"from importlib.metadata import version\nfor n in {SHOWN!r}: print(n, version(n))"
    return ", ".join(run([python, "-c", ask], python.parent).splitlines())


def versions_of(classifiers: list[str], prefix: str) -> list[str]:
    """Return the versions with two numbers that classifiers name after a prefix, oldest first."""
    found = [line.removeprefix(prefix) for line in classifiers if line.startswith(prefix)]
    return sorted((version for version in found if "." in version), key=version_key)


def version_key(version: str) -> tuple[int, ...]:
    """Return what versions are sorted by."""
    return tuple(int(number) for number in version.split("."))


def run(command: list[str | Path], directory: Path) -> str:
    """Return what a command writes to stdout."""
    done = subprocess.run(
        command,
        cwd=directory,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    if done.returncode:
        words = " ".join(map(str, command))
        raise Failed(f"`{words}` ended with {done.returncode}\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


def run_and_report(command: list[str | Path], directory: Path) -> bool:
    """Run a command whose output is for people; return whether it ended well."""
    done = subprocess.run(command, cwd=directory, env=clean_environment(), timeout=PATIENCE_S)
    return done.returncode == 0


def clean_environment() -> dict[str, str]:
    """Return our environment without what would let the source tree in."""
    unwanted = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in unwanted}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as error:
        sys.exit(f"FAILED: {error}")
