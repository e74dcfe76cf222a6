"""Builds the wheel and tests it without the source tree: in one clean environment, or in many.

Run `python tools/try_wheel.py` for this Python and the newest of everything, with `--matrix` for each
Python on this machine with each supported Django, and for each supported Gunicorn; `--corners` leaves
all of these out but the oldest and the newest. Pythons that this machine lacks come from
tools/testing-pythons, where it can make them. The environments of the matrix are kept in
`.cache/matrix`, for as long as pyproject.toml stays as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from combinations import Combination, Interpreter, find_combinations, oldest_allowed
from processes import Failed, run, run_and_report

REPOSITORY = Path(__file__).resolve().parent.parent
CACHE = REPOSITORY / ".cache" / "matrix"
COPIED = ("pyproject.toml", "tests", "demo")
SMOKE = ("tests/server/test_smoke.py",)
MORE_THAN_SMOKE = ("tests/server/test_smoke.py", "tests/server/facts/test_every_request.py")
#: What the tests need beside the wheel: each worker class is tried.
PEERS = ("pytest", "gevent>=24.10", "uvicorn-worker")
#: What servers need of the extras; tried with the oldest of all.
EXTRAS = "[asgi,grpc]"
SHOWN = ("Django", "gunicorn", "opentelemetry-sdk")


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
    environment, here = directory / "environment", Interpreter("this", Path(sys.executable))
    run([sys.executable, "-m", "venv", environment], directory)
    python = environment / "bin" / "python"
    run([python, "-m", "pip", "install", "--quiet", "pip>=25.1"], directory)
    group = f"{REPOSITORY / 'pyproject.toml'}:test"
    run([python, "-m", "pip", "install", "--quiet", wheel, "--group", group], directory)
    check_origin(here, python, away)
    print(f"{wheel.name} installed: {versions_in(here, python)}", flush=True)
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
            python, interpreter = prepare(combination, wheel, directory), combination.interpreter
            check_origin(interpreter, python, away)
            smoke = ("-m", "pytest", *SMOKE, "-q", "-rs", "-p", "no:cacheprovider")
            counts = counts_in(run(interpreter.command(python, *smoke), away))
            oldest = ", the oldest of all" * combination.is_oldest
            said = f"{versions_in(interpreter, python)}{oldest}: {counts}"
        except Failed as error:
            said, passed = str(error), False
        outcome = f"{'passed' if passed else 'FAILED'} {time.monotonic() - started:4.0f} s"
        print(f"{outcome}  Python {combination.interpreter.version:6} {said}", flush=True)
        return passed

    # pip waits for the network, servers for their workers: as many at once as there are processors.
    with ThreadPoolExecutor(os.cpu_count()) as side_by_side:
        passed = list(side_by_side.map(try_one, combinations))
    print(f"{sum(passed)} of {len(combinations)} combinations passed")
    failed = [one.name for one, is_good in zip(combinations, passed, strict=True) if not is_good]
    if failed:
        print("failed:", *failed, sep="\n  ")
    return not failed


def prepare(combination: Combination, wheel: Path, directory: Path) -> Path:
    """Return the interpreter of the combination's environment, with the wheel in it."""
    interpreter = combination.interpreter
    digest = hashlib.sha256((REPOSITORY / "pyproject.toml").read_bytes()).hexdigest()[:12]
    environment = CACHE / f"{combination.name}-{digest}"
    python = environment / "bin" / "python"
    complete = environment / "complete"  # half of one must not be taken for one
    if not complete.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        for stale in CACHE.glob(f"{combination.name}-{'?' * len(digest)}"):
            shutil.rmtree(stale)
        run(interpreter.command(interpreter.path, "-m", "venv", environment), directory)
        install = interpreter.command(python, "-m", "pip", "install", "--quiet")
        wanted: list[Path | str] = [wheel]
        if combination.is_oldest:
            constraints = directory / "oldest.txt"
            constraints.write_text("\n".join(oldest_allowed()))
            wanted = [f"{wheel}{EXTRAS}", "--constraint", constraints]
        run([*install, *wanted, *PEERS, *combination.requirements], directory)
        complete.touch()
    else:
        renew = ("-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel)
        run(interpreter.command(python, *renew), directory)
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


def check_origin(interpreter: Interpreter, python: Path, away: Path) -> None:
    """Fail unless the package that is imported is the one installed in the environment."""
    ask = "import otel_canonical; print(otel_canonical.__file__)"
    origin = run(interpreter.command(python, "-c", ask), away).strip()
    if not Path(origin).is_relative_to(python.parents[1]):
        raise Failed(f"imported {origin}, which is not the wheel's")


def counts_in(said: str) -> str:
    """Return how many tests passed and were skipped, and why, from what `pytest -q -rs` says."""
    *lines, last = said.splitlines()
    skipped = [line.partition(": ")[2] for line in lines if line.startswith("SKIPPED ")]
    reasons = list(dict.fromkeys(skipped))
    counts = last.partition(" in ")[0]
    return f"{counts} ({'; '.join(reasons)})" if reasons else counts


def versions_in(interpreter: Interpreter, python: Path) -> str:
    """Return what is installed, in words."""
    ask = f"from importlib.metadata import version\nfor n in {SHOWN!r}: print(n, version(n))"
    said = run(interpreter.command(python, "-c", ask), python.parent)
    return ", ".join(said.splitlines())


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as error:
        sys.exit(f"FAILED: {error}")
